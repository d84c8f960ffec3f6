"""Measures durable objects per second: one file each against segments, with and without an eager syncer.

    python tests/node/storage/bench_segments.py [--seconds 2] [--folder DIR]

Each figure is the median of three interleaved rounds. Not collected by pytest.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[3]))

from node.storage import SegmentStore, StorageSettings

SIZES = (2 << 10, 202 << 10, 512 << 10)
THREADS = (1, 8)
PDU = 128 << 10


class FromBench(NamedTuple):
    """An Origin."""

    source: str = "BENCH"
    received: int = 1_700_000_000_000
    is_held: bool = False


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    ways: dict[str, Callable[[Path, int, int, float], float]] = {
        "file each": file_each,
        "segments": segments,
        "segments + syncer": segments_with_syncer,
    }
    print(f"{'size, threads':>16}" + "".join(f"{name:>20}" for name in ways))
    for size in SIZES:
        for threads in THREADS:
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(3):
                for name, way in ways.items():
                    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                        rates[name].append(way(Path(folder), size, threads, options.seconds))
            medians = [statistics.median(values) for values in rates.values()]
            label = f"{size >> 10} KB, {threads}"
            print(f"{label:>16}" + "".join(f"{rate:>20.0f}" for rate in medians), flush=True)


def drive(threads: int, seconds: float, store_one: Callable[[int, int], None]) -> float:
    """Call `store_one(thread, number)` from so many threads for so long; return calls per second."""
    counts = [0] * threads
    begin = time.perf_counter()
    end = begin + seconds

    def work(thread: int) -> None:
        while time.perf_counter() < end:
            store_one(thread, counts[thread])
            counts[thread] += 1

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - begin)


def file_each(folder: Path, size: int, threads: int, seconds: float) -> float:
    """Hash, write, fdatasync, rename, fsync the directory: what a file-per-object store must do."""
    data = os.urandom(size)
    directory = os.open(folder, os.O_RDONLY)

    def store_one(thread: int, number: int) -> None:
        name = f"{hashlib.sha256(data).hexdigest()}-{thread}-{number}"
        fd = os.open(folder / f"{name}.part", os.O_WRONLY | os.O_CREAT, 0o640)
        os.write(fd, data)
        os.fdatasync(fd)
        os.close(fd)
        os.rename(folder / f"{name}.part", folder / name)
        os.fsync(directory)

    rate = drive(threads, seconds, store_one)
    os.close(directory)
    return rate


def segments(folder: Path, size: int, threads: int, seconds: float) -> float:
    """Incoming in PDUs, keep, sync: whoever waits first leads the group."""
    return _segments(folder, size, threads, seconds, None)


def segments_with_syncer(folder: Path, size: int, threads: int, seconds: float) -> float:
    """The same with a thread that starts each group commit at once."""
    return _segments(folder, size, threads, seconds, threading.Event())


def _segments(folder: Path, size: int, threads: int, seconds: float, stop: threading.Event | None) -> float:
    data = memoryview(os.urandom(size))
    store = SegmentStore(folder / "objects", folder / "incoming", time.time, StorageSettings(full_below=0))
    syncer = threading.Thread(target=store.sync_forever, args=(stop,)) if stop else None
    if syncer:
        syncer.start()

    def store_one(thread: int, number: int) -> None:
        incoming = store.incoming()
        for offset in range(0, size, PDU):
            part = data[offset : offset + PDU]
            incoming.space(len(part))[:] = part
            incoming.filled(len(part))
        store.sync(store.keep(incoming, FromBench()))
        incoming.discard()

    rate = drive(threads, seconds, store_one)
    if syncer and stop:
        stop.set()
        syncer.join()
    store.close()
    return rate


if __name__ == "__main__":
    main()
