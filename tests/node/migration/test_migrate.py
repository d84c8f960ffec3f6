"""Moving in from PACS that we did not write: everything comes, as it is stored there, and the end says so."""

from __future__ import annotations

import contextlib
import csv
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from catalog import BadRequest, Selection, Verb
from node.app import Node
from node.contracts import Device, Service
from node.hours import read_hours
from node.migration.book import read_dates, read_rate
from sim.ports import free_port
from tests.homes import RawInstance, attribute, phantoms
from tests.node.commandline import CommandLine
from tests.node.migration.ends import over
from tests.node.nearlines import content
from tests.node.oldpacs.servers import KINDS, Known, Old
from tests.node.routing.homes import ask, ruled
from tests.running import until

JPEG2000 = Path(str(get_testdata_file("JPEG2000.dcm")))
TODAY = date(2026, 11, 26)


@contextlib.contextmanager
def beside(kind: str, folder: Path, rules: str = "", knows: str = "ALPHA") -> Iterator[tuple[Node, Old]]:
    """Yield a node and the PACS that is moved in from."""
    port = free_port()
    with KINDS[kind](folder / "old", Known(knows, port)) as old:
        services = (Service.ECHO, Service.STORE)
        device = Device(
            ae_title="OLD", address="127.0.0.1", port=old.port, services=services, complete_after=0.3
        )
        with ruled(folder / "home", rules, devices=[device], dicom={"port": port}) as node:
            yield node, old


def filled(old: Old, studies: int, days: int = 5, size: int = 4_000) -> list[RawInstance]:
    """Have the PACS keep studies of the first days of 2024; return their instances."""
    made = []
    for seed in range(studies):
        day = date(2024, 1, 1) + timedelta(days=seed % days)
        made += phantoms(seed, size=size, instances=2, StudyDate=f"{day:%Y%m%d}")
    old.store(*made)
    return made


@pytest.mark.parametrize("kind", ["orthanc", pytest.param("dcmqrscp", marks=pytest.mark.slow)])
def test_everything_comes_and_the_comparison_says_so(kind: str, tmp_path: Path) -> None:
    with beside(kind, tmp_path) as (node, old):
        made = filled(old, 6)
        ask(node, "start_migration", source="OLD", dates="20231230-20240110", who="novak")
        told = over(node)
        assert (told["phase"], told["arrived"], told["expected"]) == ("done", len(made), len(made))
        assert told["compared"] == {
            "there": len(made), "here": len(made), "missing": 0, "different": 0, "extra": 0
        }  # fmt: skip
        assert told["years"]["2024"]["there"] == len(made)
        here = node.catalog.select(Selection(instances=tuple(one.SOPInstanceUID for one in made)))
        assert {entry.SOPInstanceUID for entry in here} == {one.SOPInstanceUID for one in made}
        again = ask(node, "start_migration", source="OLD", dates="20231230-20240110")
        assert again["phase"] == "moving"
        assert (over(node)["arrived"], over(node)["here_before"]) == (0, len(made))


def test_a_compressed_image_stays_compressed_as_it_was(tmp_path: Path) -> None:
    with beside("orthanc", tmp_path) as (node, old):
        picture = RawInstance.read(JPEG2000)
        old.store(picture)
        day = str(attribute(picture, "StudyDate") or "")
        ask(node, "start_migration", source="OLD", dates=f"{day}-{day}")
        assert over(node)["phase"] == "done"
        [entry] = node.catalog.select(Selection(instances=(picture.SOPInstanceUID,)))
        assert entry.TransferSyntaxUID == picture.TransferSyntaxUID == "1.2.840.10008.1.2.4.91"
        outgoing = node.retriever.open(entry)
        pixels = pydicom.dcmread(JPEG2000).PixelData
        assert pixels.rstrip(b"\0") in content(outgoing)


def test_what_differs_is_told_by_uids_and_written_as_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with beside("orthanc", tmp_path) as (node, old):
        made = filled(old, 2, days=1)
        ask(node, "start_migration", source="OLD", dates="20240101-20240101")
        over(node)
        [gone, *_] = node.catalog.select(Selection(instances=(made[0].SOPInstanceUID,)))
        target = gone.StudyInstanceUID, gone.SeriesInstanceUID, gone.SOPInstanceUID
        node.register.make(Verb.REJECT, target, reason="bad", who="novak")
        say = CommandLine(node.home, capsys)
        table = tmp_path / "differences.csv"
        said = say(
            "migrate", "--from", "OLD", "--dates", "20240101-20240101", "--csv", str(table), code=3
        )  # fmt: skip
        assert "all   4      3     1        0          0" in said
        with table.open() as file:
            [row] = csv.DictReader(file)
        assert (row["kind"], row["SOPInstanceUID"]) == ("missing", made[0].SOPInstanceUID)


def test_a_source_that_does_not_know_our_ae_title_stops_it_with_what_to_do(tmp_path: Path) -> None:
    with beside("dcmqrscp", tmp_path, knows="ELSEWHERE") as (node, old):
        filled(old, 1)
        ask(node, "start_migration", source="OLD", dates="20240101-20240105")
        told = over(node)
        assert told["phase"] == "stopped"
        assert told["why"] == "OLD does not know the AE title ALPHA, so it cannot send to it."
        assert "peerpacs migrate --from OLD --resume" in told["remedy"]


def test_an_order_for_a_source_under_way_is_refused_and_the_same_one_goes_on(tmp_path: Path) -> None:
    devices = [
        Device(ae_title="OLD", address="127.0.0.1", port=free_port(), services=(Service.STORE,)),
    ]
    with ruled(tmp_path / "home", "", devices=devices) as node:
        order = {"source": "OLD", "dates": "2009-", "hours": "19-06", "rate": "200/min", "who": "novak"}
        ask(node, "start_migration", **order)
        ask(node, "pause_migration", source="OLD", who="novak")
        for other in ({"dates": "2010-"}, {"hours": ""}, {"rate": "5/s"}, {"lanes": 3}, {"is_undated": True}):
            with pytest.raises(BadRequest) as refused:
                ask(node, "start_migration", **{**order, **other})
            assert "--dates 2009- --hours 19-06 --rate 12000/h --lanes 2" in refused.value.what
            assert "--cancel" in refused.value.next
        assert ask(node, "migration", source="OLD")["phase"] == "paused"
        assert ask(node, "start_migration", **order)["phase"] == "moving"
        assert ask(node, "cancel_migration", source="OLD", who="novak")["phase"] == "cancelled"
        assert node.migrations.is_moved_in("OLD"), "what has just come is no news to routes"
        for verb in ("resume_migration", "pause_migration"):
            with pytest.raises(BadRequest, match="is over: cancelled"):
                ask(node, verb, source="OLD", who="novak")
        assert ask(node, "start_migration", source="OLD", dates="2010-")["since"] == "2010-01-01"


def test_an_option_that_would_mean_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ruled(tmp_path / "home", "") as node:
        say = CommandLine(node.home, capsys)
        for words, said in (
            (("--dates", "2009-"), "--from AE"),
            (("--from", "OLD", "--rate", "5/s"), "--dates 2009-"),
            (("--from", "OLD", "--pause", "--lanes", "4"), "no order"),
        ):
            say("migrate", *words, code=2)
            assert said in say.complaint


def test_what_is_moved_in_is_not_routed(tmp_path: Path) -> None:
    rules = "[[route]]\nname = 'all'\nto = 'ae:READER'"
    with beside("orthanc", tmp_path, rules) as (node, old):
        filled(old, 1)
        ask(node, "start_migration", source="OLD", dates="20240101-20240105")
        over(node)
        until(lambda: node.main.study_events.last == 1)
        until(lambda: not node.main.study_events.after(0, 10)[1:])
        assert ask(node, "transfers") == []


def test_a_source_that_may_not_store_here_is_refused_with_the_command(tmp_path: Path) -> None:
    device = Device(ae_title="OLD")
    with (
        ruled(tmp_path / "home", "", devices=[device]) as node,
        pytest.raises(BadRequest, match=r"\+store"),
    ):
        ask(node, "start_migration", source="OLD", dates="2009-")


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("2009-", ("2009-01-01", "2026-11-26")),
        ("2009-2015", ("2009-01-01", "2015-12-31")),
        ("20090131-20101231", ("2009-01-31", "2010-12-31")),
        ("200902-200902", ("2009-02-01", "2009-02-28")),
    ],
)
def test_dates_are_understood(text: str, days: tuple[str, str]) -> None:
    assert tuple(day.isoformat() for day in read_dates(text, TODAY)) == days


@pytest.mark.parametrize("text", ["", "2009", "2015-2009", "20091301-", "x-y"])
def test_dates_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="no span of dates"):
        read_dates(text, TODAY)


def test_rates_are_understood() -> None:
    assert (read_rate(""), read_rate("200/min"), read_rate("5/s")) == (0.0, 200 / 60, 5.0)
    with pytest.raises(BadRequest, match="no rate"):
        read_rate("fast")


@pytest.mark.slow
def test_a_drained_node_asks_for_nothing_and_a_migration_goes_on_afterwards(tmp_path: Path) -> None:
    with beside("orthanc", tmp_path) as (node, old):
        made = filled(old, 8)
        ask(node, "drain", who="novak", is_wanted=True)
        ask(node, "start_migration", source="OLD", dates="20231230-20240110", who="novak")
        told = until(lambda: (found := ask(node, "migration", source="OLD"))["why"] and found)
        assert (told["phase"], told["why"]) == (
            "moving",
            "This node is about to be stopped, and takes no new work.",
        )
        ask(node, "drain", who="novak", is_wanted=False)
        told = over(node)
        assert (told["phase"], told["arrived"], told["series_failed"]) == ("done", len(made), [])


@pytest.mark.parametrize(
    ("text", "open_at", "shut_at"),
    [
        ("19-06", ("19:00", "23:59", "00:00", "05:59"), ("06:00", "12:00", "18:59")),
        ("19:30-6", ("19:30", "02:00"), ("19:29", "06:00")),
        ("8-12", ("08:00", "11:59"), ("12:00", "00:00", "07:59")),
        ("0-24", ("00:00", "23:59"), ()),
    ],
)
def test_hours_hold_over_midnight_too(text: str, open_at: tuple[str, ...], shut_at: tuple[str, ...]) -> None:
    def at(clock: str) -> float:
        return time.mktime(time.strptime(f"2026-11-26 {clock}", "%Y-%m-%d %H:%M"))

    hours = read_hours(text)
    assert all(hours.holds(at(clock)) for clock in open_at)
    assert not any(hours.holds(at(clock)) for clock in shut_at)
    assert all(hours.holds(at(clock) + hours.opens_in(at(clock))) for clock in shut_at)


@pytest.mark.parametrize("text", ["19", "25-6", "19-06-08", "19:60-06", "evening"])
def test_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="no span of hours"):
        read_hours(text)


def test_outside_its_hours_it_says_when_it_goes_on_and_asks_nothing(tmp_path: Path) -> None:
    now = time.localtime()
    hours = f"{(now.tm_hour + 2) % 24}-{(now.tm_hour + 4) % 24}"
    devices = [Device(ae_title="OLD", address="127.0.0.1", port=free_port(), services=(Service.STORE,))]
    with ruled(tmp_path / "home", "", devices=devices) as node:
        ask(node, "start_migration", source="OLD", dates="2009-", hours=hours)
        why = until(lambda: ask(node, "migration", source="OLD")["why"])
        assert why == f"It goes on at {read_hours(hours)}."
