"""A claim of the report is what its figures say."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from sim.report import Goal, Measured, Report, Row, median_of_ratios

RATE = Row("C-STORE", "/s", more_is_better=True, goal=Goal(at_least=2.0))
TIME = Row("C-FIND", "ms", more_is_better=False, goal=Goal(at_least=5.0))
LIMIT = Row("idle", "MB", more_is_better=False, goal=Goal(at_most=150))


def test_a_rate_twice_as_high_is_twice_as_good() -> None:
    measured = Measured("store", RATE, {"PeerPACS": [900, 400, 410], "Orthanc": [200, 210, 190]})
    assert measured.medians == {"PeerPACS": 410, "Orthanc": 200}
    assert measured.ratio == pytest.approx(2.05)
    assert measured.is_met is True


def test_a_time_a_fifth_as_long_is_five_times_as_good() -> None:
    measured = Measured("find", TIME, {"PeerPACS": [2.0], "Orthanc": [9.9]})
    assert measured.ratio == pytest.approx(4.95)
    assert measured.is_met is False


def test_a_limit_needs_no_other_contestant() -> None:
    assert Measured("memory", LIMIT, {"PeerPACS": [149.0]}).is_met is True
    assert Measured("memory", LIMIT, {"PeerPACS": [151.0]}).is_met is False


def test_a_ceiling_is_shown_but_not_compared() -> None:
    measured = Measured("store", RATE, {"PeerPACS": [100], "Orthanc": [100], "storescp alone": [900]})
    assert measured.ratio == 1.0


@pytest.mark.parametrize("missing", ["PeerPACS", "Orthanc"])
def test_nothing_is_claimed_when_a_contestant_was_left_out(missing: str) -> None:
    figures = {"PeerPACS": [100.0], "Orthanc": [100.0], "storescp alone": [9.0]}
    measured = Measured("store", RATE, {**figures, missing: []})
    assert measured.ratio is None
    assert measured.is_met is None


def test_the_report_is_a_plain_table_and_json() -> None:
    report = Report(
        {"machine": "2 cores"}, [Measured("store", RATE, {"A": [400.0], "B": [100.0]})], ["find: no"]
    )
    out = io.StringIO()
    report.print(Console(file=out, width=100))
    assert "400 /s" in out.getvalue()
    assert "4.00x" in out.getvalue()
    assert "\x1b" not in out.getvalue()
    again = json.loads(json.dumps(report.as_json()))
    assert again["results"][0]["runs"] == {"A": [400.0], "B": [100.0]}
    assert again["failures"] == ["find: no"]


def test_the_median_of_the_ratios_is_a_claim_of_its_own() -> None:
    rows = [Measured("find", TIME, {"PeerPACS": [1.0], "Orthanc": [theirs]}) for theirs in (4.0, 6.0, 90.0)]
    over_all = median_of_ratios("find", rows, Goal(at_least=5.0))
    assert over_all.ratio == 6.0
    assert over_all.is_met is True
