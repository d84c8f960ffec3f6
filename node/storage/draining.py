"""Volumes are drained: their segments are copied to others, rows follow, and only then the bytes go.

The order is what makes it safe at any moment: the copy is durable and has its name; the rows name it, on the
disk; some time later, when nobody has an old row in hand, it is looked at once more, and the segment is
removed. Which copy belongs to which segment is noted before it has its name, so that an interrupted drain
goes on with it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from catalog import Clock, Entry, Holding, Move, Moved, OutOfSpace, PacsError

from .copying import Segment, SegmentCopy, Stretch, objects_in
from .members import BLOCK
from .places import place_of, segment_path, write_durably
from .segments import SegmentStore
from .space import refusal
from .spread import VolumeStore

logger = logging.getLogger(__name__)

_NOTES: Final = "draining.json"
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


class _Note(msgspec.Struct, frozen=True):
    """One of `objects/draining.json` of the volume that is drained: where the copy of a segment is."""

    source: int
    volume: int
    number: int
    is_whole: bool
    """Whether nothing of the segment is damaged."""


class _Leaving(NamedTuple):
    """A segment whose objects lie elsewhere by now, and when it may go."""

    moves: list[Move]
    is_whole: bool
    since: float


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
                for note in self._notes(store.volume):
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

    def _go_on(self, source: Segment, note: _Note) -> Iterator[bool]:
        """Finish with a segment that was copied, even if its volume is not to be drained any more."""
        if not self._path(source).exists():
            self._forget(source)
        elif source not in self._leaving and not self._is_stuck(source):
            yield from self._follow(source, note)

    def _follow(self, source: Segment, note: _Note) -> Iterator[bool]:
        """Have the rows name the copy of a segment, which may go a little later."""
        moves = self._moves(source, note)
        for start in range(0, len(moves), _BATCH):
            self._rows.relocate(moves[start : start + _BATCH])
            yield True
        self._leaving[source] = _Leaving(moves, note.is_whole, self._clock())

    def _copy(self, source: Segment, is_forced: bool) -> Generator[bool, None, _Note | None]:
        """Return where the copy is that was made; None when the segment has to stay."""
        path, target = self._path(source), self._target()
        target.space.claim(path.stat().st_blocks * BLOCK)
        file, fd = target.spill.create()
        try:
            copy = SegmentCopy(path, fd, lambda stretch: self._is_wanted(source, stretch))
            for _ in copy.steps():
                yield True
            if copy.damaged and (copy.is_decision_damaged if is_forced else not copy.objects):
                return None
            is_whole = is_forced or not copy.damaged
            if copy.is_empty:
                return _Note(source.number, -1, -1, is_whole)
            return self._publish(source, target, file, is_whole)
        except OSError as error:
            raise refusal(error, target.objects) from error
        finally:
            os.close(fd)
            file.unlink(missing_ok=True)

    def _publish(self, source: Segment, target: SegmentStore, file: Path, is_whole: bool) -> _Note:
        number, marker = target.claim()
        try:
            note = _Note(source.number, target.volume, number, is_whole)
            self._write(source.volume, [*self._notes(source.volume), note])
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

    def _moves(self, source: Segment, note: _Note) -> list[Move]:
        """Pair what lies in a segment with its copy; bytes that lie there twice are paired with each."""
        if note.volume < 0:
            return []
        now = Segment(note.volume, note.number)
        before: dict[bytes, list[Stretch]] = {}
        for each in objects_in(self._path(source)):
            before.setdefault(each.member.sha256, []).append(each)
        return [
            Move(copy.SOPInstanceUID, source.holding(was.member, was.offset), now.holding(*copy[:2]))
            for copy in objects_in(self._path(now))
            for was in before.get(copy.member.sha256, [])
        ]

    def _free(self) -> None:
        """Remove the segments whose time has come."""
        for source, leaving in [*self._leaving.items()]:
            if 0 <= self._clock() - leaving.since < self._grace:
                continue
            del self._leaving[source]
            store = self._store.store(source.volume)
            rows = {
                move: self._rows.whereabouts(move.SOPInstanceUID, move.was.sha256) for move in leaving.moves
            }
            self._drop_useless_copies(source, rows)
            if any(held and _lies_in(source, held) for held in rows.values()):
                # Somebody recorded it after the rows had moved; the copy is noted, and taken up again.
                continue
            if leaving.is_whole:
                store.drop(source.number)
                self._stuck.pop(source, None)
            else:
                for move in rows:
                    store.remove(move.was)
                self._stuck[source] = self._clock()
                self._has_looked = False
            self._forget(source)

    def _drop_useless_copies(self, source: Segment, rows: dict[Move, Holding | None]) -> None:
        """Remove copies of what was removed meanwhile, and those that no row names though there is one."""
        there = {source.holding(each.member, each.offset) for each in objects_in(self._path(source))}
        for move, held in rows.items():
            is_useful = held == move.now or (held and _lies_in(source, held))
            if not is_useful and (held or move.was not in there):
                self._store.remove(move.now, erase=move.was not in there)

    def _path(self, segment: Segment) -> Path:
        return segment_path(self._store.store(segment.volume).objects, segment.number)

    def _note_path(self, volume: int) -> Path:
        return self._store.store(volume).objects / _NOTES

    def _notes(self, volume: int) -> list[_Note]:
        """Return the notes about segments of a volume whose copies have their names."""
        try:
            notes = msgspec.json.decode(self._note_path(volume).read_bytes(), type=list[_Note])
        except (FileNotFoundError, msgspec.MsgspecError):
            return []
        return [note for note in notes if self._path(Segment(note.volume, note.number)).exists()]

    def _write(self, volume: int, notes: list[_Note]) -> None:
        path = self._note_path(volume)
        if notes:
            write_durably(path, msgspec.json.encode(notes))
        else:
            path.unlink(missing_ok=True)

    def _forget(self, source: Segment) -> None:
        notes = self._notes(source.volume)
        if any(note.source == source.number for note in notes):
            self._write(source.volume, [note for note in notes if note.source != source.number])


def _lies_in(segment: Segment, holding: Holding) -> bool:
    place = place_of(holding.where)
    return (place.volume, place.segment) == segment
