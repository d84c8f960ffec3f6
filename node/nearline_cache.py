"""Copies of what lies at peers: files that may go at any time, never stated as held, forgotten when old.

`home/grid/cache/OWNER/SERIES/SHA256` is the object as its owner stored it, followed by what the owner said of
it. Nothing is synced: what a crash tore is found by its SHA-256 when it is first read after a start.

What came a moment ago is in memory only, so that whoever waits for it does not wait for files: they are
written when nothing comes any more, or so much has come that there is no more room.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Final, NamedTuple
from weakref import WeakSet

import msgspec

from catalog import Clock, Entry, NotPermitted, OutOfSpace
from catalog.statements import SeriesStatement
from federation.manifests import Manifest, Manifests
from federation.owners import place_at
from node.nearline_copy import Copy, MemoryCopy, Part, Said, opened, write_copy

ROLE: Final = "cache"
IN_MEMORY: Final = 64 << 20
"""Bytes of copies that wait in memory for their files."""
_QUIET: Final = 0.25
"""Seconds without a new copy after which files are written."""
_LONGEST: Final = 5.0
"""Seconds after which they are written though copies still come."""
_ARRIVING: Final = "arriving"
_PIECE: Final = 1 << 20


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
        self._held: dict[Name, tuple[bytes | memoryview, Said]] = {}
        """What has no file yet, oldest first."""
        self._held_size = 0
        self._first = self._last = 0.0
        """When the oldest and the newest of them came."""
        self._came = threading.Condition(self._lock)
        self._is_ending = False
        self._parts = 0
        self.size = 0
        self.is_erased: Callable[[bytes, Entry], bool] = lambda owner, entry: False
        """Says whether an owner had an object erased: no copy of it is kept again."""
        self._open: WeakSet[Part] = WeakSet()
        self._writing = ""
        """The study of the copy of which a file is written just now."""
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
        part = Part(self, self._next_path(), entry.StudyInstanceUID)
        with self._lock:
            self._open.add(part)
        return part

    def is_coming(self, study: str) -> bool:
        """Say whether an object of a study is on its way in, so that an erasure may not find it yet."""
        with self._lock:
            return study == self._writing or any(part.study == study and part.is_open for part in self._open)

    def _next_path(self) -> Path:
        with self._lock:
            self._parts += 1
            return self._arriving / str(self._parts)

    def hold(self, data: bytes | memoryview, said: Said) -> bool:
        """Keep a whole copy in memory until its file is written; say whether there was room; for `Part`.

        Raises:
            NotPermitted: its owner had it erased.
        """
        name = name_of(said.owner, said.entry)
        with self._came:
            self._check(said)
            if self._held_size + len(data) > IN_MEMORY:
                return False
            self._enter(name, len(data))
            self._last = self._clock()
            if not self._held:
                self._first = self._last
                self._came.notify()
            self._held[name] = data, said
            self._held_size += len(data)
            return True

    def take(self, path: Path, said: Said, size: int) -> None:
        """Keep a whole file of this size, with its tail; for `Part`.

        Raises:
            NotPermitted: its owner had it erased.
        """
        name = name_of(said.owner, said.entry)
        with self._lock:
            self._check(said)
            self._enter(name, size)
            self._place(path, name)

    def _check(self, said: Said) -> None:
        if self.is_erased(said.owner, said.entry):
            raise NotPermitted("Its owner had it erased; no copy of it is kept.", "Nothing can be done.")

    def _enter(self, name: Name, size: int) -> None:
        self._forget(name)
        self._kept[name] = _Kept(size, self._clock())
        self._checked.add(name)
        self.size += size

    def _place(self, path: Path, name: Name) -> None:
        """Bring a file to its place; the lock is held."""
        target, fetched = self._path(name), self._kept[name].fetched
        os.utime(path, (fetched, fetched))
        try:
            path.rename(target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)

    def turn(self) -> bool:
        """Write the file of one copy, or wait for one; for a thread that comes back at once."""
        with self._came:
            if not self._held:
                if not self._is_ending:
                    self._came.wait(1.0)
                return False
            now = self._clock()
            # A clock that was set back makes nothing wait.
            is_early = 0 <= now - self._last < _QUIET and 0 <= now - self._first < _LONGEST
            if is_early and not self._is_ending:
                self._came.wait(_QUIET)
                return True
        self._write_oldest()
        return True

    def end(self) -> None:
        """Have no turn wait any more."""
        with self._came:
            self._is_ending = True
            self._came.notify_all()

    def close(self) -> None:
        """Write all that is in memory only."""
        while self._held:
            self._write_oldest()

    def _write_oldest(self) -> None:
        with self._lock:
            if not self._held:
                return
            name, held = next(iter(self._held.items()))
            self._writing = held[1].entry.StudyInstanceUID
        try:
            self._write(name, held)
        finally:
            self._writing = ""

    def _write(self, name: Name, held: tuple[bytes | memoryview, Said]) -> None:
        path = self._next_path()
        try:
            size = write_copy(path, *held)
        except OutOfSpace:
            self._lose(name, held)
            return
        with self._lock:
            if self._held.get(name) is not held:
                path.unlink()
                return
            self._release(name)
            kept = self._kept[name]
            self._kept[name] = kept._replace(size=size)
            self.size += size - kept.size
            self._place(path, name)

    def _lose(self, name: Name, held: tuple[bytes | memoryview, Said]) -> None:
        with self._lock:
            if self._held.get(name) is held:
                self._forget(name)

    def _release(self, name: Name) -> None:
        held = self._held.pop(name, None)
        if held is not None:
            self._held_size -= len(held[0])

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
            copy = self._opened(name)
            if copy is None or copy.said.entry.holding.sha256 != entry.holding.sha256:
                self._forget(name)
                return None
            self._kept.move_to_end(name)
            is_checked = name in self._checked
            if name in self._held:
                return copy
        if not is_checked and not self._is_whole(name, copy):
            copy.close()
            return None
        with contextlib.suppress(OSError):
            os.utime(self._path(name), (self._clock(), kept.fetched))
        return copy

    def _opened(self, name: Name) -> Copy | None:
        held = self._held.get(name)
        return MemoryCopy(*held) if held else opened(self._path(name))

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
        series_name = _series_name(owner, study, series)
        folder = self._folder.joinpath(*series_name)
        found = []
        with self._lock:
            names = [name for name in self._held if name[:2] == series_name]
        if folder.is_dir():
            names += [Name(*series_name, path.name) for path in folder.iterdir()]
        for name in names:
            with self._lock:
                copy = self._opened(name) if self._current(name) is not None else None
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
            names = list(self._kept)
        known: dict[tuple[str, str], bool] = {}
        dropped = 0
        for name in names:
            if name[:2] not in known and (said := self._said(name)) is not None:
                known[name[:2]] = is_stated(said.owner, said.entry)
            if known.get(name[:2]):
                continue
            # What cannot be read tells nobody whose it is, and may be anybody's.
            with self._lock:
                dropped += name in self._kept
                self._forget(name)
        return dropped

    def _said(self, name: Name) -> Said | None:
        with self._lock:
            copy = self._opened(name)
        if copy is None:
            return None
        copy.close()
        return copy.said

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
            self._release(name)
            path = self._path(name)
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                path.parent.rmdir()

    def _path(self, name: Name) -> Path:
        return self._folder.joinpath(*name)
