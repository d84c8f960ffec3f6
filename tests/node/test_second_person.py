"""How much one person may have deleted in a day: at both limits, by whichever door, over all archives."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Barrier, Thread

import pytest

from catalog import Decision, NotPermitted, Verb
from node.disposal import ErasedUIDs, Orders
from node.second_person import SecondPerson, Wish
from node.state import State

HOUR = 3600.0


class Archives:
    """Two archives of a node, of which one has so many studies; what is ordered is gone at once."""

    def __init__(self, state: State) -> None:
        self.now = 1_800_000_000.0
        self.studies = {"main": 0, "lab": 0}
        self.orders: dict[str, Orders] = {}
        self.limits: dict[str, SecondPerson] = {}
        for name in self.studies:
            tables = state.of(name)
            self.orders[name] = Orders(tables, tables.table("lasting", ErasedUIDs))
            self.limits[name] = SecondPerson(
                tables, self.orders[name], lambda name=name: self.studies[name], lambda: self.now
            )
        for name, limit in self.limits.items():
            limit.others = lambda name=name: [each for key, each in self.limits.items() if key != name]
        self._numbers = count(1)

    def order(self, many: int, archive: str = "main", verb: Verb = Verb.DELETE, second: str = "") -> int:
        """Have studies deleted, one command each; return how many may be without a second person."""
        for done in range(many):
            number = next(self._numbers)
            target = (f"1.2.{number}",)
            try:
                with self.limits[archive].ordering(Wish(verb, target, "why", "ann", second)):
                    when = int(self.now * 1000)
                    id = f"d{number}"
                    self.orders[archive].put(
                        Decision(id=id, verb=verb, target=target, reason="", who="ann", when=when)
                    )
                    self.studies[archive] -= 1
            except NotPermitted:
                return done
        return many


@pytest.fixture
def archives(tmp_path: Path) -> Iterator[Archives]:
    with State(tmp_path / "state") as state:
        yield Archives(state)


@pytest.mark.parametrize(
    ("studies", "most"),
    [(5, 5), (1_099, 10), (1_100, 11), (5_000, 50), (10_000, 100), (1_000_000, 100)],
)
def test_one_percent_of_an_archive_and_never_more_than_100_studies_go_in_a_day(
    archives: Archives, studies: int, most: int
) -> None:
    archives.studies["main"] = studies
    half = most // 2
    assert archives.order(half) == half
    archives.now += HOUR
    assert archives.order(min(studies, most + 2) - half, verb=Verb.ERASE) == most - half
    archives.now += 23.1 * HOUR
    assert archives.limits["main"].left() > 0, "the first half is a day ago"


def test_the_hundred_counts_over_all_archives_of_a_node(archives: Archives) -> None:
    archives.studies = {"main": 50_000, "lab": 50_000}
    assert archives.order(70, "main") == 70
    assert archives.order(40, "lab") == 30
    assert archives.order(1, "main") == 0
    assert archives.order(1, "lab", second="bob") == 1
    assert archives.limits["lab"].left() < 0, "what a second person confirmed counts as well"


def test_what_many_order_at_one_moment_is_counted_one_after_the_other(archives: Archives) -> None:
    archives.studies["main"] = 100
    barrier, done = Barrier(8), list[int]()

    def order() -> None:
        barrier.wait(10)
        done.append(archives.order(3))

    threads = [Thread(target=order) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sum(done) == 10
