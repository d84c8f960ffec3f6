"""The nouns of the queue: what is ordered, in which lane, how it stands, and how far it has come."""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256
from typing import Final

import msgspec

STUCK: Final = 20
"""Tries after which a transfer counts as stuck; it is tried on all the same."""


class Lane(StrEnum):
    """How urgent a transfer is; as DIMSE's Priority HIGH, MEDIUM and LOW (PS3.7 9.3.1.1)."""

    NOW = "now"
    NORMAL = "normal"
    BULK = "bulk"

    @property
    def rank(self) -> int:
        """Return 0 for the most urgent."""
        return _RANKS.index(self)


_RANKS: Final = tuple(Lane)


class Kind(StrEnum):
    """What a job does."""

    DELIVER = "deliver"
    """Send instances to an Application Entity."""
    WEB = "web"
    """Send them to a web server, by STOW-RS."""
    FILE = "file"
    """Write them as files into a bucket."""
    PEER = "peer"
    """Send them to a node of the grid."""
    RECALL = "recall"
    """Fetch instances from whoever holds them."""
    REPORT = "report"
    """Send an N-EVENT-REPORT."""
    COPY = "copy"
    """Have a node of the grid keep copies of a study, or let go what it is not to have."""


class Standing(StrEnum):
    """Where a transfer stands."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    """Over, and not all of it arrived; a person can have the rest tried again."""
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Say whether nothing more happens unless somebody asks for it."""
        return self in (Standing.DONE, Standing.FAILED, Standing.CANCELLED)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done, and nothing else: equal orders are one transfer."""

    kind: Kind
    destination: str
    """AE title or peer that it goes to; jobs to one destination share its fate."""
    archive: str = "main"
    StudyInstanceUID: str = ""
    SeriesInstanceUID: str = ""
    """Empty: the whole study."""
    SOPInstanceUIDs: tuple[str, ...] = ()
    """Empty: all of them."""
    detail: str = ""
    """What a kind needs besides, or the event that asked for it."""

    @property
    def id(self) -> str:
        """Return the hash of what it does: an order given twice is the same transfer."""
        return sha256(msgspec.json.encode(self)).hexdigest()[:16]


class SeriesCount(msgspec.Struct, frozen=True, array_like=True):
    """How far one series has come, in instances."""

    SeriesInstanceUID: str
    planned: int
    done: int
    failed: int


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """An order and how it stands: one row of the queue."""

    order: Order
    lane: Lane
    who: str
    reason: str
    created: float
    """Unix time in seconds, as all times here."""
    standing: Standing = Standing.WAITING
    run: int = 1
    """Counts how often it was begun from the start."""
    tries: int = 0
    """Attempts that failed one after the other."""
    due: float = 0.0
    """Not to be tried before."""
    why: str = ""
    """Why it waits, or what failed."""
    remedy: str = ""
    """What a person can do."""
    blames_destination: bool = False
    """Whether `why` is about the destination, so that all that goes there waits."""
    lease: str = ""
    """Of the worker that has it, or had it when the node went down."""
    started: float = 0.0
    ended: float = 0.0
    size: int = 0
    """Bytes that arrived."""
    series: tuple[SeriesCount, ...] = ()
    """As it was when a worker last gave it back."""

    @property
    def id(self) -> str:
        """Return its order's hash."""
        return self.order.id


class Item(msgspec.Struct, frozen=True, array_like=True):
    """What became of one instance."""

    SeriesInstanceUID: str
    SOPInstanceUID: str
    size: int
    """Bytes that arrived."""
    why: str = ""
    """Why it did not; empty when it did."""


class Verdict(StrEnum):
    """How a worker gives a job back."""

    OVER = "over"
    """Everything was tried; the items say what failed."""
    LATER = "later"
    """Something was in the way that may pass by itself."""
    YIELDED = "yielded"
    """It was asked to stop."""
    FAILED = "failed"
    """It cannot be done, however often it is tried."""


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """How an attempt ended; `blames_destination` when any other job to there would fail as well."""

    verdict: Verdict
    why: str = ""
    remedy: str = ""
    blames_destination: bool = False
