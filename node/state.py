"""What changes while the node runs: small typed tables in one LMDB environment, `state/`.

Readers look rows up whenever they need them, so a change counts at once and nobody is notified. Several
processes may read and write (the command line beside a running node): LMDB's own lock keeps them in line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Protocol, TypeVar

import lmdb
import msgspec

from catalog import Damaged, OutOfSpace
from catalog.scouring import scour

T = TypeVar("T")

_MAP_SIZE: Final = 4 << 30
_READERS: Final = 2048
_VERSION: Final = b"\x01"
"""First byte of each row. Fields that are added with a default need no new version; anything else does."""


class Rows(Protocol):
    """Rows of all tables as bytes, wherever they lie."""

    def get(self, key: bytes) -> bytes | None:
        """Return a row as it is at this moment, or None."""

    def scan(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, row) of each key from `start` on that begins with the prefix, in key order."""

    def change(self, changes: Mapping[bytes, Callable[[bytes | None], bytes | None]]) -> None:
        """Replace rows by what each change makes of them, all or nothing and with nobody in between.

        Raises:
            OutOfSpace: the disk or the map is full; nothing changed.
        """


class OwnRows:
    """Satisfies `Rows` by an LMDB environment of this machine."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment

    def get(self, key: bytes) -> bytes | None:
        """See `Rows.get`."""
        with self._environment.begin() as transaction:
            stored: bytes | None = transaction.get(key)
            return stored

    def scan(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See `Rows.scan`; all of them as they are at the first step."""
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            found = cursor.set_range(start)
            while found and cursor.key().startswith(prefix):
                yield cursor.key(), cursor.value()
                found = cursor.next()

    def change(self, changes: Mapping[bytes, Callable[[bytes | None], bytes | None]]) -> None:
        """See `Rows.change`."""
        try:
            with self._environment.begin(write=True) as transaction:
                for key, change in changes.items():
                    row = change(transaction.get(key))
                    if row is None:
                        transaction.delete(key)
                    else:
                        transaction.put(key, row)
        except (lmdb.MapFullError, lmdb.DiskError) as error:
            what = f"The node's state cannot take another row: {error}."
            raise OutOfSpace(what, "Free space on the disk of the home folder.") from error


class Table(Generic[T]):
    """Rows of one type by a key of bytes; a put or delete is on disk when it returns."""

    def __init__(self, rows: Rows, name: str, row: type[T]) -> None:
        self._rows = rows
        self._name = name
        self._prefix = name.encode() + b"\0"
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(row).decode

    def get(self, key: bytes) -> T | None:
        """Return the row, as it is at this moment, or None."""
        stored = self._rows.get(self._prefix + key)
        return None if stored is None else self._read(key, stored)

    def put(self, key: bytes, row: T) -> None:
        """Write a row over what was there.

        Raises:
            OutOfSpace: the disk or the map is full; nothing changed.
        """
        self.change({key: lambda _: row})

    def delete(self, key: bytes) -> bool:
        """Remove a row; say whether there was one."""
        was: list[bytes | None] = []
        self._rows.change({self._prefix + key: was.append})
        return was[-1] is not None

    def change(self, changes: Mapping[bytes, Callable[[T | None], T | None]]) -> None:
        """Replace rows by what each change makes of them, all or nothing and with nobody in between.

        A change sees the row or None, and returns the new one, or None to have none. It may be called again.

        Raises:
            OutOfSpace: the disk or the map is full; nothing changed.
        """
        self._rows.change({self._prefix + key: partial(self._made, key, changes[key]) for key in changes})

    def scan(self, prefix: bytes = b"", begin: bytes = b"") -> Iterator[tuple[bytes, T]]:
        """Yield (key, row) of every key that begins so, in key order, as they are at the first step.

        `begin` is how the first key goes on after the prefix, or comes before it.
        """
        start = self._prefix + prefix
        for whole, stored in self._rows.scan(start, start + begin):
            key = whole[len(self._prefix) :]
            yield key, self._read(key, stored)

    def _made(self, key: bytes, change: Callable[[T | None], T | None], stored: bytes | None) -> bytes | None:
        row = change(None if stored is None else self._read(key, stored))
        return None if row is None else _VERSION + self._encode(row)

    def _read(self, key: bytes, stored: bytes) -> T:
        if stored[:1] != _VERSION:
            what = (
                f"A row of {self._name} in state/ has version {stored[0]}, which this program does not know."
            )
            raise Damaged(what, "Run the newer PeerPACS that wrote it.")
        try:
            return self._decode(memoryview(stored)[1:])
        except msgspec.MsgspecError as error:
            what = f"The row {key!r} of {self._name} in state/ cannot be read: {error}."
            raise Damaged(what, "Restore state/ from a backup, or delete that row.") from error


class Tables(Protocol):
    """Where somebody gets his tables from: the whole state, or an archive's part of it."""

    def table(self, name: str, row: type[T]) -> Table[T]:
        """Return the table of that name; it exists as soon as it has a row."""


class _ArchiveTables:
    def __init__(self, state: State, archive: str) -> None:
        self._state = state
        self._archive = archive

    def table(self, name: str, row: type[T]) -> Table[T]:
        return self._state.table(f"{name}/{self._archive}", row)


class State:
    """The node's own environment; open it once per process, close it at the end."""

    def __init__(self, folder: Path, map_size: int = _MAP_SIZE) -> None:
        """`map_size` is address space, not disk: the file grows as rows come."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._environment: Any = lmdb.open(
            str(folder), map_size=map_size, max_readers=_READERS, max_spare_txns=64, mode=0o640
        )
        self._environment.reader_check()
        self.rows: Rows = OwnRows(self._environment)
        """What the tables read and write."""

    def table(self, name: str, row: type[T]) -> Table[T]:
        """Return the table of that name; it exists as soon as it has a row."""
        return Table(self.rows, name, row)

    def of(self, archive: str) -> Tables:
        """Return the part that belongs to one archive; nothing in it is seen from another."""
        return _ArchiveTables(self, archive)

    def transactions(self) -> int:
        """Return the number of the last commit; a copy of an earlier moment has a lower one."""
        return int(self._environment.info()["last_txnid"])

    def scour(self) -> bool:
        """Leave nothing in the file of rows that were deleted; False: try again, an old state is read."""
        return scour(self._environment, b"scoured")

    def close(self) -> None:
        """Give the environment back; its tables must not be used any more."""
        self._environment.close()

    def __enter__(self) -> State:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
