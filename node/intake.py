"""How much comes in a day, and so for how many days the disks have room."""

from __future__ import annotations

from threading import Lock
from typing import Final

import msgspec

from catalog import Clock
from node.state import Tables

_DAY: Final = 86400
_REMEMBERED: Final = 90
"""Days of which the sums are kept."""
_RECENT: Final = 14
"""Days whose mean is what a day brings; two weeks have as many weekends as any two weeks."""
_ENOUGH: Final = 2
"""Whole days that must be known before anything is said."""


class Day(msgspec.Struct, frozen=True):
    """What came on one day."""

    bytes: int = 0


class Intake:
    """Counts what comes in; what a crash takes is the last minute's."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._table = tables.table("intake", Day)
        self._clock = clock
        self._lock = Lock()
        self._fresh = 0

    def add(self, size: int) -> None:
        """Count an object that came."""
        with self._lock:
            self._fresh += size

    def step(self) -> None:
        """Write down what came since the last time, and forget old days."""
        with self._lock:
            fresh, self._fresh = self._fresh, 0
        today = int(self._clock() // _DAY)
        if fresh or self._table.get(_key(today)) is None:
            self._table.change({_key(today): lambda day: Day((day.bytes if day else 0) + fresh)})
        for key, _ in list(self._table.scan()):
            if _number(key) < today - _REMEMBERED:
                self._table.delete(key)

    def per_day(self) -> float | None:
        """Return what a day brings, in bytes, as the last two weeks tell; None while too little is known."""
        today = int(self._clock() // _DAY)
        known = {_number(key): day.bytes for key, day in self._table.scan()}
        first = max(min(known, default=today) + 1, today - _RECENT)
        if today - first < _ENOUGH:
            return None
        return sum(known.get(day, 0) for day in range(first, today)) / (today - first)

    def days_left(self, room: int) -> float | None:
        """Return for how many days `room` bytes last; None while that is not known, or nothing comes."""
        daily = self.per_day()
        return room / daily if daily else None


def _key(day: int) -> bytes:
    return day.to_bytes(4, "big")


def _number(key: bytes) -> int:
    return int.from_bytes(key, "big")
