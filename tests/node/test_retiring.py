"""A hospital closes: its node takes nothing new, and hands over a list of all it has, read and whole."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.homes import Peer, attribute, edited, new_home, phantoms, serving
from tests.node.commandline import CommandLine


def test_a_retired_node_lists_all_it_has_gives_it_and_takes_nothing_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = [*phantoms(61, 0, instances=3), *phantoms(61, 1, instances=2)]
    study = str(attribute(sent[0], "StudyInstanceUID"))
    new = edited(phantoms(62, instances=1)[0], PatientID="NEW")
    cli = CommandLine(new_home(tmp_path / "home"), capsys)
    with serving(tmp_path / "home") as node:
        assert set(Peer(node).store(*sent)) == {0}
        cli("reject", str(attribute(sent[-1], "StudyInstanceUID")), "--reason", "a test")
        cli("retire", code=2)
        (tmp_path / "file").touch()
        cli("retire", str(tmp_path / "file" / "lists"), "--yes", code=1)
        assert not node.desk.notices(), "without a place for the lists nothing is done"
        told = cli.json("retire", str(tmp_path / "lists"), "--yes")
        assert told["archives"]["main"]["read"]["is_good"]
        assert Peer(node).store(new) == [0x0124]
        assert any("retired" in notice for notice in node.desk.notices())
    with (tmp_path / "lists" / "main.csv").open(newline="") as listed:
        rows = {row["SOPInstanceUID"]: row for row in csv.DictReader(listed)}
    assert set(rows) == {one.SOPInstanceUID for one in sent}, "what is rejected is listed too"
    first = rows[sent[0].SOPInstanceUID]
    assert first["PatientID"] == str(attribute(sent[0], "PatientID"))
    assert (len(first["sha256"]), int(first["bytes"]) > sent[0].size) == (64, True)
    with serving(tmp_path / "home") as node:
        assert Peer(node).store(new) == [0x0124], "a start changes nothing"
        assert len(Peer(node).get(study)) == 3
        cli("retire", "--off")
    with serving(tmp_path / "home") as node:
        assert Peer(node).store(new) == [0]
