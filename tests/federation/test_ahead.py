"""Of a long answer the next part is made while the last one is worked on, and no more than that."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from catalog import Unavailable
from federation.ahead import ahead


def test_the_next_item_is_made_while_the_last_one_is_worked_on_and_no_other() -> None:
    made = [threading.Event() for _ in range(6)]

    def making() -> Iterator[int]:
        for n, each in enumerate(made):
            each.set()
            yield n

    got = []
    for n in ahead(making()):
        got.append(n)
        if n >= 2:
            assert n == 5 or made[n + 1].wait(60)
        assert n + 2 > 5 or not made[n + 2].is_set()
    assert got == [0, 1, 2, 3, 4, 5]


def test_short_answers_take_no_thread() -> None:
    where = []

    def making(count: int) -> Iterator[int]:
        for n in range(count):
            where.append(threading.current_thread())
            yield n

    assert [list(ahead(making(count))) for count in range(3)] == [[], [0], [0, 1]]
    assert set(where) == {threading.current_thread()}


def test_what_making_raises_is_raised_after_what_was_made_before() -> None:
    def making() -> Iterator[int]:
        yield from range(4)
        raise Unavailable("The link was cut.")

    got: list[int] = []
    with pytest.raises(Unavailable, match="cut"):
        got.extend(ahead(making()))
    assert got == [0, 1, 2, 3]


def test_who_wants_no_more_has_the_waiting_end() -> None:
    given_up = threading.Event()

    def making() -> Iterator[int]:
        yield from range(3)
        assert given_up.wait(60)
        yield 3

    taking = ahead(making(), given_up.set)
    assert [next(taking) for _ in range(3)] == [0, 1, 2]
    taking.close()
    assert given_up.is_set()
