"""How much of the web one caller may take: requests in a second, and requests at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import MutableMapping
from threading import Lock
from typing import Any, Final

from catalog import Clock

PLACE: Final = "peerpacs.place"
"""In a request's environment: who holds a place while it is answered."""
_REMEMBERED: Final = 10_000
_SOON: Final = 1


class Crowd:
    """Counts callers; any thread may use it. `clock` never goes back."""

    def __init__(self, clock: Clock, rate: float, at_once: int) -> None:
        """`rate` is requests in a second over some seconds, `at_once` at the same time; 0 = no limit."""
        self._clock = clock
        self._rate = rate
        self._at_once = at_once
        self._here: Counter[str] = Counter()
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = Lock()

    def enter(self, who: str, environ: MutableMapping[str, Any]) -> int:
        """Take a place for a request; return 0, or after how many seconds there may be one."""
        with self._lock:
            if self._at_once and self._here[who] >= self._at_once:
                return _SOON
            if self._rate and not self._is_paced(who):
                return _SOON
            self._here[who] += 1
        environ[PLACE] = who
        return 0

    def leave(self, environ: MutableMapping[str, Any]) -> None:
        """Give the place back, if there was one."""
        who = environ.pop(PLACE, None)
        if who is None:
            return
        with self._lock:
            self._here[who] -= 1
            if not self._here[who]:
                del self._here[who]

    def _is_paced(self, who: str) -> bool:
        """Take one of a caller's requests; twice the rate may come at once, if little came before."""
        now, most = self._clock(), 2 * self._rate
        left, seen = self._left.get(who, (most, now))
        left = min(most, left + (now - seen) * self._rate)
        if left < 1:
            return False
        if len(self._left) >= _REMEMBERED:
            # Whoever was not here for two seconds has all of it again.
            self._left = {name: row for name, row in self._left.items() if now - row[1] < most / self._rate}
        self._left[who] = left - 1, now
        return True
