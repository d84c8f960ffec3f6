"""What was asked of this node and is not answered yet: rows that survive a crash, and what was answered.

A request is on disk before its N-ACTION response leaves, and stays until whoever asked has acknowledged the
result. Its references lie in a row of their own, so that looking for what is due reads little.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from catalog import Clock
from node.contracts import Caller, Reference
from node.state import Tables

from .safety import LATER

_REMEMBERED: Final = 30 * 86400.0
"""Seconds for which a Transaction UID that was answered is known, and a result nobody took is kept."""


FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 3600.0


class Stage(StrEnum):
    """How far a request has come."""

    ASKED = "asked"
    JUDGED = "judged"


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """One request that is not answered yet; times are Unix seconds."""

    ae_title: str
    address: str
    called_ae: str
    transaction: str
    digest: bytes
    """Of the references, so that the same request is told from another under its Transaction UID."""
    instances: int
    asked: float
    stage: Stage = Stage.ASKED
    judged: float = 0.0
    due: float = 0.0
    """Not to be tried before."""
    tries: int = 0
    why: str = ""
    """Why it waits, for people."""
    is_reused: bool = False
    """Its Transaction UID was used before, for something else."""
    is_given_up: bool = False

    @property
    def caller(self) -> Caller:
        """Who asked."""
        return Caller(self.ae_title, self.address, self.called_ae)


class Judged(msgspec.Struct, frozen=True, array_like=True):
    """The references of a request, and the Failure Reason of each once it is known (0 = committed)."""

    references: list[Reference]
    reasons: list[int]


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """A Transaction UID that was used."""

    digest: bytes
    when: float


class Promises:
    """The open requests of one archive, by AE title and Transaction UID."""

    def __init__(self, state: Tables, archive: str, clock: Clock) -> None:
        self._open = state.table("commitments", Promise)
        self._contents = state.table("commitment references", Judged)
        self._answered = state.table("commitments answered", Answered)
        self._prefix = f"{archive}\0".encode()
        self._clock = clock

    def key(self, ae_title: str, transaction: str) -> bytes:
        """Return the key of a request."""
        return self._prefix + f"{ae_title}\0{transaction}".encode()

    def get(self, key: bytes) -> Promise | None:
        """Return an open request."""
        return self._open.get(key)

    def answered(self, key: bytes) -> Answered | None:
        """Return what is known of a Transaction UID that was used before."""
        return self._answered.get(key)

    def add(self, promise: Promise, references: Sequence[Reference]) -> None:
        """Write a request down; it is on disk when this returns.

        Raises:
            OutOfSpace: it is not.
        """
        key = self.key(promise.ae_title, promise.transaction)
        self._contents.put(key, Judged(list(references), [LATER] * len(references)))
        self._open.put(key, promise)

    def scan(self) -> Iterator[tuple[bytes, Promise]]:
        """Yield every open request."""
        yield from self._open.scan(self._prefix)

    def contents(self, key: bytes) -> Judged:
        """Return the references of an open request."""
        return self._contents.get(key) or Judged([], [])

    def judge(self, key: bytes, promise: Promise, judged: Judged) -> Promise:
        """Write down what was found; return the row as it is now."""
        now = self._clock()
        self._contents.put(key, judged)
        done = replace(promise, stage=Stage.JUDGED, judged=now, due=now, tries=0, why="")
        self.put(key, done)
        return done

    def put(self, key: bytes, promise: Promise) -> None:
        """Write an open request over what it was, unless it was asked anew meanwhile."""
        self._open.change({key: lambda row: promise if row and row.asked == promise.asked else row})

    def settle(self, key: bytes, promise: Promise) -> None:
        """Let a request go whose result was acknowledged; its Transaction UID stays known."""
        self._answered.put(key, Answered(promise.digest, self._clock()))
        self._open.change({key: lambda row: None if row and row.asked == promise.asked else row})
        if self._open.get(key) is None:
            self._contents.delete(key)

    def tidy(self) -> list[Promise]:
        """Forget Transaction UIDs of long ago; return the requests that were dropped unanswered."""
        before = self._clock() - _REMEMBERED
        for key, answered in list(self._answered.scan(self._prefix)):
            if answered.when < before:
                self._answered.delete(key)
        dropped = []
        for key, promise in list(self.scan()):
            if promise.is_given_up and promise.judged < before:
                self._open.delete(key)
                self._contents.delete(key)
                dropped.append(promise)
        return dropped


def digest_of(references: Sequence[Reference]) -> bytes:
    """Return what tells one set of references from another, whatever their order."""
    return hashlib.sha256("\n".join(sorted("\0".join(each) for each in references)).encode()).digest()


def is_due(promise: Promise, now: float) -> bool:
    """Say whether its pause is over; a clock that was set back makes nothing wait."""
    return not 0 < promise.due - now <= _LONGEST_PAUSE


def later(promise: Promise, now: float, why: str) -> Promise:
    """Return it to be tried again after a pause, longer each time, with what failed."""
    pause = min(FIRST_PAUSE * 2.0 ** min(promise.tries, 20), _LONGEST_PAUSE)
    return replace(promise, tries=promise.tries + 1, due=now + pause, why=why.rstrip("."))


def named(promise: Promise) -> str:
    """Return how a log names it."""
    return f"{promise.ae_title}, transaction {promise.transaction}"
