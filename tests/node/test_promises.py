"""Requests for commitment over days, on a clock of the test's own: pauses, alarms, what is safe later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from catalog import Claim, Entry, Holding, Unavailable
from node.bucket import Spool
from node.commitment import BucketSafety, Commitments, Inquiries, Judge, Promises, Safe
from node.contracts import Caller, CommitmentAnswer, CommitmentResult, Device, Line, Reference
from node.state import State
from tests.node.bucket.conftest import server
from tests.node.bucket.serving import Server, bucket_store, work_off
from tests.node.dimse.archive import Trail
from tests.node.storage.filling import keep

__all__ = ["server"]
CT = "1.2.840.10008.5.1.4.1.1.2"
DAY = 86400.0


class Device1(Line):
    """A device that takes results, or does not."""

    caller = Caller("CT1", "10.0.0.1", "ALPHA")

    def __init__(self) -> None:
        self.is_up = False
        self.calls: list[float] = []
        self.results: list[CommitmentResult] = []

    def report(self, result: CommitmentResult) -> CommitmentAnswer:
        self.results.append(result)
        return CommitmentAnswer(0)


class World:
    """Commitments over a catalog of one instance, on a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = 1e9
        self.device = Device1()
        self.safe = Safe.YES
        self.looks = 0
        self.folder = folder
        self.open()

    def open(self) -> None:
        """Begin with what is on disk, as after a restart."""
        self.state = State(self.folder)
        clock = lambda: self.now  # noqa: E731
        self.commitments = Commitments(
            Promises(self.state, "main", clock),
            Inquiries(self.state, clock),
            Judge(self._claims, self, is_storage=lambda uid: True),
            lambda ae_title: Device(ae_title=ae_title, address="10.0.0.1", port=104),
            self._call,
            Trail(),
            clock,
        )

    def restart(self) -> None:
        self.state.close()
        self.open()

    def look(self, holding: Holding) -> Safe:
        self.looks += 1
        return self.safe

    def ask(self) -> None:
        assert self.commitments.request(self.device, "1.2.9", [Reference(CT, "1.2.3")]).status == 0
        self.commitments.answered(self.device, "1.2.9")

    def work(self) -> None:
        while self.commitments.judge_step() or self.commitments.report_step():
            pass

    def _claims(self, uids: object) -> dict[str, list[Claim]]:
        return {"1.2.3": [Claim(entry_of(Holding(b"h", b"w", 1)), False, False)]}

    @contextmanager
    def _call(self, device: Device, ae_title: str) -> Iterator[Line]:
        self.device.calls.append(self.now)
        if not self.device.is_up:
            raise Unavailable("CT1 does not answer.")
        yield self.device


def entry_of(holding: Holding) -> Entry:
    return Entry(
        StudyInstanceUID="1.2",
        SeriesInstanceUID="1.2.1",
        SOPInstanceUID="1.2.3",
        SOPClassUID=CT,
        TransferSyntaxUID="1.2.840.10008.1.2.1",
        holding=holding,
        received=0,
        source="CT1",
    )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "state")
    yield made
    made.state.close()


def test_a_device_that_is_down_is_called_with_growing_pauses_across_restarts(world: World) -> None:
    world.ask()
    for _ in range(4000):
        world.work()
        world.now += 5
        if world.now % 500 == 0:
            world.restart()
    pauses = [round(b - a) for a, b in zip(world.device.calls, world.device.calls[1:], strict=False)]
    assert pauses[:4] == [5, 10, 20, 40]
    assert max(pauses) <= 3600
    assert len(pauses) < 20
    world.device.is_up = True
    world.now += 3600
    before = world.looks
    world.work()
    assert [result.committed for result in world.device.results] == [(Reference(CT, "1.2.3"),)]
    assert world.looks > before, "what was found long ago is looked at again before it is told"
    assert not world.commitments.waiting()


def test_after_a_week_there_is_an_alarm_and_the_device_is_told_when_it_calls(world: World) -> None:
    world.ask()
    world.work()
    world.now += 7 * DAY + 1
    world.work()
    [row] = world.commitments.waiting()
    assert row["is_given_up"]
    assert row["why"] == "CT1 does not answer"
    calls = len(world.device.calls)
    world.now += DAY
    world.work()
    assert len(world.device.calls) == calls
    world.commitments.opened(world.device)
    world.work()
    assert len(world.device.results) == 1
    assert not world.commitments.waiting()


def test_what_is_not_safe_yet_is_committed_when_it_is(world: World) -> None:
    world.device.is_up = True
    world.safe = Safe.NOT_YET
    world.ask()
    world.work()
    assert "not safe yet" in world.commitments.waiting()[0]["why"]
    world.restart()
    world.now += 60
    world.safe = Safe.YES
    world.work()
    assert world.device.results[0].failed == ()


def test_what_is_not_safe_within_a_day_has_failed_for_want_of_resources(world: World) -> None:
    world.device.is_up = True
    world.safe = Safe.NOT_YET
    world.ask()
    world.work()
    world.now += DAY + 1
    world.work()
    assert world.device.results[0].failed == ((Reference(CT, "1.2.3"), 0x0213),)


def test_in_a_bucket_it_is_safe_once_the_bucket_has_confirmed_it(tmp_path: Path, server: Server) -> None:
    store = bucket_store(tmp_path, server, spool=Spool.PERSISTENT)
    entry = entry_of(keep(store, b"x" * 70_000))
    judge = Judge(
        lambda uids: {"1.2.3": [Claim(entry, False, False)]}, BucketSafety(store), is_storage=lambda uid: True
    )
    assert judge.judge([Reference(CT, "1.2.3")]) == [-1]
    work_off(store)
    assert judge.judge([Reference(CT, "1.2.3")]) == [0]
    store.close()
