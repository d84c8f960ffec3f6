"""A verification that a person asks for: all of an archive, what came lately, or a sample of it."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

from catalog import BadRequest, Clock, Entry
from node.inspection import Busy, Findings, Inspector

logger = logging.getLogger(__name__)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be verified."""

    share: float = 1.0
    """Of the objects, chosen anew each time; 1 = all of them."""
    since: int = 0
    """Only what was received from this moment on, in milliseconds since 1970."""
    bytes_per_second: float = 0.0
    """0 = as fast as the disk, while nobody else needs it."""

    def check(self) -> None:
        """Make sure that it makes sense.

        Raises:
            BadRequest: it does not.
        """
        if not 0 < self.share <= 1:
            raise BadRequest("A sample is more than 0 % and at most 100 %.", "For example: --sample 1%")
        if self.bytes_per_second < 0:
            raise BadRequest("A rate is not negative.", "Give MB per second, for example: --rate 50")


class Verification:
    """One run; `step` from one thread until it says that it is over."""

    def __init__(self, inspector: Inspector, wish: Wish, clock: Clock, is_busy: Busy = lambda: False) -> None:
        wish.check()
        self._inspector = inspector
        self._wish = wish
        self._clock = clock
        self._is_busy = is_busy
        self._seed = secrets.token_bytes(8)
        self._started = clock()
        self._work = self._all()
        self._findings = Findings()
        self._failure = ""
        self.is_over = False

    def step(self) -> float:
        """Read one object; return for how many seconds to rest, not at all if it is over."""
        started = self._clock()
        try:
            self.is_over = next(self._work, True)
        except Exception as error:
            logger.exception("A verification ended early")
            self.is_over, self._failure = True, str(error)
        if self.is_over:
            return 0.0
        now = self._clock()
        rest = now - started if self._is_busy() else 0.0
        if rate := self._wish.bytes_per_second:
            rest = max(rest, self._started + self._findings.bytes / rate - now)
        return max(rest, 0.0)

    def stop(self) -> None:
        """End it before its time."""
        self.is_over, self._failure = True, "It was stopped; what was found until then stands."

    def progress(self) -> dict[str, Any]:
        """Return how far it is and what it found, as JSON has it."""
        found: dict[str, Any] = msgspec.to_builtins(self._findings)
        good = self._findings.is_good
        return {**found, "is_over": self.is_over, "is_good": good, "failure": self._failure}

    def _all(self) -> Iterator[bool]:
        for _, entry in self._inspector.entries():
            if self._is_meant(entry):
                self._inspector.check(entry, self._findings)
                yield False
        if self._wish.share == 1 and not self._wish.since:
            for _ in self._inspector.stocktaking(self._findings):
                yield False
            self._inspector.forget_gone()
        yield True

    def _is_meant(self, entry: Entry) -> bool:
        if entry.received < self._wish.since:
            return False
        drawn = hashlib.sha256(self._seed + entry.holding.sha256).digest()
        return int.from_bytes(drawn[:8], "big") < self._wish.share * 2**64
