"""How background work gives way: senders and readers wait for an answer, the index and uploads may be late.

While objects arrive or leave, the index rests for a few seconds and then takes a share of the time; in a lull
it goes on at once. What it has not taken in yet is found all the same, only slower, so under a load that its
share cannot follow it may fall further behind without a wrong answer.

Uploads to a bucket that nobody waits for take a tenth of one thread's time, until one of them has waited for
a minute: from then on they go as fast as they can.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from catalog import Clock

_LULL: Final = 0.3
"""Seconds without an arrival after which nobody has to be given way to."""
_PATIENCE: Final = 4.0
"""Seconds that what arrived first may wait while more arrives."""
_SHARE: Final = 0.25
"""Of the time that the index then takes while others are busy."""
_REST: Final = 0.2
_BREATH: Final = 0.02
_UPLOAD_SHARE: Final = 0.1
_UPLOAD_PATIENCE: Final = 60.0


class Pace:
    """Says when the next step of the index may be; all times in seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = self._asked = float("-inf")
        self._waiting_since: float | None = None

    def arrived(self) -> None:
        """Note an arrival."""
        self._last = self._clock()
        if self._waiting_since is None:
            self._waiting_since = self._last

    def asked(self) -> None:
        """Note that an instance was opened to be sent."""
        self._asked = self._clock()

    @property
    def is_busy(self) -> bool:
        """Whether somebody stores or retrieves just now."""
        # A clock that was set back makes nobody wait.
        return 0 <= self._clock() - max(self._last, self._asked) < _LULL

    def rest_first(self) -> float:
        """Return how long to rest before the next step; 0 if it is due."""
        if self._waiting_since is None or not self.is_busy:
            return 0.0
        left = self._waiting_since + _PATIENCE - self._clock()
        return min(_REST, left) if left > 0 else 0.0

    def rest_after(self, spent: float, is_behind: bool) -> float:
        """Return how long to rest after a step; while others are busy, the index has its share."""
        if not is_behind:
            self._waiting_since = None
            return _REST
        return max(_BREATH, spent * (1 / _SHARE - 1)) if self.is_busy else _BREATH


class GivingWay:
    """A step that several threads take, by turns and with rests while somebody stores or retrieves."""

    def __init__(
        self, step: Callable[[], bool], is_busy: Callable[[], bool], behind: Callable[[], float], clock: Clock
    ) -> None:
        """`behind` says for how many seconds what waits longest has been waiting."""
        self._step = step
        self._is_busy = is_busy
        self._behind = behind
        self._clock = clock
        self._turn = threading.Lock()
        self._rest_until = 0.0

    def step(self) -> bool:
        """Take a step unless others come first; say whether there may be more to do at once."""
        if not self._is_busy() or self._behind() > _UPLOAD_PATIENCE:
            return self._step()
        now = self._clock()
        # A clock that was set back makes nothing wait longer than a step and its rest do.
        if 0 < self._rest_until - now < _UPLOAD_PATIENCE or not self._turn.acquire(blocking=False):
            return False
        try:
            self._step()
            ended = self._clock()
            self._rest_until = ended + (ended - now) * (1 / _UPLOAD_SHARE - 1)
        finally:
            self._turn.release()
        return False
