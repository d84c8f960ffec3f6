"""Stored files, open for reading: many readers share one descriptor per segment."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final

from catalog import Damaged, Holding, NotFound, Unavailable

from .members import BLOCK, Kind, object_name, unpack
from .places import place_of, segment_path

_AGAIN: Final = "Send it again from where it came, or fetch it from a peer that has a copy."


class SegmentFile:
    """A segment open for reading, and how many read it."""

    __slots__ = ("fd", "is_cached", "number", "readers")

    def __init__(self, number: int, fd: int) -> None:
        self.number = number
        self.fd = fd
        self.readers = 0
        self.is_cached = True


class SegmentFiles:
    """The segments that were read last, at most `limit` of them besides those being read."""

    def __init__(self, objects: Path, limit: int) -> None:
        self._objects = objects
        self._limit = limit
        self._mutex = threading.Lock()
        self._cached: OrderedDict[int, SegmentFile] = OrderedDict()

    def lease(self, number: int) -> SegmentFile:
        """Return the open segment; pair it with `give_back`.

        Raises:
            NotFound: there is no such segment.
        """
        with self._mutex:
            file = self._cached.get(number)
            if file is None:
                file = self._cached[number] = SegmentFile(number, self._open(number))
                self._drop_oldest()
            self._cached.move_to_end(number)
            file.readers += 1
            return file

    def give_back(self, file: SegmentFile) -> None:
        """Say that the reading is over."""
        with self._mutex:
            file.readers -= 1
            if not file.readers and not file.is_cached:
                os.close(file.fd)

    def forget(self, number: int) -> None:
        """Keep a segment open no longer than it is being read: its file is about to go."""
        with self._mutex:
            if number in self._cached:
                self._drop(number)

    def close(self) -> None:
        """Close what nobody reads; the rest closes with its last reader."""
        with self._mutex:
            while self._cached:
                self._drop(next(iter(self._cached)))

    def _open(self, number: int) -> int:
        try:
            return os.open(segment_path(self._objects, number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"Segment {number} is not in this store any more.", _AGAIN) from None

    def _drop_oldest(self) -> None:
        if len(self._cached) > self._limit:
            self._drop(next(iter(self._cached)))

    def _drop(self, number: int) -> None:
        file = self._cached.pop(number)
        file.is_cached = False
        if not file.readers:
            os.close(file.fd)


class StoredFile:
    """Satisfies `Reader`. `fileno()` and `offset` are for sendfile; check `is_there()` afterwards."""

    __slots__ = ("_file", "_files", "_header_at", "_name", "offset", "size")

    def __init__(self, files: SegmentFiles, holding: Holding) -> None:
        """Open the file the holding names.

        Raises:
            NotFound: it was removed, or never was there.
            Damaged: another header than the object's stands at its place.
        """
        place = place_of(holding.where)
        self._files = files
        self._name = object_name(holding.sha256)
        self._header_at = place.offset
        self.offset = place.offset + BLOCK
        """Where the file starts in the segment."""
        self.size = holding.size
        self._file: SegmentFile | None = files.lease(place.segment)
        if not self.is_there():
            header = os.pread(self.fileno(), BLOCK, place.offset)
            self.close()
            raise _explanation(header, holding)

    def __del__(self) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor of the whole segment.

        Raises:
            ValueError: it was closed.
        """
        if self._file is None:
            raise ValueError("The stored file was closed.")
        return self._file.fd

    def is_there(self) -> bool:
        """Say whether the object still stands at its place; if so, all bytes read before were its own."""
        return os.pread(self.fileno(), len(self._name), self._header_at) == self._name

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; return how many bytes there were.

        Raises:
            NotFound: it was removed meanwhile; the bytes in the buffer mean nothing.
            Damaged: the segment ends before it.
            Unavailable: the disk fails.
        """
        wanted = max(min(len(buffer), self.size - offset), 0)
        got = 0
        while got < wanted:
            count = self._read(buffer[got:wanted], self.offset + offset + got)
            if not count:
                raise Damaged(f"Segment {self._file and self._file.number} is cut off.", _AGAIN)
            got += count
        if not self.is_there():
            raise NotFound("The object was removed while it was read.", _AGAIN)
        return got

    def _read(self, buffer: memoryview, at: int) -> int:
        try:
            return os.preadv(self.fileno(), [buffer], at)
        except OSError as error:
            number = self._file and self._file.number
            raise Unavailable(
                f"The disk failed while segment {number} was read: {error.strerror}.",
                "Look at the system log and check the disk; peerpacs verify tells what is damaged.",
            ) from error

    def close(self) -> None:
        """Give back the segment; twice is harmless."""
        file, self._file = getattr(self, "_file", None), None
        if file:
            self._files.give_back(file)


def _explanation(header: bytes, holding: Holding) -> NotFound | Damaged:
    name, place = holding.sha256.hex(), place_of(holding.where)
    found = unpack(header)
    if not header or (found and found[0].kind is Kind.DELETED and found[0].sha256 == holding.sha256):
        return NotFound(f"The object {name} is not in segment {place.segment} any more.", _AGAIN)
    return Damaged(
        f"What stands at {place.offset} in segment {place.segment} is not the object {name}.", _AGAIN
    )
