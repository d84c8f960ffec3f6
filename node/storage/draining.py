"""Volumes are drained: their segments are copied to others, rows follow, and only then the bytes go.

The order is what makes it safe at any moment: the copy is durable and has its name; the rows name it, on the
disk; some time later, when nobody has an old row in hand, it is looked at once more, and the segment is
removed, unless a row names it again. Which copy belongs to which segment is noted before it has its name, so
that an interrupted drain goes on with it, and so that what is removed meanwhile is removed from both.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from msgspec.structs import replace

from catalog import Clock, Damaged, Entry, Holding, Move, Moved, NotFound, OutOfSpace, PacsError, Unavailable

from .copying import Segment, SegmentCopy, Stretch, contents
from .elsewhere import is_elsewhere
from .members import BLOCK
from .places import place_of
from .removal import remove_from
from .segments import SegmentStore
from .space import refusal
from .spread import VolumeStore
from .twins import Note, Twins

logger = logging.getLogger(__name__)

_GRACE: Final = 5.0
"""Seconds a drained segment stays: who looked a row up before it moved has opened the object by then."""
_REST: Final = 60.0
_LOOK_AGAIN: Final = 3600.0
_BATCH: Final = 256


class Rows(Protocol):
    """Whoever knows where objects lie."""

    def relocate(self, moves: Sequence[Move]) -> list[Moved]:
        """Have rows name another place; durable when it returns."""

    def whereabouts(self, SOPInstanceUID: str, sha256: bytes) -> Holding | None:
        """Return where the row says that the object lies."""

    def lying_on(self, volume: int) -> Iterator[Entry]:
        """Yield everything whose row names this volume; looks at every row there is."""


class _Leaving(NamedTuple):
    """A segment whose objects lie elsewhere by now, and since when."""

    note: Note
    since: float


class _Lying(NamedTuple):
    """An object of a segment that is drained, its copies, and the place that the row names."""

    SOPInstanceUID: str
    holding: Holding
    copies: list[Holding]
    row: Holding | None


class Drain:
    """Empties the volumes that are to be drained; `step` by step, from one thread."""

    def __init__(self, store: VolumeStore, rows: Rows, clock: Clock, grace: float = _GRACE) -> None:
        self._store = store
        self._rows = rows
        self._clock = clock
        self._grace = grace
        self._leaving: dict[Segment, _Leaving] = {}
        self._stuck: dict[Segment, float] = {}
        self._has_looked = False
        self._work = self._all()
        self._rests_until = float("-inf")
        self.remaining: dict[int, list[str]] = {}
        """SOP Instance UIDs that cannot be moved, because they are damaged, by volume."""
        self.problem = ""
        """Why the drain does not go on, empty if it does."""
        self._twins = Twins(store)
        store.on_removed = self._remove_twins

    def step(self) -> bool:
        """Move one object, or free segments that are due; say whether there is more to do at once."""
        now = self._clock()
        if 0 <= self._rests_until - now <= _REST:
            return False
        try:
            is_busy = next(self._work)
            self.problem = ""
            return is_busy
        except (PacsError, OSError) as error:
            self.problem = str(error)
            logger.error("Draining pauses: %s", error)
            self._work = self._all()
            self._rests_until = now + _REST
            return False

    def again(self) -> None:
        """Look at once at what did not go before: a person asks for it."""
        self._stuck.clear()
        self._has_looked = False
        self._rests_until = float("-inf")

    def _all(self) -> Iterator[bool]:
        while True:
            self._free()
            for store in self._store.present():
                for note in self._twins.notes(store.volume):
                    yield from self._go_on(Segment(store.volume, note.source), note)
            for state in self._store.states():
                if state.state == "draining":
                    yield from self._drain(self._store.store(state.volume.number))
            yield False

    def _drain(self, source: SegmentStore) -> Iterator[bool]:
        source.retire()
        for number in source.settled():
            segment = Segment(source.volume, number)
            if segment not in self._leaving and not self._is_stuck(segment):
                yield from self._move(segment, is_forced=False)
                self._free()
        stuck = [segment for segment in self._stuck if segment.volume == source.volume]
        if stuck and not self._leaving and not self._has_looked:
            self._has_looked = True
            yield from self._force(source.volume, stuck)

    def _force(self, volume: int, stuck: list[Segment]) -> Iterator[bool]:
        """Have segments go of which nothing is missed: what is damaged there was sent again, or nobody's."""
        entries = list(self._rows.lying_on(volume))
        self.remaining[volume] = [entry.SOPInstanceUID for entry in entries]
        missed = {place_of(entry.holding.where).segment for entry in entries}
        for segment in stuck:
            if segment.number not in missed:
                yield from self._move(segment, is_forced=True)
        if missed:
            text = "Volume %d is not empty: %d objects are damaged. Have them sent again."
            logger.error(text, volume, len(entries))

    def _is_stuck(self, segment: Segment) -> bool:
        return 0 <= self._clock() - self._stuck.get(segment, float("-inf")) < _LOOK_AGAIN

    def _move(self, source: Segment, *, is_forced: bool) -> Iterator[bool]:
        """Copy one segment and have the rows name the copy."""
        note = yield from self._copy(source, is_forced)
        if note is not None:
            yield from self._follow(source, note)
        else:
            self._stuck[source] = self._clock()
            self._has_looked &= is_forced

    def _go_on(self, source: Segment, note: Note) -> Iterator[bool]:
        """Finish with a segment that was copied, even if its volume is not to be drained any more."""
        if not self._twins.path(source).exists():
            self._twins.forget(source)
        elif source not in self._leaving and not self._is_stuck(source):
            yield from self._check(source, note)
            yield from self._follow(source, note)

    def _check(self, source: Segment, note: Note) -> Iterator[bool]:
        """Read the copies again that rows are about to name: they have lain there for a while."""
        store = self._store.store(note.volume)
        for lying in self._lying(source, note):
            for copy in lying.copies if lying.row == lying.holding else ():
                try:
                    store.verify(copy)
                except (Damaged, NotFound):
                    with suppress(Damaged):
                        store.remove(copy)
                yield True

    def _follow(self, source: Segment, note: Note) -> Iterator[bool]:
        """Have the rows name the copy of a segment, which may go a little later."""
        self._erase_removed(source, note)
        moves = [
            Move(lying.SOPInstanceUID, lying.holding, copy)
            for lying in self._lying(source, note)
            for copy in lying.copies
        ]
        for start in range(0, len(moves), _BATCH):
            self._rows.relocate(moves[start : start + _BATCH])
            yield True
        self._leaving[source] = _Leaving(note, self._clock())

    def _copy(self, source: Segment, is_forced: bool) -> Generator[bool, None, Note | None]:
        """Return where the copy is that was made; None when the segment has to stay."""
        path, target = self._twins.path(source), self._target()
        target.space.claim(path.stat().st_blocks * BLOCK)
        file, fd = target.spill.create()
        try:
            copy = SegmentCopy(path, fd, lambda stretch: self._is_wanted(source, stretch))
            for _ in copy.steps():
                yield True
            if copy.damaged and (copy.is_decision_damaged if is_forced else not copy.objects):
                return None
            note = Note(source.number, -1, -1, is_forced or not copy.damaged, is_forced)
            return note if copy.is_empty else self._publish(source, target, file, note)
        except OSError as error:
            raise refusal(error, target.objects) from error
        finally:
            os.close(fd)
            file.unlink(missing_ok=True)

    def _publish(self, source: Segment, target: SegmentStore, file: Path, note: Note) -> Note:
        number, marker = target.claim()
        try:
            note = replace(note, volume=target.volume, number=number)
            self._twins.add(source.volume, note)
            # What is removed from now on is removed from the copy too, and what was before is erased here.
            self._erase(self._twins.path(source), source, file, Segment(note.volume, number))
            target.publish(file, number)
        finally:
            # The note is better than a replay: it knows that there are rows already.
            marker.remove()
        return note

    def _target(self) -> SegmentStore:
        for store in self._store.writable():
            return store
        raise OutOfSpace("No other volume takes anything in.", "Add a disk: peerpacs storage add PATH")

    def _is_wanted(self, source: Segment, stretch: Stretch) -> bool:
        """Say whether the row of an object names this segment, or it has none: then a rebuild may want it."""
        held = self._rows.whereabouts(stretch.SOPInstanceUID, stretch.member.sha256)
        return held is None or _lies_in(source, held)

    def _lying(self, source: Segment, note: Note) -> list[_Lying]:
        """Return what lies in a segment; bytes that lie there twice have the same copies each."""
        copies: dict[bytes, list[Stretch]] = {}
        for each in self._copied(note):
            copies.setdefault(each.member.sha256, []).append(each)
        copy = Segment(note.volume, note.number)
        lying = []
        for each in contents(self._twins.path(source)).objects:
            found = copies.get(each.member.sha256, [])
            # The copy was hashed; the first bytes of what it was made from may have changed.
            uid = next((one.SOPInstanceUID for one in found if one.SOPInstanceUID), each.SOPInstanceUID)
            row = self._rows.whereabouts(uid, each.member.sha256)
            there = [copy.holding(one.member, one.offset) for one in found]
            lying.append(_Lying(uid, source.holding(each.member, each.offset), there, row))
        return lying

    def _copied(self, note: Note) -> list[Stretch]:
        """Return what lies in a copy: nothing if none was made, or if it was drained itself."""
        with suppress(FileNotFoundError):
            return (
                contents(self._twins.path(Segment(note.volume, note.number))).objects
                if note.volume >= 0
                else []
            )
        return []

    def _free(self) -> None:
        """Remove the segments whose time has come."""
        for source, leaving in [*self._leaving.items()]:
            if not 0 <= self._clock() - leaving.since < self._grace:
                del self._leaving[source]
                with self._store.staying:
                    self._part_with(source, leaving.note)

    def _part_with(self, source: Segment, note: Note) -> None:
        """Remove what lies elsewhere by now, and the segment if nothing else is in it."""
        store = self._store.store(source.volume)
        self._erase_removed(source, note)
        self._drop_useless_copies(source, note)
        inside = self._lying(source, note)
        staying = [each for each in inside if not _may_go(source, each, note.is_forced)]
        if any(each.copies for each in staying):
            # Somebody recorded it after the rows had moved; the copy is noted, and taken up again.
            return
        is_readable = note.is_forced or not contents(self._twins.path(source)).has_unreadable
        if note.is_whole and not staying and is_readable:
            store.drop(source.number)
            self._stuck.pop(source, None)
        else:
            # What stays was healed from here, and is copied anew; or it is damaged.
            for each in inside:
                if each not in staying:
                    store.remove(each.holding)
            self._has_looked = False
            if not note.is_whole:
                self._stuck[source] = self._clock()
        self._twins.forget(source)

    def _drop_useless_copies(self, source: Segment, note: Note) -> None:
        """Remove copies of what lies in a third place by now."""
        copy = Segment(note.volume, note.number)
        for each in self._copied(note):
            now = copy.holding(each.member, each.offset)
            row = self._rows.whereabouts(each.SOPInstanceUID, each.member.sha256)
            if row and row != now and not _lies_in(source, row):
                self._store.store(note.volume).remove(now)

    def _erase_removed(self, source: Segment, note: Note) -> None:
        """Erase what was removed on one side alone: before there was a note, or while a disk was away."""
        copy = Segment(note.volume, note.number)
        if note.volume >= 0 and self._twins.path(copy).exists():
            self._erase(self._twins.path(source), source, self._twins.path(copy), copy)
            self._erase(self._twins.path(copy), copy, self._twins.path(source), source)

    def _erase(self, path: Path, removed: Segment, file: Path, left: Segment) -> None:
        """Erase from a segment in `file` what was removed from its twin in `path` and has no row."""
        gone = contents(path).removed
        for each in contents(file, gone).objects if gone else ():
            row = self._rows.whereabouts(each.SOPInstanceUID, each.member.sha256)
            # Without a name nobody can say whether there is a row.
            if each.SOPInstanceUID and (row is None or _lies_in(removed, row)):
                remove_from(file, left.holding(each.member, each.offset), erase=True)

    def _remove_twins(self, holding: Holding, erase: bool) -> None:
        """Remove an object that goes from the segments that its own was copied to, or from.

        Where a row names another place of the same bytes, the object stays, and so do they.
        """
        place = place_of(holding.where)
        for twin in self._twins.of(Segment(place.volume, place.segment)):
            try:
                store = self._store.store(twin.volume)
                for each in contents(self._twins.path(twin), (holding.sha256,)).objects:
                    row = self._rows.whereabouts(each.SOPInstanceUID, holding.sha256)
                    if row is None or row == holding:
                        store.remove(twin.holding(each.member, each.offset), erase)
            except FileNotFoundError:
                continue
            except Unavailable:
                # When its disk is back, the drain sees that it was removed; only an erasure must not wait.
                if erase:
                    raise


def _may_go(source: Segment, lying: _Lying, is_forced: bool) -> bool:
    """Say whether an object is not needed in a segment that goes: it lies elsewhere, or is nobody's."""
    if lying.row is None:
        return bool(lying.copies) or is_forced
    return not _lies_in(source, lying.row)


def _lies_in(segment: Segment, holding: Holding) -> bool:
    if is_elsewhere(holding):
        return False
    place = place_of(holding.where)
    return (place.volume, place.segment) == segment
