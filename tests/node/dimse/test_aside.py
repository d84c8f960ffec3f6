"""Matches that are slow to come leave their taker free to listen, and end when nobody wants them any more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import copy_context

import pytest

from catalog import Availability, Entry, Unavailable
from catalog.statements import SeriesStatement
from federation.manifests import elsewhere, given_up
from federation.merging import Holder, MergedSeries
from node.dimse.aside import aside
from tests.running import until


class Slow:
    """Matches of which the one after `free` comes only when it is let go."""

    def __init__(self, count: int, free: int, error: Exception | None = None) -> None:
        self.go = threading.Event()
        self.is_closed = False
        self._count, self._free, self._error = count, free, error

    def matches(self) -> Iterator[int]:
        try:
            for number in range(self._count):
                if number == self._free:
                    self.go.wait(30)
                yield number
            if self._error:
                raise self._error
        finally:
            self.is_closed = True


def test_matches_come_in_their_order_and_nothing_is_said_as_nothing() -> None:
    slow = Slow(1000, free=600)
    found = []
    for match in aside(slow.matches(), 0.02):
        if match is None:
            slow.go.set()
        else:
            found.append(match)
    assert found == list(range(1000))
    assert slow.go.is_set()


def test_what_goes_wrong_behind_the_matches_is_raised_where_they_are_taken() -> None:
    slow = Slow(3, free=9, error=Unavailable("It went away."))
    found = []
    with pytest.raises(Unavailable, match="It went away"):
        found.extend(each for each in aside(slow.matches(), 5.0))
    assert slow.is_closed


def test_what_is_given_up_is_left_at_once_and_closed_when_it_can_be() -> None:
    slow = Slow(3, free=1)
    taken = aside(slow.matches(), 0.02)
    assert next(taken) == 0
    assert next(taken) is None
    taken.close()  # type: ignore[attr-defined]
    assert not slow.is_closed
    slow.go.set()
    until(lambda: slow.is_closed)
    full = Slow(10_000, free=-1)
    taken = aside(full.matches(), 5.0)
    assert next(taken) == 0
    taken.close()  # type: ignore[attr-defined]
    until(lambda: full.is_closed)


def test_without_a_thread_to_spare_the_matches_come_all_the_same() -> None:
    slow = [Slow(2, free=1) for _ in range(80)]
    taken = [aside(each.matches(), 0.01) for each in slow]
    assert [next(each) for each in taken] == [0] * 80
    for each in slow:
        each.go.set()
    for rest in taken:
        assert [each for each in rest if each is not None] == [1]


def test_no_other_site_is_asked_for_what_was_given_up() -> None:
    asked: list[bytes] = []
    statements = [
        SeriesStatement(1, "1", "1.1", b"{}", 1, 0, bytes([number]) * 32, (), 1, True, False)
        for number in range(3)
    ]
    holders = [(Holder(each.digest, None), each) for each in statements]  # type: ignore[arg-type]
    series = MergedSeries("1.1", {}, 1, 0, (), Availability.ONLINE, holders)
    is_over = threading.Event()

    def manifest(owner: bytes, statement: SeriesStatement) -> list[Entry]:
        asked.append(owner)
        is_over.set()
        raise Unavailable("It is silent.")

    context = copy_context()
    context.run(given_up.set, is_over.is_set)
    with pytest.raises(Unavailable, match="Nobody waits"):
        context.run(lambda: list(elsewhere(series, manifest, set())))
    assert asked == [holders[0][0].owner]
    assert list(elsewhere(series, manifest, set())) == []
    assert len(asked) == 4, "elsewhere nobody gave it up"
