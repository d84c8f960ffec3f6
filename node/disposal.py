"""What persons deleted or erased goes for good: bytes, rows and, if erased, every trace that names somebody.

A deletion waits for as many days as it can be taken back. Both wait until the change log has said that the
instances are gone, and while a legal hold keeps them. Whatever moment the node ends at, the next start goes
on: bytes go first, then rows, and the order is done last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import chain
from typing import Final, NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from catalog import Clock, Damaged, Decision, Entry, Holding, PacsError, PatientKey, Verb
from catalog.purging import Doomed
from federation.erasing import mark
from node.contracts import Audit
from node.held import HeldShelf
from node.rejected import RejectedShelf
from node.state import Table, Tables

logger = logging.getLogger(__name__)

_BATCH: Final = 256
_LONGEST: Final = 64
"""Characters of a UID, PS3.5 9.1; nothing longer is remembered."""
_DIGITS: Final = 16
ERASED_UIDS: Final = "erased instances"
"""The table of what outlives the state; an archive's has its name behind a slash."""


class Order(Struct, frozen=True, array_like=True):
    """One of what is to go, by the id of the decision."""

    verb: Verb
    target: tuple[str, ...]
    who: str
    when: int
    """Milliseconds since 1970, as `done`."""
    done: int = 0
    outcome: str = ""
    is_purged: bool = False
    """Bytes and rows are gone; of an erasure, traces may be left."""
    patients: tuple[bytes, ...] = ()
    """Marks of whose it was, for an erasure: links that name them may have to go, here and at peers."""


class _Erased(Struct, frozen=True, array_like=True):
    """What was erased, by its UID."""

    decision: str


class ErasedUIDs(Struct, frozen=True, array_like=True):
    """The SOP Instance UIDs that an order erased, for who has one of them in hand and for nobody else."""

    marks: str
    """16 hexadecimal digits of each one's SHA-256, sorted."""


class Orders:
    """The rows of orders: written wherever a decision is made, carried out by `Disposal`.

    What is over lies apart, so that nobody looks through it again and again.
    """

    def __init__(self, state: Tables, lasting: Table[ErasedUIDs]) -> None:
        """`lasting` outlives the state: what was erased is known again, though its rows are gone too."""
        self._lasting = lasting
        self._marks: frozenset[str] | None = None
        self._open = state.table("disposals", Order)
        self._erased = state.table("disposals erased", Order)
        self._over = state.table("disposals over", Order)
        self._uids = state.table("erased uids", _Erased)

    def put(self, decision: Decision) -> None:
        """Have what a decision names go; one that was carried out is carried out again."""
        key = decision.id.encode()
        known = self._open.get(key) or self._erased.get(key)
        patients = known.patients if known else ()
        order = Order(decision.verb, decision.target, decision.who, decision.when, patients=patients)
        self._open.put(key, order)
        if decision.verb is Verb.ERASE:
            self.note_erased(decision.id, decision.target[-1:])

    def note_erased(self, id: str, uids: Collection[str]) -> None:
        """Remember what an order erases, when no row of a catalog does any more."""
        self._uids.change({uid.encode(): lambda _: _Erased(id) for uid in uids if len(uid) <= _LONGEST})

    def note_instances(self, id: str, uids: Collection[str]) -> None:
        """Remember the instances that an order erases, also for the time after a loss of the state."""
        self.note_erased(id, uids)
        marks = {_mark(uid) for uid in uids if len(uid) <= _LONGEST}
        known = self._lasting.get(id.encode())
        if marks - (marks_before := _split(known.marks) if known else set()):
            self._lasting.put(id.encode(), ErasedUIDs("".join(sorted(marks | marks_before))))

    def is_erased(self, uid: str) -> bool:
        """Say whether a study, series or instance of this UID was erased."""
        if len(uid) > _LONGEST:
            return False
        if self._uids.get(uid.encode()) is not None:
            return True
        # What was erased since is among the rows: one look tells what an earlier state had.
        if self._marks is None:
            self._marks = frozenset().union(*(_split(row.marks) for _, row in self._lasting.scan()))
        return _mark(uid) in self._marks

    def change(self, id: str, order: Order) -> None:
        """Note how far an order is."""
        if order.done:
            table = self._erased if order.verb is Verb.ERASE else self._over
            table.put(id.encode(), order)
            self._open.delete(id.encode())
        else:
            self._open.put(id.encode(), order)

    def of(self, id: str) -> Order | None:
        """Return a decision's order, as far as it is carried out."""
        found = (table.get(id.encode()) for table in (self._open, self._erased, self._over))
        return next((order for order in found if order is not None), None)

    def is_done(self, id: str) -> bool:
        """Say whether the bytes that a decision is about are gone."""
        found = (table.get(id.encode()) for table in (self._open, self._erased, self._over))
        return any(order is not None and order.is_purged for order in found)

    def waiting(self) -> Iterator[tuple[str, Order]]:
        """Yield every order that is not carried out, with the id of its decision."""
        return _named(self._open)

    def erasures(self) -> Iterator[tuple[str, Order]]:
        """Yield every order to erase, carried out or not."""
        waiting = ((id, order) for id, order in _named(self._open) if order.verb is Verb.ERASE)
        known = dict(waiting)
        return iter({**dict(_named(self._erased)), **known}.items())

    def rows(self) -> Iterator[tuple[str, Order]]:
        """Yield every order there ever was, once, also if it is carried out meanwhile."""
        return iter(dict(chain(_named(self._open), _named(self._erased), _named(self._over))).items())


def _mark(uid: str) -> str:
    return sha256(uid.encode()).hexdigest()[:_DIGITS]


def _split(marks: str) -> set[str]:
    return {marks[at : at + _DIGITS] for at in range(0, len(marks), _DIGITS)}


def _named(table: Table[Order]) -> Iterator[tuple[str, Order]]:
    return ((id.decode(), order) for id, order in table.scan())


class _Catalog(Protocol):
    def doomed(self, decision: Decision) -> Doomed: ...

    def purge(self, study: str, entries: Sequence[Entry], decisions: Sequence[str] = ()) -> None: ...

    def scour(self) -> bool: ...


class _Store(Protocol):
    def remove(self, holding: Holding, erase: bool = False) -> None: ...


class Places(NamedTuple):
    """Where something of a study may lie in one archive."""

    catalog: _Catalog
    store: _Store
    held: HeldShelf
    rejected: RejectedShelf
    erase_decisions: Callable[[Collection[str]], object]
    """Overwrites decisions by their ids, wherever they are kept."""
    forget_damage: Callable[[bytes], object]
    """Drops a SHA-256 from the book of damage."""
    forget_patients: Callable[[str, Collection[bytes]], None]
    """Erases the links of patients who have nothing else, by the decision and their marks."""
    scour: Callable[[], bool]
    """Leaves nothing of deleted rows in the node's state; False: try again."""


class Disposal:
    """Carries out the orders of one archive, step by step; one thread calls it."""

    def __init__(
        self,
        orders: Orders,
        places: Places,
        undo_days: Callable[[], float],
        doubt: Callable[[], str],
        audit: Audit,
        clock: Clock,
    ) -> None:
        """`doubt` says why the clock is not believed: then no time is over."""
        self._doubt = doubt
        self.orders = orders
        self._places = places
        self._undo_days = undo_days
        self._audit = audit
        self._clock = clock
        self._problems: dict[str, str] = {}

    def step(self) -> int:
        """Carry out what is due; return how many orders were finished."""
        finished = 0
        why = self._doubt()
        for id, order in list(self.orders.waiting()):
            if not self.is_due(order):
                continue
            if why and order.verb is Verb.DELETE:
                self._problems[id] = f"waits: {why}"
                continue
            try:
                finished += self._carry_out(id, order)
                self._problems.pop(id, None)
            except (PacsError, OSError) as error:
                if self._problems.get(id) != str(error):
                    logger.error("What was ordered to be %sd stays for now: %s", order.verb, error)
                self._problems[id] = str(error)
        return finished

    def is_due(self, order: Order) -> bool:
        """Say whether the time has come in which a deletion could be taken back."""
        return order.verb is Verb.ERASE or self._clock() * 1000 >= self.due(order)

    def due(self, order: Order) -> float:
        """Return when an order is carried out at the earliest, in milliseconds since 1970."""
        return order.when + self._undo_days() * 86_400_000 * (order.verb is Verb.DELETE)

    def why_not(self, id: str) -> str:
        """Return why an order that is due could not be carried out; empty if nothing is in its way."""
        return self._problems.get(id, "")

    def _carry_out(self, id: str, order: Order) -> bool:
        """Go on with an order as far as it can be; say whether it is done."""
        decision = Decision(
            id=id, verb=order.verb, target=order.target, reason="", who=order.who, when=order.when
        )
        doomed = self._places.catalog.doomed(decision)
        if not doomed.is_in_force:
            return self._finish(id, order, "taken back")
        if doomed.is_held:
            self._problems[id] = "a legal hold keeps it"
            return False
        if not doomed.is_stated:
            return False
        if order.verb is Verb.DELETE:
            self._purge(order, doomed, ())
            return self._finish(id, replace(order, is_purged=True), "gone")
        # As long as rows tell which instances the study has, and whose it is.
        if patients := self._marks(id, order, doomed.patients):
            order = replace(order, patients=patients)
            self.orders.change(id, order)
        uids = {entry.SOPInstanceUID for entry in doomed.entries}
        if len(order.target) < 3:
            # One that was moved here is sent in another study.
            uids |= {entry.SeriesInstanceUID for entry in doomed.entries}
        self.orders.note_instances(id, uids)
        self._clear_shelves(order, doomed.entries)
        others = [each.id for each in doomed.others]
        self._purge(order, doomed, others)
        if not order.is_purged:
            order = replace(order, is_purged=True)
            self.orders.change(id, order)
        self._places.forget_patients(id, order.patients)
        if not (self._places.catalog.scour() and self._places.scour()):
            return False
        return self._finish(id, order, "erased")

    def _marks(self, id: str, order: Order, patients: Iterable[PatientKey]) -> tuple[bytes, ...]:
        held = (arrival.patient for arrival in self._places.held.list(study=order.target[0]))
        found = {mark(id, *each[:2]) for each in (*patients, *held) if each.PatientID}
        return tuple(sorted(found | set(order.patients)))

    def _purge(self, order: Order, doomed: Doomed, decisions: Sequence[str]) -> None:
        places, is_erased = self._places, order.verb is Verb.ERASE
        for start in range(0, len(doomed.entries), _BATCH):
            batch = [*doomed.entries[start : start + _BATCH]]
            for entry in batch:
                self._free(entry.holding, is_erased)
            places.catalog.purge(order.target[0], batch)
        if decisions:
            places.erase_decisions(decisions)
            places.catalog.purge(order.target[0], [], decisions)

    def _free(self, holding: Holding, is_erased: bool) -> None:
        try:
            self._places.store.remove(holding, erase=is_erased)
        except Damaged:
            # Nobody can say whose bytes these are; what is erased must not be called so.
            if is_erased:
                raise
            # No row will tell any more where they lie: they go like erased ones, if nothing else is there.
            with suppress(Damaged):
                self._places.store.remove(holding, erase=True)
        self._places.forget_damage(holding.sha256)

    def _clear_shelves(self, order: Order, entries: Sequence[Entry]) -> None:
        """Remove what waits for a person: held instances, and files that could not become one.

        Such a file may say of itself no more than the UID of its instance, as the command named it.
        """
        places, study = self._places, order.target[0]
        for arrival in list(places.held.list(study=study)):
            entry = arrival.entry
            uids = (entry.StudyInstanceUID, entry.SeriesInstanceUID, entry.SOPInstanceUID)
            if uids[: len(order.target)] == order.target:
                places.held.take(arrival)
                places.store.remove(entry.holding, erase=True)
        places.rejected.erase(order.target[-1], {entry.SOPInstanceUID for entry in entries})

    def _finish(self, id: str, order: Order, outcome: str) -> bool:
        self.orders.change(id, replace(order, done=int(self._clock() * 1000), outcome=outcome))
        uids = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        detail = {"decision": id, "verb": order.verb.value, **dict(zip(uids, order.target, strict=False))}
        self._audit.record("disposal", None, outcome, detail)
        logger.info("Decision %s to %s is carried out: %s.", id, order.verb, outcome)
        return True
