"""How much one person may have deleted in a day: at both limits, by whichever door, over all archives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Barrier, Thread

import pytest
from msgspec.structs import replace

from catalog import Decision, NotPermitted, Selection, Verb
from node.accounts import Accounts
from node.disposal import ErasedUIDs, Orders
from node.second_person import SecondPerson, Wish
from node.state import State
from tests.homes import phantoms
from tests.node.web.asking import path_of, web
from tests.running import RunningNode

HOUR = 3600.0


class Archives:
    """Two archives of a node, of which one has so many studies; what is ordered is gone at once."""

    def __init__(self, state: State) -> None:
        self.now = 1_800_000_000.0
        self.studies = {"main": 0, "lab": 0}
        self.accounts = Accounts(state, lambda: self.now)
        self.orders: dict[str, Orders] = {}
        self.limits: dict[str, SecondPerson] = {}
        for name in self.studies:
            tables = state.of(name)
            self.orders[name] = Orders(tables, tables.table("lasting", ErasedUIDs))
            self.limits[name] = SecondPerson(
                tables,
                self.orders[name],
                lambda name=name: self.studies[name],
                self.accounts.person,
                lambda: self.now,
            )
        for name, limit in self.limits.items():
            limit.others = lambda name=name: [each for key, each in self.limits.items() if key != name]
        self._numbers = count(1)

    def wish(self, who: str) -> str:
        """Have somebody wish what is too much for one; return the wish's id."""
        self.studies["main"] = 0
        self.order(10)
        limit = self.limits["main"]
        with pytest.raises(NotPermitted), limit.ordering(Wish(Verb.DELETE, ("1.2.99",), "why", who)):
            pass
        [(id, _)] = limit.waiting()
        return id

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
        thread.join(60)
    assert sum(done) == 10


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ann", "ann"),
        ("ann", "ann (token 3f2a91c0d11b)"),
        ("ann (token 3f2a91c0d11b)", "ann (token 000000000000)"),
        ("ann", "Ann"),
        ("ann", "novakova"),
        ("NOVAKOVA", "ann (token 3f2a91c0d11b)"),
    ],
)
def test_nobody_is_a_second_person_to_himself_on_another_way(
    archives: Archives, first: str, second: str
) -> None:
    user, _ = archives.accounts.add("ann", ("admin",))
    archives.accounts.put(replace(user, os_user="novakova"))
    id = archives.wish(first)
    with pytest.raises(NotPermitted, match="cannot be the second person"):
        archives.limits["main"].confirm(id, second)
    assert archives.limits["main"].confirm(id, "bob").who == first


@pytest.mark.slow
def test_the_limit_and_the_second_person_are_the_same_by_command_and_by_rest(tmp_path: Path) -> None:
    with web(tmp_path / "alpha") as site:
        node, main = site.node, RunningNode.__new__(RunningNode)
        main.home = tmp_path / "alpha"
        sent = [phantoms(545, number, instances=1)[0] for number in range(13)]
        site.store(*sent)
        uids = [path_of(each, levels=1).removeprefix("/studies/") for each in sent]

        def rest(path: str) -> int:
            body = json.dumps({"reason": "a test"}).encode()
            return site.ask("POST", f"/api{path}", body, Content_Type="application/json").status

        for number, study in enumerate(uids[:10]):
            verb = "erase" if number % 3 == 0 else "delete"
            if number % 2:
                assert rest(f"/studies/{study}/{verb}") == 200
            else:
                main.cli(verb, study, "--reason", "a test", "--yes")
        assert rest(f"/studies/{uids[10]}/delete") == 403
        series = path_of(sent[11], levels=2).rpartition("/")[2]
        assert "peerpacs confirm" in main.answer("erase", series, "--reason", "a test", "--yes")[2]
        said = main.cli("deletions")
        assert f"wishes to erase series {series}; a second person can: peerpacs confirm" in said
        assert f"wishes to delete study {uids[10]}; a second person can: peerpacs confirm" in said
        told = {each["StudyInstanceUID"]: each for each in main.json("deletions")["wishes"]}
        by_rest, by_command = told[uids[10]], told[uids[11]]
        assert rest(f"/deletions/{by_rest['wish']}/confirm") == 403, "who wished it is no second person"
        assert rest(f"/deletions/{by_command['wish']}/confirm") == 200
        main.cli("confirm", by_rest["wish"][:8])
        seen = {entry.StudyInstanceUID for entry in node.catalog.select(Selection(studies=tuple(uids)))}
        assert seen == {uids[12]}
        assert main.json("deletions")["wishes"] == []
