"""One copy of an object that lies at a peer: on its way here, in memory, and as a file."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from catalog import Damaged, Decision, Entry, OutOfSpace

BUFFERED: Final = 8 << 20
"""Bytes of an object up to which it is kept in memory while it comes."""
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_MODE: Final = 0o666
"""As far as the process's umask lets."""
_TAIL: Final = struct.Struct(">I4s")
_MAGIC: Final = b"PPcc"


class Said(msgspec.Struct, frozen=True, array_like=True):
    """What stands behind a copy's bytes: what its owner said when it was fetched."""

    owner: bytes
    entry: Entry
    corrections: tuple[Decision, ...]
    system: str
    state: bytes
    """See `Source.state`."""
    only_for: tuple[str, ...] = ()
    """Role and purpose of use for which its owner gave it; empty: whoever asks."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Said).decode


class Copy(Protocol):
    """An open copy; satisfies `Reader`. It can be read to its end, even if it is evicted meanwhile."""

    said: Said
    size: int

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; return how many bytes there were."""

    def close(self) -> None:
        """Give back what it holds."""


class FileCopy:
    """One whose bytes are in a file; satisfies `Copy`."""

    def __init__(self, descriptor: int, said: Said) -> None:
        self.said = said
        self.size = said.entry.holding.size
        self._descriptor = descriptor

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; return how many bytes there were."""
        return os.preadv(self._descriptor, [buffer[: max(0, self.size - offset)]], offset)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class MemoryCopy:
    """One whose bytes have no file yet; satisfies `Copy`."""

    def __init__(self, data: bytes | memoryview, said: Said) -> None:
        self.said = said
        self.size = len(data)
        self.data = memoryview(data)
        """All of it; it does not change."""

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; return how many bytes there were."""
        piece = self.data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Nothing to give back."""


class Kept(Protocol):
    """Where whole copies go."""

    def hold(self, data: bytes | memoryview, said: Said) -> bool:
        """Keep one in memory; say whether there was room."""

    def take(self, path: Path, said: Said, size: int) -> None:
        """Keep a whole file of this size, with its tail."""


class Part:
    """An object on its way into the cache; hashed as it comes. A large one becomes a file at once."""

    def __init__(self, cache: Kept, path: Path, study: str) -> None:
        self.study = study
        self.is_open = True
        """Whether there may be something of it that the cache does not count yet."""
        self._cache = cache
        self._path = path
        self._pieces: list[bytes | memoryview] = []
        self._file: int | None = None
        self._sha256 = hashlib.sha256()
        self.length = 0
        """Bytes so far."""

    def write(self, piece: bytes | memoryview) -> None:
        """Take the next bytes, which do not change any more.

        Raises:
            OutOfSpace: the disk is full.
        """
        self._sha256.update(piece)
        self.length += len(piece)
        self._pieces.append(piece)
        if self._file is not None or self.length > BUFFERED:
            self._spill()

    def _spill(self) -> None:
        """Write what is in memory to the file."""
        try:
            if self._file is None:
                self._file = os.open(self._path, _NEW, _MODE)
            _write(self._file, self._pieces)
        except OSError as error:
            raise _no_room(error) from error
        self._pieces = []

    def digest(self) -> bytes:
        """Return the SHA-256 of the bytes so far."""
        return self._sha256.digest()

    def finish(self, said: Said) -> None:
        """Let it count as whole.

        Raises:
            Damaged: these are not the bytes its owner stated.
            NotPermitted: its owner had it erased meanwhile.
            OutOfSpace: the disk is full.
        """
        holding = said.entry.holding
        if self.digest() != holding.sha256 or self.length != holding.size:
            raise Damaged("What came are not the bytes that its owner stated.", "It is fetched again.")
        if self._file is None:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            if self._cache.hold(data, said):
                self._pieces, self.is_open = [], False
                return
        end = _tail(said)
        self._pieces.append(end)
        self._spill()
        self._cache.take(self._path, said, self.length + len(end))
        self._close()
        self.is_open = False

    def discard(self) -> None:
        """Forget it; harmless after `finish`."""
        self._pieces = []
        if self._file is not None:
            self._close()
            self._path.unlink(missing_ok=True)
        self.is_open = False

    def _close(self) -> None:
        assert self._file is not None
        os.close(self._file)
        self._file = None


def write_copy(path: Path, data: bytes | memoryview, said: Said) -> int:
    """Write the file of a copy; return its size.

    Raises:
        OutOfSpace: the disk is full; there is no such file then.
    """
    end = _tail(said)
    try:
        descriptor = os.open(path, _NEW, _MODE)
        try:
            _write(descriptor, [data, end])
        finally:
            os.close(descriptor)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _no_room(error) from error
    return len(data) + len(end)


def _write(descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
    for piece in pieces:
        if os.write(descriptor, piece) != len(piece):
            raise OSError("short write")


def _no_room(error: OSError) -> OutOfSpace:
    return OutOfSpace(f"No room for copies: {error.strerror or error}.", "Free some disk.")


def _tail(said: Said) -> bytes:
    text = _encode(said)
    return text + _TAIL.pack(len(text), _MAGIC)


def opened(path: Path) -> FileCopy | None:
    """Open the copy in a file; None if there is none, or it is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return FileCopy(descriptor, _read_tail(descriptor))
    except (OSError, ValueError, msgspec.DecodeError):
        os.close(descriptor)
        return None


def _read_tail(descriptor: int) -> Said:
    size = os.fstat(descriptor).st_size
    length, magic = _TAIL.unpack(_exactly(descriptor, size - _TAIL.size, _TAIL.size))
    if magic != _MAGIC or length > size:
        raise ValueError("no tail")
    said = _decode(_exactly(descriptor, size - _TAIL.size - length, length))
    if said.entry.holding.size != size - _TAIL.size - length:
        raise ValueError("another size")
    return said


def _exactly(descriptor: int, at: int, length: int) -> bytes:
    found = os.pread(descriptor, length, at) if at >= 0 else b""
    if len(found) != length:
        raise ValueError("too short")
    return found
