"""The change log: what this node states about its studies and series, numbered, for whoever follows it.

Each key has one live row, the newest. A chain value proves that two logs are the same up to a number; 4096
bucket digests prove that two sets of rows are. An epoch says whose history the numbers belong to: a new one
begins whenever history may have been lost (federation: epochs only rise, whatever the clock says). Each
share has a log of its own, with its own numbers, in the epoch of share 0.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping
from hashlib import sha256
from itertools import islice
from typing import Final, NamedTuple

from .commit import Batch
from .model import Change, Head
from .rows import summed
from .statements import is_tombstone
from .truth import (
    CHAIN,
    DIGEST,
    LOG,
    META,
    PUBLISHED,
    TOMBSTONE,
    Reading,
    Reads,
    block,
    counted,
    scan,
    scan_keys,
)

BUCKETS: Final = 4096
CHAIN_REACH: Final = 1_000_000
"""Rows behind the head for which chain values are kept; who is further back takes a snapshot."""
TOMBSTONES_KEPT: Final = 90 * 86_400_000
"""Milliseconds for which the log tells of what is gone, whether or not everybody has heard it."""
ALL: Final = 0
"""The share that holds everything."""
ORIGIN: Final = bytes(8)
"""The chain value of a log that has said nothing yet."""
_HEAD_KEY: Final = META + b"head"
_FLOOR_KEY: Final = META + b"floor"
_HEAD: Final = struct.Struct(">QQ8s")
_DIGEST: Final = struct.Struct(">Q32s")


class Digest(NamedTuple):
    """One bucket: how many rows, and the sum of their SHA-256 modulo 2^256."""

    rows: int
    sum: bytes


_EMPTY: Final = Digest(0, bytes(32))


class Ledger:
    """What one commit adds to one share's log."""

    def __init__(self, batch: Batch, share: int) -> None:
        self._batch = batch
        self._share = part_of(share)
        self._number = share
        self._head = read_head(batch, share)
        self._seq = self._head.seq
        self._chain = sha256(self._head.chain)

    def state(self, key: bytes, row: bytes) -> None:
        """Say that the row of `key` is this now; nothing is said twice, nor of what never was."""
        batch, share = self._batch, self._share
        stored = batch.get(PUBLISHED + share + key)
        old_seq, old_row = (stored[:8], stored[8:]) if stored else (b"", b"")
        if old_row == row if stored else is_tombstone(row):
            return
        if old_seq:
            batch.delete(LOG + share + old_seq)
            if is_tombstone(old_row):
                batch.delete(TOMBSTONE + share + old_seq)
        self._seq += 1
        seq = counted(self._seq)
        batch.put(LOG + share + seq, key)
        batch.put(PUBLISHED + share + key, seq + row)
        if is_tombstone(row):
            batch.put(TOMBSTONE + share + seq, counted(max(batch.now, 0)))
        self._count_in(key, old_row, row)
        self._chain.update(link(seq, key, row))

    def close(self) -> int:
        """Move the head behind what was said; return how many rows that were."""
        count = self._seq - self._head.seq
        if count:
            chain = self._chain.digest()[:8]
            self._batch.put(CHAIN + self._share + counted(self._seq), chain)
            _write_head(self._batch, Head(self._head.epoch, self._seq, chain), self._number)
            self._trim_chain()
        return count

    def _count_in(self, key: bytes, old: bytes, new: bytes) -> None:
        name = DIGEST + self._share + struct.pack(">H", bucket_of(key))
        stored = self._batch.get(name)
        count, total = _DIGEST.unpack(stored) if stored else _EMPTY
        if not is_tombstone(old):
            count, total = count - 1, summed(total, (sha256(old).digest(),), -1)
        if not is_tombstone(new):
            count, total = count + 1, summed(total, (sha256(new).digest(),))
        self._batch.put(name, _DIGEST.pack(count, total))

    def _trim_chain(self) -> None:
        prefix = CHAIN + self._share
        for key in list(islice(scan_keys(self._batch.reading(), prefix), 2)):
            if int.from_bytes(key[len(prefix) :], "big") < self._seq - CHAIN_REACH:
                self._batch.delete(key)


def part_of(share: int) -> bytes:
    """Return a share's number as a key part."""
    return bytes((share,))


def link(seq: bytes, key: bytes, row: bytes) -> bytes:
    """Return what one row adds to the chain hash of its commit."""
    return seq + struct.pack(">HI", len(key), len(row)) + key + row


def bucket_of(key: bytes) -> int:
    """Return the bucket whose digest a row counts in."""
    return int.from_bytes(sha256(key).digest()[:2], "big") % BUCKETS


def digests(reading: Reading, share: int = ALL) -> dict[int, Digest]:
    """Return the digests of the buckets that ever had a row; tombstones count as nothing."""
    prefix = DIGEST + part_of(share)
    return {
        int.from_bytes(key[len(prefix) :], "big"): Digest(*_DIGEST.unpack(value))
        for key, value in scan(reading, prefix)
    }


def changes(reading: Reading, after: int, limit: int, share: int = ALL) -> list[Change]:
    """Return at most `limit` live rows with seq > `after`, in order."""
    prefix = LOG + part_of(share)
    found = []
    for key, name in islice(scan(reading, prefix, prefix + counted(after)), limit):
        stored = reading.get(PUBLISHED + part_of(share) + name) or b""
        found.append(Change(int.from_bytes(key[len(prefix) :], "big"), name, stored[8:]))
    return found


def snapshot(reading: Reading, after: bytes, limit: int, share: int = ALL) -> list[Change]:
    """Return at most `limit` live rows behind the key `after`, in key order."""
    prefix = PUBLISHED + part_of(share)
    rows, start = block(reading, prefix, prefix + after if after else b"", limit), len(prefix)
    return [Change(int.from_bytes(row[:8], "big"), key[start:], row[8:]) for key, row in rows]


def rows_of(reading: Reading, study: bytes, share: int = ALL) -> dict[bytes, bytes]:
    """Return the live rows of a study and its series, by key; tombstones too."""
    prefix = PUBLISHED + part_of(share)
    stored = reading.get(prefix + study)
    found = {study: stored[8:]} if stored else {}
    for key, row in scan(reading, prefix + study + b"\0"):
        found[key[len(prefix) :]] = row[8:]
    return found


def chain_at(reading: Reading, seq: int, share: int = ALL) -> bytes | None:
    """Return the chain value of a commit that ended at `seq`; None if there was none, or long ago."""
    if seq == 0:
        return ORIGIN
    return reading.get(CHAIN + part_of(share) + counted(seq))


def chain_from(reading: Reading, seq: int, share: int = ALL) -> tuple[int, bytes] | None:
    """Return the first number at or behind `seq` where a commit ended, and the chain value there."""
    prefix = CHAIN + part_of(share)
    for key, chain in scan(reading, prefix, prefix + counted(seq - 1) if seq else b""):
        return int.from_bytes(key[len(prefix) :], "big"), chain
    return None


def chain_before(reading: Reading, seq: int, share: int = ALL) -> tuple[int, bytes] | None:
    """Return the last number in front of `seq` where a commit ended, and the chain value there."""
    prefix = CHAIN + part_of(share)
    cursor = reading.cursor()
    found = cursor.prev() if cursor.set_range(prefix + counted(seq)) else cursor.last()
    if not found or not cursor.key().startswith(prefix):
        return None
    return int.from_bytes(cursor.key()[len(prefix) :], "big"), bytes(cursor.value())


def read_head(reads: Reads, share: int = ALL) -> Head:
    """Return the end of the share's log; its epoch is that of the whole catalog."""
    stored = reads.get(_HEAD_KEY + part_of(share))
    head = Head(*_HEAD.unpack(stored)) if stored else Head(0, 0, ORIGIN)
    return Head(read_head(reads).epoch, head.seq, head.chain) if share else head


def _write_head(batch: Batch, head: Head, share: int = ALL) -> None:
    batch.put(_HEAD_KEY + part_of(share), _HEAD.pack(head.epoch, head.seq, head.chain))


def begin_epoch(batch: Batch, at_least: int = 0) -> int:
    """Begin a new epoch, larger than any this log had or a peer reported; return it."""
    head = read_head(batch)
    epoch = max(batch.now << 16 | secrets.randbits(16), head.epoch + 1, at_least + 1)
    _write_head(batch, Head(epoch, head.seq, head.chain))
    return epoch


def read_floor(reads: Reads, share: int = ALL) -> int:
    """Return the number up to which the log may have forgotten what is gone."""
    stored = reads.get(_FLOOR_KEY + part_of(share))
    return int.from_bytes(stored, "big") if stored else 0


def forget_tombstones(batch: Batch, heard: Mapping[int, int], limit: int) -> int:
    """Forget what everybody has heard is gone, or what has been gone for long; return how many rows.

    `heard` is, for each share, the lowest number that a reader who is still expected back has applied;
    who comes back from below the floor takes a snapshot.
    """
    old = counted(max(batch.now - TOMBSTONES_KEPT, 0))
    reading = batch.reading()
    due = (
        place
        for place, since in scan(reading, TOMBSTONE)
        if since < old or int.from_bytes(place[2:], "big") <= heard.get(place[1], 0)
    )
    places = list(islice(due, limit))
    for place in places:
        share, seq = place[1:2], place[2:]
        key = reading.get(LOG + share + seq) or b""
        for gone in (place, LOG + share + seq, PUBLISHED + share + key):
            batch.delete(gone)
        batch.put(_FLOOR_KEY + share, max(seq, counted(read_floor(batch, share[0]))))
    return len(places)
