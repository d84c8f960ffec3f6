"""A database that is not what was written is noticed at the start, put aside, and told with what helps."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from catalog import Damaged, check_environment
from node.app import open_node
from tests.homes import new_home

from .drills import Drill, fingerprint, hospital, peerpacs

Harm = Callable[[Path], None]
CATALOG = "archives/main/catalog"


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    """Overwrite every page behind the first two."""
    content = bytearray(path.read_bytes())
    content[8192:] = random.Random(1).randbytes(len(content) - 8192)
    path.write_bytes(content)


def blank_meta(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[:4096] = bytes(4096)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("part", "harm"),
    [(CATALOG, cut), (CATALOG, empty), (CATALOG, flip), ("state", cut), ("state", blank_meta)],
)
def test_a_damaged_database_is_put_aside_and_a_rebuild_answers_as_before(
    tmp_path: Path, part: str, harm: Harm
) -> None:
    home = new_home(tmp_path / "home")
    with hospital(home) as node:
        Drill(node).first_days()
    before = fingerprint(home)
    harm(home / part / "data.mdb")
    harmed = (home / part / "data.mdb").read_bytes()
    for _ in range(2):
        with pytest.raises(Damaged) as refused, open_node(home):
            pass
        assert "peerpacs rebuild" in refused.value.next
    [aside] = (home / part).parent.glob("*.damaged-*")
    assert (aside / "data.mdb").read_bytes() == harmed
    peerpacs("rebuild", "--all", "--yes", "--home", home)
    assert fingerprint(home) == before
    assert (aside / "data.mdb").read_bytes() == harmed


def test_a_sound_database_is_found_sound_and_a_torn_page_is_found(tmp_path: Path) -> None:
    chance = random.Random(2)
    with lmdb.open(str(tmp_path), map_size=1 << 30) as environment:
        for _ in range(20):
            with environment.begin(write=True) as writing:
                for _ in range(300):
                    writing.put(chance.randbytes(20), chance.randbytes(chance.choice([50, 900, 9000])))
                cursor = writing.cursor()
                cursor.first()
                for _ in range(60):
                    cursor.delete()
    path = tmp_path / "data.mdb"
    check_environment(tmp_path)
    sound = path.read_bytes()
    found = 0
    for _ in range(60):
        torn = bytearray(sound)
        at = chance.randrange(2, len(torn) // 4096) * 4096
        torn[at : at + 4096] = bytes(4096)
        path.write_bytes(torn)
        try:
            check_environment(tmp_path)
        except Damaged:
            found += 1
    # The rest lay in free pages, or in the middle of long values.
    assert found > 10
