"""What is asked and sent is told as it was, also of a run that somebody or something ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count as counting
from threading import Event
from typing import ClassVar

import pytest

from sim.experiments.catalogue import carry_out
from sim.experiments.figures import draw
from sim.experiments.outcome import Outcome, Plan
from sim.experiments.week import replay
from sim.pdu import Address
from sim.phantoms import Instance
from sim.ports import free_port
from sim.targets import Stored, Target
from sim.traffic.scenario import Scenario
from tests.homes import serving

FEW = Plan(share=0.001)
"""One study a day, so that most days have no series at 8 am."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    home = tmp_path_factory.mktemp("target") / "home"
    with serving(home, web={"plain_port": free_port()}) as node:
        web = f"http://127.0.0.1:{node.ports['web']}/dicom-web"
        yield Target(name="ours", address=Address("ALPHA", node.ports["dicom"]), web=web)


def ends(line: str) -> None:
    """End what says something, as a target does that dies."""
    raise ConnectionResetError


class Begun(Target):
    """A target that knows when the first of three devices begins with another series."""

    calls: ClassVar[Iterator[int]] = counting(1)
    has_begun: ClassVar[Event] = Event()

    def store(self, instances: Sequence[Instance], calling: str = "") -> Iterator[Stored]:
        if next(self.calls) == 4:
            self.has_begun.set()
        yield from super().store(instances, calling)


def interrupts(line: str) -> None:
    """End what says something, as a person does who has seen something sent."""
    assert Begun.has_begun.wait(60)
    raise KeyboardInterrupt


def test_days_that_were_asked_for_before_the_end_are_in_the_report(target: Target) -> None:
    outcome = carry_out("fig8", target, FEW, ends)
    # The first day has no series at 8 am, which says nothing of whether flat questions are answered.
    assert outcome.way == "QIDO-RS"
    assert "closed the connection" in outcome.stopped
    assert [row[0] for row in outcome.rows] == [1, 2, 3, 4, 5, 6, 7]
    assert outcome.summary == {}


def test_a_week_that_is_ended_by_hand_tells_what_was_sent(target: Target) -> None:
    outcome = Outcome("week", "ours")
    scenario = Scenario(devices={"CT": 2, "DX": 1}, days=2, first_day_devices=3, faster=1e6, share=1e-6)
    with pytest.raises(KeyboardInterrupt):
        replay(scenario, {"alpha": Begun(name="begun", address=target.address)}, FEW, outcome, interrupts)
    assert 0 < outcome.done <= outcome.summary["series stored"] < outcome.of
    assert len(outcome.samples["bursts"]) == outcome.summary["series stored"]
    assert outcome.way == "C-STORE"
    assert 0 < outcome.summary["devices"] <= 3
    assert outcome.rows[0][0] + "</text>" in draw([outcome])["figure7"]


def test_few_devices_of_figure_7_are_named_and_many_are_counted() -> None:
    for count in (3, 117):
        bursts = [[60.0 * n, f"CT-{n:02d}", f"s{n}", 1, 1000 + n, "CT", 1, ""] for n in range(count)]
        svg = draw([Outcome("week", "A", samples={"bursts": bursts})])["figure7"]
        assert (">CT-01</text>" in svg) == (count < 20)
        assert (">device<" in svg) == (count > 20)
