"""A week of devices: the paper's counts and volume, the same for a seed, replayed as recorded."""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from catalog import BadRequest
from sim.experiments.week import Outcome, Plan, Week, tell
from sim.pdu import Address
from sim.ports import free_port
from sim.targets import Target
from sim.traffic import records, scenario
from sim.traffic.devices import TABLE_3, devices
from sim.traffic.records import DAY, Burst
from sim.traffic.replay import Replay, Run, calling, numbered, series
from sim.traffic.scenario import Readers, Scenario, understand
from sim.traffic.week import week
from tests.homes import serving
from tests.running import running

FEW = {"CT": 2, "DX": 1, "US": 1}


def small(**told: object) -> Scenario:
    """A day and a half of four devices in about two seconds, as small as can be."""
    usual = Scenario(devices=FEW, days=2, first_day_devices=2, faster=86_400, share=1e-6)
    return replace(usual, **told)  # type: ignore[arg-type]


def test_there_are_117_devices_in_the_counts_of_table_3_at_every_site() -> None:
    equipment = devices(TABLE_3, ["alpha", "beta", "gamma", "delta"], 1)
    assert len(equipment) == 117
    assert Counter(each.modality for each in equipment) == TABLE_3
    assert set(Counter(each.site for each in equipment).values()) == {29, 30}


def test_a_week_is_13_terabytes_with_eight_devices_on_the_first_day() -> None:
    bursts = Scenario().bursts()
    assert 1.2e12 < sum(burst.size for burst in bursts) < 1.4e12
    by_day = [{b.device for b in bursts if b.time // DAY == day} for day in range(7)]
    assert len(by_day[0]) == 8
    assert all(len(each) > 110 for each in by_day[1:])


def test_studies_come_in_shift_hours_but_emergencies_at_night() -> None:
    hours = Counter(int(burst.time % DAY // 3600) for burst in week(devices(TABLE_3, ["a"], 1), 1))
    assert hours[9] > 5 * hours[3] > 0
    gaps = [burst for burst in Scenario().bursts() if burst.study == "MR-01-2-1"]
    assert len(gaps) >= 6
    assert gaps[-1].time - gaps[0].time < 2 * 3600


def test_the_same_seed_gives_the_same_traffic_and_another_seed_other() -> None:
    assert Scenario(seed=5).bursts() == Scenario(seed=5).bursts() != Scenario(seed=6).bursts()


def test_recorded_traffic_is_replayed_as_it_was(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as node:
        target = Target(name="ALPHA", address=Address("ALPHA", node.ports["dicom"]))
        planned = Replay(small(), {"alpha": target})
        run = planned.play()
        assert (run.stopped, run.missing, len(run.sent)) == ("", [], run.planned)
        outcome = Outcome("week", "ALPHA")
        tell(run, outcome)
        recorded = [Burst(*row) for row in outcome.samples["bursts"]]
        records.write(tmp_path / "traffic.csv", recorded)
        replayed = Replay(small(traffic=tmp_path / "traffic.csv", share=1.0), {"alpha": target})
        again = replayed.play()
    sent = [each.burst._replace(size=each.size) for each in sorted(again.sent, key=lambda each: each.burst)]
    assert [burst[1:] for burst in sent] == [burst[1:] for burst in recorded]
    assert [burst.time for burst in sent] == pytest.approx([b.time for b in recorded], abs=0.01)
    # It is the same studies of the same days and hours, and nobody waits for the first of them.
    assert again.acknowledged == run.acknowledged
    assert replayed.due(min(each.burst.time for each in again.sent)) == 0
    assert planned.due(min(each.burst.time for each in run.sent)) > 0


def test_readers_query_and_open_researchers_export_and_devices_ask_for_commitment(tmp_path: Path) -> None:
    readers = Readers(
        workstations=2, questions_an_hour=1.0, opened=1.0, commitment=1.0, researchers=1, exports_a_day=20.0
    )
    with serving(tmp_path / "home") as node:
        target = Target(name="ALPHA", address=Address("ALPHA", node.ports["dicom"]))
        run = Replay(small(readers=readers), {"alpha": target}).play()
    assert run.missing == []
    asked = Counter(each.what for each in run.asked if not each.error)
    assert asked["query"]
    assert asked["open"]
    assert asked["export"]
    assert asked["commitment"] == len(run.sent)


def test_a_recorded_file_without_modality_and_with_dates_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "traffic.csv"
    file.write_text(
        "time,device,study,series,size\n"
        "2024-01-01T08:00:30,CT-07,s1,2,106000000\n"
        "2024-01-01T08:00:00,DX3,s2,1,10430000\n"
    )
    first, second = records.read(file)
    assert (first.time, first.modality, first.instances) == (8 * 3600, "DX", 1)
    assert (second.time, second.modality, second.instances) == (8 * 3600 + 30, "CT", 200)
    made = series(second, Scenario(), 1)
    assert (made.instances, made.size, made.StudyTime) == (200, 530_000, "080030")


def test_a_study_of_two_devices_is_one_study_and_any_name_is_an_ae_title(tmp_path: Path) -> None:
    file = tmp_path / "traffic.csv"
    lines = ["Time,Device,Study,Series,Size,Modality", "5,Łódź-CT,s1,1,100,ct", "1e6,PT-1,s1,2,100,"]
    file.write_text("\n".join(lines))
    bursts = records.read(file)
    assert numbered(bursts) == {"s1": 0}
    assert [burst.modality for burst in bursts] == ["CT", "PT"]
    assert [calling(burst.device) for burst in bursts] == ["dCT", "PT1"]
    assert calling("Ł") == "DEVICE"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("1.5,CT-07,s1,0,100", "line 2: '0' cannot be the series"),
        ("soon,CT-07,s1,1,100", "line 2: 'soon' is neither seconds nor a date"),
        ("1.5,ZZ-07,s1,1,100", "line 2: 'ZZ' is no modality"),
        ("nan,CT-07,s1,1,100", "line 2: 'nan' is no time"),
        ("-1,CT-07,s1,1,100", "line 2: '-1' is no time"),
        ("1.5,,s1,1,100", "line 2: '' cannot be the device"),
        ("1.5,CT-07,,1,100", "line 2: '' cannot be the study"),
        ("1.5,CT-07", "line 2: '' cannot be the study"),
        ("1.5,CT-07,s1,1,100\n2024-01-01T08:00,CT-07,s1,2,100", "line 3: seconds and dates"),
        ("1.5,CT-07,s1,1,100\n2.5,CT-08,s1,1,100", "line 3: series 1 of s1 came from CT-07 already"),
        ("1.5,CT-07,s1,1,100\n2.5,CT-07,\udcff,1,100", "line 3: this is not UTF-8"),
        ("", "line 2: there is no series in it"),
    ],
)
def test_a_traffic_file_with_an_error_is_refused_with_the_line(line: str, what: str, tmp_path: Path) -> None:
    file = tmp_path / "traffic.csv"
    file.write_text(f"time,device,study,series,size\n{line}\n", errors="surrogateescape")
    with pytest.raises(BadRequest) as refused:
        records.read(file)
    assert what in refused.value.what


@pytest.mark.parametrize(
    ("head", "hint"),
    [
        ("time,device,study,serie,size", "Call the column 'serie' series."),
        ("time;device;study;series;size", "Columns are separated by commas."),
        ("", "A traffic file begins with: time,device,study,series,size"),
    ],
)
def test_a_traffic_file_without_a_column_is_told_which_was_meant(
    head: str, hint: str, tmp_path: Path
) -> None:
    file = tmp_path / "traffic.csv"
    file.write_text(f"{head}\n1,CT-1,s1,1,100\n")
    with pytest.raises(BadRequest) as refused:
        records.read(file)
    assert "line 1: there is no column" in refused.value.what
    assert refused.value.next == hint


def test_a_scenario_is_read_as_it_is_written() -> None:
    text = """
title = "Two hospitals"
faster = 2000
sites = ["alpha", "beta"]
[devices]
CT = 2
[readers]
workstations = 3
"""
    told = understand(text, "two.toml")
    assert (told.title, told.faster, told.sites) == ("Two hospitals", 2000, ("alpha", "beta"))
    assert told.devices == {"CT": 2}
    assert told.readers.workstations == 3


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("seed = 1\nfastr = 20", 2, "Did you mean faster?"),
        ("seed = 1\n[devices]\nCTT = 2", 3, "Did you mean CT?"),
        ("[readers]\nworkstation = 2", 2, "Did you mean workstations?"),
        ("readers = {workstation = 2}", 1, "Did you mean workstations?"),
        ("seed = 1\n\nshare = 2", 3, "Say 1e-09 to 1."),
        ('seed = "one"', 1, "Correct that line."),
        ("days = true", 1, "Correct that line."),
        ("sites = []", 1, "Correct that line."),
        ("start = 2024", 1, "Correct that line."),
        ("seed = 1\ndays = [", 2, "Correct that line."),
        ("seed = 1\n\nreaders.workstation = 2", 3, "Did you mean workstations?"),
        ("[devices]\nct = 2", 2, "Did you mean CT?"),
        ("[devices]\nCT = -2", 2, "CT = 37"),
        ("seed = 1\n[devices]\nCT = 0", 2, "Write CT = 37 below it."),
        ('seed = 1\nsites = ["alpha", "alpha"]', 2, "Name each site once."),
        ('sites = ["łódź"]', 1, "Write up to 16 letters of ASCII and digits, without spaces."),
        ("start = 2024-01-01T08:00:00", 1, "Correct that line."),
        ("seed = 1\nstart = 2024-13-01", 2, "Correct that line."),
        ("days = 3\ndays = 4", 2, "Correct that line."),
        ('seed = 1\ntraffic = "none.csv"', 2, "Name one relative to this scenario."),
        ('traffic = "none.csv"\n[devices]\nCT = 1', 2, "Leave out traffic or devices."),
    ],
)
def test_a_scenario_with_an_error_is_refused_with_the_line_and_what_was_meant(
    text: str, line: int, hint: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        understand(text, "week.toml")
    assert f"line {line}" in refused.value.what
    assert refused.value.next == hint


def test_a_person_comes_to_several_hospitals_under_their_ids() -> None:
    bursts = [
        Burst(0, f"CT-{n:02d}", f"s{n}", 1, 100_000, "CT", 1, site)
        for site in ("alpha", "beta")
        for n in range(600)
    ]
    made = [series(burst, Scenario(), number).patient for number, burst in enumerate(bursts)]
    hospitals: dict[str, set[str]] = {}
    for who in made:
        hospitals.setdefault(f"{who.PatientName} {who.PatientBirthDate}", set()).add(who.IssuerOfPatientID)
    assert len({(who.IssuerOfPatientID, who.PatientID) for who in made}) > 1000
    assert any(len(issuers) == 2 for issuers in hospitals.values())


def target_at(port: int, **told: object) -> Target:
    return Target(name="HURT", address=Address("HURT", port), timeout=1.0, **told)  # type: ignore[arg-type]


def test_a_week_that_nobody_takes_is_given_up_and_says_so() -> None:
    run = Replay(small(), {"alpha": target_at(free_port())}, patience=0.5).play()
    assert run.sent == []
    assert "nobody listens there" in run.stopped


def test_a_target_that_dies_in_the_middle_gives_a_partial_week(tmp_path: Path) -> None:
    with running(tmp_path / "home") as node:
        target = replace(target_at(node.port), address=Address("ALPHA", node.port), timeout=30.0)

        def die(run: Run) -> None:
            if len(run.sent) > 3 and node.process:
                node.kill()

        planned = small(faster=30_000)
        run = Replay(planned, {"alpha": target}, 0.5, die).play()
    assert 3 < len(run.sent) < run.planned
    assert f"of {run.planned} series had been stored" in run.stopped


def test_a_target_that_hangs_is_not_waited_for_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        outcome = Outcome("week", "HURT")
        run = Replay(small(), {"alpha": target_at(deaf.getsockname()[1])}, patience=0.5).play()
        tell(run, outcome)
    assert "did not answer in time" in outcome.stopped


def test_the_scenarios_that_come_with_it_are_understood() -> None:
    files = sorted((Path(scenario.__file__).parent.parent / "scenarios").glob("*.toml"))
    assert files
    for file in files:
        assert scenario.read(file).bursts()
    assert Week.name == "week"
    assert Plan().share < 1
