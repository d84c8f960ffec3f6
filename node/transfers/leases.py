"""Who carries what: transfers given to workers for as long as they give signs of life.

Leases live in memory. After a restart nobody holds anything, but a worker in another process that still
carries on is known by its lease, which stands in the row. Nothing here is on disk before `Book.commit`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Final, NamedTuple

from msgspec.structs import replace

from .book import Book
from .counting import Counting
from .model import STUCK, Item, Kind, Lane, Order, Outcome, Standing, Transfer, Verdict
from .progress import Progress
from .schedule import backoff

logger = logging.getLogger(__name__)

LEASE: Final = 15.0
"""Seconds a lease holds without a sign of life."""


class Grant(NamedTuple):
    """A transfer given to a worker: under which lease, and which instances need not be tried."""

    transfer: Transfer
    lease: str
    settled: tuple[str, ...]


@dataclass(slots=True)
class _Held:
    """A transfer in a worker's hands."""

    transfer: Transfer
    lease: str
    until: float
    arrived: int
    """Instances that had arrived when it was given."""
    must_stop: bool = False


class Leases:
    """Gives transfers to workers and takes them back; any thread may call."""

    def __init__(self, book: Book, chance: random.Random) -> None:
        self._book = book
        self._chance = chance
        self._held: dict[str, _Held] = {}
        self.counting = Counting()

    def __contains__(self, id: str) -> bool:
        return id in self._held

    def give(self, worker: str, kinds: Collection[Kind]) -> Grant | None:
        """Give the next transfer to a worker that carries such kinds; None when there is none for it."""
        book = self._book
        with book.mutex:
            now = book.clock()
            for _, destination, id in book.schedule.candidates(kinds, now):
                if book.schedule.room(destination, now) > 0 and id not in self._held:
                    return self._give(book.open()[id], f"{worker}/{token_hex(8)}")
            return None

    def _give(self, transfer: Transfer, lease: str) -> Grant:
        now, progress = self._book.clock(), self._book.progress(transfer)
        started = transfer.started or now
        transfer = replace(transfer, standing=Standing.RUNNING, lease=lease, started=started)
        self._held[transfer.id] = _Held(transfer, lease, now + LEASE, len(progress.done))
        self._book.schedule.begin(transfer)
        self._book.put(transfer)
        return Grant(transfer, lease, progress.settled())

    def beat(self, id: str, lease: str) -> bool:
        """Take a sign of life; say whether the worker may go on."""
        with self._book.mutex:
            held = self._held.get(id)
            if held is None:
                return self._know_again(id, lease)
            if held.lease != lease:
                return False
            held.until = self._book.clock() + LEASE
            return not held.must_stop

    def _know_again(self, id: str, lease: str) -> bool:
        transfer = self._book.open().get(id)
        if transfer is None or transfer.standing is not Standing.WAITING or not lease:
            return False
        if transfer.lease == lease:
            self._give(transfer, lease)
        return transfer.lease == lease

    def order(self, id: str, lease: str) -> Order | None:
        """Return what is carried under a lease; None when it is nobody's, or another's."""
        with self._book.mutex:
            held = self._held.get(id)
            return held.transfer.order if held is not None and held.lease == lease else None

    def note(self, id: str, run: int, items: Iterable[Item], planned: Mapping[str, int] = {}) -> None:
        """Take in answers as they come: they are facts, whoever holds the lease."""
        with self._book.mutex:
            transfer = self._book.get(id)
            if transfer is None or transfer.run != run or transfer.standing is Standing.DONE:
                return
            progress = self._book.progress(transfer)
            had, size = len(progress.done), progress.size
            progress.note(items)
            self.counting.arrived(transfer.order.destination, progress.size - size)
            progress.planned.update(planned)
            if len(progress.done) > had and transfer.order.destination in self._book.schedule.holds:
                self._book.release(transfer.order.destination)
            if id not in self._held:
                self._book.let_go(transfer, is_over=False)

    def finish(self, id: str, lease: str, outcome: Outcome) -> None:
        """Take a transfer back; what another worker holds by now, or nobody any more, stays as it is."""
        with self._book.mutex:
            transfer, arrived = self._book.get(id), self._take_back(id, lease)
            if transfer is None or not lease or transfer.lease != lease:
                return
            progress = self._book.progress(transfer)
            has_moved = len(progress.done) > arrived
            counted = replace(transfer, lease="", series=progress.series(), size=progress.size)
            ended = self._book.put(self._ended(counted, outcome, progress, has_moved))
            self.counting.ended(ended, outcome)
            if ended.blames_destination:
                self._book.hold(ended)
            self._book.let_go(ended, is_over=ended.standing is Standing.DONE)

    def _take_back(self, id: str, lease: str) -> int:
        held = self._held.get(id)
        if held is None or held.lease != lease:
            return 0
        del self._held[id]
        self._book.schedule.end(held.transfer)
        return held.arrived

    def _ended(self, transfer: Transfer, outcome: Outcome, progress: Progress, has_moved: bool) -> Transfer:
        now, why, remedy = self._book.clock(), outcome.why, outcome.remedy
        if outcome.verdict is Verdict.OVER:
            return _over(transfer, progress, now)
        if transfer.standing is not Standing.RUNNING:
            return transfer
        if outcome.verdict is Verdict.FAILED:
            return replace(transfer, standing=Standing.FAILED, ended=now, why=why, remedy=remedy)
        waiting = replace(transfer, standing=Standing.WAITING, why=why, remedy=remedy)
        if outcome.verdict is Verdict.YIELDED:
            return waiting
        # What came forward before it failed did not fail in a row.
        tries = 1 if has_moved else transfer.tries + 1
        if tries == STUCK:
            logger.warning("Transfer %s is stuck: tried %d times. %s", transfer.id, tries, why)
        due = now + backoff(tries, self._chance)
        return replace(waiting, tries=tries, due=due, blames_destination=outcome.blames_destination)

    def expire(self) -> int:
        """Take back what is held by workers that gave no sign of life; return how many there were."""
        with self._book.mutex:
            now = self._book.clock()
            lost = [(id, held) for id, held in self._held.items() if not 0 < held.until - now <= LEASE]
            for id, held in lost:
                logger.warning("The worker of transfer %s is gone; it is given again", id)
                self.finish(id, held.lease, Outcome(Verdict.LATER, "The worker that had it is gone."))
                left = self._book.get(id)
                if left and left.standing is Standing.WAITING and left.tries == 1:
                    # Once may happen to any worker; what takes its worker with it each time must wait.
                    self._book.put(replace(left, due=now))
            return len(lost)

    def unwanted(self, kinds: Collection[Kind], has_idle: bool) -> list[tuple[str, str]]:
        """Return (id, lease) of what its worker is to give back, each once.

        That is what people stopped, and the least urgent one when something more urgent finds no place.
        """
        with self._book.mutex:
            asked = [held for held in self._held.values() if held.must_stop]
            others = [held for held in self._held.values() if not held.must_stop]
            stopped = [held for held in others if not self._is_running(held)]
            if not asked and not stopped and (victim := self._victim(kinds, has_idle)):
                stopped = [victim]
            for held in stopped:
                held.must_stop = True
            return [(held.transfer.id, held.lease) for held in stopped]

    def _is_running(self, held: _Held) -> bool:
        transfer = self._book.open().get(held.transfer.id)
        return transfer is not None and transfer.standing is Standing.RUNNING

    def _victim(self, kinds: Collection[Kind], has_idle: bool) -> _Held | None:
        schedule, now = self._book.schedule, self._book.clock()
        for lane, destination, id in schedule.candidates(kinds, now):
            has_room = schedule.room(destination, now) > 0
            if id in self._held or (has_room and has_idle):
                continue
            found = [
                held
                for held in self._held.values()
                if self._lane(held).rank > lane.rank
                and (has_room or held.transfer.order.destination == destination)
            ]
            if found:
                return max(found, key=lambda held: (self._lane(held).rank, held.transfer.created))
        return None

    def _lane(self, held: _Held) -> Lane:
        # It may have become more urgent while it runs.
        transfer = self._book.open().get(held.transfer.id)
        return transfer.lane if transfer else held.transfer.lane


def _over(transfer: Transfer, progress: Progress, now: float) -> Transfer:
    ended = replace(transfer, ended=now, tries=0, why="", remedy="", blames_destination=False)
    if not progress.failed:
        return replace(ended, standing=Standing.DONE)
    first = next(iter(progress.failed.values()))
    total = len(progress.failed) + len(progress.done)
    why = f"{len(progress.failed)} of {total} instances failed; the first because: {first.why}"
    remedy = f"Mend the cause, then: peerpacs transfers retry {transfer.id}"
    return replace(ended, standing=Standing.FAILED, why=why, remedy=remedy)
