"""What was put back by hand is noticed at the start, and brought up to date before anybody is answered."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from node.app import open_node
from tests.homes import Peer, new_home

from .drills import Drill, fingerprint, hospital, study, uid


@pytest.mark.parametrize("part", ["archives/main/catalog", "state", "both"])
def test_an_older_copy_put_back_by_hand_catches_up(
    tmp_path: Path, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    home = new_home(tmp_path / "home")
    parts = ["archives/main/catalog", "state"] if part == "both" else [part]
    with hospital(home) as node:
        kept = Drill(node).first_days()
    for each in parts:
        shutil.copytree(home / each, tmp_path / "old" / each)
    with hospital(home) as node:
        Drill(node).later_days(kept)
        Drill(node).store(11, by="STRANGER")
        epoch = node.catalog.head().epoch
    before = fingerprint(home)
    for each in parts:
        shutil.rmtree(home / each)
        shutil.copytree(tmp_path / "old" / each, home / each)
    with caplog.at_level(logging.WARNING), open_node(home) as node:
        assert "older one" in caplog.text
        assert (node.catalog.head().epoch > epoch) == ("state" not in parts or len(parts) == 2)
    assert fingerprint(home) == before
    with open_node(home) as node:
        assert node.main.caught_up is None


def test_a_node_that_was_killed_is_not_taken_for_an_older_copy(tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")
    with hospital(home) as node:
        Drill(node).store(0, 1)
        node.main.rollback.step()
        Drill(node).store(2)
        shutil.copytree(home, tmp_path / "killed", ignore=shutil.ignore_patterns("run"))
    with open_node(tmp_path / "killed") as node:
        assert node.main.caught_up is None
        assert node.catalog.totals().instances == 12


def test_images_whose_bytes_are_gone_are_told_and_not_sent_until_they_come_back(tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")
    with hospital(home) as node:
        Drill(node).store(0)
    [segment] = (home / "archives/main/objects/00").iterdir()
    segment.rename(tmp_path / "lost.tar")
    with hospital(home) as node:
        assert len(node.desk.verbs()["damaged"]()) == 4
        assert Peer(node, "CT").get(uid(study(0)[0])) == []
        Drill(node).store(1)
        [used] = [path for path in segment.parent.iterdir() if path.stat().st_size > 4096]
        assert used != segment
        assert len(Peer(node, "CT").get(uid(study(1)[0]))) == 4
    shutil.copy(tmp_path / "lost.tar", segment)
    with hospital(home) as node:
        assert not node.desk.verbs()["damaged"]()
        assert len(Peer(node, "CT").get(uid(study(0)[0]))) == 4
