"""Whether the threads that a node cannot do without still turn: what a service manager's watchdog asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from catalog import Clock

_PATIENCE: Final = 120.0
"""Seconds without a beat; a step may take long, but not this long."""


class Heartbeats:
    """Loops beat at each turn; what cannot beat is asked. `clock` is a monotonic one."""

    def __init__(self, clock: Clock, patience: float = _PATIENCE) -> None:
        self._clock = clock
        self._patience = patience
        self._beats: dict[str, float] = {}
        self._asked: dict[str, Callable[[], bool]] = {}

    def beat(self, name: str) -> None:
        """Say that a loop has come round; from its first beat on it is expected to go on."""
        self._beats[name] = self._clock()

    def end(self, name: str) -> None:
        """Expect no more beats of a loop that ended as it should."""
        self._beats.pop(name, None)

    def ask(self, name: str, is_turning: Callable[[], bool]) -> None:
        """Have something asked each time whether it turns."""
        self._asked[name] = is_turning

    def silent(self) -> list[str]:
        """Return who has stopped; empty while all is well."""
        now = self._clock()
        late = [name for name, last in tuple(self._beats.items()) if now - last > self._patience]
        return late + [name for name, is_turning in self._asked.items() if not _answers(is_turning)]


def _answers(is_turning: Callable[[], bool]) -> bool:
    try:
        return is_turning()
    except Exception:
        return False
