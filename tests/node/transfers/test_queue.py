"""The queue: nothing ordered is lost, nothing is carried twice without reason, and the urgent goes first."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import BadRequest, NotFound, OutOfSpace
from node.state import State
from node.transfers import Item, Kind, Lane, Order, Outcome, Standing, TransferQueue, Verdict
from node.transfers.leases import LEASE, Grant
from node.transfers.schedule import LONGEST, backoff

OVER = Outcome(Verdict.OVER)
SILENT = Outcome(Verdict.LATER, "CT3 does not answer: connection refused.", "Switch it on.", True)


class Clock:
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A queue on a real state folder, that can be opened again as after a crash."""

    def __init__(self, folder: Path, **options: int) -> None:
        self.folder = folder
        self.clock = Clock()
        self.state = State(folder / "state", **options)
        self.reopen()

    def reopen(self) -> None:
        """Lose everything that was only in memory."""
        self.queue = TransferQueue(self.state, self.folder / "transfers", self.clock)

    def order(self, study: str, destination: str = "CT3", lane: Lane = Lane.NORMAL) -> str:
        """Order a study to be delivered; return the transfer's id."""
        order = Order(kind=Kind.DELIVER, destination=destination, StudyInstanceUID=study)
        return self.queue.enqueue(order, lane, "test").id

    def give(self, worker: str = "w") -> Grant:
        """Give the next transfer, which there must be."""
        grant = self.queue.leases.give(worker, tuple(Kind))
        assert grant is not None
        return grant

    def finish(self, grant: Grant, outcome: Outcome = OVER) -> None:
        """Have a worker give back what it has, and the row written."""
        self.queue.leases.finish(grant.transfer.id, grant.lease, outcome)
        self.queue.commit()

    def standing(self, id: str) -> Standing:
        """Return how a transfer stands."""
        return self.queue.find(id).standing


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.state.close()


def nothing_given(bench: Bench) -> bool:
    return bench.queue.leases.give("w", tuple(Kind)) is None


def test_an_order_given_twice_is_one_transfer(bench: Bench) -> None:
    assert bench.order("1.2") == bench.order("1.2")
    bench.finish(bench.give())
    assert bench.standing(bench.order("1.2")) is Standing.DONE
    assert nothing_given(bench)


def test_a_transfer_that_is_over_can_be_begun_again_from_the_start(bench: Bench) -> None:
    bench.order("1.2")
    first = bench.give()
    bench.queue.leases.note(first.transfer.id, first.transfer.run, [Item("1.2.1", "1.2.1.1", 5)])
    bench.finish(first)
    bench.queue.enqueue(first.transfer.order, again=True)
    second = bench.give()
    assert (second.transfer.run, second.settled) == (2, ())


def test_what_was_ordered_and_what_arrived_survives_a_crash(bench: Bench) -> None:
    id = bench.order("1.2")
    grant = bench.give()
    bench.queue.commit()
    bench.queue.leases.note(id, 1, [Item("1.2.1", "1.2.1.1", 5), Item("1.2.1", "1.2.1.2", 0, "refused")])
    bench.reopen()
    assert nothing_given(bench), "its worker may have outlived the node"
    bench.clock.now += LEASE
    assert bench.give().settled == ("1.2.1.1", "1.2.1.2")
    assert grant.settled == ()


def test_a_crash_right_before_it_is_written_that_a_transfer_is_done_has_nothing_sent_again(
    bench: Bench,
) -> None:
    id = bench.order("1.2")
    grant = bench.give()
    bench.queue.commit()
    bench.queue.leases.note(id, 1, [Item("1.2.1", "1.2.1.1", 5)])
    bench.queue.leases.finish(id, grant.lease, OVER)
    bench.reopen()
    bench.clock.now += LEASE
    assert bench.give().settled == ("1.2.1.1",)


def test_a_line_that_a_crash_cut_short_counts_as_not_arrived(bench: Bench) -> None:
    id = bench.order("1.2")
    bench.give()
    bench.queue.commit()
    bench.queue.leases.note(id, 1, [Item("1.2.1", f"1.2.1.{n}", 5) for n in range(3)])
    [journal] = (bench.folder / "transfers").rglob(f"{id}.1")
    journal.write_bytes(journal.read_bytes()[:-7])
    bench.reopen()
    bench.clock.now += LEASE
    assert bench.give().settled == ("1.2.1.0", "1.2.1.1")
    bench.queue.leases.note(id, 1, [Item("1.2.1", "1.2.1.2", 5)])
    bench.reopen()
    bench.clock.now += LEASE
    assert len(bench.give().settled) == 3


def test_a_worker_that_outlived_the_node_is_known_again(bench: Bench) -> None:
    id = bench.order("1.2")
    grant = bench.give()
    bench.queue.commit()
    bench.reopen()
    assert bench.queue.leases.beat(id, grant.lease)
    bench.clock.now += LEASE / 2
    assert nothing_given(bench)
    bench.finish(grant)
    assert bench.standing(id) is Standing.DONE


def test_a_lease_ends_without_a_sign_of_life_and_the_transfer_is_given_again(bench: Bench) -> None:
    id = bench.order("1.2")
    dead = bench.give("dead")
    bench.clock.now += LEASE - 1
    assert bench.queue.leases.beat(id, dead.lease)
    bench.clock.now += LEASE - 1
    assert bench.queue.leases.expire() == 0
    bench.clock.now += 2
    assert bench.queue.leases.expire() == 1
    second = bench.give("alive")
    assert second.transfer.id == id
    assert not bench.queue.leases.beat(id, dead.lease)
    bench.finish(dead)
    assert bench.standing(id) is Standing.RUNNING, "who lost the lease has no say any more"
    bench.queue.leases.note(id, 1, [Item("1.2.1", "1.2.1.1", 5)])
    assert bench.queue.find(id).series[0].done == 1, "but what arrived has arrived"


def test_what_takes_its_worker_with_it_each_time_has_to_wait(bench: Bench) -> None:
    bench.order("1.2")
    for _ in range(2):
        bench.give()
        bench.clock.now += LEASE + 1
        bench.queue.leases.expire()
    assert nothing_given(bench)
    bench.clock.now += LONGEST
    bench.give()


def test_the_urgent_goes_first_and_then_the_oldest(bench: Bench) -> None:
    ids = {}
    for lane in (Lane.BULK, Lane.NORMAL, Lane.NOW):
        for number in range(2):
            ids[lane, number] = bench.order(f"1.{lane.rank}.{number}", f"{lane.name}{number}", lane)
            bench.clock.now += 1
    expected = [ids[lane, number] for lane in Lane for number in range(2)]
    assert [bench.give().transfer.id for _ in expected] == expected


def test_an_urgent_transfer_has_a_bulk_one_make_room(bench: Bench) -> None:
    bulk = [bench.order(f"1.{n}", f"PACS{n}", Lane.BULK) for n in range(2)]
    grants = [bench.give() for _ in bulk]
    assert bench.queue.leases.unwanted(tuple(Kind), has_idle=False) == []
    urgent = bench.order("1.9", "READER", Lane.NOW)
    assert bench.queue.leases.unwanted(tuple(Kind), has_idle=True) == []
    [(id, lease)] = bench.queue.leases.unwanted(tuple(Kind), has_idle=False)
    assert bench.queue.leases.unwanted(tuple(Kind), has_idle=False) == [], "each is told once"
    given_back = next(grant for grant in grants if grant.lease == lease)
    assert not bench.queue.leases.beat(id, lease)
    bench.finish(given_back, Outcome(Verdict.YIELDED))
    assert bench.give().transfer.id == urgent
    assert bench.give().transfer.id == id


def test_an_urgent_transfer_needs_no_second_place_at_its_destination(bench: Bench) -> None:
    for n in range(2):
        bench.order(f"1.{n}", "CT3", Lane.BULK)
        bench.give()
    bench.order("1.9", "CT3", Lane.NOW)
    assert nothing_given(bench)
    assert len(bench.queue.leases.unwanted(tuple(Kind), has_idle=True)) == 1


def test_destinations_take_turns(bench: Bench) -> None:
    for n in range(6):
        bench.order(f"1.{n}", "BIG")
        bench.clock.now += 1
    bench.order("1.8", "SMALL")
    given = [bench.give().transfer.order.destination for _ in range(3)]
    assert given == ["BIG", "SMALL", "BIG"]
    assert nothing_given(bench), "two places at each destination"


def test_a_destination_that_is_silent_holds_only_what_goes_there(bench: Bench) -> None:
    for n in range(50):
        bench.order(f"1.{n}", "DEAD")
    alive = bench.order("2.1", "ALIVE")
    bench.finish(bench.give(), SILENT)
    assert bench.give().transfer.id == alive
    assert nothing_given(bench)
    bench.clock.now += 7
    bench.give()
    assert nothing_given(bench), "one at a time finds out whether it answers again"


def test_once_a_destination_answers_everything_goes_there(bench: Bench) -> None:
    ids = [bench.order(f"1.{n}") for n in range(3)]
    for _ in range(4):
        bench.finish(bench.give(), SILENT)
        bench.clock.now += 3600
    hold = bench.queue.hold_on("CT3")
    assert hold is not None
    assert hold.tries >= 4
    grant = bench.give()
    bench.queue.leases.note(grant.transfer.id, 1, [Item("1.0.1", "1.0.1.1", 5)])
    assert bench.queue.hold_on("CT3") is None
    assert bench.give().transfer.id in ids


def test_a_sign_of_life_from_a_destination_ends_the_wait(bench: Bench) -> None:
    bench.order("1.2")
    bench.finish(bench.give(), SILENT)
    assert nothing_given(bench)
    bench.queue.heard_from("CT3")
    bench.give()


def test_a_silent_destination_is_still_known_as_such_after_a_restart(bench: Bench) -> None:
    bench.order("1.2")
    bench.order("1.3")
    bench.finish(bench.give(), SILENT)
    bench.reopen()
    assert nothing_given(bench)
    assert bench.queue.hold_on("CT3") is not None


def test_tries_come_ever_less_often_and_never_end() -> None:
    chance = random.Random(1)
    waits = [backoff(tries, chance) for tries in range(1, 100)]
    assert 4 <= waits[0] <= 6
    assert all(0.8 * 5 * 2**n <= waits[n] <= 1.2 * 5 * 2**n for n in range(9))
    assert min(waits[12:]) >= 2880
    assert max(waits) == LONGEST


def test_after_twenty_tries_somebody_is_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.order("1.2")
    for _ in range(21):
        bench.finish(bench.give(), SILENT)
        bench.clock.now += LONGEST
    assert "is stuck: tried 20 times" in caplog.text
    bench.give()


def test_a_clock_that_is_set_back_makes_nothing_wait(bench: Bench) -> None:
    bench.order("1.2")
    bench.finish(bench.give(), SILENT)
    bench.clock.now -= 86400
    bench.give()


def test_what_is_paused_rests_until_it_is_resumed(bench: Bench) -> None:
    id = bench.order("1.2")
    grant = bench.give()
    bench.queue.pause(id)
    assert bench.queue.leases.unwanted(tuple(Kind), has_idle=True) == [(id, grant.lease)]
    bench.finish(grant, Outcome(Verdict.YIELDED))
    bench.reopen()
    bench.clock.now += 3600
    assert bench.standing(id) is Standing.PAUSED
    assert nothing_given(bench)
    bench.queue.resume(id)
    assert bench.give().transfer.id == id


def test_what_is_resumed_before_its_worker_let_go_is_not_given_twice(bench: Bench) -> None:
    id = bench.order("1.2")
    grant = bench.give()
    bench.queue.pause(id)
    bench.queue.resume(id)
    assert nothing_given(bench)
    bench.finish(grant, Outcome(Verdict.YIELDED))
    bench.give()


def test_what_is_cancelled_is_over_and_can_be_ordered_again(bench: Bench) -> None:
    id = bench.order("1.2")
    grant = bench.give()
    bench.queue.cancel(id)
    bench.queue.enqueue(grant.transfer.order, again=True)
    assert nothing_given(bench), "the worker still has it"
    bench.finish(grant, Outcome(Verdict.YIELDED))
    assert bench.give().transfer.run == 2
    with pytest.raises(NotFound):
        bench.queue.cancel("ffff")


def test_retry_tries_only_what_failed(bench: Bench) -> None:
    id = bench.order("1.2")
    grant = bench.give()
    items = [Item("1.2.1", "1.2.1.1", 5), Item("1.2.1", "1.2.1.2", 0, "C-STORE was answered A900")]
    bench.queue.leases.note(id, 1, items, {"1.2.1": 2})
    bench.finish(grant)
    failed = bench.queue.find(id)
    assert failed.standing is Standing.FAILED
    assert failed.why.startswith("1 of 2 instances failed")
    assert [item.SOPInstanceUID for item in bench.queue.failures(id)] == ["1.2.1.2"]
    bench.reopen()
    bench.queue.retry(id[:6])
    second = bench.give()
    assert second.settled == ("1.2.1.1",)
    bench.queue.leases.note(id, 1, [Item("1.2.1", "1.2.1.2", 5)])
    bench.finish(second)
    assert bench.standing(id) is Standing.DONE
    with pytest.raises(BadRequest):
        bench.queue.retry(id)


def test_what_is_raised_goes_before_everything_else(bench: Bench) -> None:
    for n in range(3):
        bench.order(f"1.{n}")
    last = bench.order("1.9", lane=Lane.BULK)
    bench.queue.hasten(last)
    assert bench.give().transfer.id == last


def test_what_was_done_long_ago_is_forgotten_and_what_failed_is_not(bench: Bench) -> None:
    done = bench.order("1.2")
    bench.finish(bench.give())
    failed = bench.order("1.3")
    bench.finish(bench.give(), Outcome(Verdict.FAILED, "It is gone."))
    bench.clock.now += 31 * 86400
    assert bench.queue.tidy() == 1
    assert bench.standing(failed) is Standing.FAILED
    with pytest.raises(NotFound):
        bench.queue.find(done)
    assert not list((bench.folder / "transfers").rglob("*.1"))


def test_watchers_see_how_transfers_stand_and_what_arrived_or_failed(bench: Bench) -> None:
    bench.order("1.2.3")
    bench.order("1.2.4", lane=Lane.BULK)
    grant = bench.give()
    bench.queue.leases.note(grant.transfer.id, grant.transfer.run, [Item("1.3", "1.4", 5000)])
    found = {(sample.name, *sample.labels): sample.value for sample in bench.queue.samples()}
    assert found == {
        ("transfers", "running", "normal"): 1,
        ("transfers", "waiting", "bulk"): 1,
        ("transfer_bytes_total", "CT3", "out"): 5000,
    }
    bench.finish(grant, SILENT)
    found = {(sample.name, *sample.labels): sample.value for sample in bench.queue.samples()}
    assert found["transfer_failures_total", "CT3", "unreachable"] == 1
    assert found["transfers", "waiting", "normal"] == 1


def test_when_the_state_is_full_nothing_is_taken_and_nothing_is_lost(tmp_path: Path) -> None:
    bench, ids = Bench(tmp_path, map_size=1 << 17), set()

    def fill() -> None:
        for number in range(1000):
            ids.add(bench.order(f"1.{number}"))

    with pytest.raises(OutOfSpace):
        fill()
    assert {transfer.id for transfer in bench.queue.transfers()} == ids
    grant = bench.give()
    bench.queue.leases.finish(grant.transfer.id, grant.lease, OVER)
    bench.reopen()
    assert {transfer.id for transfer in bench.queue.transfers()} == ids
    bench.state.close()
