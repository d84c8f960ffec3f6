"""After scouring, the file of a database holds its rows and nothing of those that were deleted."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import lmdb
import pytest

from catalog import check_environment
from catalog.scouring import scour

SECRET = b"NOVAK^JAN 19610412"


def filled(path: Path, seed: int) -> tuple[lmdb.Environment, dict[bytes, bytes]]:
    """Return an environment after many commits, and what it has to hold; some rows were secret."""
    environment = lmdb.open(os.fspath(path), map_size=1 << 30, metasync=False)
    dice, rows = random.Random(seed), dict[bytes, bytes]()
    for _ in range(60):
        with environment.begin(write=True) as txn:
            for _ in range(dice.randrange(1, 60)):
                key = b"%012d" % dice.randrange(3000)
                if dice.random() < 0.4 and rows:
                    key = dice.choice([*rows])
                    txn.delete(key)
                    del rows[key]
                    continue
                value = SECRET * dice.choice((1, 3, 40, 300, 2000)) if dice.random() < 0.5 else b"x" * 90
                txn.put(key, value)
                rows[key] = value
    return environment, rows


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_left_of_deleted_rows_and_nothing_else_is_touched(tmp_path: Path, seed: int) -> None:
    environment, rows = filled(tmp_path / "db", seed)
    with environment.begin(write=True) as txn:
        for key, value in [*rows.items()]:
            if SECRET in value:
                txn.delete(key)
                del rows[key]
    assert SECRET in (tmp_path / "db" / "data.mdb").read_bytes()
    assert scour(environment, b"scoured")
    for round in range(20):
        # What is written later does not bring it back out of LMDB's memory.
        with environment.begin(write=True) as txn:
            txn.put(b"%d" % round, b"y" * 50)
            rows[b"%d" % round] = b"y" * 50
        assert SECRET not in (tmp_path / "db" / "data.mdb").read_bytes()
    with environment.begin() as txn:
        found = dict(txn.cursor())
    assert found.pop(b"scoured")
    assert found == rows
    environment.close()
    check_environment(tmp_path / "db")


def test_others_write_and_read_meanwhile(tmp_path: Path) -> None:
    environment, rows = filled(tmp_path / "db", 11)
    stop, errors = threading.Event(), list[str]()

    def write() -> None:
        dice = random.Random(5)
        while not stop.is_set():
            with environment.begin(write=True) as txn:
                for key in dice.sample([*rows], 20):
                    txn.put(key, rows[key] + b" ")
                    txn.put(key, rows[key])
            with environment.begin() as txn:
                errors.extend(str(key) for key in dice.sample([*rows], 50) if txn.get(key) != rows[key])

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        scour(environment, b"scoured")
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    with environment.begin() as txn:
        found = dict(txn.cursor())
    assert found.pop(b"scoured")
    assert found == rows
    environment.close()
    check_environment(tmp_path / "db")


def test_it_is_not_done_while_an_old_state_is_being_read(tmp_path: Path) -> None:
    environment, rows = filled(tmp_path / "db", 9)
    with environment.begin() as reading:
        assert not scour(environment, b"scoured")
        assert dict(reading.cursor()) == rows
    assert scour(environment, b"scoured")
    environment.close()
