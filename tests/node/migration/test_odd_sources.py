"""Moving in from PACS that answer as none should: nothing is lost by it, and a person hears what is odd."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from catalog import Selection, Verb
from node.app import Node
from node.contracts import Device, Service
from node.dimse import association
from node.migration import calling, lanes
from sim.ports import free_port
from tests.homes import Peer, RawInstance, attribute, phantoms
from tests.node.commandline import CommandLine
from tests.node.keepers import flip
from tests.node.migration.ends import over
from tests.node.oldpacs.odd import Odd, odd
from tests.node.routing.homes import ask, ruled
from tests.running import until

pytestmark = pytest.mark.slow
DAYS = "20240101-20240103"


@contextlib.contextmanager
def beside(home: Path) -> Iterator[tuple[Node, Odd]]:
    """Yield a node and the PACS that is moved in from."""
    port = free_port()
    with odd(port) as old:
        services = (Service.ECHO, Service.STORE)
        device = Device(
            ae_title="OLD", address="127.0.0.1", port=old.port, services=services, complete_after=0.3
        )
        with ruled(home, "", devices=[device], dicom={"port": port}) as node:
            yield node, old


def filled(old: Odd, studies: int, days: int = 3, instances: int = 2) -> list[list[RawInstance]]:
    """Have the PACS keep studies of the first days of 2024; return the instances of each."""
    made = []
    for seed in range(studies):
        day = date(2024, 1, 1) + timedelta(days=seed % days)
        made.append(phantoms(seed, size=4_000, instances=instances, StudyDate=f"{day:%Y%m%d}"))
        old.keep(*made[-1])
    return made


def study_of(made: list[RawInstance]) -> str:
    """Return the study that instances are of."""
    return str(attribute(made[0], "StudyInstanceUID"))


def moved(node: Node, dates: str = DAYS, **order: Any) -> dict[str, Any]:
    """Move in, and return the end of it."""
    ask(node, "start_migration", source="OLD", dates=dates, **order)
    return over(node)


def here(node: Node, *made: list[RawInstance]) -> int:
    """Return how many of these instances the archive has."""
    uids = tuple(one.SOPInstanceUID for each in made for one in each)
    return len(node.catalog.select(Selection(instances=uids)))


def test_a_source_that_answers_with_other_days_and_twice_is_counted_once(tmp_path: Path) -> None:
    with beside(tmp_path) as (node, old):
        filled(old, 3)
        old.ignores, old.is_twice = {"StudyDate"}, True
        told = moved(node)
        assert (told["studies"], told["expected"], told["arrived"]) == (3, 6, 6)
        assert told["compared"] == {"there": 6, "here": 6, "missing": 0, "different": 0, "extra": 0}


def test_a_study_that_always_fails_holds_up_no_other(tmp_path: Path) -> None:
    with beside(tmp_path) as (node, old):
        first, second, *rest = filled(old, 9)
        old.fails = {study_of(first): 0xC001, study_of(second): 0xC002}
        told = moved(node)
        assert (told["phase"], told["why"]) == ("done", "")
        assert here(node, first, second, *rest) == 14
        failed = {each["StudyInstanceUID"]: each for each in told["series_failed"]}
        assert failed.keys() == old.fails.keys()
        assert failed[study_of(first)]["why"].startswith("C001")
        assert told["compared"]["missing"] == 4


@pytest.mark.parametrize("ends", [0xFE00, 0xB000])
def test_a_list_that_the_source_cuts_short_stops_it_before_anything_is_left_out_unsaid(
    ends: int, tmp_path: Path
) -> None:
    with beside(tmp_path) as (node, old):
        made = filled(old, 4, days=1)
        old.at_most, old.ends = 3, ends
        told = moved(node)
        assert told["phase"] == "stopped"
        assert f"{ends:04X}" in told["why"]
        assert "limit of answers" in told["remedy"]
        assert old.questions == ["STUDY"] * 3, "one of each day: the other lane asks nothing any more"
        old.at_most = 0
        ask(node, "resume_migration", source="OLD")
        assert over(node)["compared"]["missing"] == 0
        assert here(node, *made) == 8


def test_a_source_of_which_nothing_comes_stops_it_and_resumed_it_gets_past_that(tmp_path: Path) -> None:
    with beside(tmp_path) as (node, old):
        made = filled(old, 9, days=1)
        old.fails = {study_of(each): 0xC001 for each in made[:6]}
        told = moved(node)
        assert told["phase"] == "stopped"
        assert "Nothing came of 5 studies: OLD answered C001" in told["why"]
        assert len(told["series_failed"]) >= 5
        ask(node, "start_migration", source="OLD", dates=DAYS)
        told = over(node)
        assert (told["phase"], told["compared"]["missing"]) == ("done", 12)
        assert here(node, *made) == 6


def test_a_study_of_which_the_source_says_for_ever_that_it_is_under_way_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calling, "_STUCK", 0.3)
    monkeypatch.setattr(association, "_RELEASING", 0.3)
    with beside(tmp_path) as (node, old):
        made = filled(old, 3)
        old.hangs = {study_of(made[0])}
        told = moved(node)
        assert told["phase"] == "done"
        assert "sends nothing" in told["series_failed"][0]["why"]
        assert (here(node, *made), told["compared"]["missing"]) == (4, 2)


def test_a_source_that_cannot_now_is_asked_again_after_a_while(tmp_path: Path) -> None:
    with beside(tmp_path) as (node, old):
        made = filled(old, 1)
        old.fails = {study_of(made[0]): 0xA701}
        ask(node, "start_migration", source="OLD", dates=DAYS)
        until(lambda: old.asked)
        old.fails = {}
        assert over(node)["compared"]["missing"] == 0
        assert here(node, *made) == 2


def test_what_a_source_counts_otherwise_than_it_lists_is_told(tmp_path: Path) -> None:
    with beside(tmp_path) as (node, old):
        [made] = filled(old, 1)
        series = str(attribute(made[0], "SeriesInstanceUID"))
        old.states = {series: 5}
        assert moved(node)["compared"]["different"] == 1
        [row] = ask(node, "migration_differences", source="OLD")
        assert (row["kind"], row["SeriesInstanceUID"]) == ("different", series)
        assert row["detail"] == "NumberOfSeriesRelatedInstances 5, listed 2"


def test_answers_about_something_else_or_without_a_uid_have_nothing_else_moved(tmp_path: Path) -> None:
    with beside(tmp_path) as (node, old):
        made = filled(old, 2, days=1)
        old.ignores = {"StudyInstanceUID", "SeriesInstanceUID"}
        told = moved(node)
        assert (told["studies"], told["series"], told["expected"]) == (2, 2, 4)
        assert told["compared"]["missing"] == told["compared"]["extra"] == 0
        assert here(node, *made) == 4


def test_what_was_rejected_here_is_told_and_not_asked_for_again(tmp_path: Path) -> None:
    with beside(tmp_path) as (node, old):
        [made] = filled(old, 1)
        assert moved(node)["phase"] == "done"
        [entry, _] = node.catalog.select(Selection(instances=tuple(one.SOPInstanceUID for one in made)))
        target = entry.StudyInstanceUID, entry.SeriesInstanceUID, entry.SOPInstanceUID
        node.register.make(Verb.REJECT, target, reason="bad", who="novak")
        old.asked.clear()
        told = moved(node)
        assert (told["compared"]["missing"], len(old.asked)) == (1, 0)
        [row] = ask(node, "migration_differences", source="OLD")
        assert (row["kind"], row["SOPInstanceUID"]) == ("missing", entry.SOPInstanceUID)
        assert row["detail"] == "rejected here"


def test_without_room_it_waits_and_goes_on_once_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "_SILENT", (0.2,))
    with beside(tmp_path) as (node, old):
        made = filled(old, 4, days=1)
        node.main.quota.limit_to(1_000)
        ask(node, "start_migration", source="OLD", dates=DAYS)
        until(lambda: ask(node, "migration", source="OLD")["why"])
        told = ask(node, "migration", source="OLD")
        assert (told["phase"], told["series_failed"], old.asked) == ("moving", [], [])
        assert "quota" in told["why"]
        assert "It is tried again" in told["remedy"]
        node.main.quota.limit_to(0)
        assert over(node)["compared"]["missing"] == 0
        assert here(node, *made) == 8


def test_studies_without_a_date_come_where_they_are_asked_for(tmp_path: Path) -> None:
    with beside(tmp_path) as (node, old):
        undated = phantoms(7, size=4_000, instances=2, StudyDate="")
        old.keep(*undated)
        [dated] = filled(old, 1)
        assert moved(node)["studies"] == 1
        assert here(node, undated) == 0
        assert moved(node, is_undated=True)["compared"]["there"] == 4
        assert here(node, undated, dated) == 4


def test_the_rate_holds_within_a_long_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_BURST", 1.0)
    with beside(tmp_path) as (node, old):
        [made] = filled(old, 1, instances=30)
        began = node.clock()
        ask(node, "start_migration", source="OLD", dates=DAYS, rate="600/min", lanes=4)
        told = over(node)
        assert (told["arrived"], told["compared"]["missing"]) == (30, 0)
        assert here(node, made) == 30
        # Thirty at ten a second are three seconds, of which the first ten are begun at once.
        assert node.clock() - began >= 1.9
        assert [len(each.SOPInstanceUID) for each in old.asked] == [10, 10, 10]


def test_what_is_damaged_here_comes_again_from_the_source(tmp_path: Path) -> None:
    with beside(tmp_path) as (node, old):
        [made] = filled(old, 1)
        assert moved(node)["phase"] == "done"
        flip(node.home / "archives", made[0].data)
        ask(node, "start_verify", who="novak")
        until(lambda: len(ask(node, "damaged")) == 1)
        told = moved(node)
        assert (told["arrived"], told["compared"]["missing"]) == (1, 0)
        assert list(ask(node, "damaged")) == []


def test_a_study_at_which_the_source_breaks_off_each_time_holds_up_no_other(tmp_path: Path) -> None:
    with beside(tmp_path) as (node, old):
        first, *rest = filled(old, 3, days=1)
        old.aborts = {study_of(first)}
        told = moved(node)
        assert (told["phase"], told["compared"]["missing"]) == ("done", 2)
        assert here(node, first, *rest) == 4
        assert "broke the association" in told["series_failed"][0]["why"]


def test_planted_differences_are_told_each_as_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with beside(tmp_path) as (node, old):
        [made] = filled(old, 1, instances=3)
        assert moved(node)["phase"] == "done"
        other = phantoms(0, size=4_000, instances=4, StudyDate="20240101")[3]
        assert Peer(node).store(other) == [0]
        old.has[0].SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        old.has.pop(2)
        lost = phantoms(0, size=4_000, instances=5, StudyDate="20240101")[4]
        old.keep(lost)
        old.fails = {study_of(made): 0xC001}
        for one in old.has:
            one.PatientID = "SOMEBODY"
        table = tmp_path / "differences.csv"
        words = ("migrate", "--from", "OLD", "--dates", DAYS, "--csv", str(table))
        said = CommandLine(node.home, capsys)(*words, code=3)
        assert "all   3      4     1        2          2" in said
        with table.open() as file:
            rows = {(row["kind"], row["SOPInstanceUID"], row["detail"]) for row in csv.DictReader(file)}
        assert rows == {
            ("missing", lost.SOPInstanceUID, ""),
            ("different", made[0].SOPInstanceUID, "SOPClassUID"),
            ("different", "", "PatientID"),
            ("extra", made[2].SOPInstanceUID, ""),
            ("extra", other.SOPInstanceUID, ""),
        }
