"""Studies that an admin wants on this node's own disk, whatever the fill mark says.

That is about the disk and nothing else: what is pinned is corrected, deleted and erased as anything is, goes
by the rules of retention, and other nodes hear nothing of it. No reason is asked for, so that no row and no
note says more of a patient than the Study Instance UID.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from catalog import Clock
from node.state import Tables

TABLE: Final = "pinned studies"


class Pin(Struct, frozen=True, kw_only=True):
    """Who pinned a study, and when."""

    who: str = ""
    when: int = 0
    """Milliseconds since 1970."""


class Pins:
    """The node's, whichever of its archives has the study; any thread may call."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._table = tables.table(TABLE, Pin)
        self._clock = clock

    def has(self, StudyInstanceUID: str) -> bool:
        """Say whether a study is pinned."""
        return self._table.get(StudyInstanceUID.encode()) is not None

    def add(self, StudyInstanceUID: str, who: str) -> Pin:
        """Pin a study; one that is pinned already stays as it was."""
        pin = Pin(who=who, when=int(self._clock() * 1000))
        made: list[Pin] = []

        def kept(row: Pin | None) -> Pin:
            made.append(row or pin)
            return made[-1]

        self._table.change({StudyInstanceUID.encode(): kept})
        return made[-1]

    def remove(self, StudyInstanceUID: str) -> bool:
        """Let a study go like any other; say whether it was pinned."""
        return StudyInstanceUID in self.all() and self._table.delete(StudyInstanceUID.encode())

    def all(self) -> dict[str, Pin]:
        """Return every pin by StudyInstanceUID."""
        return {key.decode(): pin for key, pin in self._table.scan()}
