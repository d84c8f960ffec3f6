"""What comes in takes little memory, whatever its size and however many come at once."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path

from node.storage import StorageSettings
from node.storage.incoming import Buffers

from .filling import CAME, MB, SMALL, fill, keep, read, segment_store

ROOT = Path(__file__).parents[3]

LARGE = """
import sys, hashlib
from pathlib import Path
from node.storage import StorageSettings
from tests.node.storage.filling import CAME, MB, segment_store

def anonymous():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) << 10

store = segment_store(Path(sys.argv[1]), StorageSettings(full_below=0, resume_above=0))
before = most = anonymous()
piece, digest = bytes(range(256)) * 512, hashlib.sha256()
incoming = store.incoming()
for number in range(300 * MB // len(piece)):
    incoming.space(len(piece))[:] = piece
    incoming.filled(len(piece))
    digest.update(piece)
    most = max(most, anonymous()) if number % 64 == 0 else most
holding = store.keep(incoming, CAME)
store.sync(holding)
incoming.discard()
assert holding.sha256 == digest.digest()
store.verify(holding)
print(max(most, anonymous()) - before)
"""


def test_300_mb_in_one_object_take_a_few_mb_of_memory_and_are_never_copied(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGE, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 8 * MB
    [segment] = (tmp_path / "objects/00").iterdir()
    assert segment.stat().st_size == 300 * MB + 512 + 1024
    assert not [*(tmp_path / "incoming").iterdir()]


def test_beyond_the_budget_small_objects_go_through_files_and_into_the_common_segment(tmp_path: Path) -> None:
    store = segment_store(tmp_path, StorageSettings(budget=4 * MB, full_below=0, resume_above=0))
    data = [os.urandom(700_000) for _ in range(20)]
    all_incoming = [fill(store.incoming(), each) for each in data]
    assert 0 < sum(incoming.is_spilled for incoming in all_incoming) < 20
    holdings = [store.keep(incoming, CAME) for incoming in all_incoming]
    for incoming in all_incoming:
        incoming.discard()
    assert [read(store, holding) for holding in holdings] == data
    assert len([*(tmp_path / "objects/00").iterdir()]) == 1
    assert not [*(tmp_path / "incoming").iterdir()]


def test_memory_given_back_is_counted_as_free(tmp_path: Path) -> None:
    store = segment_store(tmp_path)
    for size in (10, 300_000, 500_000, 2_000_000):
        fill(store.incoming(), bytes(size), 700_000 if size > MB else 10_000).discard()
        keep(store, bytes(size))
    assert store._buffers._claimed == 0


def test_an_object_that_everybody_forgot_gives_its_memory_back(tmp_path: Path) -> None:
    store = segment_store(tmp_path)
    fill(store.incoming(), bytes(2_000_000))
    assert store._buffers._claimed == 0
    assert not [*(tmp_path / "incoming").iterdir()]


def test_the_next_object_gets_the_buffer_that_is_still_warm() -> None:
    buffers = Buffers(MB, 4 * MB)
    first = buffers.take()
    buffers.give_back(first, 100)
    assert buffers.take() is first


def test_a_buffer_that_was_full_keeps_little_of_it() -> None:
    buffers = Buffers(4 * MB, 4 * MB)
    buffer = buffers.take()
    buffer[:] = b"x" * (4 * MB)
    buffers.give_back(buffer, 4 * MB)
    assert (buffer[0], buffer[MB], buffer[4 * MB - 1]) == (ord("x"), 0, 0)


def test_a_thousand_objects_leave_memory_and_files_as_they_were(tmp_path: Path) -> None:
    store = segment_store(tmp_path, SMALL)
    for _ in range(2):
        before = len(os.listdir("/proc/self/fd")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(500):
            read(store, keep(store, number.to_bytes(2, "big") * (600_000 if number % 50 == 0 else 300)))
    after = len(os.listdir("/proc/self/fd")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after[0] - before[0] < 20
    assert after[1] - before[1] < 8 << 10


def test_the_hash_does_not_depend_on_when_it_was_asked_for(tmp_path: Path) -> None:
    store = segment_store(tmp_path)
    incoming, data = store.incoming(), os.urandom(1_500_000)
    for offset in range(0, len(data), 90_001):
        part = data[offset : offset + 90_001]
        incoming.space(len(part))[:] = part
        incoming.filled(len(part))
        assert incoming.digest() == hashlib.sha256(data[: offset + 90_001]).digest()
    incoming.discard()
