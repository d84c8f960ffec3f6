"""The follower's side of catalog synchronisation: what to ask one source next, and what its answers do.

A machine without input or output: it is told heads and answers with the moment they came, and says what it
wants. Moments are seconds of this process's monotonic clock. One exchange at a time per source; whatever
breaks off, comes late or comes twice leaves the mirror as it was, and the next exchange sets it right.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from catalog import Head, PacsError
from catalog.log import Digest

from .messages import (
    BucketRequest,
    Delta,
    DigestReply,
    Owner,
    PullReply,
    PullRequest,
    Repair,
    Resume,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotPart,
)
from .mirror import Mirror
from .mirror_rows import SourceState
from .mirror_writing import OutOfStep, WouldVanish

COALESCE: Final = 0.1
"""Seconds between hearing that the head moved and the pull, so that a burst is one pull."""
CHECK_EVERY: Final = 3600.0
"""Seconds between two comparisons of digests, give or take a fifth."""
RETRY: Final = (1.0, 60.0)
"""Seconds to the first and to every later retry after failures; doubled in between."""
_NOTED_EVERY: Final = 60.0
_EMPTY: Final = Digest(0, bytes(32))


class DigestRequest(NamedTuple):
    """What are the digests of the share's buckets?"""

    share: int


Wish = PullRequest | DigestRequest | BucketRequest


class Finding(NamedTuple):
    """Something a person or a metric should hear of: `kind` is one of the constants below."""

    kind: str
    number: int


NEW_EPOCH: Final = "new epoch"
HELD: Final = "held"
REPAIRED: Final = "repaired"


class Follower:
    """Follows one share of one owner into the mirror."""

    def __init__(self, mirror: Mirror, source: int, *, now: float, chance: Random) -> None:
        self._mirror = mirror
        self._source = source
        self._chance = chance
        self.state: SourceState = mirror.state(source)
        self._head: Head | None = None
        self._head_at = now
        self._pull_at: float | None = None
        self._check_at = now + chance.uniform(0, CHECK_EVERY)
        self._differing: set[int] = set()
        self._repaired = 0
        self._is_recounted = False
        self._failures = 0
        self._not_before = now
        self._in_sync_at: float | None = None
        self._noted_at = float("-inf")
        self.findings: list[Finding] = []
        """What happened since somebody last emptied it."""

    @property
    def in_sync_at(self) -> float | None:
        """The moment at which the mirror was last known to be as the owner's log; None: not in this run."""
        return self._in_sync_at

    def age(self, now: float, wall: float) -> float | None:
        """Return the seconds since the mirror was known to be right; None if it never was.

        `wall` is this node's own Unix time: before the first heartbeat of a run it is compared with what was
        noted in the run before, and with no other node's clock ever.
        """
        if self._in_sync_at is not None:
            return max(now - self._in_sync_at, 0.0)
        noted = self.state.in_sync
        return abs(wall - noted / 1000) if noted else None

    @property
    def behind(self) -> int:
        """The changes that the owner's log has and the mirror lacks, as far as was heard."""
        head, state = self._head, self.state
        if head is None:
            return 0
        return max(head.seq - (state.applied if head.epoch == state.epoch else 0), 0)

    def connected(self, now: float) -> None:
        """The owner can be reached (again): compare digests soon, and try at once."""
        self._failures, self._not_before = 0, now
        self._check_at = min(self._check_at, now)

    def told(self, head: Head, now: float) -> None:
        """The owner says where its log ends: a heartbeat, a notification, or the head of an answer."""
        self._head, self._head_at = head, now
        if self._is_level(head):
            self._settle(now)
        elif self._pull_at is None:
            self._pull_at = now + COALESCE

    def _is_level(self, head: Head) -> bool:
        seen = self.state.seen
        # A heartbeat may leave the chain value out; answers never do.
        is_same = head.chain in (b"", seen.chain)
        return self.state.is_whole and (head.epoch, head.seq) == (seen.epoch, seen.seq) and is_same

    def _settle(self, now: float) -> None:
        self._pull_at = None
        self._head = self.state.seen
        self._in_sync_at = self._head_at
        if now - self._noted_at >= _NOTED_EVERY:
            self._noted_at = now
            self._mirror.note_in_sync(self._source, self.state.seen)

    def wants(self, now: float) -> Wish | None:
        """Return what to ask the owner now; None while there is nothing to ask, or a person must decide."""
        if now < self._not_before:
            return None
        self.state = self._mirror.state(self._source)
        if self.state.held or (self.state.snapshot and self._swept(now)):
            return None
        if self._pull_at is not None and now >= self._pull_at:
            return self._pull()
        if self._head is None or not self._is_level(self._head):
            return None
        if self._differing:
            self._repaired = 0
            listing = self._mirror.listing(self._source, self._differing)
            return BucketRequest(self.state.share, self.state.seen, listing)
        return DigestRequest(self.state.share) if now >= self._check_at else None

    def _swept(self, now: float) -> bool:
        """Go on with the end of a snapshot that broke off after its last row; say whether it is held."""
        if self.state.snapshot is None or not self.state.snapshot.is_complete:
            return False
        try:
            self._mirror.finish(self._source)
        except WouldVanish as error:
            self.findings.append(Finding(HELD, error.studies))
        self.state = self._mirror.state(self._source)
        return self.state.held > 0

    def _pull(self) -> PullRequest:
        snapshot = self.state.snapshot
        resume = Resume(snapshot.at, snapshot.after) if snapshot else None
        return PullRequest(self.state.share, self.state.seen, self.state.reached, resume)

    def received(self, reply: PullReply | DigestReply | Repair, now: float) -> None:
        """Take one answer in; what does not continue the mirror's state changes nothing."""
        try:
            self._receive(reply, now)
            self._failures = 0
        except OutOfStep:
            self._differing = set()
            self._pull_at = now if self._pull_at is None else self._pull_at
        except WouldVanish as error:
            self.findings.append(Finding(HELD, error.studies))
        self.state = self._mirror.state(self._source)

    def _receive(self, reply: PullReply | DigestReply | Repair, now: float) -> None:
        mirror, source = self._mirror, self._source
        if isinstance(reply, DigestReply):
            self._compare(reply, now)
        elif isinstance(reply, Repair):
            self._repaired += mirror.repair(source, reply)
        elif isinstance(reply, Delta):
            mirror.apply(source, reply)
        elif isinstance(reply, SnapshotBegin):
            if self.state.epoch not in (0, reply.at.epoch):
                self.findings.append(Finding(NEW_EPOCH, 1))
            mirror.begin(source, reply)
        elif isinstance(reply, SnapshotPart):
            mirror.extend(source, reply)
        elif isinstance(reply, SnapshotEnd):
            mirror.finish(source, reply)
            # What was taken in on trust is proved before anything else is.
            self._check_at = now

    def _compare(self, reply: DigestReply, now: float) -> None:
        self.told(reply.head, now)
        if not self._is_level(reply.head):
            return
        own = self._mirror.digests(self._source)
        theirs = reply.digests
        self._differing = {
            bucket
            for bucket in own.keys() | theirs.keys()
            if own.get(bucket, _EMPTY) != theirs.get(bucket, _EMPTY)
        }
        if not self._differing:
            self._is_recounted = False
            self._check_at = now + CHECK_EVERY * self._chance.uniform(0.8, 1.2)

    def ended(self, wish: Wish, now: float) -> None:
        """Every answer to the wish has been received."""
        self.state = self._mirror.state(self._source)
        if isinstance(wish, BucketRequest):
            self._end_repair(now)
        elif isinstance(wish, PullRequest):
            self._end_pull(wish, now)

    def _end_repair(self, now: float) -> None:
        """Digests are compared once more, and that is what says whether all is well now.

        Not at once where nothing was to be mended twice: the owner states what it had erased here, and will
        obey its own word.
        """
        self._differing = set()
        if self._repaired:
            self.findings.append(Finding(REPAIRED, self._repaired))
        elif self._is_recounted:
            self._check_at = now + RETRY[1]
        else:
            self._is_recounted = True
            self._mirror.recount(self._source)

    def _end_pull(self, wish: PullRequest, now: float) -> None:
        state, head = self.state, self._head
        is_behind = head is None or state.epoch != head.epoch or state.applied < head.seq
        if state.is_whole and not is_behind:
            self._settle(now)
        elif self._pull() != wish:
            self._pull_at = now + COALESCE
        else:
            # The log had no more to say than it said: the next heartbeat tells where it ends.
            self._pull_at = None

    def failed(self, now: float) -> None:
        """The exchange broke off; what was received of it stays."""
        first, most = RETRY
        wait = min(first * 2**self._failures, most)
        self._failures = min(self._failures + 1, 10)
        self._not_before = now + wait * self._chance.uniform(0.8, 1.4)
        self._pull_at = now if self._pull_at is None else self._pull_at


def exchange(follower: Follower, owner: Owner, now: float) -> bool:
    """Ask the owner what the follower wants now; say whether it wanted anything.

    Raises:
        PacsError: the owner did not answer, or refused; the follower tries again later.
    """
    wish = follower.wants(now)
    if wish is None:
        return False
    try:
        if isinstance(wish, PullRequest):
            for reply in owner.pull(wish):
                follower.received(reply, now)
        elif isinstance(wish, DigestRequest):
            follower.received(owner.digests(wish.share), now)
        else:
            for repair in owner.bucket(wish):
                follower.received(repair, now)
    except PacsError:
        follower.failed(now)
        raise
    follower.ended(wish, now)
    return True
