"""Above a mark, own objects go from the disk, the least recently used first, if others have proved theirs.

Never what came in the last days, is pinned or is under a legal hold. The rows name the other place before
the bytes go, so that whatever moment the node ends at, each object can be read from somewhere. That something
of a study is away is written down before it is: who leaves the grid has to know.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

from msgspec.structs import replace

from catalog import Clock, Decision, Entry, Holding, Move, Moved, PacsError, Verb
from node.storage.elsewhere import is_elsewhere, place_elsewhere

from .ledger import Ledger, Placed

logger = logging.getLogger(__name__)

_PAUSE: Final = 60.0
"""Seconds between two looks for what may go, when nothing could."""
_BATCH: Final = 256


class Mark(NamedTuple):
    """When objects go, and which never do."""

    bytes_over: Callable[[int], int]
    """Returns how many bytes are too many, by how many of this archive's are here."""
    keep_for: float
    """Seconds after its arrival, or its last use, in which nothing goes."""


class Provers(Protocol):
    """Who asks for proofs; `Proofs` does."""

    def have_all(self, archive: str, uid: str, nodes: Sequence[str]) -> bool:
        """Say whether each of these nodes has all of a study, proved freshly."""


class Kept(Protocol):
    """The archive's catalog, as much of it as is needed here."""

    def versions(self, target: tuple[str, ...]) -> list[Entry]:
        """Return every stored version of a study."""

    def decisions(self, StudyInstanceUID: str) -> list[Decision]:
        """Return the decisions that touch the study, oldest first."""

    def relocate(self, moves: Sequence[Move]) -> list[Moved]:
        """Have rows name another place of the same bytes; durable when it returns."""


def away_of(entries: Iterable[Entry]) -> int:
    """Return how many bytes of some objects lie at other sites alone."""
    return sum(each.holding.size for each in entries if is_elsewhere(each.holding))


class Slimming:
    """One archive's; `step` from one thread."""

    def __init__(
        self,
        archive: str,
        catalog: Kept,
        remove: Callable[[Holding], object],
        stored: Callable[[], int],
        ledger: Ledger,
        proofs: Provers,
        mark: Mark,
        used: Callable[[str], float],
        clock: Clock,
        may_go: Callable[[], bool] = lambda: True,
        is_pinned: Callable[[str], bool] = lambda uid: False,
    ) -> None:
        """`stored` counts the bytes of all objects, here or not; `used` says when a study was last read.

        `may_go` says whether anything may go at all; what it says counts while `ledger.moving` is held.
        `is_pinned` says that a study stays whatever the mark says.
        """
        self._archive = archive
        self._catalog = catalog
        self._remove = remove
        self._stored = stored
        self._ledger = ledger
        self._proofs = proofs
        self._mark = mark
        self._used = used
        self._clock = clock
        self._may_go = may_go
        self._is_pinned = is_pinned
        self._line: deque[str] = deque()
        self._rests_until = float("-inf")

    def over(self) -> int:
        """Return how many bytes are to go, 0 for none."""
        return max(0, self._mark.bytes_over(self._stored() - self._ledger.away_bytes))

    def step(self) -> bool:
        """Have the least recently used study go that may, if there is too much; say whether one went."""
        now = self._clock()
        if 0 <= self._rests_until - now <= _PAUSE or not self._may_go() or not self.over():
            return False
        if not self._line:
            self._line.extend(self._ordered(now))
        while self._line:
            uid = self._line.popleft()
            try:
                if self._let_go(uid):
                    return True
            except PacsError as error:
                logger.info("A study stays on the disk for now: %s", error)
        self._rests_until = now + _PAUSE
        return False

    def look_again(self) -> None:
        """Hear that a keeper has another study whole, so that it may go; any thread may call."""
        self._rests_until = float("-inf")

    def _ordered(self, now: float) -> list[str]:
        """Return the studies that may go, the least recently used first."""
        found = []
        for uid, placed in self._ledger.places():
            if placed.archive != self._archive or not placed.is_met or not placed.nodes:
                continue
            last = max(self._used(uid), self._came(uid))
            if last < now - self._mark.keep_for:
                found.append((last, uid))
        return [uid for _, uid in sorted(found)]

    def _came(self, uid: str) -> float:
        """Return when the newest object of a study came that is here; infinity if none is."""
        times = [each.received for each in self._catalog.versions((uid,)) if not is_elsewhere(each.holding)]
        return max(times) / 1000 if times else float("inf")

    def _is_held(self, uid: str) -> bool:
        decisions = self._catalog.decisions(uid)
        undone = {each.detail for each in decisions if each.verb is Verb.UNDO}
        return any(each.verb is Verb.HOLD and each.id not in undone for each in decisions)

    def _let_go(self, uid: str) -> bool:
        """Have a study's bytes go; say whether any did."""
        placed = self._ledger.placed(uid)
        if placed is None or not placed.is_met or self._is_pinned(uid) or self._is_held(uid):
            return False
        if not self._proofs.have_all(self._archive, uid, placed.nodes):
            return False
        with self._ledger.moving:
            return self._is_still_met(uid, placed) and self._go(uid)

    def _is_still_met(self, uid: str, placed: Placed) -> bool:
        """Say whether, since the proofs, nobody took back what they rest on, or pinned the study."""
        now = self._ledger.placed(uid)
        if self._is_pinned(uid):
            return False
        return self._may_go() and now is not None and now.is_met and now.nodes == placed.nodes

    def _go(self, uid: str) -> bool:
        entries = self._catalog.versions((uid,))
        here = [each for each in entries if not is_elsewhere(each.holding)]
        self._ledger.lies_away(uid, sum(each.holding.size for each in entries))
        gone = 0
        for start in range(0, len(here), _BATCH):
            gone += self._move(here[start : start + _BATCH])
        self._ledger.lies_away(uid, away_of(self._catalog.versions((uid,))))
        return gone > 0

    def _move(self, entries: Sequence[Entry]) -> int:
        moves = [
            Move(each.SOPInstanceUID, each.holding, replace(each.holding, where=place_elsewhere(each)))
            for each in entries
        ]
        gone = 0
        for move, outcome in zip(moves, self._catalog.relocate(moves), strict=True):
            if outcome is Moved.NOW:
                gone += move.was.size
                with suppress(PacsError, OSError):
                    self._remove(move.was)
        return gone
