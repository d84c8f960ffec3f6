"""One transaction of the mirror about one source: rows, the indexes over them, digests, and the state."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable
from hashlib import sha256
from itertools import islice
from secrets import token_bytes
from typing import Any, Final

from catalog import BadRequest, Change, Head, NotPermitted
from catalog.log import BUCKETS, bucket_of
from catalog.statements import is_tombstone
from catalog.truth import Reading, scan

from .messages import HASH
from .mirror_rows import (
    DIGEST,
    LONGEST_KEY,
    LONGEST_ROW,
    ROW,
    STAMP,
    STATE,
    STATE_CODEC,
    UNINDEXED,
    SnapshotState,
    SourceState,
    is_study,
    part_of,
    places_of,
)

DIGEST_ROW: Final = struct.Struct(">Q32s")
HOUR: Final = 3_600_000
VANISH_LIMIT: Final = 1000
"""Studies of one source that may go within an hour before a person is asked."""
VANISH_SHARE: Final = 100
"""One in so many of a source's studies may, too."""
VANISH_ALWAYS: Final = 10
"""So many may in any case: one in a hundred of a small archive is nothing."""
_MODULUS: Final = 1 << 256


class WouldVanish(NotPermitted):
    """More studies of a peer would go at once than happens without a mistake."""

    def __init__(self, studies: int) -> None:
        super().__init__(
            f"{studies} studies of a peer would vanish from its catalog at once; they stay as they were.",
            "Ask the peer's administrator; if they are really gone, say so with peerpacs peers.",
        )
        self.studies = studies


class OutOfStep(Exception):
    """What came does not continue what was applied; nothing was changed, and a pull sets it right."""


class Writing:
    """A write transaction about one source; `state` is written with it."""

    def __init__(self, txn: Any, source: int, now: int, erased: Callable[[bytes], Collection[bytes]]) -> None:
        self._txn = txn
        self._erased = erased
        self._source = part_of(source)
        self._rows = ROW + self._source
        self._puts: list[tuple[bytes, bytes]] = []
        self._deltas: dict[int, list[int]] = {}
        stored = txn.get(STATE + self._source)
        self.state = STATE_CODEC.unpack(stored) if stored else SourceState(b"", 0)
        self.now = now
        # Differs from that of every other transaction, so that the search index sees what changed again.
        self._mark = token_bytes(8)

    def put(self, key: bytes, value: bytes = b"") -> None:
        """Store a value when the transaction ends."""
        self._puts.append((key, value))

    def flush(self) -> None:
        """Put everything that changed into the transaction, in key order."""
        for bucket, (count, total) in self._deltas.items():
            name = DIGEST + self._source + struct.pack(">H", bucket)
            stored = self._txn.get(name)
            old_count, old_total = DIGEST_ROW.unpack(stored) if stored else (0, bytes(32))
            total = (int.from_bytes(old_total, "big") + total) % _MODULUS
            self._puts.append((name, DIGEST_ROW.pack(old_count + count, total.to_bytes(32, "big"))))
        self._puts.append((STATE + self._source, STATE_CODEC.pack(self.state)))
        self._puts.sort()
        self._txn.cursor().putmulti(self._puts)
        self._puts, self._deltas = [], {}

    def begin(self, at: Head) -> None:
        """Begin a snapshot; rows of an older epoch count as unconfirmed from now on."""
        state = self.state
        state.generation += 1
        if at.epoch != state.epoch:
            state.confirmed = state.generation
        is_first = next(scan(self._txn, self._rows), None) is None
        if state.snapshot is not None and state.snapshot.is_first:
            # Rows of a first snapshot that broke off: nothing was made of them yet.
            is_first = True
        state.epoch, state.applied, state.chain = at.epoch, 0, bytes(8)
        state.snapshot, state.reached = SnapshotState(at, b"", is_first), at
        state.held = 0

    def finish(self) -> None:
        """End the snapshot: the log goes on from where it began."""
        state = self.state
        if state.snapshot is not None:
            at = state.snapshot.at
            state.applied, state.chain = at.seq, at.chain
            state.snapshot = None
        state.confirmed = 0

    def take(self, rows: list[Change], *, is_repair: bool = False) -> int:
        """Put rows, newer ones in place of older ones, and remove what is said to be gone; return how many.

        What was erased here never comes again, not even from an owner that is older than its own erasure.

        Raises:
            BadRequest: no log says such a thing.
            WouldVanish: too many studies would go.
        """
        _check(rows)
        state = self.state
        if erased := self._erased(state.owner):
            rows = [each for each in rows if is_tombstone(each.row) or not is_among(each.key, erased)]
        if state.snapshot is not None and state.snapshot.is_first:
            generation, start, stamp = state.generation, self._rows, STAMP.pack
            self._puts += [
                (start + change.key, stamp(generation, change.seq) + change.row)
                for change in rows
                if not is_tombstone(change.row)
            ]
            return len(rows)
        old = self._stored(rows)
        going = sum(
            is_tombstone(change.row) and is_study(change.key) and change.key in old for change in rows
        )
        self.check(going)
        for change in rows:
            was = old.get(change.key)
            if was is None or is_repair or self._is_older(was, change.seq):
                self._replace(change, was)
        return len(rows)

    def _is_older(self, was: bytes, seq: int) -> bool:
        """Say whether a row may be replaced: numbers of another history than this one mean nothing."""
        generation, old_seq = STAMP.unpack_from(was)
        return bool(generation != self.state.generation or old_seq <= seq)

    def _stored(self, rows: list[Change]) -> dict[bytes, bytes]:
        keys = sorted(self._rows + change.key for change in rows)
        start = len(self._rows)
        return {key[start:]: value for key, value in self._txn.cursor().getmulti(keys)}

    def _replace(self, change: Change, was: bytes | None) -> None:
        key, row = change.key, change.row
        if is_tombstone(row):
            if was is not None:
                self._remove(key, was)
            return
        self._puts.append((self._rows + key, STAMP.pack(self.state.generation, change.seq) + row))
        if was is not None and was[STAMP.size :] == row:
            return
        self._count(key, row, 1)
        if was is not None:
            self._count(key, was[STAMP.size :], -1)
        if is_study(key):
            old = () if was is None else places_of(key, was[STAMP.size :], self._source)
            self._place(key, row, set(old))
            self.state.studies += was is None
        else:
            self._puts.append((UNINDEXED + key[: key.index(b"\0")], self._mark))

    def _place(self, key: bytes, row: bytes, old: set[bytes]) -> None:
        """Have a study found under what it states now, and no more under what it stated before."""
        new = set(places_of(key, row, self._source))
        for place in old - new:
            self._txn.delete(place)
        self._puts.extend((place, b"") for place in new)
        self._puts.append((UNINDEXED + key, self._mark))

    def _remove(self, key: bytes, was: bytes) -> None:
        self._txn.delete(self._rows + key)
        self._count(key, was[STAMP.size :], -1)
        self._puts.append((UNINDEXED + key.partition(b"\0")[0], self._mark))
        if is_study(key):
            self.state.studies -= 1
            for place in places_of(key, was[STAMP.size :], self._source):
                self._txn.delete(place)

    def _count(self, key: bytes, row: bytes, sign: int) -> None:
        bucket = int.from_bytes(sha256(key).digest()[:2], "big") % BUCKETS
        change = self._deltas.get(bucket)
        if change is None:
            change = self._deltas[bucket] = [0, 0]
        change[0] += sign
        change[1] += sign * int.from_bytes(sha256(row).digest(), "big")

    def recount(self) -> None:
        """Make the digests again from the rows."""
        self._forget_digests()
        for place, stored in scan(self._txn, self._rows):
            self._count(place[len(self._rows) :], stored[STAMP.size :], 1)

    def _forget_digests(self) -> None:
        for name in [name for name, _ in scan(self._txn, DIGEST + self._source)]:
            self._txn.delete(name)

    def to_sweep(self) -> int:
        """Return how many studies the snapshot did not confirm."""
        scanned = scan(self._txn, self._rows)
        return sum(is_study(key[len(self._rows) :]) and self._is_left(stored) for key, stored in scanned)

    def _is_left(self, stored: bytes) -> bool:
        generation: int = STAMP.unpack_from(stored)[0]
        return generation < self.state.generation

    def sweep(self, after: bytes, limit: int) -> bytes:
        """Remove rows the snapshot did not confirm, behind the key `after`; return where to go on, or b""."""
        start = self._rows + after if after else b""
        portion = list(islice(scan(self._txn, self._rows, start), limit))
        for place, stored in portion:
            if self._is_left(stored):
                self._remove(place[len(self._rows) :], stored)
        return portion[-1][0][len(self._rows) :] if len(portion) == limit else b""

    def build(self, after: bytes, limit: int) -> bytes:
        """Make digests and indexes of a first snapshot's rows; return where to go on, or b""."""
        if not after:
            self._forget_digests()
            self.state.studies = 0
        start = self._rows + after if after else b""
        portion = list(islice(scan(self._txn, self._rows, start), limit))
        for place, stored in portion:
            key, row = place[len(self._rows) :], stored[STAMP.size :]
            if self._is_left(stored):
                self._txn.delete(place)
                continue
            self._count(key, row, 1)
            if is_study(key):
                self._place(key, row, set())
                self.state.studies += 1
        return portion[-1][0][len(self._rows) :] if len(portion) == limit else b""

    def check(self, going: int) -> None:
        """Refuse it when more studies would vanish within an hour than happens without a mistake.

        Raises:
            WouldVanish: a person has to say yes first.
        """
        state = self.state
        if not going:
            return
        if abs(self.now - state.vanishing) > HOUR:
            state.vanishing, state.vanished = self.now, 0
        limit = min(VANISH_LIMIT, max(VANISH_ALWAYS, state.studies // VANISH_SHARE))
        if state.vanished + going > limit and abs(self.now - state.allowed) > HOUR:
            raise WouldVanish(going)
        state.vanished += going

    def remove_hashed(self, hashes: Iterable[bytes]) -> None:
        """Remove the rows with these key hashes."""
        wanted = set(hashes)
        if not wanted:
            return
        self.flush()
        found = [
            (place[len(self._rows) :], stored)
            for place, stored in scan(self._txn, self._rows)
            if sha256(place[len(self._rows) :]).digest()[:HASH] in wanted
        ]
        self.check(sum(is_study(key) for key, _ in found))
        for key, stored in found:
            self._remove(key, stored)


def listing(reading: Reading, source: int, buckets: set[int]) -> dict[int, bytes]:
    """Return hashes of keys and rows of these buckets; see `BucketRequest`."""
    prefix = ROW + part_of(source)
    found: dict[int, list[bytes]] = {bucket: [] for bucket in buckets}
    for place, stored in scan(reading, prefix):
        key = place[len(prefix) :]
        if (bucket := bucket_of(key)) in found:
            row = sha256(stored[STAMP.size :]).digest()[:HASH]
            found[bucket].append(sha256(key).digest()[:HASH] + row)
    return {bucket: b"".join(hashes) for bucket, hashes in found.items()}


def is_among(key: bytes, erased: Collection[bytes]) -> bool:
    """Say whether the key of a row is one of these, or of a series of such a study."""
    return key in erased or key.partition(b"\0")[0] in erased


def _check(rows: list[Change]) -> None:
    """Refuse what no log says, before it can do harm here."""
    if not rows:
        return
    keys = [change.key for change in rows]
    lengths, longest = set(map(len, keys)), max(len(change.row) for change in rows)
    is_sound = min(lengths) > 0 and max(lengths) <= LONGEST_KEY and longest <= LONGEST_ROW
    if not is_sound or len(set(keys)) != len(keys):
        raise BadRequest("A peer states rows that cannot be.", "Its catalog is damaged; nothing was taken.")
