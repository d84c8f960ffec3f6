"""Counts against somebody who knows all subjects of a set but one, and asks whether that one is in it."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from catalog import Busy
from node.research.counting import Counter, Counts, Size, stepped, tens
from node.research.model import Project
from node.state import State

KEYS = 200
TARGET = "the one that is asked about"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with closing(State(tmp_path / "state")) as state:
        yield state


class Asked:
    """A project under one key, as whoever has no key may ask it."""

    def __init__(self, state: State, number: int, questions: int = 20) -> None:
        self.counter = Counter(state)
        self.project = Project(name=f"T{number}", smallest=5, questions=questions)
        self.secret = sha256(b"key %d" % number).digest()

    def told(self, question: str, known: int, *, has_target: bool, of_target: int = 100) -> Counts:
        """Return the answer for `known` subjects of 100 instances each, and perhaps the target."""
        subjects = [str(number) for number in range(known)] + [TARGET] * has_target
        instances = 100 * known + of_target * has_target
        size = Size(len(subjects), len(subjects), instances, instances // 2)
        return self.counter.tell(self.project, self.secret, question.encode(), subjects, size)


def told_apart(state: State, attack: Callable[[Asked, bool], Any]) -> float:
    """Return how far the answers with the target are from those without: 0 the same, 1 never the same."""
    with_it = Tally(attack(Asked(state, number), True) for number in range(KEYS))
    without = Tally(attack(Asked(state, KEYS + number), False) for number in range(KEYS))
    return sum(abs(with_it[each] - without[each]) for each in with_it | without) / (2 * KEYS)


def test_a_set_on_the_edge_of_rounding_does_not_tell_of_the_last_one(state: State) -> None:
    assert told_apart(state, lambda asked, is_in: asked.told("q", 24, has_target=is_in).subjects) < 0.25


def test_instances_do_not_tell_that_one_came_with_many_of_them(state: State) -> None:
    def attack(asked: Asked, is_in: bool) -> int:
        return asked.told("q", 24, has_target=is_in, of_target=300).instances

    assert told_apart(state, attack) < 0.25


def test_a_set_and_the_same_without_a_few_do_not_tell_who_was_among_the_few(state: State) -> None:
    def attack(asked: Asked, is_in: bool) -> tuple[int, int, int]:
        all_of_them = asked.told("all", 24, has_target=is_in)
        without = asked.told("without four and the target", 20, has_target=False)
        return all_of_them.subjects, without.subjects, without.left

    assert told_apart(state, attack) < 0.35


def test_what_is_left_of_the_budget_depends_on_the_words_of_questions_alone(state: State) -> None:
    asked = Asked(state, 1, questions=3)
    assert asked.told("a", 24, has_target=True).left == 2
    assert asked.told("b", 24, has_target=False).left == 1, "nearly the same set, another question"
    assert asked.told("a", 30, has_target=True).left == 1, "asked before, another set by now"
    assert asked.told("c", 24, has_target=True).left == 0
    with pytest.raises(Busy):
        asked.told("d", 24, has_target=True)
    assert asked.told("c", 24, has_target=True).left == 0


def test_the_same_set_is_always_told_the_same_and_a_small_one_nothing(state: State) -> None:
    asked = Asked(state, 1)
    assert len({asked.told(str(number), 24, has_target=False).subjects for number in range(10)}) == 1
    small = Asked(state, 2).told("q", 4, has_target=False)
    assert (small.subjects, small.studies, small.instances, small.megabytes) == (-1, -1, -1, -1)


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.999])
def test_what_is_told_is_never_further_away_than_one_step(chance: float) -> None:
    for count in range(5, 400):
        assert abs(tens(count, chance) - count) < 10
        assert tens(count, chance) % 10 == 0
        assert stepped(count, chance) in (1, 2, 5, 10, 20, 50, 100, 200, 500)
        assert count / 2.5 <= stepped(count, chance) <= count * 2.5
    assert stepped(0, chance) == 0
