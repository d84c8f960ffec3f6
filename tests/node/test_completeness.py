"""A study is complete when nothing of it came for a while: said once, also after a crash, and again if so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import Verb
from node.app import Node
from node.config import load_config
from node.contracts import Device, Service
from node.devices import DEV_RULE
from node.reception import Origin, read_header
from node.storage import file_meta, read_meta
from node.study_events import KEPT, StudyComplete
from tests.homes import new_home, phantoms
from tests.node.transfers.test_queue import Clock
from tests.running import RunningNode, until


class Ward:
    """A node on a clock of its own whose chores are stepped by hand."""

    def __init__(self, home: Path) -> None:
        self.home = new_home(home)
        self.clock = Clock()
        self.open()

    def open(self) -> None:
        """Start, as after a crash: nothing of the last run is kept but what is on disk."""
        self.node = Node(self.home, load_config(self.home), self.clock, "node")
        self.node.devices.put(DEV_RULE)
        self.complete = self.node.main._completeness

    def crash(self, away: float = 0.0) -> None:
        """End without any last step, and start again later."""
        self.node.close()
        self.clock.now += away
        self.open()

    def arrive(self, seed: int, *numbers: int, source: str = "CT3") -> str:
        """Take in these instances of a study; return its UID."""
        made = phantoms(seed, instances=8)
        from node.contracts import Caller

        study = ""
        for number in numbers:
            one = made[number]
            reception = self.node.ingest.begin(
                Caller(source, "127.0.0.1", "ALPHA", self.node.devices.get(source)),
                one.SOPClassUID,
                one.SOPInstanceUID,
                one.TransferSyntaxUID,
                is_held=False,
            )
            space = reception.space(len(one.data))
            space[:] = one.data
            reception.filled(len(one.data))
            study = reception.finish().StudyInstanceUID
        return study

    def come_home(self, seed: int, *numbers: int, received: float, is_held: bool = False) -> str:
        """Take in instances as `copies.returning` does: with the sender and the time that they had."""
        made, ingest = phantoms(seed, instances=8), self.node.ingest
        study = ""
        for number in numbers:
            one = made[number]
            incoming = ingest.store.incoming()
            data = file_meta(one.SOPClassUID, one.SOPInstanceUID, one.TransferSyntaxUID) + one.data
            incoming.space(len(data))[:] = data
            incoming.filled(len(data))
            meta = read_meta(bytes(incoming.head(1 << 16)))
            header = read_header(incoming, meta.TransferSyntaxUID, meta.offset)
            origin = Origin("CT3", int(received * 1000), is_held)
            ingest.keep(incoming, header, meta.TransferSyntaxUID, origin, "ALPHA")
            study = header.StudyInstanceUID
        return study

    def pass_time(self, seconds: float) -> list[StudyComplete]:
        """Let time pass in small steps with the chores running; return the events of it."""
        before = self.node.main.study_events.last
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + 1.0)
            self.node.catalog.publish(self.clock.now)
            self.complete.step()
        return self.node.main.study_events.after(before, 100)


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = Ward(tmp_path / "home")
    ward.pass_time(3)
    yield ward
    ward.node.close()


def test_a_study_is_complete_after_the_silence_of_its_senders_rule(ward: Ward) -> None:
    slow = Device(ae_title="SLOW", services=(Service.ECHO, Service.STORE), complete_after=300.0)
    quick = Device(ae_title="QUICK", services=(Service.ECHO, Service.STORE), complete_after=5.0)
    ward.node.devices.put(slow)
    ward.node.devices.put(quick)
    studies = [ward.arrive(1, 0, source="QUICK"), ward.arrive(2, 0), ward.arrive(3, 0, source="SLOW")]
    assert [event.StudyInstanceUID for event in ward.pass_time(8)] == studies[:1]
    assert [event.StudyInstanceUID for event in ward.pass_time(56)] == studies[1:2]
    assert not ward.pass_time(230)
    [event] = ward.pass_time(10)
    assert (event.StudyInstanceUID, event.instances, event.sources) == (studies[2], 1, ("SLOW",))


def test_as_long_as_something_comes_it_is_not_complete(ward: Ward) -> None:
    for number in range(6):
        ward.arrive(1, number)
        assert not ward.pass_time(50)
    [event] = ward.pass_time(15)
    assert event.instances == 6


def test_a_late_instance_makes_it_complete_again(ward: Ward) -> None:
    ward.arrive(1, 0, 1)
    [first] = ward.pass_time(70)
    ward.arrive(1, 2)
    [second] = ward.pass_time(70)
    assert [(each.instances, each.times) for each in (first, second)] == [(2, 1), (3, 2)]
    assert second.seq == first.seq + 1


def test_equal_bytes_and_decisions_are_no_arrivals(ward: Ward) -> None:
    study = ward.arrive(1, 0, 1)
    assert len(ward.pass_time(70)) == 1
    ward.arrive(1, 0)
    made = ward.node.register.make(Verb.REJECT, (study,), reason="test", who="me")
    assert not ward.pass_time(70)
    ward.node.register.undo(made["decision"], reason="test", who="me")
    assert not ward.pass_time(70)


def test_what_became_due_while_the_node_was_down_is_said_after_its_start(ward: Ward) -> None:
    study = ward.arrive(1, 0)
    ward.pass_time(5)
    ward.crash(away=3600)
    assert [event.StudyInstanceUID for event in ward.pass_time(3)] == [study]
    ward.crash()
    assert not ward.pass_time(70), "once"


def test_an_arrival_that_nobody_had_noticed_before_a_crash_is_found_in_the_log(ward: Ward) -> None:
    study = ward.arrive(1, 0)
    ward.crash(away=40 * 86400)
    assert [event.StudyInstanceUID for event in ward.pass_time(5)] == [study]


def test_a_rebuilt_catalog_says_nothing_twice(ward: Ward) -> None:
    ward.arrive(1, 0)
    assert len(ward.pass_time(70)) == 1
    ward.arrive(2, 0)
    ward.node.catalog.renew_epoch()
    assert [event.times for event in ward.pass_time(70)] == [1]


def test_what_comes_home_after_a_loss_of_the_state_was_complete_before(ward: Ward) -> None:
    days_ago = ward.clock.now - 10 * 86400
    study = ward.come_home(1, 0, 1, received=days_ago)
    assert not ward.pass_time(70)
    ward.crash(away=60)
    ward.come_home(1, 2, received=days_ago)
    assert not ward.pass_time(70)
    ward.arrive(1, 3)
    [event] = ward.pass_time(70)
    assert (event.StudyInstanceUID, event.instances) == (study, 4)


def test_what_a_person_releases_is_news_however_long_it_waited(ward: Ward) -> None:
    days_ago = ward.clock.now - 10 * 86400
    study = ward.come_home(1, 0, received=days_ago, is_held=True)
    assert not ward.pass_time(70)
    digests = [each.entry.holding.sha256.hex() for each in ward.node.main.held.list()]
    ward.node.register.make(Verb.RELEASE, (study,), reason="known now", who="me", detail=" ".join(digests))
    assert [event.StudyInstanceUID for event in ward.pass_time(70)] == [study]


def test_what_arrives_after_the_clock_was_set_back_behind_the_beginning_is_news(ward: Ward) -> None:
    ward.clock.now -= 2 * 86400
    study = ward.arrive(1, 0)
    assert [event.StudyInstanceUID for event in ward.pass_time(70)] == [study]


def test_a_clock_that_is_set_back_makes_nothing_wait(ward: Ward) -> None:
    ward.arrive(1, 0)
    ward.pass_time(10)
    ward.clock.now -= 86400
    assert len(ward.pass_time(70)) == 1


def test_a_subscriber_follows_by_a_cursor_that_moves_after_its_work(ward: Ward) -> None:
    events, taken = ward.node.main.study_events, []
    assert events.follow("rules", taken.append) == 0
    for seed in (1, 2, 3):
        ward.arrive(seed, 0)
    ward.pass_time(70)

    def stumble(event: StudyComplete) -> None:
        if len(taken) == 1:
            raise RuntimeError("in the middle")
        taken.append(event)

    with pytest.raises(RuntimeError):
        events.follow("rules", stumble)
    ward.crash()
    assert ward.node.main.study_events.follow("rules", taken.append) == 2
    assert [event.seq for event in taken] == [1, 2, 3]


def test_a_subscriber_misses_nothing_that_came_before_its_first_step(ward: Ward) -> None:
    taken: list[StudyComplete] = []
    ward.node.main.subscribe("rules", taken.append)
    ward.arrive(1, 0)
    ward.pass_time(70)
    ward.crash()
    ward.node.main.subscribe("rules", taken.append)
    ward.node.main.study_events.follow("rules", taken.append)
    assert len(taken) == 1


def test_events_are_forgotten_after_a_month_and_numbers_never_come_again(ward: Ward) -> None:
    ward.arrive(1, 0)
    ward.pass_time(70)
    ward.clock.now += KEPT + 100
    assert ward.node.main.study_events.tidy(ward.clock.now) == 2
    ward.crash()
    ward.arrive(2, 0)
    assert [event.seq for event in ward.pass_time(70)] == [2]


def test_a_node_that_is_killed_says_it_after_its_start(tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "home")
    node.cli("devices", "add", "CT3", "--services", "echo,store", "--complete-after", "4")
    node.start()
    from node.dimse import Requestor

    for answer in Requestor("CT3", "127.0.0.1", node.port, "ALPHA").store(phantoms(5, instances=3)):
        assert answer.status == 0
    node.kill()
    node.start()
    study = node.json("find")[0]["0020000D"]["Value"][0]
    until(lambda: "complete with 3 instances" in node.cli("trace", study))
    assert node.stop() == 0
