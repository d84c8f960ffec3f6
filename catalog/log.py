"""The change log: what this node states about its studies and series, numbered, for whoever follows it.

Each key has one live row, the newest. A chain value proves that two logs are the same up to a number; 4096
bucket digests prove that two sets of rows are. An epoch says whose history the numbers belong to: a new one
begins whenever history may have been lost (federation: epochs only rise, whatever the clock says).
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from .commit import Batch
from .model import Change, Head, PatientKey
from .rows import SERIES_CODEC, STUDY_CODEC, SeriesRow, StudyRow, summed
from .truth import (
    CHAIN,
    DIGEST,
    DIRTY,
    LOG,
    META,
    PUBLISHED,
    STUDY,
    Reading,
    Reads,
    counted,
    scan,
    scan_keys,
    series_at,
)

GROWING: Final = 1000
"""Milliseconds between two statements about a series that grows."""
SETTLED: Final = 2000
"""Milliseconds without an arrival after which a series counts as settled."""
BUCKETS: Final = 4096
CHAIN_REACH: Final = 1_000_000
"""Rows behind the head for which chain values are kept; who is further back takes a snapshot."""
ALL: Final = 0
"""The share that holds everything."""
_WIRE_VERSION: Final = 1
_HEAD_KEY: Final = META + b"head"
_HEAD: Final = struct.Struct(">QQ8s")
_DIGEST: Final = struct.Struct(">Q32s")


class StudyStatement(msgspec.Struct, array_like=True, frozen=True):
    """What the node states about a study it holds: the row as it goes over the wire."""

    version: int
    StudyInstanceUID: str
    patient: PatientKey
    attributes: bytes
    """Effective patient and study attributes, DICOM JSON."""
    received: int
    has_conflict: bool


class SeriesStatement(msgspec.Struct, array_like=True, frozen=True):
    """What the node states about a series it holds: the row as it goes over the wire."""

    version: int
    StudyInstanceUID: str
    SeriesInstanceUID: str
    attributes: bytes
    """Effective series attributes, DICOM JSON."""
    instances: int
    size: int
    digest: bytes
    """Sum of the instances' SHA-256 modulo 2^256: a copy is complete when its sum is the same."""
    SOPClassUIDs: tuple[str, ...]
    received: int
    is_settled: bool
    has_conflict: bool


class Digest(NamedTuple):
    """One bucket: how many rows, and the sum of their SHA-256 modulo 2^256."""

    rows: int
    sum: bytes


_EMPTY: Final = Digest(0, bytes(32))
_encode: Final = msgspec.msgpack.Encoder().encode


def study_statement(row: StudyRow) -> bytes:
    """Return the wire form; empty, a tombstone, when nothing of the study can be seen."""
    if not row.instances:
        return b""
    return _encode(
        StudyStatement(
            _WIRE_VERSION,
            row.StudyInstanceUID,
            row.seen_patient,
            row.seen_attributes,
            row.received,
            row.conflicts > 0,
        )
    )


def series_statement(row: SeriesRow, *, is_settled: bool) -> bytes:
    """Return the wire form; empty, a tombstone, when nothing of the series can be seen."""
    if not row.instances:
        return b""
    return _encode(
        SeriesStatement(
            _WIRE_VERSION,
            row.StudyInstanceUID,
            row.SeriesInstanceUID,
            row.seen_attributes,
            row.instances,
            row.size,
            row.digest,
            tuple(sorted(row.classes)),
            row.received,
            is_settled,
            row.conflicts > 0,
        )
    )


class Mark(NamedTuple):
    """A study or series that has something to state."""

    place: bytes
    key: bytes


def marks(reading: Reading) -> Iterator[Mark]:
    """Yield the marks that commits left for the log, oldest first."""
    return (Mark(*found) for found in scan(reading, DIRTY))


def due(reading: Reading, now: int) -> list[Mark]:
    """Return the marks whose time to be stated has come; `now` is milliseconds since 1970."""
    found = []
    for mark in marks(reading):
        if b"\0" in mark.key:
            series = SERIES_CODEC.unpack(reading.get(series_at(mark.key)) or b"")
            if _is_due(series, now):
                found.append(mark)
        elif abs(now - STUDY_CODEC.unpack(reading.get(STUDY + mark.key) or b"").stated) >= GROWING:
            found.append(mark)
    return found


def _is_due(row: SeriesRow, now: int) -> bool:
    idle = _idle(row, now)
    # Between the two it is about to settle: to state it twice would tell nobody anything.
    return idle >= SETTLED or (idle < GROWING and abs(now - row.stated) >= GROWING)


def _idle(row: SeriesRow, now: int) -> int:
    # A clock that was set back must not keep a change from being told.
    return abs(now - row.changed)


def publishing(due: list[Mark], now: int) -> Callable[[Batch], int]:
    """Return the work that states what was marked and returns how many rows changed."""
    return lambda batch: _Publication(batch, now).publish(due)


class _Publication:
    """One commit's worth of statements."""

    def __init__(self, batch: Batch, now: int) -> None:
        self._batch = batch
        self._now = now
        self._head = read_head(batch)
        self._seq = self._head.seq
        self._chain = sha256(self._head.chain)

    def publish(self, due: list[Mark]) -> int:
        """State the studies and series as they are now; return how many rows that changed."""
        for mark in due:
            if b"\0" in mark.key:
                self._publish_series(mark)
            else:
                self._publish_study(mark)
        if self._seq == self._head.seq:
            return 0
        chain = self._chain.digest()[:8]
        self._batch.put(CHAIN + _share(ALL) + counted(self._seq), chain)
        write_head(self._batch, Head(self._head.epoch, self._seq, chain))
        _trim_chain(self._batch, self._seq)
        return self._seq - self._head.seq

    def _publish_study(self, mark: Mark) -> None:
        row = self._batch.study(mark.key.decode())
        if row is None or not row.is_dirty:
            return
        self._state(mark.key, study_statement(row))
        row.is_dirty = False
        row.stated = self._now
        self._batch.delete(mark.place)
        self._batch.change_study(row)

    def _publish_series(self, mark: Mark) -> None:
        row = self._batch.series(mark.key)
        if row is None or not row.is_dirty:
            return
        is_settled = _idle(row, self._now) >= SETTLED
        self._state(mark.key, series_statement(row, is_settled=is_settled))
        row.stated = self._now
        if is_settled:
            row.is_dirty = False
            self._batch.delete(mark.place)
        self._batch.change_series(mark.key, row)

    def _state(self, key: bytes, row: bytes) -> None:
        stored = self._batch.get(PUBLISHED + _share(ALL) + key) or b""
        old_seq, old_row = stored[:8], stored[8:]
        if old_row == row:
            return
        self._seq += 1
        seq = counted(self._seq)
        if old_seq:
            self._batch.delete(LOG + _share(ALL) + old_seq)
        self._batch.put(LOG + _share(ALL) + seq, key)
        self._batch.put(PUBLISHED + _share(ALL) + key, seq + row)
        _count_in(self._batch, key, old_row, row)
        self._chain.update(seq + struct.pack(">HI", len(key), len(row)) + key + row)


def _share(share: int) -> bytes:
    return bytes((share,))


def bucket_of(key: bytes) -> int:
    """Return the bucket whose digest a row counts in."""
    return int.from_bytes(sha256(key).digest()[:2], "big") % BUCKETS


def _count_in(batch: Batch, key: bytes, old: bytes, new: bytes) -> None:
    name = DIGEST + _share(ALL) + struct.pack(">H", bucket_of(key))
    stored = batch.get(name)
    count, total = _DIGEST.unpack(stored) if stored else _EMPTY
    if old:
        count, total = count - 1, summed(total, (sha256(old).digest(),), -1)
    if new:
        count, total = count + 1, summed(total, (sha256(new).digest(),))
    batch.put(name, _DIGEST.pack(count, total))


def digests(reading: Reading, share: int = ALL) -> dict[int, Digest]:
    """Return the digests of the buckets that ever had a row; tombstones count as nothing."""
    prefix = DIGEST + _share(share)
    return {
        int.from_bytes(key[len(prefix) :], "big"): Digest(*_DIGEST.unpack(value))
        for key, value in scan(reading, prefix)
    }


def changes(reading: Reading, after: int, limit: int, share: int = ALL) -> list[Change]:
    """Return at most `limit` live rows with seq > `after`, in order."""
    prefix = LOG + _share(share)
    found = []
    for key, name in islice(scan(reading, prefix, prefix + counted(after)), limit):
        stored = reading.get(PUBLISHED + _share(share) + name) or b""
        found.append(Change(int.from_bytes(key[len(prefix) :], "big"), name, stored[8:]))
    return found


def snapshot(reading: Reading, after: bytes, limit: int, share: int = ALL) -> list[Change]:
    """Return at most `limit` live rows behind the key `after`, in key order."""
    prefix = PUBLISHED + _share(share)
    rows = islice(scan(reading, prefix, prefix + after if after else b""), limit)
    return [Change(int.from_bytes(row[:8], "big"), key[len(prefix) :], row[8:]) for key, row in rows]


def chain_at(reading: Reading, seq: int, share: int = ALL) -> bytes | None:
    """Return the chain value of a commit that ended at `seq`; None if there was none, or long ago."""
    return reading.get(CHAIN + _share(share) + counted(seq))


def read_head(reads: Reads, share: int = ALL) -> Head:
    """Return the end of the share's log."""
    stored = reads.get(_HEAD_KEY + _share(share))
    return Head(*_HEAD.unpack(stored)) if stored else Head(0, 0, bytes(8))


def write_head(batch: Batch, head: Head, share: int = ALL) -> None:
    """Move the end of the share's log."""
    batch.put(_HEAD_KEY + _share(share), _HEAD.pack(head.epoch, head.seq, head.chain))


def begin_epoch(batch: Batch, at_least: int = 0) -> int:
    """Begin a new epoch, larger than any this log had or a peer reported; return it."""
    head = read_head(batch)
    epoch = max(batch.now << 16 | secrets.randbits(16), head.epoch + 1, at_least + 1)
    write_head(batch, Head(epoch, head.seq, head.chain))
    return epoch


def _trim_chain(batch: Batch, seq: int) -> None:
    prefix = CHAIN + _share(ALL)
    for key in list(islice(scan_keys(batch.reading(), prefix), 2)):
        if int.from_bytes(key[len(prefix) :], "big") < seq - CHAIN_REACH:
            batch.delete(key)
