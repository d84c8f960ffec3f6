"""Whatever people, workers, clocks and crashes do in whatever order: no transfer is lost or had by two."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from catalog import BadRequest
from node.transfers import Item, Kind, Lane, Order, Outcome, Standing, Verdict
from node.transfers.leases import LEASE, Grant
from tests.node.transfers.test_queue import Bench

INSTANCES = 4
STUDIES = st.integers(0, 5)
ASK = st.sampled_from(("pause", "resume", "cancel", "retry", "hasten"))


def uid(study: int, instance: int) -> str:
    return f"1.{study}.{instance}"


class Queue(RuleBasedStateMachine):
    """The queue beside a model of what must be true: what was ordered, who may carry it, what arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="peerpacs-queue-"))
        self.bench = Bench(self.folder)
        self.studies: dict[str, int] = {}
        self.carried: dict[str, Grant] = {}
        """What a worker is at and may go on with, as far as it was told."""
        self.arrived: dict[tuple[str, int], set[str]] = {}
        self.written: set[str] = set()

    def teardown(self) -> None:
        self.bench.state.close()
        shutil.rmtree(self.folder)

    @rule(study=STUDIES, lane=st.sampled_from(Lane), again=st.booleans())
    def order(self, study: int, lane: Lane, again: bool) -> None:
        order = Order(kind=Kind.DELIVER, destination=f"AE{study % 3}", StudyInstanceUID=f"1.{study}")
        before = self.bench.standing(order.id) if order.id in self.studies else None
        transfer = self.bench.queue.enqueue(order, lane, again=again)
        self.studies[transfer.id] = study
        assert transfer.standing.is_over == (before is not None and before.is_over and not again)

    @rule()
    def give(self) -> None:
        grant = self.bench.queue.leases.give("w", tuple(Kind))
        self.bench.queue.commit()
        if grant:
            assert grant.transfer.id not in self.carried, "two would carry it"
            done = self.arrived.setdefault((grant.transfer.id, grant.transfer.run), set())
            assert done <= set(grant.settled), "what arrived would be sent again"
            self.carried[grant.transfer.id] = grant

    @precondition(lambda self: self.carried)
    @rule(data=st.data(), instance=st.integers(0, INSTANCES - 1), is_refused=st.booleans())
    def answer(self, data: st.DataObject, instance: int, is_refused: bool) -> None:
        grant = self.carried[data.draw(st.sampled_from(sorted(self.carried)))]
        id, run, sop = grant.transfer.id, grant.transfer.run, uid(self.studies[grant.transfer.id], instance)
        self.bench.queue.leases.note(id, run, [Item("1.9", sop, 1, "refused" if is_refused else "")])
        if not is_refused:
            self.arrived[id, run].add(sop)

    @precondition(lambda self: self.carried)
    @rule(data=st.data(), verdict=st.sampled_from(Verdict), blames=st.booleans())
    def finish(self, data: st.DataObject, verdict: Verdict, blames: bool) -> None:
        grant = self.carried.pop(data.draw(st.sampled_from(sorted(self.carried))))
        if verdict is Verdict.OVER:
            study, key = self.studies[grant.transfer.id], (grant.transfer.id, grant.transfer.run)
            items = [Item("1.9", uid(study, n), 1) for n in range(INSTANCES)]
            self.bench.queue.leases.note(*key, items)
            self.arrived[key] |= {item.SOPInstanceUID for item in items}
        self.bench.finish(grant, Outcome(verdict, "because", "", blames))

    @rule(data=st.data(), what=ASK)
    def ask(self, data: st.DataObject, what: str) -> None:
        if self.studies:
            # It may be over.
            with contextlib.suppress(BadRequest):
                getattr(self.bench.queue, what)(data.draw(st.sampled_from(sorted(self.studies))))

    @rule(seconds=st.sampled_from((1.0, LEASE / 2, 60.0, 4000.0, -5000.0)))
    def let_time_pass(self, seconds: float) -> None:
        self.bench.clock.now += seconds
        for id, grant in list(self.carried.items()):
            if abs(seconds) < LEASE and not self.bench.queue.leases.beat(id, grant.lease):
                self.carried.pop(id)
                self.bench.finish(grant, Outcome(Verdict.YIELDED))
        if self.bench.queue.leases.expire():
            self.carried.clear()
        self.carried = {id: each for id, each in self.carried.items() if id in self.bench.queue.leases}
        self.bench.queue.leases.unwanted(tuple(Kind), has_idle=False)

    @rule(outlive=st.booleans())
    def crash(self, outlive: bool) -> None:
        self.bench.queue.commit()
        self.bench.reopen()
        alive = {
            id: grant
            for id, grant in self.carried.items()
            if outlive and self.bench.queue.leases.beat(id, grant.lease)
        }
        self.carried = alive

    @invariant()
    def nothing_is_lost(self) -> None:
        rows = {transfer.id: transfer for transfer in self.bench.queue.transfers()}
        assert rows.keys() == self.studies.keys()
        for id, transfer in rows.items():
            assert (transfer.standing is Standing.RUNNING) <= (id in self.bench.queue.leases)
            if transfer.standing is Standing.DONE:
                wanted = {uid(self.studies[id], n) for n in range(INSTANCES)}
                assert self.arrived[id, transfer.run] == wanted

    @invariant()
    def everything_that_waits_will_be_given(self) -> None:
        schedule = self.bench.queue._book.schedule
        assert len(schedule._places) == self.bench.queue.counts()[Standing.WAITING]


Queue.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestQueue = Queue.TestCase
