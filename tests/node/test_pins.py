"""Studies that an admin pins to the disk: said by a person, on record, and still so after a restore."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from catalog import NotFound
from node.app import open_node
from node.audit import read
from tests.homes import Peer, attribute, new_home, phantoms, serving
from tests.node.commandline import CommandLine

from .backup.drills import hospital


def test_a_pin_outlives_a_restart_and_an_older_state_and_hinders_no_deletion(tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")
    study = phantoms(1, 1, instances=1)
    uid = str(attribute(study[0], "StudyInstanceUID"))
    with hospital(home) as node:
        assert set(Peer(node, "CT").store(*study)) == {0}
    shutil.copytree(home / "state", tmp_path / "state")
    with open_node(home) as node:
        made = node.desk.verbs()["pin"](study=uid, who="ann")
    with open_node(home) as node:
        assert node.desk.verbs()["pin"](study=uid, who="bob") == made
    shutil.rmtree(home / "state")
    shutil.copytree(tmp_path / "state", home / "state")
    with open_node(home) as node:
        verbs = node.desk.verbs()
        assert verbs["pins"]() == [made]
        verbs["delete"](target=uid, reason="test images", who="ann")
        verbs["unpin"](study=uid, who="ann")
        assert verbs["pins"]() == []


def test_only_what_is_here_is_pinned_and_only_what_is_pinned_is_unpinned(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as node:
        verbs = node.desk.verbs()
        for nonsense in ("1.2.3", "", "9" * 5000):
            with pytest.raises(NotFound, match="No archive"):
                verbs["pin"](study=nonsense, who="ann")
            with pytest.raises(NotFound, match="not pinned"):
                verbs["unpin"](study=nonsense, who="ann")


def test_a_person_pins_lists_and_unpins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = phantoms(1, 1, instances=1)
    uid = str(attribute(study[0], "StudyInstanceUID"))
    with serving(tmp_path / "home") as node:
        assert set(Peer(node).store(*study)) == {0}
        cli = CommandLine(node.home, capsys)
        assert "No study is pinned" in cli("copies", "pins")
        assert f"copies unpin {uid}" in cli("copies", "pin", uid)
        assert uid in cli("copies", "pins")
        [row] = cli.json("copies", "pins")
        assert (row["StudyInstanceUID"], row["where"]) == (uid, "here")
        assert "1 study; see: peerpacs copies pins" in cli("copies")
        cli("copies", "unpin", uid)
        cli("copies", "unpin", uid, code=1)
        assert "peerpacs copies pins" in cli.complaint
        told = [line.outcome for line in read(node.home / "audit", "pinned")]
        assert told == ["study pinned", "study not pinned any more"]
