"""Retirement: the node of a hospital that closes takes nothing new, and goes on to give what it has.

A row of the state says so, over starts, until a person takes it back; every process of the node reads it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from catalog import Clock, NotPermitted
from node.state import Tables

_KEY: Final = b"retired"
LOOK_EVERY: Final = 1.0
"""Seconds for which the row is believed without a look: each instance asks."""


class _Row(msgspec.Struct, frozen=True):
    who: str
    since: float
    """Seconds since 1970."""


class Retirement:
    """Whether the node takes anything new; any process may ask, any may say."""

    def __init__(self, state: Tables, clock: Clock) -> None:
        self._table = state.table("retirement", _Row)
        self._clock = clock
        self._looked, self._is_on = float("-inf"), False

    @property
    def since(self) -> float | None:
        """When it began, seconds since 1970; None while the node takes new instances."""
        row = self._table.get(_KEY)
        return row.since if row else None

    def begin(self, who: str) -> None:
        """Take nothing new from now on."""
        self._table.change({_KEY: lambda row: row or _Row(who, self._clock())})

    def end(self) -> None:
        """Take new instances again."""
        self._table.delete(_KEY)

    def check(self) -> None:
        """Return if something new may come in; what was said less than a second ago may not count yet.

        Raises:
            NotPermitted: the node is retired.
        """
        now = self._clock()
        if not 0 <= now - self._looked < LOOK_EVERY:
            self._looked, self._is_on = now, self.since is not None
        if self._is_on:
            what = "This node is retired and takes nothing new."
            raise NotPermitted(what, "Send it to another node. To go on with this one: peerpacs retire --off")
