"""The owner's side of catalog synchronisation: answers from its own log, and notices lost history.

It keeps nothing of its followers. What they have seen comes with every question; if this log never said
that, history was lost (an old backup, a virtual machine set back) and a new epoch begins at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Final, Protocol

from catalog import BadRequest, Change, Head
from catalog.log import ALL, ORIGIN, bucket_of
from catalog.log_reading import LogReading
from catalog.statements import is_tombstone

from .messages import (
    HASH,
    BucketRequest,
    Delta,
    DigestReply,
    PullReply,
    PullRequest,
    Repair,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotPart,
)

ROWS_AT_ONCE: Final = 4000
PART_ROWS: Final = 20_000
PART_BYTES: Final = 3 << 20
"""A part of a snapshot is one transaction of its follower, so it is as large as gRPC allows (4 MiB)."""
DELTA_BYTES: Final = 1 << 20
"""A message ends at the first row that takes it above so many bytes."""
_LAST_EPOCH: Final = 7_258_118_400_000 << 16
"""The first epoch of the year 2200: a larger one is no epoch, and could leave no room for the next."""


class Log(Protocol):
    """As much of a node's own catalog as its followers are served from."""

    def reading_log(self, share: int = ALL) -> LogReading:
        """Return the share's log to be read in one moment."""

    def renew_epoch(self, at_least: int = 0) -> int:
        """Begin a new epoch above every known one and above `at_least`."""


class LogOwner:
    """Answers followers from the log of the node's own catalog; satisfies `Owner`."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def head(self, share: int) -> Head:
        """Return the end of the share's log, for heartbeats and notifications."""
        with self._log.reading_log(share) as log:
            return log.head

    def heed(self, share: int, seen: Head) -> bool:
        """Compare what somebody saw of this log with its history; say whether a new epoch had to begin.

        Raises:
            BadRequest: nothing a log of this product ever said looks like this.
        """
        if seen.epoch >= _LAST_EPOCH or len(seen.chain) != len(ORIGIN):
            raise BadRequest("A peer reports an epoch that cannot be.", "Its mirror of this node is damaged.")
        with self._log.reading_log(share) as log:
            if is_history(log, seen):
                return False
        self._log.renew_epoch(seen.epoch)
        return True

    def pull(self, request: PullRequest) -> Iterator[PullReply]:
        """See `Owner.pull`."""
        seen = request.seen
        for known in (seen, request.reached, request.resume.at if request.resume else seen):
            self.heed(request.share, known)
        with self._log.reading_log(request.share) as log:
            can_follow = seen.epoch == log.head.epoch and seen.seq >= log.floor
            if request.resume or not can_follow or log.chain_at(seen.seq) is None:
                snapshot = _snapshot_of(log, request)
            else:
                snapshot = None
        if snapshot:
            yield from self._snapshot(request.share, *snapshot)
        else:
            yield from self._deltas(request.share, seen)

    def _deltas(self, share: int, seen: Head) -> Iterator[Delta]:
        while True:
            with self._log.reading_log(share) as log:
                delta = _delta(log, seen)
                if delta is None:
                    return
            yield delta
            seen = delta.at

    def _snapshot(self, share: int, at: Head, after: bytes, is_new: bool) -> Iterator[PullReply]:
        if is_new:
            yield SnapshotBegin(at)
        while True:
            with self._log.reading_log(share) as log:
                head = log.head
                if head.epoch != at.epoch:
                    return
                scanned = log.snapshot(after, PART_ROWS)
            if not scanned:
                break
            for last, rows in _parts(scanned):
                yield SnapshotPart(at, head, after, last, rows)
                after = last
        yield SnapshotEnd(at, after)

    def digests(self, share: int) -> DigestReply:
        """See `Owner.digests`."""
        with self._log.reading_log(share) as log:
            return DigestReply(log.head, log.digests())

    def bucket(self, request: BucketRequest) -> Iterator[Repair]:
        """See `Owner.bucket`; a scan of the whole share, for what should never be needed."""
        seen = request.seen
        unmatched = {bucket: _listed(hashes) for bucket, hashes in request.listing.items()}
        after = b""
        while True:
            with self._log.reading_log(request.share) as log:
                if log.head.epoch != seen.epoch or (not after and log.head.seq != seen.seq):
                    return
                scanned = log.snapshot(after, PART_ROWS)
            if not scanned:
                break
            after = scanned[-1].key
            for _, rows in _parts([row for row in scanned if _differs(row, unmatched, seen.seq)]):
                yield Repair(seen, rows, [])
        gone = [key for listed in unmatched.values() for key in listed]
        if gone:
            yield Repair(seen, [], gone)


def is_history(log: LogReading, seen: Head) -> bool:
    """Say whether the log may once have ended like this; an older epoch says nothing about it."""
    if seen.epoch != log.head.epoch:
        return seen.epoch < log.head.epoch
    if seen.seq > log.head.seq:
        return False
    chain = log.chain_at(seen.seq)
    if chain is not None:
        return chain == seen.chain
    # Between two numbers where commits ended nobody can have stopped; below all of them it was long ago.
    return log.chain_before(seen.seq) is None


def _snapshot_of(log: LogReading, request: PullRequest) -> tuple[Head, bytes, bool]:
    resume = request.resume
    if (
        resume
        and resume.at.epoch == log.head.epoch
        and resume.at.seq >= log.floor
        and log.chain_at(resume.at.seq) == resume.at.chain
    ):
        return resume.at, resume.after, False
    return log.head, b"", True


def _delta(log: LogReading, seen: Head) -> Delta | None:
    """Return the next rows, up to a number where a commit ended; None if there is nothing behind `seen`."""
    head = log.head
    if head.epoch != seen.epoch or head.seq <= seen.seq:
        return None
    rows = log.changes(seen.seq, ROWS_AT_ONCE + 1)
    fit = _fitting(rows[:ROWS_AT_ONCE], DELTA_BYTES)
    if fit == len(rows):
        return Delta(seen.seq, head, head, rows)
    point = log.chain_before(rows[fit].seq)
    if point is None or point[0] <= seen.seq:
        # One commit larger than a message: it goes as a whole, because nobody may stop inside it.
        point = log.chain_from(rows[0].seq) or (head.seq, head.chain)
        rows = log.changes(seen.seq, point[0] - seen.seq)
    seq, chain = point
    return Delta(seen.seq, Head(head.epoch, seq, chain), head, [row for row in rows if row.seq <= seq])


def _fitting(rows: list[Change], most: int) -> int:
    size = 0
    for count, row in enumerate(rows):
        size += len(row.key) + len(row.row)
        if size > most:
            return max(count, 1)
    return len(rows)


def _parts(scanned: list[Change]) -> Iterator[tuple[bytes, list[Change]]]:
    """Yield (last key, live rows) of portions that fit a message each."""
    while scanned:
        fit = _fitting(scanned, PART_BYTES)
        portion, scanned = scanned[:fit], scanned[fit:]
        yield portion[-1].key, [row for row in portion if not is_tombstone(row.row)]


def _listed(hashes: bytes) -> dict[bytes, bytes]:
    step = 2 * HASH
    return {hashes[at : at + HASH]: hashes[at + HASH : at + step] for at in range(0, len(hashes), step)}


def _differs(row: Change, unmatched: dict[int, dict[bytes, bytes]], seq: int) -> bool:
    """Take the row off what is unmatched; say whether the follower needs it."""
    listed = unmatched.get(bucket_of(row.key))
    if listed is None or (row.seq <= seq and is_tombstone(row.row)):
        return False
    had = listed.pop(sha256(row.key).digest()[:HASH], None)
    # What changed since comes by the log, in its order.
    return row.seq <= seq and had != sha256(row.row).digest()[:HASH]
