"""When the spool may forget what it would replay: as soon as the ledger's rows about it are on the disk.

Whoever stores waits for the spool's own sync only. The ledger follows once a second, for all that came
meanwhile; until then a crash leaves the bytes in a segment that the next start replays and queues again.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Final

from catalog import Clock, Holding, PacsError
from node.storage import SegmentStore

from .ledger import Ledger

_EVERY: Final = 1.0


class Settling:
    """Objects in the spool whose rows may not be on the disk yet."""

    def __init__(self, ledger: Ledger, spool: SegmentStore, clock: Clock) -> None:
        self._ledger = ledger
        self._spool = spool
        self._clock = clock
        self._mutex = threading.Lock()
        self._batch: list[Holding] = []
        self._done = float("-inf")

    def add(self, kept: Holding) -> None:
        """Have an object in the spool settled later."""
        with self._mutex:
            self._batch.append(kept)

    def step(self) -> None:
        """Settle what gathered, if it is time to.

        Raises:
            OutOfSpace: the ledger cannot be written; everything is tried again.
        """
        now = self._clock()
        if not 0 <= now - self._done < _EVERY:
            self._done = now
            self.finish()

    def finish(self) -> None:
        """Settle everything now. Raises as `step`."""
        with self._mutex:
            batch = self._batch.copy()
        self._ledger.commit()
        for kept in reversed(batch):
            # What was removed is settled as well; what the disk refuses is replayed by the next start.
            with suppress(PacsError):
                self._spool.sync(kept)
        with self._mutex:
            del self._batch[: len(batch)]
