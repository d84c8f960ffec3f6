"""Whether what is stored is what was stored: each row's bytes hashed, each segment's members looked up.

Damage is written into the book; what turns out whole again is taken from it. What cannot be read because its
disk or bucket does not answer is counted, and nothing is concluded from it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Final

import msgspec

from catalog import CatalogWriter, Damaged, Entry, Holding, NotFound, ObjectStore, PacsError, Unavailable
from node.damage import DamageBook, Mender
from node.held import HeldShelf
from node.storage import SegmentStore, VolumeStore
from node.storage.inventory import Lying, inventory
from node.whereabouts import Whereabouts

logger = logging.getLogger(__name__)

_NAMED: Final = 20
_HELD: Final = b"~held"
"""Cursor of the shelf of the held, behind every cursor of the catalog."""


class Findings(msgspec.Struct):
    """What an inspection has found so far."""

    objects: int = 0
    bytes: int = 0
    damaged: int = 0
    healed: int = 0
    unavailable: int = 0
    """Objects whose disk or bucket did not answer."""
    unrecorded: int = 0
    """Objects in segments of which no row knows."""
    spare: int = 0
    """Objects in segments that lie elsewhere as well, and are read from there."""
    troubles: list[str] = []
    """Sentences; the first of many."""

    def tell(self, sentence: str) -> None:
        """Add a sentence, unless there are many already."""
        if len(self.troubles) < _NAMED and sentence not in self.troubles:
            self.troubles = [*self.troubles, sentence]

    @property
    def is_good(self) -> bool:
        """Whether there is nothing a person must do."""
        return not (self.damaged or self.unavailable or self.unrecorded or self.troubles)


class Inspector:
    """Looks at the objects of one archive, one at a time, for whoever decides when and how many."""

    def __init__(
        self,
        store: ObjectStore,
        segments: SegmentStore | VolumeStore | None,
        catalog: CatalogWriter,
        held: HeldShelf,
        book: DamageBook,
        glance: Callable[[Holding], None] | None = None,
    ) -> None:
        """`segments` are those where the store keeps its objects for good, None if it does not.

        `glance` asks about an object without reading it, if the store can.
        """
        self._glance = glance
        self._store = store
        self._segments = segments
        self._catalog = catalog
        self._held = held
        self.book = book
        self._rows = Whereabouts(catalog, held)
        self._mender = Mender(store, self._rows, book)

    def entries(self, cursor: bytes = b"") -> Iterator[tuple[bytes, Entry]]:
        """Yield what there is behind a cursor, each with its own; what is held comes last."""
        while cursor < _HELD and (step := self._catalog.stored_after(cursor, 64)):
            yield from step
            cursor = step[-1][0]
        for arrival in list(self._held.list()):
            key = _HELD + arrival.entry.SOPInstanceUID.encode() + arrival.entry.holding.sha256
            if key > cursor:
                yield key, arrival.entry

    def check(self, entry: Entry, findings: Findings) -> bool:
        """Read one object whole, and write down what is wrong with it; say whether nothing is."""
        is_whole = self._is_whole_by(self._store.verify, entry, findings)
        if is_whole:
            findings.healed += entry.holding.sha256 in self.book and self.book.clear(entry.holding.sha256)
        return is_whole

    def glance(self, entry: Entry, findings: Findings) -> None:
        """Ask about one object, where its store can tell without reading it; that heals nothing."""
        if self._glance is not None:
            self._is_whole_by(self._glance, entry, findings)

    def _is_whole_by(self, look: Callable[[Holding], None], entry: Entry, findings: Findings) -> bool:
        findings.objects += 1
        findings.bytes += entry.holding.size
        try:
            look(entry.holding)
        except (NotFound, Damaged) as error:
            self._tell_damage(entry, error, findings)
        except (PacsError, OSError) as error:
            # A disk that fails says nothing about what it holds.
            findings.unavailable += 1
            findings.tell(error.what if isinstance(error, Unavailable) else str(error))
        else:
            return True
        return False

    def mark(self, lost: frozenset[bytes], why: str) -> None:
        """Write down as damaged what has one of these SHA-256."""
        for _, entry in self.entries():
            if entry.holding.sha256 in lost and entry.holding.sha256 not in self.book:
                self.book.mark(entry, why)

    def _tell_damage(self, entry: Entry, error: PacsError, findings: Findings) -> None:
        uid, sha256 = entry.SOPInstanceUID, entry.holding.sha256
        now = self._rows.whereabouts(uid, sha256)
        is_wanted = self._catalog.holds(uid, sha256) or self._held.holds(uid, sha256)
        if now != entry.holding or not is_wanted:
            # It was moved, removed or deleted while we looked.
            return
        self.book.mark(entry, error.what)
        findings.damaged += 1
        findings.tell(f"{uid}: {error.what}")

    def stocktaking(self, findings: Findings) -> Iterator[None]:
        """Look up every member of the segments, a step for each; copies of what is damaged heal it."""
        if self._segments is None:
            return
        for item in inventory(self._segments):
            if isinstance(item, Lying):
                self._look_up(item, findings)
            elif item is not None and not any(item.covers(row.holding) for row in self.book):
                findings.tell(item.what)
            yield

    def _look_up(self, lying: Lying, findings: Findings) -> None:
        uid, holding = lying
        now = self._rows.whereabouts(uid, holding.sha256)
        if now == holding:
            return
        if now is None:
            findings.unrecorded += 1
            findings.tell(
                f"{uid or holding.sha256.hex()} lies in the segments, but has no row: peerpacs rebuild"
            )
        elif holding.sha256 in self.book and self._heals(lying):
            findings.healed += 1
        else:
            findings.spare += 1

    def _heals(self, lying: Lying) -> bool:
        """Put a copy that lies in the segments in the place of what is damaged, if it is whole."""
        stays = self._segments.staying if isinstance(self._segments, VolumeStore) else nullcontext()
        with stays:
            return self._is_whole(lying) and self._mender.mend(lying.SOPInstanceUID, lying.holding)

    def _is_whole(self, lying: Lying) -> bool:
        try:
            self._store.verify(lying.holding)
        except (PacsError, OSError):
            return False
        return True

    def forget_gone(self) -> None:
        """Take from the book what no row names any more."""
        for row in list(self.book):
            if self._rows.whereabouts(row.SOPInstanceUID, row.holding.sha256) is None:
                self.book.clear(row.holding.sha256)


Busy = Callable[[], bool]
"""Says whether somebody waits for the disks: a sender, or a reader."""
