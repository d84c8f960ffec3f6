"""Lanes of a link: what somebody waits for goes before what may be late, piece by piece.

While anything urgent is on its way to a peer, bulk to that peer rests between two pieces; not for ever: after
its patience it goes on beside the urgent.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from catalog import Clock

URGENT: Final = 0
SOON: Final = 1
"""Expected next by somebody who waits."""
BULK: Final = 3
LINGER: Final = 1.0
"""Seconds for which bulk rests after the last urgent call: who waits asks for the next objects at once, and
what bulk would send in between is in the way of those for as long as a link's buffers take."""
PATIENCE: Final = 60.0
"""Seconds that one bulk call rests in all before it goes on beside what is urgent."""


class Lanes:
    """What is on its way to which peer; any thread may call."""

    def __init__(self, monotonic: Clock, patience: float = PATIENCE, linger: float = LINGER) -> None:
        self._now = monotonic
        self._patience = patience
        self._linger = linger
        self._ended: dict[str, float] = {}
        """When the last urgent call to each peer ended."""
        self._lock = threading.Condition()
        self._urgent: Counter[str] = Counter()
        self.rested = 0.0
        """Seconds that bulk has given way so far, all calls together."""

    @property
    def waited_for(self) -> int:
        """How many calls are on their way for which somebody waits."""
        with self._lock:
            return sum(self._urgent.values())

    @contextmanager
    def call(self, peer: str, priority: int) -> Iterator[Lane]:
        """Count a call to a peer as on its way; say `turn` on what this yields before each piece."""
        is_bulk = priority >= BULK
        with self._lock:
            self._urgent[peer] += not is_bulk
        try:
            yield Lane(self, peer, self._patience if is_bulk else 0.0)
        finally:
            with self._lock:
                self._urgent[peer] -= not is_bulk
                if not self._urgent[peer]:
                    del self._urgent[peer]
                    if not is_bulk:
                        self._ended[peer] = self._now()
                    self._lock.notify_all()

    def rest(self, peer: str, patience: float) -> float:
        """Wait until nothing urgent is on its way to a peer, at most so long; return the seconds it took."""
        began = now = self._now()
        with self._lock:
            while (left := self._left(peer, now)) and now - began < patience:
                self._lock.wait(min(left, patience - (now - began)))
                now = self._now()
            self.rested += now - began
        return now - began

    def _left(self, peer: str, now: float) -> float:
        """Return for how long bulk to a peer rests at least, as far as can be told now; the lock is held."""
        if self._urgent[peer]:
            return self._patience
        return max(0.0, self._ended.get(peer, float("-inf")) + self._linger - now)


class Lane:
    """One call's place on the link."""

    def __init__(self, lanes: Lanes, peer: str, patience: float) -> None:
        self._lanes = lanes
        self._peer = peer
        self._patience = patience

    def turn(self) -> None:
        """Return when the next piece may go."""
        if self._patience > 0:
            self._patience -= self._lanes.rest(self._peer, self._patience)
