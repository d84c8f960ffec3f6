"""A process that stores objects and says so on standard output, for tests that kill or trace it.

    python -m tests.node.storage.appender FOLDER THREADS COUNT [syncer]

Each acknowledged object is one line: SHA-256 and place in hexadecimal, and size. COUNT 0 never ends.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import threading
from pathlib import Path

from .filling import Came, keep, segment_store

SIZES = (0, 300, 2048, 40_000, 200_000, 500_000, 900_000)
"""The last is larger than what is buffered, and so becomes a segment of its own."""


def main(folder: str, threads: str, count: str, syncer: str = "") -> None:
    """Replay what the last process left, then store until killed."""
    store = segment_store(Path(folder))
    for _ in store.recover():
        pass
    stop = threading.Event()
    if syncer:
        threading.Thread(target=store.sync_forever, args=(stop,)).start()

    def work() -> None:
        random_size = random.Random()
        for number in itertools.count(1):
            size = 5000 if count != "0" else random_size.choice(SIZES)
            holding = keep(store, os.urandom(size), Came("KILLED"))
            os.write(1, f"{holding.sha256.hex()} {holding.where.hex()} {holding.size}\n".encode())
            if number == int(count):
                return

    if threads == "1":
        work()
    else:
        workers = [threading.Thread(target=work) for _ in range(int(threads))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    stop.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
