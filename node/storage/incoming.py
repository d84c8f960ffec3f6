"""Objects on their way in: buffered while they are small, streamed to disk when they are not.

Buffers are reused, so that memory is neither zeroed nor faulted in again for each object, and their sum
stays within a budget for the process; who does not get memory goes on through a file. SHA-256 runs along.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from catalog import Busy

from .appending import write_whole
from .members import BLOCK
from .space import FreeSpace, refusal

_GRAIN: Final = 256 << 10
"""Memory is granted in such steps; every object has one, whatever the budget says."""
_STAGE: Final = 1 << 20
"""A spilled object is written in pieces of about this size."""
_HASHED_AT_ONCE: Final = 256 << 10
"""Smaller pieces are gathered: each update gives the interpreter lock away and has to get it back."""
_RETAINED: Final = 1 << 20
"""What a free buffer may keep resident; it is kept mapped for the next object ..."""
_FREE_AT_MOST: Final = 32
"""... and so many are: enough for a busy gateway, little for an idle one."""


class Buffers:
    """The memory of all objects on their way in: `budget` bytes, at most `largest` for one of them."""

    def __init__(self, largest: int, budget: int) -> None:
        self.largest = largest
        self._budget = budget
        self._claimed = 0
        self._mutex = threading.Lock()
        self._free: list[mmap.mmap] = []

    def take(self) -> mmap.mmap:
        """Return a buffer of `largest` bytes, of which the system has lent us only what was touched."""
        with self._mutex:
            self._claimed += _GRAIN
            if self._free:
                return self._free.pop()
        return mmap.mmap(-1, max(self.largest, _GRAIN), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def claim(self, amount: int) -> bool:
        """Count `amount` more bytes as used, if the budget has them."""
        with self._mutex:
            if self._claimed + amount > self._budget:
                return False
            self._claimed += amount
            return True

    def unclaim(self, amount: int) -> None:
        """Count so many bytes as free again."""
        with self._mutex:
            self._claimed -= amount

    def give_back(self, buffer: mmap.mmap, touched: int) -> None:
        """Take a buffer back; the next object gets the one that was used last, which is still warm."""
        if min(touched, len(buffer)) > _RETAINED:
            buffer.madvise(mmap.MADV_DONTNEED, _RETAINED)
        with self._mutex:
            if len(self._free) < _FREE_AT_MOST:
                self._free.append(buffer)


class SpillFolder:
    """`incoming/`: files that have no name in the store yet. What a crash left there belongs to nobody."""

    def __init__(self, folder: Path, space: FreeSpace) -> None:
        self.folder = folder
        self.space = space
        self._numbers = itertools.count(1)

    def create(self) -> tuple[Path, int]:
        """Return a new locked file and its descriptor."""
        path = self.folder / f"{os.getpid()}-{id(self):x}-{next(self._numbers)}.part"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise refusal(error, self.folder) from error
        fcntl.flock(fd, fcntl.LOCK_EX)
        return path, fd

    def resume(self, name: str) -> tuple[Path, int]:
        """Return a locked file of this name that outlives its process, as it was left, and its descriptor.

        Raises:
            Busy: somebody else writes it just now.
        """
        path = self.folder / f"{name}.resumed"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise refusal(error, self.folder) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise Busy(f"{name} is on its way already.", "It is asked for again.") from None
        return path, fd

    def forget(self, pattern: str) -> None:
        """Remove the files that outlive their process and have such a name; who writes one does so unseen."""
        for path in self.folder.glob(f"{pattern}.resumed"):
            path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove the files whose process is gone: nobody holds their lock."""
        for path in self.folder.glob("*.part"):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            except BlockingIOError:
                pass
            finally:
                os.close(fd)


class IncomingObject:
    """Satisfies `Incoming`. What it says stays readable until `discard` (or until nobody knows it).

    `choose` says which folder takes what outgrows the memory.
    """

    __slots__ = (
        "_buffer",
        "_buffers",
        "_choose",
        "_claimed",
        "_fd",
        "_hash",
        "_hashed",
        "_path",
        "_room",
        "_used",
        "_view",
        "_written",
        "size",
        "spill",
    )

    def __init__(self, buffers: Buffers, choose: Callable[[], SpillFolder]) -> None:
        self._buffers = buffers
        self._choose = choose
        self.spill: SpillFolder | None = None
        """Where the part of it is that is on disk already."""
        self._buffer: mmap.mmap | None = buffers.take()
        self._view = memoryview(self._buffer)
        self._claimed = self._room = _GRAIN
        self._used = 0
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._written = 0
        self.size = 0
        self._fd = -1
        """The spill file: one block left free for the tar header, then the object; -1 while in memory."""
        self._path: Path | None = None

    def __del__(self) -> None:
        self.discard()

    @property
    def is_spilled(self) -> bool:
        """Whether a part of it is on disk already."""
        return self._fd >= 0

    def space(self, length: int) -> memoryview:
        """Return a writable view of exactly `length` bytes to receive into.

        Raises:
            OutOfSpace: there is neither memory nor disk for them.
        """
        end = self._used + length
        if end > self._room:
            self._make_room(length)
            end = self._used + length
        return self._view[self._used : end]

    def filled(self, length: int) -> None:
        """Say that `length` bytes of the last space now count."""
        self._used += length
        self.size += length
        if self._used - self._hashed >= _HASHED_AT_ONCE:
            self._hash_on()

    def digest(self) -> bytes:
        """Return the SHA-256 of everything so far."""
        self._hash_on()
        return self._hash.digest()

    def head(self, limit: int) -> memoryview:
        """Return the first bytes, at most `limit`, for the header scan."""
        if self._written == 0:
            return self._view[: min(limit, self._used)].toreadonly()
        return memoryview(self.read_at(0, min(limit, self.size)))

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes already taken in, from memory or from the spill file."""
        end = min(offset + length, self.size)
        on_disk = b"" if offset >= self._written else _read(self._fd, offset, min(end, self._written))
        start = max(offset - self._written, 0)
        return on_disk + bytes(self._view[start : max(end - self._written, start)])

    def discard(self) -> None:
        """Forget the object and free what it used; harmless after `keep`."""
        buffer, self._buffer = self._buffer, None
        if buffer is None:
            return
        self._view = memoryview(b"")
        self._buffers.unclaim(self._claimed)
        self._buffers.give_back(buffer, self.size)
        if self._fd >= 0:
            os.close(self._fd)
        if self._path:
            self._path.unlink(missing_ok=True)

    def pieces(self) -> Iterator[memoryview]:
        """Yield the whole object in order: one view of memory, or reads of the spill file."""
        for offset in range(0, self._written, _STAGE):
            yield memoryview(_read(self._fd, offset, min(offset + _STAGE, self._written)))
        yield self._view[: self._used]

    def finish_file(self, header: bytes, publish: Callable[[Path], None]) -> None:
        """Make the spill file a whole segment: rest, padding, end of tar, and its header last.

        `publish` gives the durable file its name in the store.

        Raises:
            OSError: the disk refused; the object is as it was.
        """
        if self._path is None:
            raise ValueError("Only an object that was spilled, and not kept yet, has a file to finish.")
        padding = bytes(-self.size % BLOCK + 2 * BLOCK)
        write_whole(self._fd, [self._view[: self._used], padding], BLOCK + self._written)
        write_whole(self._fd, [header], 0)
        os.fdatasync(self._fd)
        publish(self._path)
        self._path = None

    def _hash_on(self) -> None:
        self._hash.update(self._view[self._hashed : self._used])
        self._hashed = self._used

    def _make_room(self, length: int) -> None:
        wanted = self._used + length
        wanted += -wanted % _GRAIN
        is_small = self._fd < 0 and wanted <= self._buffers.largest
        if is_small and self._buffers.claim(wanted - self._claimed):
            self._claimed = self._room = wanted
            return
        self._write_out()
        if length > self._room:
            # One piece longer than a stage, which no PDU of ours is: it gets memory of its own.
            self._view, self._room = memoryview(bytearray(length)), length

    def _write_out(self) -> None:
        """Move what is in memory to the spill file, and keep only a stage of memory."""
        spill = self.spill or self._choose()
        spill.space.claim(self._used)
        if self._fd < 0:
            self._path, self._fd = spill.create()
            self.spill = spill
        self._hash_on()
        try:
            write_whole(self._fd, [self._view[: self._used]], BLOCK + self._written)
        except OSError as error:
            raise refusal(error, spill.folder) from error
        self._written += self._used
        self._used = self._hashed = 0
        surplus = self._claimed - _STAGE
        if surplus > 0:
            self._buffers.unclaim(surplus)
            self._claimed = self._room = _STAGE


def _read(fd: int, start: int, end: int) -> bytes:
    parts = []
    while start < end:
        part = os.pread(fd, end - start, BLOCK + start)
        if not part:
            raise OSError(f"The spill file ends at {start} instead of {end}.")
        parts.append(part)
        start += len(part)
    return b"".join(parts)
