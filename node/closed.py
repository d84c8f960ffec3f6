"""Whether the node answers nobody for the moment, because its peers may know better what was decided.

A row of the state says so, which every process of the node reads when a device or a person calls.
"""

from __future__ import annotations

from typing import Final

import msgspec

from node.state import State

_KEY: Final = b"closed"
REMEDY: Final = "Try again in half a minute."


class _Row(msgspec.Struct, frozen=True):
    why: str


class Closed:
    """The node's; any process may ask."""

    def __init__(self, state: State) -> None:
        self._table = state.table("closed", _Row)

    @property
    def why(self) -> str:
        """Why nobody is answered; nothing while everybody is."""
        row = self._table.get(_KEY)
        return row.why if row else ""

    def set(self, why: str) -> None:
        """Answer nobody, and say why; with nothing to say, answer again."""
        if why == self.why:
            return
        if why:
            self._table.put(_KEY, _Row(why))
        else:
            self._table.delete(_KEY)
