"""The LMDB environment that is the truth of an archive: its keys and its limits.

Everything lives in one B+tree, each kind under its own first byte, so that a commit is a few reads and one
sorted `putmulti`: py-lmdb gives the interpreter lock away at every single `get` and `put`, and on a busy
node each of those can cost a switch. The row of an instance lies under (study, series, instance), so that
a manifest is one scan; the UIDs are separated by a zero byte, which no UID contains. What arrives together
is kept together: a study's row, then those of its series, then those of its instances share pages, and what
has no such place is numbered, so that a commit touches few pages however large the tree has become.
"""

from __future__ import annotations

import errno
import os
import struct
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol, cast

import lmdb

from .errors import BadRequest, Damaged, OutOfSpace, PacsError, Unavailable
from .scouring import scour

# The first byte of a key says what lies under it.
CLAIM: Final = b"c"  # SOPInstanceUID -> Claims
CONFLICT: Final = b"C"  # SOPInstanceUID -> ConflictRow
DIRTY: Final = b"d"  # mark number -> study, or study and series: it must go to the change log
DECISION: Final = b"D"  # decision id -> DecisionRow
DECIDED: Final = b"E"  # study -> ids of its decisions
DIGEST: Final = b"G"  # share, bucket -> count and sum
CHAIN: Final = b"H"  # share, seq -> running hash
INSTANCE: Final = b"t"  # study, series, instance -> InstanceRow
NUMBER: Final = b"k"  # series number -> study and series
LOG: Final = b"L"  # share, seq -> log key
META: Final = b"m"  # name -> value
OUTBOX: Final = b"o"  # arrival number -> OutboxRow
PACK: Final = b"p"  # study, series, chunk -> header pack
PUBLISHED: Final = b"P"  # share, log key -> seq and row
SHARED: Final = b"S"  # share, study -> the keys of the rows the share has of it
STUDY: Final = b"t"  # study -> StudyRow; study, nothing, series -> SeriesRow, see `series_at`
TOMBSTONE: Final = b"T"  # share, seq -> when the row there was said to be gone
UNION: Final = b"u"  # study, series -> UnionRow
VERSIONS: Final = b"v"  # SOPInstanceUID, sha256 -> Entry that is not the preferred one
INDEX: Final = b"x"  # letter, value, order, study -> nothing


class Reads(Protocol):
    """Whatever can look a key up: a read transaction, or a commit in the making."""

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value, or None."""


class Reading(Reads, Protocol):
    """A short read transaction: everything in it is of one moment."""

    def cursor(self) -> Any:
        """Return a cursor over all keys."""


def joined(*uids: str) -> bytes:
    """Return the key part for UIDs from the study downwards."""
    return "\0".join(uids).encode()


def series_at(key: bytes) -> bytes:
    """Return the key of a SeriesRow, `key` being its two UIDs joined: in front of the study's instances."""
    study, _, series = key.partition(b"\0")
    return STUDY + study + b"\0\0" + series


def split(key: bytes) -> list[str]:
    """Return the UIDs of a key part made by `joined`."""
    return key.decode().split("\0")


def counted(number: int) -> bytes:
    """Return a number as a key part that sorts like the number."""
    return struct.pack(">Q", number)


def end_of(prefix: bytes) -> bytes:
    """Return the first key behind every key that starts with `prefix`."""
    bare = prefix.rstrip(b"\xff")
    return bare[:-1] + bytes([bare[-1] + 1])


class Environment:
    """One open LMDB environment; a process opens a path once.

    The map is reserved address space, not memory or disk: it is set huge once, because growing it while
    another process reads is what corrupts LMDB.
    """

    def __init__(
        self, path: Path, *, map_size: int = 256 << 30, is_read_only: bool = False, has_lock: bool = True
    ) -> None:
        if not is_read_only:
            path.mkdir(parents=True, exist_ok=True)
        try:
            self._env = lmdb.open(
                os.fspath(path),
                map_size=map_size,
                max_readers=1024,
                max_spare_txns=32,
                metasync=False,
                # Else unused parts of pages keep what lay in this process's memory, of other archives too.
                meminit=True,
                readahead=False,
                readonly=is_read_only,
                lock=has_lock,
            )
        except lmdb.Error as error:
            raise translated(error) from error

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Open a short read transaction: one that stays open makes the file grow."""
        with self._env.begin() as txn:
            yield cast(Reading, txn)

    def writing(self) -> lmdb.Transaction:
        """Begin the write transaction; only the group commit does."""
        return self._env.begin(write=True)

    @contextmanager
    def changing(self) -> Iterator[Any]:
        """Open a write transaction whose failures are told as ours; all of it is written, or nothing.

        Raises:
            OutOfSpace: the map or the disk is full.
        """
        try:
            with self._env.begin(write=True) as txn:
                yield txn
        except lmdb.Error as error:
            raise translated(error) from error

    def transactions(self) -> int:
        """Return the number of the last commit; a copy of an earlier moment has a lower one."""
        return int(self._env.info()["last_txnid"])

    def settle(self) -> None:
        """Return when the last commit cannot be undone by a power cut either (see metasync)."""
        self._env.sync(True)

    def scour(self) -> bool:
        """Leave nothing in the file of what was deleted; writers wait. False: an old state is being read."""
        return scour(self._env, META + b"scoured")

    def free_slots(self) -> int:
        """Clear reader slots of processes that died; return how many there were."""
        return int(self._env.reader_check())

    def close(self) -> None:
        """Sync and close; every transaction must have ended."""
        if not self._env.flags()["readonly"]:
            self._env.sync(True)
        self._env.close()


def scan(txn: Reading, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of every key with the prefix, in order, starting behind `after` when given."""
    cursor: Any = txn.cursor()
    if not cursor.set_range(after + b"\0" if after else prefix):
        return
    for key, value in cursor:
        if not key.startswith(prefix):
            return
        yield key, value


def block(txn: Reading, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
    """Return the next `limit` of what `scan` yields; quicker, because it looks at the last key only."""
    cursor: Any = txn.cursor()
    if not cursor.set_range(after + b"\0" if after else prefix):
        return []
    found = list(islice(cursor, limit))
    if found and not found[-1][0].startswith(prefix):
        del found[bisect_left(found, (end_of(prefix),)) :]
    return found


def scan_keys(txn: Reading, prefix: bytes, start: bytes = b"") -> Iterator[bytes]:
    """Yield every key with the prefix, in order, from `start` on when given."""
    cursor: Any = txn.cursor()
    if not cursor.set_range(max(start, prefix)):
        return
    for key in cursor.iternext(keys=True, values=False):
        if not key.startswith(prefix):
            return
        yield key


def translated(error: Exception) -> Exception:
    """Return our error for one of LMDB's; any other comes back as it is."""
    if isinstance(error, PacsError) or not isinstance(error, lmdb.Error):
        return error
    if isinstance(error, (lmdb.MapFullError, lmdb.DiskError)) or "No space left" in str(error):
        return OutOfSpace(
            "The catalog has no room for another row.",
            "Free space on its disk; nothing of this was kept, and it can be sent again.",
        )
    if os.strerror(errno.EIO) in str(error):
        # LMDB says so too when the disk took only a part, as one does that has just become full.
        return Unavailable(
            "The disk under the catalog failed, or took only a part of what was written.",
            "Free space on it; if it has enough, look at the system log and check the disk.",
        )
    if isinstance(error, lmdb.BadValsizeError):
        return BadRequest("A UID is too long for the catalog.", "DICOM allows 64 characters (PS3.5 9.1).")
    return Damaged(
        f"The catalog's database failed: {error}.", "If it stays, restore it or run `peerpacs rebuild`."
    )
