"""Before a catalog that is an older copy answers anybody: what the objects know and it lacks is taken in.

After `restore`, or where a start finds that catalog, state and objects are not of one moment. Objects and
decisions that came later are recorded, rows whose bytes are gone are written into the book of damage, and the
change log begins a new epoch, because its numbers may have been given to other rows before.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import msgspec

from catalog import Clock, Entry, Holding, Move, NotFound, Unavailable
from node.damage import DamageBook
from node.recovery import Recovered, Recovery
from node.rollback import Disks, Rollback, RollbackWatch
from node.storage import Damage, Item, SegmentStore, VolumeStore
from node.storage.coverage import Coverage, skip_to, unsettled_in
from node.storage.elsewhere import is_elsewhere
from node.storage.members import member_length
from node.storage.places import place_of, segment_path
from node.whereabouts import Whereabouts

logger = logging.getLogger(__name__)

MARKER: Final = "restored.json"
"""In the archive's folder, from a restore until what came after the backup was taken in."""
GONE: Final = "Its bytes are not here: they were not restored, or lost."
_BATCH: Final = 1000
_TELL_EVERY: Final = 10.0


class CaughtUp(msgspec.Struct, frozen=True):
    """What was taken in, how many rows have no bytes, and why that was looked for."""

    recovered: Recovered
    missing: int
    signs: tuple[str, ...]


class Store(Protocol):
    """The archive's store, as one needs it here."""

    def scan(self, known: Coverage) -> Iterator[Item]:
        """Yield everything that is not known, in the order it came."""


class Epochs(Protocol):
    """The catalog, as one needs it here."""

    def renew_epoch(self, at_least: int = 0) -> int:
        """Begin a new epoch of the change log."""


class CatchUp:
    """One archive's; `is_there` says whether an object can be read, as far as that costs little."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        segments: SegmentStore | Disks,
        catalog: Epochs,
        recovery: Recovery,
        rows: Whereabouts,
        book: DamageBook,
        watch: RollbackWatch,
        clock: Clock,
        is_there: Callable[[Holding], bool],
    ) -> None:
        self._folder = folder
        self._store = store
        self._segments = segments
        self._catalog = catalog
        self._recovery = recovery
        self._rows = rows
        self._book = book
        self._watch = watch
        self._clock = clock
        self._told = clock()
        self._is_there = is_there

    def run(self) -> CaughtUp | None:
        """Take in what came later, if there is a sign that something did; None where all is well.

        What is cut short is done again at the next start.

        Raises:
            Unavailable: a volume is missing, or the bucket does not answer.
        """
        found = self._watch.findings()
        marker = self._folder / MARKER
        if not found.signs and not marker.exists():
            self._forget_found()
            return None
        signs = found.signs or ("A backup was restored.",)
        logger.warning("%s What came later is taken in before anybody is answered.", " ".join(signs))
        caught = self._catch_up(found, signs, has_old_log=found.is_catalog_older or marker.exists())
        self._watch.settle()
        marker.unlink(missing_ok=True)
        text = "%d instances, %d held objects and %d decisions were taken in; %d rows have no bytes."
        taken = caught.recovered
        logger.warning(text, taken.instances, taken.held, taken.decisions, caught.missing)
        return caught

    def _catch_up(self, found: Rollback, signs: tuple[str, ...], *, has_old_log: bool) -> CaughtUp:
        # Where nothing was noted, everything is later than the beginning of time.
        known = found.known if found.known.at else Coverage(at=1)
        items = self._whole(self._store.scan(known))
        recovered = self._recovery.take(items, self._tell, self._move_there)
        missing = self._look_for_missing()
        self._forget_found()
        if has_old_log or recovered.instances:
            self._catalog.renew_epoch(found.epoch)
        return CaughtUp(recovered, missing, signs)

    def _whole(self, items: Iterator[Item]) -> Iterator[Item]:
        """Leave out the torn ends of segments that were open: the start's own replay cuts them."""
        stores = [self._segments] if isinstance(self._segments, SegmentStore) else self._segments.present()
        torn = {(store.volume, number) for store in stores for number in unsettled_in(store.objects)}
        for item in items:
            if not (isinstance(item, Damage) and (item.volume, item.segment) in torn):
                yield item

    def _tell(self, so_far: Recovered) -> None:
        if not 0 <= self._clock() - self._told < _TELL_EVERY:
            self._told = self._clock()
            text = "Still taking in what came later: %d objects and %d decisions read"
            logger.warning(text, so_far.objects, so_far.decisions)

    def _move_there(self, uid: str, holding: Holding) -> None:
        """Have a row whose bytes are gone name this place of the same bytes: they were moved meanwhile."""
        was = self._rows.whereabouts(uid, holding.sha256)
        if was and was != holding and not self._is_there(was):
            self._rows.relocate([Move(uid, was, holding)])

    def _look_for_missing(self) -> int:
        """Write every row without bytes into the book, and keep the numbers of their segments from use."""
        count, batch = 0, list[Entry]()
        highest: dict[int, int] = {}
        for entry in self._rows.everything():
            _note_place(entry.holding, highest)
            if not self._can_be_there(entry.holding):
                batch.append(entry)
            if len(batch) >= _BATCH:
                count += self._mark(batch)
        count += self._mark(batch)
        stores = [self._segments] if isinstance(self._segments, SegmentStore) else self._segments.present()
        for store in stores:
            # Above the last one: its marker would take an empty segment for its own, torn.
            skip_to(store.objects, highest.get(store.volume, 0) + 1)
        return count

    def _can_be_there(self, holding: Holding) -> bool:
        try:
            return self._is_there(holding)
        except Unavailable:
            # A disk that is not mounted is no sign of a loss.
            return True

    def _mark(self, batch: list[Entry]) -> int:
        count = len(batch)
        if count:
            self._book.mark_missing(batch, GONE)
            batch.clear()
        return count

    def _forget_found(self) -> None:
        """Take from the book what was missing and came back, as when objects are copied in later."""
        for row in list(self._book):
            if row.what == GONE and self._can_be_there(row.holding):
                self._book.clear(row.holding.sha256)


class Presence:
    """Whether a disk has the bytes of an object, told from the length of its segment."""

    def __init__(self, segments: SegmentStore | VolumeStore) -> None:
        self._segments = segments
        self._sizes: dict[tuple[int, int], int] = {}

    def __call__(self, holding: Holding) -> bool:
        """Say whether the object's segment is there and long enough.

        Raises:
            Unavailable: its volume is missing.
        """
        if is_elsewhere(holding):
            return True
        try:
            place = place_of(holding.where)
        except NotFound:
            return False
        key = (place.volume, place.segment)
        if key not in self._sizes:
            self._sizes[key] = self._size(*key)
        return place.offset + member_length(holding.size) <= self._sizes[key]

    def _size(self, volume: int, number: int) -> int:
        segments = self._segments
        objects = segments.objects if isinstance(segments, SegmentStore) else segments.store(volume).objects
        try:
            return os.stat(segment_path(objects, number)).st_size
        except FileNotFoundError:
            return 0


def _note_place(holding: Holding, highest: dict[int, int]) -> None:
    where = holding.where
    try:
        # A bucket's word is one byte and a place in the spool.
        place = place_of(where[-9:])
    except NotFound:
        return
    highest[place.volume] = max(highest.get(place.volume, 0), place.segment)
