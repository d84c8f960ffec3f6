"""The owner's work: has keepers take what they are to have, and notes each receipt before it counts.

A study that grows meanwhile is completed; what it holds no more is dropped there. Nothing is dropped from a
node that is no longer to have it before the others have proved theirs.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from catalog import Damaged, Decision, Entry, PacsError, Selection, Unavailable, Verb
from catalog.statements import Stated
from federation.copying import AT_ONCE, CopyLink, Order, Told
from federation.owners import Owner
from federation.readable import Readable, Row, packed
from node.transfers import Item, Outcome, Verdict
from node.transfers.messages import Job
from node.transfers.worker import Hands

from .ledger import Ledger
from .rows import item_of

logger = logging.getLogger(__name__)

_BYTES_AT_ONCE: Final = 512 << 20
"""Of one order; a keeper answers as it goes."""
_SAYS: Final = b"readable"
"""Part of the hash of what is told, so that keepers are told anew what earlier versions did not say."""
_encode: Final = msgspec.msgpack.Encoder().encode


class Kept(Protocol):
    """An archive's catalog, as much of it as copying needs."""

    def versions(self, target: tuple[str, ...]) -> list[Entry]:
        """Return every stored version of a study: hidden ones and those not preferred too."""

    def decisions(self, StudyInstanceUID: str) -> list[Decision]:
        """Return the decisions that touch the study, oldest first."""

    def stated(self, StudyInstanceUID: str) -> Stated | None:
        """Return what the log would state about a study now."""

    def select(self, selection: Selection) -> list[Entry]:
        """Return the instances of a study that are seen."""

    def corrections(self, entry: Entry) -> list[Decision]:
        """Return the corrections in force for an instance, oldest first."""


class Study(NamedTuple):
    """What there is of a study to be kept elsewhere."""

    entries: tuple[Entry, ...]
    """Every version with a row, also those that are deleted and can still be taken back."""
    decisions: tuple[bytes, ...]
    statement: bytes
    may_go: bool
    """Whether a person decided that something of it goes: what has no row then is gone, and not lost."""

    @property
    def said(self) -> bytes:
        """What is told beside the objects, as a hash."""
        return sha256(b"\0".join((_SAYS, *self.decisions, self.statement))).digest()

    @property
    def digests(self) -> set[bytes]:
        """The SHA-256 of each version."""
        return {entry.holding.sha256 for entry in self.entries}


def study_of(catalog: Kept, StudyInstanceUID: str) -> Study:
    """Return what an archive has of a study to be kept elsewhere."""
    found = tuple(catalog.versions((StudyInstanceUID,)))
    decisions = catalog.decisions(StudyInstanceUID)
    stated = catalog.stated(StudyInstanceUID)
    statement = _encode((stated.study, stated.series)) if stated else b""
    return Study(found, tuple(map(_encode, decisions)), statement, lets_go(decisions))


def readable_of(catalog: Kept, StudyInstanceUID: str) -> Readable | None:
    """Return what readers are given of a study, where anything of it is seen."""
    stated = catalog.stated(StudyInstanceUID)
    if stated is None:
        return None
    is_decided = bool(catalog.decisions(StudyInstanceUID))
    rows = [
        Row(_placeless(entry), tuple(catalog.corrections(entry)) if is_decided else ())
        for entry in catalog.select(Selection(studies=(StudyInstanceUID,)))
    ]
    return Readable(stated.study, tuple(stated.series), tuple(rows))


def _placeless(entry: Entry) -> Entry:
    return replace(entry, source="", holding=replace(entry.holding, where=b""))


def lets_go(decisions: Sequence[Decision]) -> bool:
    """Say whether a deletion or erasure is among decisions, and was not taken back."""
    undone = {each.detail for each in decisions if each.verb is Verb.UNDO}
    return any(each.verb in (Verb.DELETE, Verb.ERASE) and each.id not in undone for each in decisions)


class CopyCarrier:
    """Carries the jobs of kind COPY; any number of threads may use it at once."""

    def __init__(
        self,
        ledger: Ledger,
        link: CopyLink,
        own: str,
        catalog_of: Callable[[str], Kept | None],
        may_go: Callable[[str], str],
        may_drop: Callable[[str, str], bool],
        on_damage: Callable[[str, Entry], object] = lambda archive, entry: None,
        on_over: Callable[[str], None] = lambda uid: None,
        on_dropped: Callable[[str, str, int], None] = lambda uid, node_id, count: None,
        has_left: Callable[[str], bool] = lambda node_id: False,
    ) -> None:
        """`own` is this node's id; `may_go` says why nothing goes to a keeper now, or nothing.

        Whoever `has_left` the grid is told nothing any more: it forgets all by itself.

        `may_drop` says whether who is no longer to have copies of a study may forget them. `on_damage`
        hears of an object whose bytes a keeper found to be others, `on_over` of each study that a keeper
        has whole, `on_dropped` of how many objects one dropped that were deleted here.
        """
        self._ledger = ledger
        self._link = link
        self._own = own
        self._catalog_of = catalog_of
        self._may_go = may_go
        self._may_drop = may_drop
        self._has_left = has_left
        self._on_damage = on_damage
        self._on_over = on_over
        self._on_dropped = on_dropped

    def carry(self, job: Job, hands: Hands) -> Outcome:
        """Have one keeper take what it lacks of one study."""
        order, ledger = job.order, self._ledger
        catalog = self._catalog_of(order.archive)
        if catalog is None:
            return Outcome(Verdict.FAILED, f"There is no archive {order.archive!r} here any more.")
        if self._has_left(order.destination):
            return Outcome(Verdict.OVER)
        if why := self._may_go(order.destination):
            return Outcome(Verdict.LATER, why, "See: peerpacs copies", blames_destination=True)
        uid, node_id = order.StudyInstanceUID, order.destination
        while True:
            study, receipts = study_of(catalog, uid), ledger.receipts(uid, node_id)
            if not self._is_wanted(uid, node_id, study):
                return self._let_go(order.archive, uid, node_id, study)
            known = receipts.all()
            if study.may_go:
                self._drop_deleted(order.archive, uid, node_id, known - study.digests, study.digests)
            missing = [entry for entry in study.entries if entry.holding.sha256 not in known]
            if not missing and receipts.said == study.said:
                self._on_over(uid)
                return Outcome(Verdict.OVER)
            hands.plan(Counter(entry.SeriesInstanceUID for entry in missing))
            try:
                problem = self._send_all(job, hands, study, missing, catalog)
            except PacsError as error:
                blames = isinstance(error, Unavailable) or not error.retry
                return Outcome(Verdict.LATER, error.what, error.next, blames_destination=blames)
            if hands.is_unwanted():
                return Outcome(Verdict.YIELDED)
            ledger.received(uid, node_id, (), study.said)
            if problem is not None:
                return Outcome(Verdict.LATER, problem.what, problem.next)

    def _drop_deleted(
        self, archive: str, uid: str, node_id: str, surplus: set[bytes], here: set[bytes]
    ) -> None:
        """Have a keeper drop what was deleted of a study that it keeps; what came again since stays."""
        owed = self._ledger.droppings.owed(uid, node_id)
        if gone := (surplus | owed) - here:
            self._ask_to_drop(archive, uid, node_id, gone, is_all=False)
        elif owed:
            self._ledger.droppings.dropped(uid, node_id, 0)

    def _ask_to_drop(self, archive: str, uid: str, node_id: str, gone: set[bytes], *, is_all: bool) -> None:
        # First here: what a crash leaves is a copy too many, never a receipt for nothing.
        if gone:
            self._ledger.droppings.owe(uid, node_id, gone)
        self._ledger.withdraw(uid, node_id, () if is_all else gone)
        count = self._link.drop(node_id, archive, uid, () if is_all else sorted(gone))
        if self._ledger.droppings.dropped(uid, node_id, count):
            self._on_dropped(uid, node_id, count)

    def _is_wanted(self, uid: str, node_id: str, study: Study) -> bool:
        placed = self._ledger.placed(uid)
        is_gone = study.may_go and not study.entries
        return not is_gone and placed is not None and node_id in placed.nodes

    def _let_go(self, archive: str, uid: str, node_id: str, study: Study) -> Outcome:
        surplus = self._ledger.receipts(uid, node_id).all() - study.digests
        if (surplus and not study.may_go) or not self._may_drop(archive, uid):
            why = "The other copies of it are not proved yet, or it is not whole here without them."
            return Outcome(Verdict.LATER, why, "Nothing is dropped before.")
        self._ask_to_drop(archive, uid, node_id, surplus, is_all=True)
        self._on_over(uid)
        return Outcome(Verdict.OVER)

    def _send_all(
        self, job: Job, hands: Hands, study: Study, missing: list[Entry], catalog: Kept
    ) -> PacsError | None:
        """Have a keeper take objects, as long as it is wanted; return why some of them do not come.

        What readers are given is told last, once all is there that comes.
        """
        uid, node_id = job.order.StudyInstanceUID, job.order.destination
        owner = Owner(self._own, job.order.archive)
        problem: PacsError | None = None
        for batch in [*_batches(missing), []]:
            readable = b"" if batch else packed(readable_of(catalog, uid))
            items = tuple(map(item_of, batch))
            order = Order(owner, uid, items, study.decisions, study.statement, readable)
            for told in self._link.keep(node_id, order):
                self._take(job, hands, batch, told)
                for at, error in told.failed:
                    problem = problem or error
                    if isinstance(error, Damaged):
                        self._on_damage(job.order.archive, batch[at])
                if hands.is_unwanted():
                    return problem
        return problem

    def _take(self, job: Job, hands: Hands, batch: list[Entry], told: Told) -> None:
        entries = [batch[at] for at in told.kept if at < len(batch)]
        if not entries:
            return
        uid, node_id = job.order.StudyInstanceUID, job.order.destination
        self._ledger.received(uid, node_id, [entry.holding.sha256 for entry in entries])
        for entry in entries:
            hands.note(Item(entry.SeriesInstanceUID, entry.SOPInstanceUID, entry.holding.size))


def _batches(entries: list[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        if batch and (len(batch) >= AT_ONCE or size + entry.holding.size > _BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.holding.size
    if batch:
        yield batch
