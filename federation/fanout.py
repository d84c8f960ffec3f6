"""Asking several owners at once: one deadline, a budget for each, no wait for who is known to be dead.

Machines without input or output. A round is told what came and when, and says until when it is worth
waiting; a breaker remembers over the rounds which owner is not worth asking just now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from random import Random
from typing import Final, NamedTuple

from .asking import LiveMatch

DEADLINE: Final = 2.0
"""Seconds an interactive question may take."""
BUDGET: Final = 1.5
"""Seconds one owner is given at most; less for one that is known to be faster."""
_LEAST_BUDGET: Final = 0.25
_SLOWER: Final = 3.0
_HEDGE: Final = 0.5
"""Part of the deadline after which an own copy takes a silent owner's place."""
_FAILURES: Final = 3
_PROBES: Final = (1.0, 60.0)
_KEPT: Final = 200


class Breaker:
    """What is known of one owner's answers: how fast they are, and whether to ask at all."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._times: deque[float] = deque(maxlen=_KEPT)
        self._failures = 0
        self._open_until = float("-inf")

    def admits(self, now: float) -> bool:
        """Say whether to ask: not while it is open, and then with one question as a probe."""
        if self._failures < _FAILURES:
            return True
        if now < self._open_until:
            return False
        self._put_off(now)
        return True

    def succeeded(self, seconds: float) -> None:
        """It answered after so many seconds."""
        self._failures = 0
        self._times.append(seconds)

    def failed(self, now: float) -> None:
        """It did not answer, or not in time."""
        self._failures += 1
        if self._failures >= _FAILURES:
            self._put_off(now)

    def _put_off(self, now: float) -> None:
        first, most = _PROBES
        wait = min(first * 2.0 ** min(self._failures - _FAILURES, 10), most)
        self._open_until = now + wait * self._chance.uniform(0.8, 1.4)

    @property
    def budget(self) -> float:
        """The seconds it is given: three times what nearly all of its answers took."""
        if len(self._times) < 10:
            return BUDGET
        slow = sorted(self._times)[int(len(self._times) * 0.99)]
        return min(BUDGET, max(_LEAST_BUDGET, _SLOWER * slow))


class Reply(NamedTuple):
    """How one owner took part in a round."""

    matches: list[LiveMatch]
    error: str = ""
    is_cut: bool = False
    """Whether it has more matches than it was asked for."""

    @property
    def is_answered(self) -> bool:
        """Whether it answered in time."""
        return not self.error


class Round:
    """One question to several owners. `has_copy`: those whose mirror can take their place."""

    def __init__(
        self,
        sources: Iterable[int],
        breakers: Mapping[int, Breaker],
        *,
        has_copy: frozenset[int],
        now: float,
        deadline: float = DEADLINE,
    ) -> None:
        self._began = now
        self._deadline = now + deadline
        self._hedge = now + deadline * _HEDGE
        self._has_copy = has_copy
        self._breakers = breakers
        self._waiting: dict[int, float] = {}
        self.replies: dict[int, Reply] = {}
        for source in sources:
            if breakers[source].admits(now):
                self._waiting[source] = min(now + breakers[source].budget, self._deadline)
            else:
                self.replies[source] = Reply([], "it did not answer lately")

    def asked(self) -> dict[int, float]:
        """Return whom to ask, with the moment until which each may answer."""
        return dict(self._waiting)

    def answered(self, source: int, matches: list[LiveMatch], is_cut: bool, now: float) -> None:
        """An owner has answered; too late is as if it had not."""
        if source in self._waiting and now <= self._waiting[source]:
            del self._waiting[source]
            self._breakers[source].succeeded(now - self._began)
            self.replies[source] = Reply(matches, is_cut=is_cut)

    def failed(self, source: int, error: str, now: float) -> None:
        """An owner could not be asked, or refused."""
        if self._waiting.pop(source, None) is not None:
            self._breakers[source].failed(now)
            self.replies[source] = Reply([], error or "it failed")

    def until(self, now: float) -> float | None:
        """Return the moment until which it is worth waiting; None when the round is over.

        Who has a copy here is waited for half the time only: its rows win if they come before.
        """
        for source, end in list(self._waiting.items()):
            if now >= end:
                self.failed(source, "it did not answer in time", now)
        if not self._waiting:
            return None
        end = max(self._worth(source) for source in self._waiting)
        if now < end:
            return end
        for source in list(self._waiting):
            self.failed(source, "it did not answer in time", now)
        return None

    def _worth(self, source: int) -> float:
        end = self._waiting[source]
        return min(end, self._hedge) if source in self._has_copy else end
