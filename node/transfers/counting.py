"""The queue's numbers for watchers: how transfers stand, and what arrived or failed since the start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from node.measures import Sample

from .model import Outcome, Standing, Transfer, Verdict


class Counting:
    """What happened since the start, by destination; whoever counts holds the book's mutex."""

    def __init__(self) -> None:
        self._arrived: Counter[str] = Counter()
        self._failures: Counter[tuple[str, str]] = Counter()

    def arrived(self, destination: str, size: int) -> None:
        """Count bytes that a destination has taken."""
        self._arrived[destination] += size

    def ended(self, transfer: Transfer, outcome: Outcome) -> None:
        """Count an attempt that did not bring everything there."""
        error = ""
        if outcome.verdict is Verdict.LATER:
            error = "unreachable" if outcome.blames_destination else "later"
        elif transfer.standing is Standing.FAILED:
            error = "incomplete" if outcome.verdict is Verdict.OVER else "failed"
        if error:
            self._failures[transfer.order.destination, error] += 1

    def samples(self, open_ones: Iterable[Transfer]) -> Iterator[Sample]:
        """Yield the numbers, with those of the transfers that are not over."""
        standing = Counter((each.standing.value, each.lane.value) for each in open_ones)
        for labels, count in standing.items():
            yield Sample("transfers", count, labels)
        for destination, size in self._arrived.items():
            yield Sample("transfer_bytes_total", size, (destination, "out"))
        for failure, count in self._failures.items():
            yield Sample("transfer_failures_total", count, failure)
