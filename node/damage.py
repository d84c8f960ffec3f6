"""The book of damage: which stored objects are not what was stored, until whole bytes of them came again.

A row here is durable. What is in the book is never sent and never counts as safe; the same bytes, stored
again or found elsewhere in the store, take its place and the row goes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from catalog import Clock, Entry, Holding, Move, Moved, ObjectStore, PacsError
from node.state import Tables
from node.whereabouts import Whereabouts

logger = logging.getLogger(__name__)

_LOOK_EVERY: Final = 1.0
"""Seconds after which what another process wrote is known here."""


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """A damaged object: which, when it was found (milliseconds since 1970), and what is wrong."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPInstanceUID: str
    holding: Holding
    found: int
    what: str


class DamageBook:
    """Rows of `Damage` by SHA-256; looking one up costs next to nothing."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._table = tables.table("damaged", Damage)
        self._clock = clock
        self._known: frozenset[bytes] = frozenset()
        self._looked = float("-inf")

    def __contains__(self, sha256: object) -> bool:
        now = self._clock()
        if not 0 <= now - self._looked < _LOOK_EVERY:
            self._look(now)
        return sha256 in self._known

    def __iter__(self) -> Iterator[Damage]:
        for _, row in self._table.scan():
            yield row

    def mark(self, entry: Entry, what: str) -> None:
        """Write down that an object is damaged; what was found first stays."""
        sha256 = entry.holding.sha256
        self._table.change({sha256: _kept_or(_row(entry, int(self._clock() * 1000), what))})
        if sha256 not in self._known:
            text = "The instance %s is damaged and is not sent: %s Send it again from where it came."
            logger.error(text, entry.SOPInstanceUID, what)
        self._look(self._clock())

    def mark_missing(self, entries: Sequence[Entry], what: str) -> None:
        """Write down many at once whose bytes are not there, without a line in the log for each."""
        now = int(self._clock() * 1000)
        changes = {entry.holding.sha256: _kept_or(_row(entry, now, what)) for entry in entries}
        self._table.change(changes)

    def clear(self, sha256: bytes) -> bool:
        """Forget an object that is whole again, or gone; say whether it was in the book."""
        was_there = self._table.delete(sha256)
        self._look(self._clock())
        return was_there

    def _look(self, now: float) -> None:
        self._known = frozenset(key for key, _ in self._table.scan())
        self._looked = now


def _row(entry: Entry, now: int, what: str) -> Damage:
    return Damage(
        StudyInstanceUID=entry.StudyInstanceUID,
        SeriesInstanceUID=entry.SeriesInstanceUID,
        SOPInstanceUID=entry.SOPInstanceUID,
        holding=entry.holding,
        found=now,
        what=what,
    )


def _kept_or(row: Damage) -> Callable[[Damage | None], Damage | None]:
    return lambda known: known or row


class Mender:
    """Puts whole bytes in the place of damaged ones."""

    def __init__(self, store: ObjectStore, rows: Whereabouts, book: DamageBook) -> None:
        self._store = store
        self._rows = rows
        self.book = book

    def mend(self, SOPInstanceUID: str, whole: Holding) -> bool:
        """Have the row of a damaged object name these durable bytes; False when it has no row.

        Raises:
            OutOfSpace: the catalog has no room; everything is as it was.
        """
        was = self._rows.whereabouts(SOPInstanceUID, whole.sha256)
        if was is None:
            return False
        [outcome] = self._rows.relocate([Move(SOPInstanceUID, was, whole)])
        if outcome is Moved.NOW:
            with suppress(PacsError, OSError):
                # Where not even the header can be read, nothing is touched.
                self._store.remove(was)
        if outcome in (Moved.NOW, Moved.BEFORE) and self.book.clear(whole.sha256):
            logger.warning("The instance %s, which was damaged, is whole again.", SOPInstanceUID)
        return outcome in (Moved.NOW, Moved.BEFORE)
