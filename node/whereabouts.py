"""Where the objects of an archive lie, whichever table remembers it: the catalog, or the held shelf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from catalog import CatalogWriter, Entry, Holding, Move, Moved, NotFound
from node.held import HeldShelf
from node.storage.places import place_of

_BATCH: Final = 256


class Whereabouts:
    """Rows of instances and of what is held, as whoever moves their bytes needs them."""

    def __init__(self, catalog: CatalogWriter, held: HeldShelf) -> None:
        self._catalog = catalog
        self._held = held

    def relocate(self, moves: Sequence[Move]) -> list[Moved]:
        """Have rows name another place of the same bytes; durable when it returns.

        Raises:
            OutOfSpace: a disk is full; what was not changed names the old place.
        """
        outcomes = self._catalog.relocate(moves)
        return [
            self._held.relocate(move) if outcome is Moved.UNKNOWN else outcome
            for move, outcome in zip(moves, outcomes, strict=True)
        ]

    def whereabouts(self, SOPInstanceUID: str, sha256: bytes) -> Holding | None:
        """Return where the row says that the object lies; None when there is no row."""
        held = self._catalog.whereabouts(SOPInstanceUID, sha256)
        return held or self._held.whereabouts(SOPInstanceUID, sha256)

    def everything(self) -> Iterator[Entry]:
        """Yield every version of every instance, those that are held at the end."""
        cursor = b""
        while step := self._catalog.stored_after(cursor, _BATCH):
            yield from (entry for _, entry in step)
            cursor = step[-1][0]
        for arrival in self._held.list():
            yield arrival.entry

    def lying_on(self, volume: int) -> Iterator[Entry]:
        """Yield everything whose row names a volume; looks at every row there is."""
        for entry in self.everything():
            try:
                if place_of(entry.holding.where).volume == volume:
                    yield entry
            except NotFound:
                continue
