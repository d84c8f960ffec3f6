"""Which waiting transfer is next: urgent lanes first, destinations in turn, and none that does not answer.

All in memory and without a clock of its own; the queue makes it again from its rows at start.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from .model import Kind, Lane, Transfer

FIRST: Final = 5.0
LONGEST: Final = 3600.0
"""Seconds between two tries: the first ones, and the last ones."""


def backoff(tries: int, chance: random.Random) -> float:
    """Return the seconds to wait after so many tries in a row: 5 s x 2^n up to an hour, within a fifth."""
    return float(min(FIRST * 2 ** min(tries - 1, 20) * chance.uniform(0.8, 1.2), LONGEST))


class Hold(NamedTuple):
    """A destination that does not answer: until when nothing is sent there, and why."""

    until: float
    tries: int
    why: str
    remedy: str


class _Due(NamedTuple):
    """Where a transfer stands in its line."""

    due: float
    created: float
    id: str


class Schedule:
    """The waiting transfers by lane, kind and destination; which destinations are held; what runs where."""

    def __init__(self, per_destination: int) -> None:
        self.per_destination = per_destination
        self.holds: dict[str, Hold] = {}
        self._lines: dict[tuple[Lane, Kind, str], list[_Due]] = {}
        self._places: dict[str, tuple[tuple[Lane, Kind, str], _Due]] = {}
        self._running: Counter[str] = Counter()
        self._turns: dict[str, int] = {}
        """When each destination was last served, as a count."""
        self._turn = 0

    def add(self, transfer: Transfer) -> None:
        """Let a transfer wait; one that waits already changes its place."""
        order = transfer.order
        line = (transfer.lane, order.kind, order.destination)
        place = _Due(transfer.due, transfer.created, transfer.id)
        if self._places.get(place.id) != (line, place):
            self._places[place.id] = (line, place)
            heapq.heappush(self._lines.setdefault(line, []), place)

    def discard(self, id: str) -> None:
        """Let a transfer wait no longer."""
        self._places.pop(id, None)

    def begin(self, transfer: Transfer) -> None:
        """Count a transfer as running."""
        self._turn += 1
        self._turns[transfer.order.destination] = self._turn
        self._running[transfer.order.destination] += 1

    def end(self, transfer: Transfer) -> None:
        """Count it as running no longer."""
        self._running[transfer.order.destination] -= 1

    def room(self, destination: str, now: float) -> int:
        """Return how many more may run to a destination; one at a time probes one that was silent."""
        hold = self.holds.get(destination)
        if hold and 0 < hold.until - now <= LONGEST:
            return 0
        return (1 if hold else self.per_destination) - self._running[destination]

    def candidates(self, kinds: Collection[Kind], now: float) -> Iterator[tuple[Lane, str, str]]:
        """Yield (lane, destination, id) of the first that is due in each line, by right."""
        found = []
        for line in list(self._lines):
            lane, kind, destination = line
            first = self._first(line) if kind in kinds else None
            # A clock that was set back makes nothing wait.
            if first and not 0 < first.due - now <= LONGEST:
                right = (lane.rank, self._running[destination], self._turns.get(destination, 0), first)
                found.append((right, destination))
        for right, destination in sorted(found):
            yield tuple(Lane)[right[0]], destination, right[3].id

    def _first(self, line: tuple[Lane, Kind, str]) -> _Due | None:
        heap = self._lines[line]
        while heap:
            if self._places.get(heap[0].id) == (line, heap[0]):
                return heap[0]
            heapq.heappop(heap)
        del self._lines[line]
        return None
