"""The search index gives way to ingest, but not for ever."""

from __future__ import annotations

from node.pacing import Pace


class Ticking:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_in_a_lull_the_index_goes_on_at_once() -> None:
    clock = Ticking()
    pace = Pace(clock)
    assert pace.rest_first() == 0
    pace.arrived()
    assert pace.rest_first() > 0
    clock.now += 0.4
    assert pace.rest_first() == 0


def test_under_constant_load_the_index_waits_four_seconds_and_then_takes_its_share() -> None:
    clock = Ticking()
    pace = Pace(clock)
    while clock.now < 1003.9:
        pace.arrived()
        assert pace.rest_first() > 0
        clock.now += 0.1
    clock.now = 1004.1
    pace.arrived()
    assert pace.rest_first() == 0
    assert pace.rest_after(0.5, is_behind=True) == 1.5
    pace.rest_after(0.1, is_behind=False)
    pace.arrived()
    assert pace.rest_first() > 0


def test_the_index_gives_way_to_who_retrieves_as_to_who_stores() -> None:
    clock = Ticking()
    pace = Pace(clock)
    pace.arrived()
    clock.now += 0.4
    pace.asked()
    assert pace.rest_first() > 0
    clock.now += 4.0
    pace.asked()
    assert pace.rest_first() == 0
    assert pace.rest_after(0.5, is_behind=True) == 1.5


def test_a_clock_set_back_stops_nothing() -> None:
    clock = Ticking()
    pace = Pace(clock)
    pace.arrived()
    clock.now -= 86_400
    assert pace.rest_first() == 0
