"""A node that is drained finishes what is under way, takes nothing new, and serves again when told so."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from catalog import Busy
from node.dimse import Requestor
from tests.homes import Peer, phantoms
from tests.node.commandline import CommandLine
from tests.node.web.asking import web


def test_what_is_under_way_is_finished_and_nothing_new_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with web(tmp_path / "home") as site:
        node, cli = site.node, CommandLine(tmp_path / "home", capsys)
        sent = phantoms(5, instances=2)
        halfway, go_on = threading.Event(), threading.Event()
        statuses: list[int] = []

        def store() -> None:
            def slowly() -> object:
                yield sent[0]
                halfway.set()
                go_on.wait(60)
                yield sent[1]

            requestor = Requestor("CT", "127.0.0.1", node.ports["dicom"], "ALPHA")
            statuses.extend(answer.status for answer in requestor.store(slowly()))

        sender = threading.Thread(target=store)
        sender.start()
        assert halfway.wait(60)
        assert "still under way: 1 association" in cli("drain", "--wait", "0", code=3)
        with pytest.raises(Busy, match="it is congested"):
            Peer(node).find()
        assert site.get("/studies").status == 503
        cli("import", str(tmp_path), code=1)
        assert "takes no new work" in cli.complaint
        assert "takes no new work" in cli("status")
        assert "drain failed" in cli("health", code=1)
        go_on.set()
        sender.join(60)
        assert statuses == [0, 0], "an association that was open goes on"
        assert "It can be stopped" in cli("drain")
        cli("drain", "--off")
        assert len(Peer(node).find(StudyInstanceUID="")) == 1
        assert site.get("/studies").status == 200


def test_a_node_that_is_started_takes_work_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli = CommandLine(tmp_path / "home", capsys)
    with web(tmp_path / "home"):
        cli("drain")
    cli("drain", code=1)
    assert "does not run" in cli.complaint
    with web(tmp_path / "home") as site:
        assert Peer(site.node).requestor.echo() > 0
