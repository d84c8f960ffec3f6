"""Wrong secrets make whoever tries them wait, longer each time, and never for ever."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Final, NamedTuple

from catalog import Clock

_FREE: Final = 5
"""Mistakes that cost nothing: people mistype."""
_FORGOTTEN: Final = 3600.0
"""Seconds after its last mistake for which a name is remembered."""
_REMEMBERED: Final = 20_000


class _Mistakes(NamedTuple):
    number: int
    last: float


class Patience:
    """Mistakes by name (an address, an account), in memory; any thread may use it."""

    def __init__(self, clock: Clock, longest: float) -> None:
        """`longest` is the most seconds that anybody waits between two tries."""
        self._clock = clock
        self._longest = longest
        self._mistakes: OrderedDict[str, _Mistakes] = OrderedDict()
        self._lock = Lock()

    def wait(self, name: str) -> float:
        """Return the seconds until the name may try again; 0 = now. Asking costs nothing."""
        with self._lock:
            found = self._mistakes.get(name)
        if found is None or found.number < _FREE:
            return 0.0
        pause = min(2.0 ** min(found.number - _FREE + 1, 20), self._longest)
        # A clock that was set back must not make a lock that never opens.
        left: float = found.last + pause - self._clock()
        return max(0.0, min(left, pause))

    def failed(self, name: str) -> None:
        """Remember a mistake."""
        now = self._clock()
        with self._lock:
            old = self._mistakes.pop(name, None)
            count = old.number if old and abs(now - old.last) < _FORGOTTEN else 0
            self._mistakes[name] = _Mistakes(count + 1, now)
            if len(self._mistakes) > _REMEMBERED:
                self._mistakes.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """Forget the mistakes of a name that knew its secret."""
        with self._lock:
            self._mistakes.pop(name, None)
