"""Numbers that many threads count and whoever watches reads: cheap to count, named where they are shown.

A part counts in a `Distribution` or a plain number of its own, and offers a source of `Sample`s to the node's
`Measures`. What a sample may be called, and its labels, stands in the table of `node/watching/names.py`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import Final, NamedTuple

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds for what a peer waits for, from one commit to what nobody bears."""


class Spread(NamedTuple):
    """What a distribution held at one moment: how many up to each bound, in all, and their sum."""

    up_to: tuple[tuple[float, int], ...]
    number: int
    total: float


class Sample(NamedTuple):
    """One value of a measure; `labels` in the order of its row in the table of names."""

    name: str
    value: float | Spread
    labels: tuple[str, ...] = ()


Source = Callable[[], Iterable[Sample]]
"""Asked at each reading; must neither wait nor fail."""


class Distribution:
    """How long something took, in buckets; any thread may add, for less than a microsecond."""

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = Lock()

    def add(self, value: float) -> None:
        """Count one value."""
        place = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[place] += 1
            self._sum += value

    def spread(self) -> Spread:
        """Return what was counted so far, cumulated."""
        with self._lock:
            counts, total = tuple(self._counts), self._sum
        so_far, up_to = 0, []
        for bound, count in zip(self._bounds, counts, strict=False):
            so_far += count
            up_to.append((bound, so_far))
        return Spread(tuple(up_to), sum(counts), total)


class Level:
    """How many of something there are just now; any thread may change it."""

    def __init__(self) -> None:
        self._now = 0
        self._lock = Lock()

    def change(self, by: int) -> None:
        """Add to the number, or take away."""
        with self._lock:
            self._now += by

    def now(self) -> int:
        """Return the number."""
        return self._now


class Measures:
    """Everything that can be read of one node: parts add their sources, the watch reads them all."""

    def __init__(self) -> None:
        self._sources: list[Source] = []

    def add(self, source: Source) -> None:
        """Have a part's numbers read with all others from now on."""
        self._sources.append(source)

    def sources(self) -> Iterator[Source]:
        """Return every source, for a reader that goes on when one fails."""
        return iter(tuple(self._sources))
