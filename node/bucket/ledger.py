"""What this node knows of each object in its bucket: a row that survives a restart, and so the queue.

A row that has bytes in the spool and no proof waits for its upload; a row that nobody holds any more, for its
deletion. Changes gather while one commit runs and go into the next one together.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec
from msgspec.structs import replace

from catalog import Holding, Origin


class Row(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One object; the key is its SHA-256."""

    size: int
    source: str
    received: int
    """Milliseconds since 1970."""
    is_held: bool = False
    holders: tuple[bytes, ...] = ()
    """Each `Holding.where` that was given out and not removed."""
    local: tuple[bytes, ...] = ()
    """The places in the spool that have the bytes."""
    since: int = 0
    """When the bytes came into the spool, in seconds since 1970."""
    proof: str = ""
    """How the bucket confirmed size and SHA-256; empty while it did not."""
    salt: bytes = b""
    upload: str = ""
    """An upload in parts that was begun, with the salt it was sealed with ..."""
    parts: tuple[tuple[str, bytes], ...] = ()
    """... and the parts the bucket has: its tag, and the SHA-256 of what was sent."""
    sealed: bytes = b""
    """The SHA-256 of the sealed file, where it was sent in one piece."""

    @property
    def is_lost(self) -> bool:
        """Whether nothing is known that has whole bytes of an object somebody holds."""
        return bool(self.holders) and not self.local and not self.proof

    @property
    def is_waiting(self) -> bool:
        """Whether something has to be done in the bucket."""
        return bool(self.local and not self.proof) if self.holders else True


def taken_in(holding: Holding, place: bytes, origin: Origin, now: int) -> Callable[[Row | None], Row]:
    """Return the change for an object that came into the spool `now`, under one more holding."""

    def change(row: Row | None) -> Row:
        known = row or Row(size=holding.size, source="", received=0)
        # What was deleted and is sent again goes to the bucket again, which has to know of that too.
        return replace(
            known,
            source=origin.source,
            received=origin.received,
            is_held=origin.is_held,
            holders=(*known.holders, holding.where),
            local=(*(known.local if known.holders else ()), place),
            since=now,
            proof="",
        )

    return change


class Rows(Protocol):
    """The table of the node's state that keeps the rows."""

    def get(self, key: bytes) -> Row | None:
        """Return a row."""

    def change(self, changes: dict[bytes, Callable[[Row | None], Row | None]]) -> None:
        """Replace rows; on disk when it returns."""

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, Row]]:
        """Yield all rows."""


class Ledger:
    """The rows, those of them that wait for the bucket, and those that fill the disk."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._mutex = threading.Lock()
        self._committing = threading.Lock()
        self._fresh: dict[bytes, Row | None] = {}
        """Changes that are not on disk yet."""
        self._waiting: OrderedDict[bytes, float] = OrderedDict()
        """What has to be done in the bucket, in the order it came, and not before when."""
        self._cached: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        """(size, since) of what the bucket has confirmed and the spool keeps, least recently used first."""
        self._lost: set[bytes] = set()
        self.cached_bytes = 0
        found = sorted(rows.scan(), key=lambda pair: (pair[1].received, pair[1].since))
        for sha256, row in found:
            self._index(sha256, row)

    def get(self, sha256: bytes) -> Row | None:
        """Return the row, whether or not it is on disk yet."""
        with self._mutex:
            if sha256 in self._fresh:
                return self._fresh[sha256]
            return self._rows.get(sha256)

    def update(self, sha256: bytes, change: Callable[[Row | None], Row | None]) -> Row | None:
        """Change a row at once for everybody here; on disk after `commit`."""
        with self._mutex:
            known = self._fresh[sha256] if sha256 in self._fresh else self._rows.get(sha256)
            row = change(known)
            if row is not known:
                self._fresh[sha256] = row
                self._index(sha256, row)
            return row

    def commit(self) -> None:
        """Return when every change made before is on disk.

        Raises:
            OutOfSpace: the disk is full; the changes hold here and are tried again with the next commit.
        """
        with self._committing:
            with self._mutex:
                batch = dict(self._fresh)
            if not batch:
                return
            self._rows.change({sha256: lambda _, row=row: row for sha256, row in batch.items()})  # type: ignore[misc]
            with self._mutex:
                for sha256, row in batch.items():
                    if self._fresh.get(sha256) is row:
                        del self._fresh[sha256]

    def is_new(self, sha256: bytes) -> bool:
        """Say whether nothing about the object is on disk yet, and one holder is all there is to write."""
        with self._mutex:
            row = self._fresh.get(sha256)
            return row is not None and len(row.holders) == 1 and self._rows.get(sha256) is None

    def waiting(self, now: float) -> list[bytes]:
        """Return what has to be done in the bucket and is due, a few, oldest first."""
        with self._mutex:
            due = (sha256 for sha256, when in self._waiting.items() if when <= now)
            return [sha256 for sha256, _ in zip(due, range(64), strict=False)]

    def count_waiting(self) -> int:
        """Return how many objects wait for the bucket."""
        with self._mutex:
            return len(self._waiting)

    def count_here(self) -> int:
        """Return how many objects the node's own disk has."""
        with self._mutex:
            return len(self._cached) + len(self._waiting)

    def oldest(self) -> int | None:
        """Return since when what waits longest has been in the spool, in seconds since 1970."""
        with self._mutex:
            sha256 = next(iter(self._waiting), None)
        row = self.get(sha256) if sha256 else None
        return row.since if row else None

    def lost(self) -> frozenset[bytes]:
        """Return the objects of which nothing is known that has whole bytes."""
        with self._mutex:
            return frozenset(self._lost)

    def postpone(self, sha256: bytes, until: float) -> None:
        """Do not try this one before."""
        with self._mutex:
            if sha256 in self._waiting:
                self._waiting[sha256] = until

    def touch(self, sha256: bytes) -> None:
        """Note that an object was read, so that it stays in the cache longer."""
        with self._mutex:
            if sha256 in self._cached:
                self._cached.move_to_end(sha256)

    def surplus(self, limit: int, before: float) -> bytes | None:
        """Return the confirmed object to drop next, if they fill over `limit` or it is too old."""
        with self._mutex:
            oldest = next(iter(self._cached.items()), None)
            if oldest and (self.cached_bytes > limit or oldest[1][1] < before):
                return oldest[0]
            return None

    def rows(self) -> Iterator[tuple[bytes, Row]]:
        """Yield all rows that are on disk."""
        return self._rows.scan()

    def _index(self, sha256: bytes, row: Row | None) -> None:
        if row is None or not row.is_waiting:
            self._waiting.pop(sha256, None)
        else:
            self._waiting.setdefault(sha256, 0)
        if row and row.is_lost:
            self._lost.add(sha256)
        else:
            self._lost.discard(sha256)
        known = self._cached.get(sha256)
        is_cached = bool(row and row.proof and row.local)
        if known and not is_cached:
            del self._cached[sha256]
            self.cached_bytes -= known[0]
        elif row and is_cached and not known:
            self._cached[sha256] = (row.size, row.since)
            self.cached_bytes += row.size
