"""What follower and owner of a change log say to each other, before anything of a wire is added.

A follower asks, its owner answers; every answer says which state of the follower it continues, so that one
that comes late, twice or from another history is recognised and does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, Protocol

from catalog import Change, Head
from catalog.log import Digest

HASH: Final = 8
"""Bytes of a hash of a key or a row in a listing; bucket and head are agreed on, so that is plenty."""


class Resume(NamedTuple):
    """A snapshot that broke off: where its log stood when it began, and the last key that was kept."""

    at: Head
    after: bytes


class PullRequest(NamedTuple):
    """What changed in a share behind `seen`, the end of the log as the follower applied it?

    `reached` is the furthest head at which anything of this was read: a log says of each key only the newest,
    so that whoever stops below the head misses what changed once more before it. If that history was set
    back to a point in between, it must be noticed too.
    """

    share: int
    seen: Head
    reached: Head
    resume: Resume | None = None


class Delta(NamedTuple):
    """The rows with a number in (prev, at.seq] when the log ended at `head`; `at` is where a commit ended."""

    prev: int
    at: Head
    head: Head
    rows: list[Change]


class SnapshotBegin(NamedTuple):
    """From here on come all live rows in key order; afterwards the log goes on behind `at`."""

    at: Head


class SnapshotPart(NamedTuple):
    """All live rows in (after, last], in key order, as they were when the log ended at `head`."""

    at: Head
    head: Head
    after: bytes
    last: bytes
    rows: list[Change]


class SnapshotEnd(NamedTuple):
    """There are no rows behind `after`, so all have been given; digests are to be compared next."""

    at: Head
    after: bytes


PullReply = Delta | SnapshotBegin | SnapshotPart | SnapshotEnd


class DigestReply(NamedTuple):
    """The digests of a share's buckets; they are to be compared at an equal head only."""

    head: Head
    digests: Mapping[int, Digest]


class BucketRequest(NamedTuple):
    """What the follower has in these buckets at `seen`: bucket → 8 bytes of key hash, 8 of row hash, each."""

    share: int
    seen: Head
    listing: Mapping[int, bytes]


class Repair(NamedTuple):
    """Rows that the follower had wrong or not at `seen`, and hashes of keys it should not have."""

    seen: Head
    rows: list[Change]
    gone: list[bytes]


class Owner(Protocol):
    """The answering side, here or at the other end of a channel.

    Every method raises Unavailable where the other end does not answer, NotPermitted where it must not,
    BadRequest where what was asked can never be.
    """

    def pull(self, request: PullRequest) -> Iterator[PullReply]:
        """Yield what brings the follower up to the head of now."""

    def digests(self, share: int) -> DigestReply:
        """Return the digests of all buckets, with the head they are true at."""

    def bucket(self, request: BucketRequest) -> Iterator[Repair]:
        """Yield what is wrong in the listed buckets; nothing if the log moved on."""
