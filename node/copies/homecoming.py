"""What lies at other sites alone comes home: this hospital is about to leave the grid, or who keeps it.

Or nobody is to keep it any more, or it is pinned: then it lies where it is until it is here, where there is
room.

Nothing goes meanwhile. Whoever waits for it asks again and again; when nobody does any more, all stay.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Final, Protocol

from catalog import Clock, PacsError, Unavailable

from .ledger import Ledger

logger = logging.getLogger(__name__)

_PAUSE: Final = 60.0
"""Seconds between two tries to bring home what belongs here, where nothing came."""
_ASKS_AGAIN: Final = 90.0
"""Seconds within which whoever waits for all to be home asks again."""


class Bringing(Protocol):
    """What brings a study home; `Returning` does."""

    def fetch_back(self, study: str) -> int:
        """Bring home what lies at other sites alone of a study; return how many objects came."""


class Homecoming:
    """One archive's; `step` from the thread in which things come home."""

    def __init__(
        self,
        ledger: Ledger,
        returning: Bringing,
        connected: Callable[[], list[str]],
        name: Callable[[str], str],
        others: Callable[[], Collection[str]],
        monotonic: Clock,
        belongs_here: Callable[[str], bool] = lambda study: False,
    ) -> None:
        """`others` returns the nodes whose copies count; `belongs_here` says of a study that it comes home.

        That is so where no rule asks for copies of it, or somebody pinned it.
        """
        self._ledger = ledger
        self._returning = returning
        self._connected = connected
        self._name = name
        self._others = others
        self._monotonic = monotonic
        self._belongs_here = belongs_here
        self._rests_until = float("-inf")
        self._until = float("-inf")
        self._leaving: dict[str, float] = {}
        self.came = 0
        """How many objects did."""
        self.why = ""
        """What was in the way of the study that was tried last; empty if it came."""

    def lets_go(self) -> bool:
        """Say whether things may go to other sites: not while anything is to come home."""
        now = self._monotonic()
        return now >= self._until and not any(now < until for until in [*self._leaving.values()])

    def begin(self) -> int:
        """Have everything come home, or go on with it; return how many bytes are still away.

        If none are, nothing goes until `end`; otherwise until a while after the last call.

        Raises:
            Unavailable: nobody who has some of it is connected.
        """
        with self._ledger.moving:
            away = self._ledger.lying_away()
            self._check(away)
            if self._monotonic() >= self._until:
                self.came, self.why = 0, ""
            self._until = self._monotonic() + _ASKS_AGAIN if away else float("inf")
            return self._ledger.away_bytes

    def _check(self, away: list[str]) -> None:
        there = set(self._connected())
        missing = [each for each in away if not there & self._ledger.keepers(each).keys()]
        if missing:
            who = {self._name(each) for study in missing for each in self._ledger.keepers(study)}
            where = ", ".join(sorted(who))
            what = f"{len(missing)} studies of this hospital lie alone at {where}, not connected now."
            raise Unavailable(what, "Try again when they are: peerpacs peers. To lose those studies: --force")

    def without(self, node_id: str) -> int:
        """Have come home what lies at one node alone, which leaves; return how many bytes still do.

        If none do, that node's receipts count no more.
        """
        with self._ledger.moving:
            self._leaving[node_id] = self._monotonic() + _ASKS_AGAIN
            alone = self._ledger.away_at(node_id, self._others())
            if not alone:
                self._ledger.forget_keeper(node_id)
            return sum(alone.values())

    def go_on(self) -> None:
        """Let nothing go for a while, because something else has to come home."""
        self._until = self._monotonic() + _ASKS_AGAIN

    def end(self) -> None:
        """Let things go again that others have."""
        self._until = float("-inf")

    def step(self) -> bool:
        """Bring one study home; say whether anything of it came."""
        return self._bring(self._wanted()) or self._bring_what_belongs_here()

    def _bring_what_belongs_here(self) -> bool:
        now = self._monotonic()
        if now < self._rests_until:
            return False
        if self._bring([study for study in self._ledger.lying_away() if self._belongs_here(study)]):
            return True
        self._rests_until = now + _PAUSE
        return False

    def _bring(self, studies: list[str]) -> bool:
        for study in studies:
            try:
                came = self._returning.fetch_back(study)
            except PacsError as error:
                logger.warning("A study does not come home yet: %s", error)
                self.why = f"{error.what} {error.next}".strip()
                continue
            self.came += came
            if came:
                self.why = ""
                return True
        return False

    def _wanted(self) -> list[str]:
        now, others = self._monotonic(), self._others()
        if now < self._until:
            return self._ledger.lying_away()
        leaving = [node_id for node_id, until in [*self._leaving.items()] if now < until]
        return [study for node_id in leaving for study in self._ledger.away_at(node_id, others)]
