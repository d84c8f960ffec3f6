"""The segments that were open when a process ended: replayed, cut where they are torn, and gone on with."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from .appending import OPEN, GrowingSegment, Marker, new_stamp
from .places import segment_path, sync_folder
from .replay import Damage, Item, SegmentEnd, find_members, is_sealed, item_of, stamp_of

logger = logging.getLogger(__name__)


def open_tails(objects: Path, volume: int = 0) -> list[Tail]:
    """Return the unsettled segments of which no living process is the owner, by number."""
    numbers = sorted(int(entry.name) for entry in (objects / OPEN).iterdir() if entry.name.isdigit())
    markers = ((number, Marker.claim(objects, number, is_new=False)) for number in numbers)
    return [Tail(objects, number, marker, volume) for number, marker in markers if marker]


class Tail:
    """One such segment, owned by this process from now on."""

    def __init__(self, objects: Path, number: int, marker: Marker, volume: int = 0) -> None:
        self.number = number
        self._volume = volume
        self._objects = objects
        self._marker = marker
        self._start = self._end = 0
        self._stamp = b""
        self._is_resumed = False
        self.is_sealed = False
        """Whether its tar is ended."""

    def items(self) -> Iterator[Item]:
        """Yield what lies behind the last checkpoint, and where the segment ends once a torn end is cut."""
        try:
            fd = os.open(segment_path(self._objects, self.number), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            self._make_durable(fd)
            size = os.fstat(fd).st_size
            if self._marker.checked > size:
                yield self._loss(size)
            self._start = self._end = self._marker.checked if self._marker.checked <= size else 0
            self._stamp = stamp_of(fd) if self._start else new_stamp()
            for found in find_members(fd, self._start):
                is_torn = found.end > size or (found.member is None and found.end == size)
                if is_torn:
                    break
                self._end, self._stamp = found.end, found.stamp
                if item := item_of(fd, self.number, found, self._volume):
                    yield item
            self.is_sealed = is_sealed(fd, self._end)
            if size > self._end and not self.is_sealed:
                self._cut(fd, size)
            yield SegmentEnd(self.number, self._end, volume=self._volume)
        finally:
            os.close(fd)

    def resume(self) -> GrowingSegment | None:
        """Return the segment as it was left, or None when there is none: only its number was taken.

        What it told counts as recorded only a checkpoint later, so that nothing hangs on this moment.
        """
        if not segment_path(self._objects, self.number).exists():
            self._marker.remove()
            return None
        self._is_resumed = True
        return GrowingSegment.resume(
            self._objects, self.number, self._marker, self._stamp, checked=self._start, end=self._end
        )

    def can_grow(self, seal_at: int) -> bool:
        """Say whether more may be appended: it was not ended, is not full, and its stamp is known."""
        return not self.is_sealed and self._end < seal_at and bool(self._stamp)

    def close(self) -> None:
        """Let the segment go if it was not resumed."""
        if not self._is_resumed:
            self._marker.close()

    def _loss(self, size: int) -> Damage:
        missing = self._marker.checked - size
        what = (
            f"Segment {self.number} ends at {size}, but {missing} bytes more had been stored for good. "
            "Restore it from a backup, or have what is missing sent again."
        )
        return Damage(self.number, size, missing, what, volume=self._volume)

    def _make_durable(self, fd: int) -> None:
        """Finish what the process that ended had no time for: what is told is recorded, and must stay."""
        os.fdatasync(fd)
        sync_folder(segment_path(self._objects, self.number).parent)

    def _cut(self, fd: int, size: int) -> None:
        os.ftruncate(fd, self._end)
        os.fdatasync(fd)
        text = "Segment %d was torn: the last %d bytes, behind %d, were never acknowledged and are cut off."
        logger.warning(text, self.number, size - self._end, self._end)
