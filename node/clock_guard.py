"""Nothing is deleted by a clock that may be wrong: it is compared with the peers', and with its last look.

A clock that jumps years ahead would make everything due at once. Until a person says that it is right, what
waits for its time goes on waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from catalog import Clock
from node.state import Tables

logger = logging.getLogger(__name__)

_FROM_PEERS: Final = 3600.0
"""Seconds that the clock may differ from the median of the peers' clocks."""
_FORWARD: Final = 40 * 86_400.0
"""Seconds between two looks: a node that was off for longer asks too."""
_BACKWARD: Final = 3600.0
_WRITTEN_EVERY: Final = 600.0
_KEY: Final = b"clock"


class Look(Struct, frozen=True, array_like=True):
    """The last time that the clock was believed, in seconds since 1970; and what a person allowed."""

    when: float
    skew: float = 0.0
    """How far the peers' median was ahead when a person said that this clock is right, in seconds."""


class ClockGuard:
    """One archive's; `skew` says how far the median of the peers' clocks is ahead, None without peers."""

    def __init__(self, tables: Tables, clock: Clock, skew: Callable[[], float | None]) -> None:
        self._table = tables.table("clock", Look)
        self._clock = clock
        self._skew = skew
        self._told = ""

    def doubt(self) -> str:
        """Return why nothing may be deleted by this clock, or nothing; any process may ask."""
        return _doubt(self._clock(), self._table.get(_KEY), self._skew())

    def why_not(self) -> str:
        """Return what `doubt` does; without one the look counts as the last. For who knows the peers."""
        now, last, skew = self._clock(), self._table.get(_KEY), self._skew()
        why = _doubt(now, last, skew)
        # What was allowed counts for one difference from the peers, and no longer than that lasts.
        allowed = 0.0 if last is None or _agrees(skew, 0.0) else last.skew
        is_due = last is None or allowed != last.skew or not 0 <= now - last.when < _WRITTEN_EVERY
        if not why and is_due:
            self._table.put(_KEY, Look(now, allowed))
        if why and why != self._told:
            logger.warning("Nothing is deleted: %s If the clock is right: peerpacs retention clock", why)
        self._told = why
        return why

    def believe(self) -> None:
        """Take a person's word that the clock is right."""
        self._table.put(_KEY, Look(self._clock(), self._skew() or 0.0))


def _agrees(skew: float | None, allowed: float) -> bool:
    return skew is not None and abs(skew - allowed) <= _FROM_PEERS


def _doubt(now: float, last: Look | None, skew: float | None) -> str:
    allowed = last.skew if last else 0.0
    if skew is not None and not _agrees(skew, 0.0) and not _agrees(skew, allowed):
        side = "behind" if skew > 0 else "ahead of"
        return f"this clock is {abs(skew) / 3600:.1f} hours {side} the peers'."
    if last is not None and now - last.when > _FORWARD:
        return f"this clock is {(now - last.when) / 86_400:.0f} days after it was looked at last."
    if last is not None and last.when - now > _BACKWARD:
        return f"this clock is {(last.when - now) / 3600:.1f} hours before it was looked at last."
    return ""
