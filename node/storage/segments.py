"""The local object store: append-only segments that are tar files.

One member per object, contiguous, so a retrieve is one read at an offset, `tar xf` recovers an archive
without this program, and one fdatasync makes durable what arrived meanwhile. Each process appends to a
segment of its own; an object that was too large to buffer becomes a segment by a rename.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from catalog import BadRequest, Clock, Damaged, Holding, Incoming, NotFound, Origin

from .appending import OPEN, GrowingSegment, Marker, new_stamp, sync_foreign
from .coverage import NOTHING, Coverage, unsettled_in
from .incoming import Buffers, IncomingObject, SpillFolder
from .members import Kind, Member, is_decision_id, member_length, pack
from .places import Place, highest_number, make_folder, place_of, segment_numbers, segment_path, sync_folder
from .reading import SegmentFiles, StoredFile
from .removal import remove_object
from .replay import Item, begun, in_order, items
from .space import FreeSpace, refusal
from .syncing import EagerSync
from .tails import Tail, open_tails

logger = logging.getLogger(__name__)

_MB = 1 << 20


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """What an operator may want otherwise; sizes in bytes."""

    seal_at: int = 256 * _MB
    """A segment is not grown beyond this."""
    buffered_at_most: int = 4 * _MB
    """An object larger than this goes to disk while it arrives."""
    budget: int = 128 * _MB
    """Memory for all objects on their way in."""
    full_below: int = 1024 * _MB
    """Nothing is taken in when less than this would stay free ..."""
    resume_above: int = 2048 * _MB
    """... until this much is free again."""
    open_segments: int = 64
    """Segments kept open for reading."""
    checkpoint_every: int = 32 * _MB
    """A start after a crash reads about twice this."""


class SegmentStore:
    """Satisfies `ObjectStore` on a local disk; `where` is a packed `Place`."""

    def __init__(
        self,
        objects: Path,
        incoming: Path,
        clock: Clock,
        settings: StorageSettings = StorageSettings(),
        *,
        volume: int = 0,
        buffers: Buffers | None = None,
        eager: EagerSync | None = None,
    ) -> None:
        """Open the store in two folders of one file system, made if they are not there.

        Nothing is read. After a start, `recover` tells what a crash left unrecorded. Stores that are the
        `volume`s of one archive share the memory for what comes in, and the thread that syncs.
        """
        for folder in (objects, objects / OPEN, incoming):
            folder.parent.mkdir(parents=True, exist_ok=True)
            make_folder(folder)
        self.volume = volume
        self.objects = objects
        self._clock = clock
        self._settings = settings
        self.space = FreeSpace(objects, clock, settings.full_below, settings.resume_above)
        self.spill = SpillFolder(incoming, self.space)
        self._buffers = buffers or Buffers(settings.buffered_at_most, settings.budget)
        self._files = SegmentFiles(objects, settings.open_segments)
        self._appending = threading.Lock()
        self._current: GrowingSegment | None = None
        self._growing: dict[int, GrowingSegment] = {}
        """The current segment, and those whose objects the catalog may not all have."""
        self._last_number: int | None = None
        self._eager = eager or EagerSync()
        self.wake = self._eager.wake
        """Has `sync_forever` look at whether it was told to stop."""

    def incoming(self) -> IncomingObject:
        """Return a new empty object to fill."""
        return IncomingObject(self._buffers, lambda: self.spill)

    def keep(self, incoming: Incoming, origin: Origin) -> Holding:
        """Write the object where it will stay; it is durable only after `sync`.

        Raises:
            OutOfSpace: the disk is full or below its watermark; nothing was kept.
            Unavailable: the disk failed; nothing was kept.
        """
        if not isinstance(incoming, IncomingObject):
            raise TypeError("This store keeps only what its own `incoming` returned.")
        member = Member(
            kind=Kind.OBJECT,
            sha256=incoming.digest(),
            size=incoming.size,
            source=origin.source,
            received=origin.received,
            is_held=origin.is_held,
        )
        is_alone = incoming.spill is self.spill and member.size > self._settings.buffered_at_most
        self.space.claim(0 if is_alone else member.length)
        try:
            if is_alone:
                place = self._keep_alone(member, incoming)
            else:
                place = self._append(member, [*incoming.pieces()])
        except OSError as error:
            raise refusal(error, self.objects) from error
        return Holding(member.sha256, place.pack(), member.size)

    def sync(self, holding: Holding) -> None:
        """Return when everything up to and including this object has reached the disk.

        Counts the object as recorded, so call it after the catalog's commit where the two overlap.

        Raises:
            OutOfSpace: the disk is full after all; the object is not durable.
            Unavailable: the disk failed; the object is not durable.
        """
        self.flush(holding)
        place = self._place(holding)
        if segment := self._growing.get(place.segment):
            segment.settle(place.offset)
            if segment is not self._current or segment.unchecked >= self._settings.checkpoint_every:
                self._advance()

    def flush(self, holding: Holding) -> None:
        """Return when the object has reached the disk; a start replays it until `sync` counts it as recorded.

        Raises as `sync`.
        """
        place = self._place(holding)
        segment = self._growing.get(place.segment)
        if segment is None:
            sync_foreign(self.objects, place.segment)
            return
        try:
            segment.group.wait(place.offset + member_length(holding.size))
        except OSError as error:
            raise refusal(error, self.objects) from error

    def sync_forever(self, stop: threading.Event) -> None:
        """Start each group commit as soon as something was appended, until told to stop.

        For a thread of its own; without one, whoever calls `sync` first leads the group.
        """
        self._eager.listen(stop)

    def open(self, holding: Holding) -> StoredFile:
        """Open a kept file.

        Raises:
            NotFound: the store does not have it (any more).
            Damaged: another header than the object's stands at its place.
        """
        self._place(holding)
        return StoredFile(self._files, holding)

    def verify(self, holding: Holding) -> None:
        """Read a kept file whole.

        Raises:
            NotFound: the store does not have it (any more).
            Damaged: its bytes do not have its SHA-256.
        """
        stored = self.open(holding)
        try:
            buffer = memoryview(bytearray(min(holding.size, _MB)))
            digest = hashlib.sha256()
            for offset in range(0, holding.size, _MB):
                digest.update(buffer[: stored.read_into(buffer, offset)])
        finally:
            stored.close()
        if digest.digest() != holding.sha256:
            place = place_of(holding.where)
            raise Damaged(
                f"The bytes at {place.offset} in segment {place.segment} are not those that were stored.",
                "Fetch the object from a peer that has a copy, or send it again.",
            )

    def prefetch(self, holdings: Iterable[Holding]) -> None:
        """Do nothing: every file is near."""

    def is_safe(self, holding: Holding) -> bool:
        """Say whether the object's header stands at its place, on the disk."""
        try:
            self.open(holding).close()
        except (NotFound, Damaged):
            return False
        place = place_of(holding.where)
        segment = self._growing.get(place.segment)
        return segment is None or segment.group.synced >= place.offset + member_length(holding.size)

    def remove(self, holding: Holding, erase: bool = False, is_sure: bool = False) -> None:
        """Free the bytes; with `erase` overwrite them first. Removing twice is harmless. See `remove_object`.

        Raises:
            Damaged: no header stands at the object's place; nothing was touched.
        """
        place = self._place(holding)
        remove_object(self.objects, holding, erase, is_sure)
        if segment := self._growing.get(place.segment):
            segment.settle(place.offset)

    def keep_decision(self, id: str, text: bytes) -> None:
        """Write a decision's JSON beside the objects; durable when it returns. The same id twice is one.

        Raises:
            BadRequest: the id cannot be the name of a file.
            OutOfSpace: the disk is full; nothing was kept.
        """
        if not is_decision_id(id):
            raise BadRequest(f"{id!r} cannot name a decision.", "Use letters, digits, dots and dashes.")
        sha256 = hashlib.sha256(text).digest()
        member = Member(Kind.DECISION, sha256, len(text), "", int(self._clock() * 1000), id=id)
        try:
            place = self._append(member, [memoryview(text)])
        except OSError as error:
            raise refusal(error, self.objects) from error
        self.sync(Holding(sha256, place.pack(), len(text)))

    def recover(self) -> Iterator[Item]:
        """Yield what the segments say that were open when the store was last used, in the order written.

        For the start, before anything is kept. The caller records what its catalog lacks, and drops what
        it has in a `Damage` or behind a `SegmentEnd`; what is not taken to the end is told again next time.
        """
        self.spill.sweep()
        with ExitStack() as opened:
            tails = [opened.enter_context(closing(tail)) for tail in open_tails(self.objects, self.volume)]
            yield from in_order(tail.items() for tail in tails)
            with self._appending:
                for tail in tails:
                    self._go_on_with(tail)

    def scan(self, known: Coverage = NOTHING) -> Iterator[Item]:
        """Yield everything the store has, in the order written: what a catalog is made again from.

        Segments that are `known` are passed over.
        """
        return in_order(segment for _, segment in sorted(self.segments(known), key=itemgetter(0)))

    def segments(self, known: Coverage = NOTHING) -> Iterator[tuple[int, Iterator[Item]]]:
        """Yield each segment that is not known: when it begins, in milliseconds since 1970, and its items."""
        for number in segment_numbers(self.objects):
            if known.covers(self.volume, number):
                continue
            path = segment_path(self.objects, number)
            yield begun(path), items(path, number, self.volume)

    def retire(self) -> None:
        """End the current segment; called again and again, none is left that may have unrecorded objects."""
        with self._appending:
            segment, self._current = self._current, None
            if segment:
                self._seal(segment)
        self._advance()

    def settled(self) -> list[int]:
        """Return the segments that no process appends to and no start would replay, by number."""
        unsettled = unsettled_in(self.objects)
        return [number for number in segment_numbers(self.objects) if number not in unsettled]

    def is_empty(self) -> bool:
        """Say whether there is no segment at all."""
        return not segment_numbers(self.objects)

    def claim(self) -> tuple[int, Marker]:
        """Take a number for a segment that is made elsewhere; the marker has a start replay it.

        Raises:
            OSError: the disk refused.
        """
        with self._appending:
            return self._claim_number()

    def publish(self, path: Path, number: int) -> None:
        """Give a durable file of the spill folder its name in the store.

        Raises:
            OSError: the disk refused; the file is where it was.
        """
        target = segment_path(self.objects, number)
        make_folder(target.parent)
        path.rename(target)
        sync_folder(target.parent)

    def drop(self, number: int) -> None:
        """Remove a segment of which nothing is needed any more; who reads it may read on."""
        path = segment_path(self.objects, number)
        self._files.forget(number)
        path.unlink(missing_ok=True)
        sync_folder(path.parent)

    def close(self) -> None:
        """Make everything durable and let the segments go; the next start has nothing to replay."""
        with self._appending:
            if self._current and not self._current.is_broken:
                self._current.group.wait(self._current.end)
            for segment in self._growing.values():
                segment.checkpoint()
                if segment.checkpoint() and segment is not self._current:
                    segment.marker.remove()
                segment.close()
            self._growing.clear()
            self._current = None
        self._files.close()

    def _place(self, holding: Holding) -> Place:
        place = place_of(holding.where)
        if place.volume != self.volume:
            what = f"The object {holding.sha256.hex()} lies on volume {place.volume}, not here."
            raise NotFound(what, "See the volumes with: peerpacs storage list")
        return place

    def _append(self, member: Member, pieces: list[memoryview]) -> Place:
        with self._appending:
            segment = self._segment_for(member.length)
            offset = segment.append(member, pieces)
            self._eager.ring(segment.group)
        return Place(self.volume, segment.number, offset)

    def _segment_for(self, length: int) -> GrowingSegment:
        """Return the current segment, or the next one when it is full."""
        segment = self._current
        is_full = segment and 0 < segment.end > self._settings.seal_at - length
        if segment and not segment.is_broken and not is_full:
            return segment
        self._current = None
        if segment and segment.end:
            self._seal(segment)
        number, marker = self._claim_number()
        self._current = self._growing[number] = GrowingSegment.create(self.objects, number, marker)
        return self._current

    def _go_on_with(self, tail: Tail) -> None:
        """Append to the first segment that has room, and end the others."""
        segment = tail.resume()
        if segment is None:
            return
        self._growing[tail.number] = segment
        if self._current is None and tail.can_grow(self._settings.seal_at):
            self._current = segment
        elif not tail.is_sealed:
            self._seal(segment)

    def _seal(self, segment: GrowingSegment) -> None:
        try:
            segment.seal()
        except OSError as error:
            text = "Segment %d was not sealed (%s); a new one is begun, and the next start seals this one."
            logger.error(text, segment.number, error)

    def _claim_number(self) -> tuple[int, Marker]:
        """Take the next number that no process has taken."""
        if self._last_number is None:
            self._last_number = highest_number(self.objects)
        while True:
            self._last_number += 1
            if marker := Marker.claim(self.objects, self._last_number, is_new=True):
                return self._last_number, marker

    def _keep_alone(self, member: Member, incoming: IncomingObject) -> Place:
        """Make the spill file a segment; the disk works while others go on appending."""
        number, marker = self.claim()
        try:
            incoming.finish_file(pack(member, new_stamp()), lambda path: self.publish(path, number))
        except OSError:
            marker.remove()
            raise
        self._growing[number] = GrowingSegment.whole(number, marker, member.size)
        return Place(self.volume, number, 0)

    def _advance(self) -> None:
        """Note what needs no replay any more, and forget the segments of which that is everything."""
        with self._appending:
            for segment in [*self._growing.values()]:
                if segment.checkpoint() and segment is not self._current:
                    del self._growing[segment.number]
                    segment.marker.remove()
                    segment.close()
