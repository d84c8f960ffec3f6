"""Group commit: one fdatasync answers everybody who appended before it began.

Whoever waits first leads, and syncs for all; those who come meanwhile wait for the next round, and one of
them leads it. So a lone sender pays exactly one fdatasync and sixteen share one. A thread may also lead
eagerly, as soon as something was appended.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable


class EagerSync:
    """A thread's work: begin each group commit as soon as something was appended to any of its files."""

    def __init__(self) -> None:
        self._rung = threading.Lock()
        self._rung.acquire()
        self._group: GroupSync | None = None
        self._is_heard = False

    def ring(self, group: GroupSync) -> None:
        """Say that something was appended; without a listener, whoever waits for it leads the group."""
        if self._is_heard and self._rung.locked():
            self._group = group
            self.wake()

    def wake(self) -> None:
        """Have the listener look up, whether or not something was appended."""
        # Another thread may have done so between the look and the act.
        with contextlib.suppress(RuntimeError):
            self._rung.release()

    def listen(self, stop: threading.Event) -> None:
        """Lead the groups until told to stop."""
        self._is_heard = True
        try:
            while not stop.is_set():
                if self._rung.acquire(timeout=0.5) and (group := self._group):
                    group.lead()
        finally:
            self._is_heard = False


class GroupSync:
    """Tells how much of one growing file is on the disk."""

    def __init__(self, synchronise: Callable[[], int], synced: int) -> None:
        """`synchronise` makes durable what was appended before its call and returns the offset of its end."""
        self._synchronise = synchronise
        self._mutex = threading.Lock()
        self._is_led = False
        self._waiting: list[tuple[int, threading.Lock]] = []
        self.synced = synced
        self.failure: OSError | None = None

    def wait(self, end: int) -> None:
        """Return when the first `end` bytes are on the disk.

        Raises:
            OSError: the disk refused. What was not durable then never counts as such again, because the
                kernel may have dropped the pages: a second fdatasync that succeeds proves nothing.
        """
        while self.synced < end:
            turn = self._queue(end)
            if turn is None:
                self._lead()
            else:
                turn.acquire()

    def lead(self) -> None:
        """Sync what was appended, unless somebody is at it; the eager form of `wait`."""
        with self._mutex:
            if self._is_led or self.failure:
                return
            self._is_led = True
        self._lead()

    def _queue(self, end: int) -> threading.Lock | None:
        """Return the lock to wait on, or None for the one who leads."""
        with self._mutex:
            if self.failure and self.synced < end:
                raise self.failure
            if not self._is_led:
                self._is_led = True
                return None
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append((end, turn))
            return turn

    def _lead(self) -> None:
        end, failure = self.synced, None
        try:
            end = self._synchronise()
        except OSError as error:
            failure = error
        finally:
            self._finish(end, failure)

    def _finish(self, end: int, failure: OSError | None) -> None:
        """Wake those who are served and, of the others, the one who leads next."""
        with self._mutex:
            self._is_led = False
            self.failure = self.failure or failure
            self.synced = max(self.synced, end)
            served = [turn for wanted, turn in self._waiting if wanted <= self.synced or self.failure]
            self._waiting = [] if self.failure else [w for w in self._waiting if w[0] > self.synced]
            if self._waiting:
                served.append(self._waiting.pop(0)[1])
        for turn in served:
            turn.release()
