"""A full disk refuses, loses nothing, and works again by itself when there is room."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from catalog import OutOfSpace, Unavailable
from node.storage import SegmentStore, StorageSettings, appending, space

from .filling import CAME, MB, Stopped, fill, in_small_tmpfs, keep, objects, read, segment_store

ROOT = Path(__file__).parents[3]
Found = namedtuple("Found", "f_bavail f_frsize")

FILL_UP = """
import os, sys
from pathlib import Path
from catalog import OutOfSpace
from node.storage import Damage
from tests.node.storage.filling import Stopped, keep, objects, read, segment_store

folder = Path(sys.argv[1])
clock = Stopped()
store = segment_store(folder, clock=clock)
kept, refused = [], 0
for number in range(200):
    data = os.urandom((number * 7919) % 700_000)
    try:
        kept.append((keep(store, data), data))
    except OutOfSpace:
        refused += 1
try:
    store.keep_decision("d" , b"x" * 700_000)
except OutOfSpace:
    refused += 1
assert kept and refused > 20, (len(kept), refused)
assert all(read(store, holding) == data for holding, data in kept)
for holding, _ in kept[::2]:
    store.remove(holding)
clock.now += 2
there = kept[1::2]
if sys.argv[2] == "small disk":
    there += [(keep(store, data), data) for data in [os.urandom(300_000) for _ in range(5)]]
assert not list((folder / "incoming").iterdir())
store.close()
again = segment_store(folder)
assert not [item for item in again.recover() if isinstance(item, Damage)]
assert {item.holding.where for item in objects(again.scan())} == {holding.where for holding, _ in there}
assert all(read(again, holding) == data for holding, data in there)
print("lost nothing")
"""


def test_a_disk_that_fills_up_loses_nothing_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    script = [sys.executable, "-c", FILL_UP, str(tmp_path)]
    command = in_small_tmpfs(tmp_path, [*script, "small disk"])
    if command is None:
        # No mount allowed here: a limit on the size of each file refuses in the same places.
        command = ["prlimit", "--fsize=400000", *script, "small files"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "lost nothing\n", done.stderr


def test_a_limit_on_the_size_of_files_is_a_full_disk_too(tmp_path: Path) -> None:
    script = [sys.executable, "-c", FILL_UP, str(tmp_path), "small files"]
    done = subprocess.run(["prlimit", "--fsize=400000", *script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "lost nothing\n", done.stderr


def test_the_watermark_refuses_before_the_disk_is_full_and_until_enough_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, free = Stopped(), [3 * MB]
    monkeypatch.setattr(space.os, "statvfs", lambda _: Found(free[0], 1))
    settings = StorageSettings(buffered_at_most=MB, full_below=2 * MB, resume_above=4 * MB)
    store = segment_store(tmp_path, settings, clock)
    first = keep(store, bytes(900_000))
    with pytest.raises(OutOfSpace, match="MB are free"):
        keep(store, bytes(900_000))
    clock.now, free[0] = clock.now + 2, 3 * MB
    with pytest.raises(OutOfSpace):
        keep(store, b"still too little came free")
    with pytest.raises(OutOfSpace):
        fill(store.incoming(), bytes(3 * MB))
    clock.now, free[0] = clock.now + 2, 5 * MB
    keep(store, b"room again")
    assert len(objects(store.scan())) == 2
    assert read(store, first) == bytes(900_000)


def test_free_space_is_asked_for_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    clock = Stopped()
    monkeypatch.setattr(space.os, "statvfs", lambda folder: asked.append(folder) or Found(1 << 40, 1))
    store = segment_store(tmp_path, clock=clock)
    for _ in range(50):
        clock.now += 0.1
        keep(store, b"x")
    assert len(asked) <= 6


@pytest.fixture
def store(tmp_path: Path) -> SegmentStore:
    return segment_store(tmp_path)


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, OutOfSpace), (errno.EIO, Unavailable)])
def test_a_write_that_fails_half_way_leaves_no_trace(
    tmp_path: Path,
    store: SegmentStore,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[Exception],
) -> None:
    first = keep(store, b"first")
    size = (tmp_path / "objects/00/000001.tar").stat().st_size

    def refuse(fd: int, data: object, offset: int) -> int:
        raise OSError(number, os.strerror(number))

    real = os.pwritev
    with monkeypatch.context() as failing:
        failing.setattr(appending.os, "pwritev", lambda fd, parts, offset: real(fd, parts[:1], offset))
        failing.setattr(appending.os, "pwrite", refuse)
        with pytest.raises(error):
            keep(store, bytes(5000))
    assert (tmp_path / "objects/00/000001.tar").stat().st_size == size
    second = keep(store, b"second")
    assert [item.holding for item in objects(store.scan())] == [first, second]


def test_a_sync_that_fails_is_told_and_the_next_object_goes_elsewhere(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = keep(store, b"first")

    def refuse(fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as failing:
        failing.setattr(appending.os, "fdatasync", refuse)
        doubtful = store.keep(fill(store.incoming(), b"doubtful"), CAME)
        with pytest.raises(Unavailable):
            store.sync(doubtful)
    with pytest.raises(Unavailable):
        store.sync(doubtful)
    second = keep(store, b"second")
    assert second.where[:5] != first.where[:5]
    assert [read(store, first), read(store, second)] == [b"first", b"second"]


def test_a_folder_that_takes_no_new_segment_recovers_by_itself(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, bytes(900_000))

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as failing:
        failing.setattr(appending, "sync_folder", refuse)
        for _ in range(3):
            with pytest.raises(OutOfSpace):
                keep(store, bytes(900_000))
    keep(store, bytes(900_000))
    assert len(objects(store.scan())) == 2
