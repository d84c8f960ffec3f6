"""Volumes on real small file systems: one that is full, and one that the kernel made read-only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

STORY = """
import os, subprocess, sys
from pathlib import Path
from catalog import OutOfSpace, Unavailable
from node.storage.places import place_of
from tests.node.storage.filling import Stopped, keep, read
from tests.node.storage.test_volumes import open_store, with_disk

folder, clock = Path(sys.argv[1]), Stopped()
def mount(path, *how):
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", *how, str(path)], check=True)
mount(folder / "archive", "-t", "tmpfs", "-o", "size=12m", "tmpfs")
mount(folder / "disk", "-t", "tmpfs", "-o", "size=20m", "tmpfs")
store = open_store(folder / "archive", clock)
store.list.add(folder / "disk")
store.states()
list(store.returned())
kept = []
def store_some(count):
    refused = 0
    for _ in range(count):
        clock.now += 2
        data = os.urandom(300_000)
        try:
            kept.append((keep(store, data), data))
        except (OutOfSpace, Unavailable) as error:
            assert error.next, error
            refused += 1
    return refused
def remount(how):
    subprocess.run(["mount", "-o", "remount," + how, str(folder / "disk")], check=True)
assert store_some(20) == 0
# The kernel lets nobody remount a disk that is being written to; it is read-only from the next start on.
store.close()
remount("ro")
store = open_store(folder / "archive", clock)
before = len(kept)
store_some(10)
late = {place_of(holding.where).volume for holding, _ in kept[before:]}
assert late <= {0}, "written to a disk that is read-only"
assert len(kept) > before, "nothing went to the disk that takes more"
remount("rw")
clock.now += 120
store.states()
list(store.returned())
assert store_some(150) > 20, "32 MB took more than they have"
assert {place_of(holding.where).volume for holding, _ in kept} == {0, 1}
assert all(read(store, holding) == data for holding, data in kept)
for holding, _ in kept[::2]:
    store.remove(holding)
clock.now += 120
store.states()
kept = kept[1::2]
assert store_some(5) == 0, "room came free and is not used"
store.close()
again = open_store(folder / "archive")
assert all(read(again, holding) == data for holding, data in kept)
print("lost nothing")
"""


@pytest.mark.slow
def test_a_full_and_a_read_only_disk_lose_nothing_and_are_used_again(tmp_path: Path) -> None:
    script = [sys.executable, "-c", STORY, str(tmp_path)]
    command = ["unshare", "--mount", "--map-root-user", *script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout == "lost nothing\n", done.stderr[-4000:]
