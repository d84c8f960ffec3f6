"""Draining: what is under way is finished, and nothing new is taken, until somebody says otherwise.

A row of the state says so, which every process of the node reads when a device calls. A node that starts
takes work again: draining is for the minutes before it is stopped.
"""

from __future__ import annotations

from typing import Final

import msgspec

from node.state import State

_KEY: Final = b"drain"
REMEDY: Final = "Try again in a few minutes, or at another node."
WHAT: Final = "This node is about to be stopped, and takes no new work."


class _Row(msgspec.Struct, frozen=True):
    who: str
    since: float
    """Seconds since 1970."""


class Drain:
    """Whether the node takes new work; any process may ask, any may say."""

    def __init__(self, state: State) -> None:
        self._table = state.table("drain", _Row)

    @property
    def is_on(self) -> bool:
        """Whether new work is turned away."""
        return self._table.get(_KEY) is not None

    @property
    def since(self) -> float | None:
        """When it began, seconds since 1970; None while the node takes work."""
        row = self._table.get(_KEY)
        return row.since if row else None

    def begin(self, who: str, now: float) -> None:
        """Turn new work away from now on."""
        self._table.change({_KEY: lambda row: row or _Row(who, now)})

    def end(self) -> None:
        """Take work again."""
        self._table.delete(_KEY)
