"""The durable queue: what was ordered stays here until it is done, or until a person says otherwise.

What fails for a reason that may pass is tried again for ever, ever less often; nothing is dropped.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from catalog import BadRequest, Clock, OutOfSpace
from node.measures import Sample
from node.state import State

from .book import Book
from .leases import Leases
from .model import Item, Lane, Order, Standing, Transfer
from .schedule import Hold

PLACES: Final = 2
"""Transfers that run to one destination at a time, unless said otherwise."""


class TransferQueue:
    """All transfers of a node; any thread may call. Workers come in by `leases`."""

    def __init__(
        self,
        state: State,
        folder: Path,
        clock: Clock,
        *,
        per_destination: int = PLACES,
        chance: random.Random | None = None,
    ) -> None:
        """Open the queue as it was left; `folder` is for the progress of what is under way."""
        self.clock = clock
        self.on_waiting: Callable[[], None] = lambda: None
        """Called when there may be something to give to a worker, or to take away from one."""
        self.may_give: Callable[[], bool] = lambda: True
        """Says whether workers are given anything at this moment."""
        self._book = Book(state, folder, clock, per_destination)
        self.leases = Leases(self._book, chance or random.Random())
        self.commit = self._book.commit
        self.tidy = self._book.tidy
        self.counts = self._book.counts

    def enqueue(
        self, order: Order, lane: Lane = Lane.NORMAL, who: str = "", reason: str = "", *, again: bool = False
    ) -> Transfer:
        """Have an order carried out; on disk when it returns. As `enqueue_all`."""
        return self.enqueue_all([order], lane, who, reason, again=again)[0]

    def enqueue_all(
        self,
        orders: Iterable[Order],
        lane: Lane = Lane.NORMAL,
        who: str = "",
        reason: str = "",
        *,
        again: bool = False,
    ) -> list[Transfer]:
        """Have orders carried out; all on disk when it returns.

        One that is in the queue already is not begun twice: it only becomes as urgent as asked. One that is
        over stays so, unless `again` asks for it to be begun from the start.

        Raises:
            OutOfSpace: none was taken.
        """
        with self._book.mutex:
            before = self._book.changed()
            taken = [self._enqueue(order, lane, who, reason, again) for order in orders]
            try:
                self.commit()
            except OutOfSpace:
                for id in self._book.changed() - before:
                    self._book.take_back(id)
                raise
        self.on_waiting()
        return taken

    def _enqueue(self, order: Order, lane: Lane, who: str, reason: str, again: bool) -> Transfer:
        known = self._book.get(order.id)
        if known and not known.standing.is_over:
            return self._book.put(replace(known, lane=lane)) if lane.rank < known.lane.rank else known
        if known and not again:
            return known
        now, run = self._book.clock(), 1
        if known:
            run = known.run + 1
            if known.id not in self.leases:
                self._book.let_go(known, is_over=False)
        fresh = Transfer(order=order, lane=lane, who=who, reason=reason, created=now, due=now, run=run)
        return self._book.put(fresh)

    def pause(self, id: str) -> Transfer:
        """Let a transfer rest after the instance under way.

        Raises:
            NotFound: there is none of that id.
            BadRequest: it is over.
        """
        return self._ask(id, lambda transfer: {"standing": Standing.PAUSED, "why": "", "remedy": ""})

    def resume(self, id: str) -> Transfer:
        """Go on with what was paused. Raises as `pause`."""

        def go_on(transfer: Transfer) -> dict[str, Any]:
            is_paused = transfer.standing is Standing.PAUSED
            return {"standing": Standing.WAITING, "due": self.clock()} if is_paused else {}

        return self._ask(id, go_on)

    def cancel(self, id: str) -> Transfer:
        """Give a transfer up, after the instance under way, or one that failed. Raises as `pause`."""

        def give_up(transfer: Transfer) -> dict[str, Any]:
            return {"standing": Standing.CANCELLED, "ended": self.clock(), "why": "", "remedy": ""}

        return self._ask(id, give_up, (Standing.FAILED,))

    def retry(self, id: str) -> Transfer:
        """Try what failed once more, and only that; what waits is tried at once.

        Raises:
            NotFound: there is none of that id.
            BadRequest: all of it has arrived.
        """

        def begin(transfer: Transfer) -> dict[str, Any]:
            if transfer.standing is Standing.RUNNING:
                return {}
            self._book.progress(transfer).forgive()
            self._book.probe(transfer.order.destination)
            return {"standing": Standing.WAITING, "due": self.clock(), "tries": 0, "ended": 0.0}

        return self._ask(id, begin, (Standing.FAILED, Standing.CANCELLED))

    def hasten(self, id: str, lane: Lane = Lane.NOW) -> Transfer:
        """Move a transfer to another lane; in `now` it is tried at once. Raises as `pause`."""

        def move(transfer: Transfer) -> dict[str, Any]:
            if lane is not Lane.NOW:
                return {"lane": lane}
            self._book.probe(transfer.order.destination)
            return {"lane": lane, "due": min(self.clock(), transfer.due)}

        return self._ask(id, move)

    def heard_from(self, destination: str) -> None:
        """Try at once what waits for a destination: it has just shown that it is there."""
        if destination in self._book.schedule.holds:
            with self._book.mutex:
                self._book.release(destination)
            self.on_waiting()

    def find(self, id: str) -> Transfer:
        """Return the transfer of this id, or the only one whose id begins so, as it is now.

        Raises:
            NotFound: there is none.
            BadRequest: there are several.
        """
        with self._book.mutex:
            return self._counted(self._book.find(id))

    def transfers(self) -> list[Transfer]:
        """Return all that is known, as it is now, the oldest first."""
        with self._book.mutex:
            return sorted(map(self._counted, self._book), key=lambda transfer: transfer.created)

    def samples(self) -> list[Sample]:
        """Return what watchers see of the queue."""
        with self._book.mutex:
            return list(self.leases.counting.samples(self._book.open().values()))

    def failures(self, id: str) -> list[Item]:
        """Return the instances of a transfer that failed, and why. Raises as `find`."""
        with self._book.mutex:
            transfer = self._book.find(id)
            failed = list(self._book.progress(transfer).failed.values())
            if transfer.id not in self.leases:
                self._book.let_go(transfer, is_over=False)
            return failed

    def hold_on(self, destination: str) -> Hold | None:
        """Return why nothing goes to a destination, and until when; None when nothing is in the way."""
        return self._book.schedule.holds.get(destination)

    def _ask(
        self, id: str, change: Callable[[Transfer], dict[str, Any]], also: tuple[Standing, ...] = ()
    ) -> Transfer:
        with self._asked():
            transfer = self._book.find(id)
            if transfer.standing.is_over and transfer.standing not in also:
                what = f"Transfer {transfer.id} is {transfer.standing}: nothing of it is left to do."
                raise BadRequest(what, "To have it begun again whole: peerpacs forward")
            changes = change(transfer)
            if changes:
                self._book.put(replace(self._counted(transfer), **changes))
            return self._book.get(transfer.id) or transfer

    @contextmanager
    def _asked(self) -> Iterator[None]:
        with self._book.mutex:
            yield
            self.commit()
        self.on_waiting()

    def _counted(self, transfer: Transfer) -> Transfer:
        if transfer.id not in self.leases:
            return transfer
        progress = self._book.progress(transfer)
        return replace(transfer, series=progress.series(), size=progress.size)
