"""Copies of what lies at peers: files that may go at any time, never stated as held, forgotten when old.

`home/grid/cache/OWNER/SERIES/SHA256` is the object as its owner stored it, followed by what the owner said of
it. Nothing is synced: what a crash tore is found by its SHA-256 when it is first read after a start.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Final, NamedTuple

import msgspec

from catalog import Clock, Damaged, Decision, Entry, OutOfSpace
from catalog.statements import SeriesStatement
from federation.manifests import Manifest, Manifests
from federation.owners import place_at

ROLE: Final = "cache"
_ARRIVING: Final = "arriving"
_TAIL: Final = struct.Struct(">I4s")
_MAGIC: Final = b"PPcc"
_PIECE: Final = 1 << 20


class Said(msgspec.Struct, frozen=True, array_like=True):
    """What stands behind a copy's bytes: what its owner said when it was fetched."""

    owner: bytes
    entry: Entry
    corrections: tuple[Decision, ...]
    system: str
    state: bytes
    """See `Source.state`."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Said).decode


class Name(NamedTuple):
    """Where a copy lies below the cache's folder."""

    owner: str
    series: str
    sha256: str


class _Kept(NamedTuple):
    size: int
    fetched: float


def name_of(owner: bytes, entry: Entry) -> Name:
    """Return where a copy of an owner's object lies."""
    return Name(
        *_series_name(owner, entry.StudyInstanceUID, entry.SeriesInstanceUID), entry.holding.sha256.hex()
    )


def _series_name(owner: bytes, study: str, series: str) -> tuple[str, str]:
    return _hashed(owner), _hashed(f"{study}\0{series}".encode())


def _hashed(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:24]


class Copy:
    """An open copy; satisfies `Reader`. It can be read to its end, even if it is evicted meanwhile."""

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


class Part:
    """An object on its way into the cache; hashed as it comes."""

    def __init__(self, cache: CopyCache, path: Path) -> None:
        self._cache = cache
        self._path = path
        self._file = path.open("xb", buffering=0)
        self._sha256 = hashlib.sha256()
        self.length = 0
        """Bytes so far."""

    def write(self, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            OutOfSpace: the disk is full.
        """
        self._sha256.update(piece)
        try:
            if self._file.write(piece) != len(piece):
                raise OSError("short write")
        except OSError as error:
            raise OutOfSpace(f"No room for copies: {error.strerror or error}.", "Free some disk.") from error
        self.length += len(piece)

    def digest(self) -> bytes:
        """Return the SHA-256 of the bytes so far."""
        return self._sha256.digest()

    def finish(self, said: Said) -> None:
        """Let it count as whole.

        Raises:
            Damaged: these are not the bytes its owner stated.
            OutOfSpace: the disk is full.
        """
        holding = said.entry.holding
        if self.digest() != holding.sha256 or self.length != holding.size:
            raise Damaged("What came are not the bytes that its owner stated.", "It is fetched again.")
        self.write(_tail(said))
        self._file.close()
        self._cache.take(self._path, said)

    def discard(self) -> None:
        """Forget it; harmless after `finish`."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def _tail(said: Said) -> bytes:
    text = _encode(said)
    return text + _TAIL.pack(len(text), _MAGIC)


class CopyCache:
    """All copies: at most `limit` bytes, none older than `max_age` seconds, least used go first."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        limit: int,
        max_age: float,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_full` says that the disk has no room for what may go; then everything goes."""
        self._folder = folder
        self._clock = clock
        self._limit = limit
        self._max_age = max_age
        self._is_full = is_full
        self._lock = RLock()
        self._kept: OrderedDict[Name, _Kept] = OrderedDict()
        self._checked: set[Name] = set()
        self._parts = 0
        self.size = 0
        self._arriving = folder / _ARRIVING
        shutil.rmtree(self._arriving, ignore_errors=True)
        self._arriving.mkdir(parents=True)
        self._list()

    def _list(self) -> None:
        """Find what earlier runs left, least used first."""
        found = []
        for path in self._folder.glob("*/*/*"):
            name = Name(path.parts[-3], path.parts[-2], path.parts[-1])
            facts = path.stat()
            found.append((facts.st_atime, name, _Kept(facts.st_size, facts.st_mtime)))
        for _, name, kept in sorted(found):
            self._kept[name] = kept
            self.size += kept.size

    def part(self, entry: Entry) -> Part:
        """Return a place for an object to come in.

        Raises:
            OutOfSpace: it is larger than all copies together may be, or the disk is full.
        """
        self._make_room(entry.holding.size)
        with self._lock:
            self._parts += 1
            path = self._arriving / str(self._parts)
        return Part(self, path)

    def take(self, path: Path, said: Said) -> None:
        """Keep a whole file, with its tail; for `Part`."""
        name = name_of(said.owner, said.entry)
        target = self._path(name)
        with self._lock:
            self._forget(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            size, now = target.stat().st_size, self._clock()
            os.utime(target, (now, now))
            self._kept[name] = _Kept(size, now)
            self._checked.add(name)
            self.size += size

    def has(self, owner: bytes, entry: Entry) -> bool:
        """Say whether there is a copy that is not too old."""
        with self._lock:
            return self._current(name_of(owner, entry)) is not None

    def open(self, owner: bytes, entry: Entry) -> Copy | None:
        """Open a copy; None where there is none, or it is too old or not what it was."""
        name = name_of(owner, entry)
        with self._lock:
            kept = self._current(name)
            if kept is None:
                return None
            copy = _opened(self._path(name))
            if copy is None or copy.said.entry.holding.sha256 != entry.holding.sha256:
                self._forget(name)
                return None
            self._kept.move_to_end(name)
            is_checked = name in self._checked
        if not is_checked and not self._is_whole(name, copy):
            copy.close()
            return None
        with contextlib.suppress(OSError):
            os.utime(self._path(name), (self._clock(), kept.fetched))
        return copy

    def _is_whole(self, name: Name, copy: Copy) -> bool:
        digest, buffer, at = hashlib.sha256(), memoryview(bytearray(_PIECE)), 0
        while count := copy.read_into(buffer, at):
            digest.update(buffer[:count])
            at += count
        is_whole = digest.digest() == copy.said.entry.holding.sha256
        with self._lock:
            if is_whole:
                self._checked.add(name)
            else:
                self._forget(name)
        return is_whole

    def entries(self, owner: bytes, study: str, series: str) -> list[Entry]:
        """Return the copies of an owner's series as entries whose place is at that owner, role `cache`."""
        folder = self._folder.joinpath(*_series_name(owner, study, series))
        found = []
        for path in folder.glob("*") if folder.is_dir() else ():
            with self._lock:
                is_current = self._current(Name(folder.parent.name, folder.name, path.name)) is not None
            copy = _opened(path) if is_current else None
            if copy is not None:
                entry = copy.said.entry
                copy.close()
                holding = msgspec.structs.replace(entry.holding, where=place_at(owner))
                found.append(msgspec.structs.replace(entry, holding=holding, role=ROLE))
        return found

    def remembered(self, manifests: Manifests) -> Manifest:
        """Return what knows a series without asking: its manifest if that was fetched, else the copies."""

        def known(owner: bytes, series: SeriesStatement) -> list[Entry]:
            copies = self.entries(owner, series.StudyInstanceUID, series.SeriesInstanceUID)
            return manifests.known(owner, series) or copies

        return known

    def drop(self, owner: bytes, entry: Entry) -> None:
        """Forget a copy."""
        with self._lock:
            self._forget(name_of(owner, entry))

    def sweep(self, is_stated: Callable[[bytes, Entry], bool]) -> int:
        """Drop the copies of series that their owner does not state (to us) any more; return how many."""
        with self._lock:
            samples = {name[:2]: name for name in self._kept}
        dropped = 0
        for series, name in samples.items():
            copy = _opened(self._path(name))
            if copy is None:
                continue
            copy.close()
            if is_stated(copy.said.owner, copy.said.entry):
                continue
            with self._lock:
                gone = [each for each in self._kept if each[:2] == series]
                for each in gone:
                    self._forget(each)
                dropped += len(gone)
        return dropped

    def step(self) -> None:
        """Drop what is too old, and everything when the disk is full."""
        with self._lock:
            oldest = self._clock() - self._max_age
            for name in [name for name, kept in self._kept.items() if kept.fetched < oldest]:
                self._forget(name)
        if self._is_full():
            self._make_room(self._limit)

    def _make_room(self, size: int) -> None:
        if size > self._limit:
            raise OutOfSpace(
                f"An object of {size >> 20} MB is larger than all copies may be.", "Raise grid.cache_mb."
            )
        with self._lock:
            while self._kept and (self.size + size > self._limit or self._is_full()):
                self._forget(next(iter(self._kept)))

    def _current(self, name: Name) -> _Kept | None:
        kept = self._kept.get(name)
        if kept is not None and kept.fetched < self._clock() - self._max_age:
            self._forget(name)
            return None
        return kept

    def _forget(self, name: Name) -> None:
        kept = self._kept.pop(name, None)
        if kept is not None:
            self.size -= kept.size
            self._checked.discard(name)
            path = self._path(name)
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                path.parent.rmdir()

    def _path(self, name: Name) -> Path:
        return self._folder.joinpath(*name)


def _opened(path: Path) -> Copy | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return Copy(descriptor, _read_tail(descriptor))
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
