"""Drills: a disk is wiped, a backup restored, and the node answers as before."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.homes import new_home

from .drills import Drill, fingerprint, hospital, peerpacs, wipe_but_objects


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return new_home(tmp_path / "home")


def test_after_a_wipe_of_all_but_the_objects_everything_is_answered_as_before(
    home: Path, tmp_path: Path
) -> None:
    with hospital(home) as node:
        kept = Drill(node).first_days()
        peerpacs("backup", tmp_path / "backup", "--home", home)
        Drill(node).later_days(kept)
        epoch = node.catalog.head().epoch
    before = fingerprint(home)
    wipe_but_objects(home)
    said = peerpacs("restore", tmp_path / "backup", "--home", home)
    assert "16 instances and 0 held" in said, said
    assert fingerprint(home) == before
    with hospital(home) as node:
        assert node.catalog.head().epoch > epoch


def test_a_backup_with_its_objects_is_all_that_a_new_machine_needs(home: Path, tmp_path: Path) -> None:
    with hospital(home) as node:
        kept = Drill(node).first_days()
        peerpacs("backup", tmp_path / "older", "--home", home)
        Drill(node).later_days(kept)
        peerpacs("backup", tmp_path / "backup", "--home", home, "--objects")
    before = fingerprint(home)
    shutil.rmtree(home)
    peerpacs("backup", "--check", tmp_path / "backup", "--home", home)
    peerpacs("restore", tmp_path / "backup", "--home", home)
    assert fingerprint(home) == before


def test_a_rebuild_answers_as_before(home: Path) -> None:
    with hospital(home) as node:
        Drill(node).later_days(Drill(node).first_days())
        epoch = node.catalog.head().epoch
    before = fingerprint(home)
    shutil.rmtree(home / "state")
    peerpacs("rebuild", "--all", "--yes", "--home", home)
    assert fingerprint(home) == before
    with hospital(home) as node:
        assert node.catalog.head().epoch > epoch
