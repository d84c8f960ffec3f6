"""The rows of the queue: all on disk, those that are not over in memory too, in step with the schedule.

Changes hold at once for everybody here; whatever gathered goes to disk in one commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import RLock
from typing import Final

from msgspec.structs import replace

from catalog import BadRequest, Clock, NotFound
from node.state import State

from .model import Standing, Transfer
from .progress import Journals, Progress
from .schedule import Hold, Schedule

GRACE: Final = 5.0
"""Seconds after the start in which a worker that outlived the node may say that it carries on."""
_KEPT: Final = 30 * 86400.0
"""Seconds that what is done or cancelled can still be looked up."""


class Book:
    """All transfers by id. Whoever changes several things together holds `mutex`."""

    def __init__(self, state: State, folder: Path, clock: Clock, per_destination: int) -> None:
        """Open the book as it was left; `folder` is for the progress of what is under way."""
        self.clock = clock
        self.mutex = RLock()
        self.schedule = Schedule(per_destination)
        self._table = state.table("transfers", Transfer)
        self._journals = Journals(folder)
        self._open: dict[str, Transfer] = {}
        self._changed: dict[str, Transfer] = {}
        """What is not on disk yet."""
        self._failed: set[str] = set()
        self._progress: dict[tuple[str, int], Progress] = {}
        self._spent: list[Progress] = []
        """What nobody needs any more once the changes are on disk."""
        self._blamed: dict[str, set[str]] = {}
        """Transfers that wait because their destination does not answer."""
        now = clock()
        for _, transfer in self._table.scan():
            if transfer.standing is Standing.RUNNING:
                transfer = replace(transfer, standing=Standing.WAITING, due=now + GRACE)
            if transfer.standing not in (Standing.DONE, Standing.CANCELLED):
                self._keep(transfer)
                if transfer.blames_destination and transfer.standing is Standing.WAITING:
                    self.hold(transfer)

    def get(self, id: str) -> Transfer | None:
        """Return a transfer as it stands."""
        return self._open.get(id) or self._changed.get(id) or self._table.get(id.encode())

    def open(self) -> dict[str, Transfer]:
        """Return what is not over."""
        return self._open

    def counts(self) -> dict[Standing, int]:
        """Return how many transfers stand how, those that need nobody any more left out."""
        with self.mutex:
            counts = Counter(transfer.standing for transfer in self._open.values())
            counts[Standing.FAILED] = len(self._failed)
            return {
                each: counts[each] for each in Standing if each not in (Standing.DONE, Standing.CANCELLED)
            }

    def find(self, id: str) -> Transfer:
        """Return the transfer of this id, or the only one whose id begins so.

        Raises:
            NotFound: there is none.
            BadRequest: there are several.
        """
        found = {key.decode() for key, _ in self._table.scan(id.encode())} if id else set()
        found |= {known for known in self._changed if id and known.startswith(id)}
        if len(found) > 1:
            raise BadRequest(f"{len(found)} transfers begin with {id}.", "Write more of the id.")
        if not found or (known := self.get(found.pop())) is None:
            raise NotFound(f"There is no transfer {id!r}.", "List them with: peerpacs transfers list")
        return known

    def __iter__(self) -> Iterator[Transfer]:
        rows = {transfer.id: transfer for _, transfer in self._table.scan()} | self._changed | self._open
        yield from rows.values()

    def put(self, transfer: Transfer) -> Transfer:
        """Let a transfer stand so from now on; on disk after `commit`."""
        self._changed[transfer.id] = transfer
        self._keep(transfer)
        return transfer

    def commit(self) -> None:
        """Return when every change so far is on disk.

        Raises:
            OutOfSpace: it is not; the changes hold here, and go with the next commit.
        """
        with self.mutex:
            rows = {id.encode(): transfer for id, transfer in self._changed.items()}
            if rows:
                self._table.change({key: lambda _, row=row: row for key, row in rows.items()})  # type: ignore[misc]
                self._changed.clear()
            # Not before: a crash in between would have everything sent again.
            while self._spent:
                self._spent.pop().remove()

    def changed(self) -> set[str]:
        """Return what is not on disk yet."""
        return set(self._changed)

    def take_back(self, id: str) -> None:
        """Forget what is not on disk yet of a transfer."""
        del self._changed[id]
        self._open.pop(id, None)
        self._failed.discard(id)
        self.schedule.discard(id)
        stored = self._table.get(id.encode())
        if stored:
            self._keep(stored)

    def progress(self, transfer: Transfer) -> Progress:
        """Return the answers to a transfer, in its present run."""
        key = (transfer.id, transfer.run)
        if key not in self._progress:
            self._progress[key] = self._journals.open(*key)
        return self._progress[key]

    def let_go(self, transfer: Transfer, *, is_over: bool) -> None:
        """Give back what following a transfer took, and its answers too when nobody needs them any more."""
        progress = self.progress(transfer)
        progress.close()
        if is_over:
            self._spent.append(progress)
        del self._progress[transfer.id, transfer.run]

    def hold(self, transfer: Transfer) -> None:
        """Send nothing to a transfer's destination before the transfer is due, for its reason."""
        destination = transfer.order.destination
        known = self.schedule.holds.get(destination)
        if known is None or known.until <= self.clock():
            tries = max(transfer.tries, known.tries + 1 if known else 1)
            self.schedule.holds[destination] = Hold(transfer.due, tries, transfer.why, transfer.remedy)

    def probe(self, destination: str) -> None:
        """Let the next transfer to a destination find out whether it answers by now."""
        if known := self.schedule.holds.get(destination):
            self.schedule.holds[destination] = known._replace(until=self.clock())

    def release(self, destination: str) -> None:
        """Let everything go that waits because a destination was silent: it answers."""
        self.schedule.holds.pop(destination, None)
        now = self.clock()
        for id in self._blamed.pop(destination, set()):
            transfer = self._open[id]
            self.put(
                replace(transfer, due=min(now, transfer.due), blames_destination=False, why="", remedy="")
            )

    def tidy(self) -> int:
        """Forget what was done or cancelled long ago; return how many there were."""
        with self.mutex:
            before = self.clock() - _KEPT
            old = [
                transfer
                for _, transfer in self._table.scan()
                if transfer.standing in (Standing.DONE, Standing.CANCELLED) and transfer.ended < before
            ]
            for transfer in old:
                if transfer.id not in self._open:
                    self.let_go(transfer, is_over=True)
                    self._table.delete(transfer.id.encode())
            self.commit()
            return len(old)

    def _keep(self, transfer: Transfer) -> None:
        id, is_waiting = transfer.id, transfer.standing is Standing.WAITING
        if transfer.standing is Standing.FAILED:
            self._failed.add(id)
        else:
            self._failed.discard(id)
        if transfer.standing.is_over:
            self._open.pop(id, None)
        else:
            self._open[id] = transfer
        if is_waiting:
            self.schedule.add(transfer)
        else:
            self.schedule.discard(id)
        blamed = self._blamed.setdefault(transfer.order.destination, set())
        if is_waiting and transfer.blames_destination:
            blamed.add(id)
        else:
            blamed.discard(id)
