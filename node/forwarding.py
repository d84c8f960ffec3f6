"""Forwarding: a transfer's instances go where it says, through the one door out, one after the other.

By C-STORE to an Application Entity; the ways to web servers and buckets are in `node.routing`. What the
receiver takes or refuses for good is settled at once and never sent again; what it cannot take at the moment,
and everything it did not answer, stays to be tried. A study that grows meanwhile is completed.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

from catalog import Busy, Damaged, Entry, NotFound, PacsError, Selection
from node.contracts import Audit, Device, Outgoing, Scope, StoreResult
from node.dimse.commands import HIGH, LOW, MEDIUM
from node.dimse.delivery import Delivery, NotAccepted, Pair
from node.dimse.dialing import Peer
from node.dimse.limits import Limits
from node.dimse.outgoing import Convert
from node.dimse.session import Secure
from node.dimse.statuses import PROCESSING_FAILURE, SUCCESS, is_warning
from node.transfers import Item, Lane, Order, Outcome, Verdict
from node.transfers.messages import Job
from node.transfers.worker import Hands

logger = logging.getLogger(__name__)

_PRIORITY: Final = {Lane.NOW: HIGH, Lane.NORMAL: MEDIUM, Lane.BULK: LOW}
_PATIENCE: Final = 3
"""Refusals for the moment, one after the other, after which the rest is left for later."""
_RESOURCE_LIMITATION: Final = 0x0213
"""PS3.7 Annex C.5."""


class Calling(NamedTuple):
    """How devices are called: their rows in the book, our limits, and how a connection is secured."""

    device_of: Callable[[str], Device | None]
    limits: Limits
    secure: Secure


class Sending(Protocol):
    """How instances reach one destination; `Delivery` is the one by C-STORE, and says what each does."""

    last_word: PacsError | None

    def expect(self, pairs: Iterable[Pair]) -> None:
        """Hear which SOP Classes and transfer syntaxes will come."""

    def prepare(self, outgoing: Outgoing) -> None:
        """Hear which instance comes next."""

    def begin(self, outgoing: Outgoing) -> None:
        """Send an instance; its answer comes with `end`."""

    def end(self, is_unwanted: Callable[[], bool] = bool) -> StoreResult:
        """Return the answer to the last `begin`, in the statuses of C-STORE."""

    def close(self, *, release: bool = True) -> None:
        """Give back what sending took."""


Way = Callable[[Job, Scope], Sending]
"""Opens what sends a job's instances; may raise what stands against it just now."""


class AeWay:
    """The way to devices of the book: by C-STORE."""

    def __init__(self, calling: Calling, convert: Convert) -> None:
        self._calling = calling
        self._convert = convert

    def __call__(self, job: Job, scope: Scope) -> Sending:
        """Return what sends to the job's destination.

        Raises:
            NotFound: it is not in the book with a port.
            PacsError: its certificates cannot be read.
        """
        return self.to(job.order.destination, job, scope)

    def to(self, ae_title: str, job: Job, scope: Scope) -> Sending:
        """Return what sends to a device. Raises as a call."""
        device = self._calling.device_of(ae_title)
        if device is None or not device.port:
            remedy = f"Add it: peerpacs devices add {ae_title} --address HOST --port PORT"
            raise NotFound(f"{ae_title} is not in the device book with a port.", remedy)
        return Delivery(
            Peer(
                device.ae_title,
                device.address,
                device.port,
                scope.ae_title,
                self._calling.secure(device),
            ),
            self._calling.limits,
            self._convert,
            transfer_syntaxes=device.transfer_syntaxes,
            priority=_PRIORITY[job.lane],
        )


class ForwardCarrier:
    """Carries the jobs that send one way; any number of threads may use it at once."""

    def __init__(
        self,
        scope_of: Callable[[Order], Scope | None],
        way: Way,
        audit: Audit,
    ) -> None:
        """`scope_of` opens what an order sends; it may raise what stands against that."""
        self._scope_of = scope_of
        self._way = way
        self._audit = audit

    def carry(self, job: Job, hands: Hands) -> Outcome:
        """Send what is not settled yet; what is there twice is sent once."""
        scope = self._scope_of(job.order)
        if scope is None:
            return Outcome(Verdict.FAILED, f"There is no archive {job.order.archive!r} here any more.")
        try:
            delivery = self._way(job, scope)
        except PacsError as error:
            # A row of the book, a certificate or a key can be mended, and then it goes on.
            return Outcome(Verdict.LATER, error.what, error.next, blames_destination=True)
        forward = _Forward(job, hands, scope, delivery)
        try:
            outcome = forward.run()
        finally:
            forward.close()
        detail = {
            "transfer": job.id,
            "archive": job.order.archive,
            "destination": job.order.destination,
            "StudyInstanceUID": [job.order.StudyInstanceUID],
            "completed": forward.sent,
            "failed": forward.failed,
        }
        if forward.sent or forward.failed or outcome.verdict is not Verdict.LATER:
            self._audit.record("forward", None, _told(outcome, forward.failed), detail)
        return outcome


def selection_of(order: Order) -> Selection:
    """Return which instances an order names."""
    return Selection(
        studies=(order.StudyInstanceUID,),
        series=(order.SeriesInstanceUID,) if order.SeriesInstanceUID else (),
        instances=order.SOPInstanceUIDs,
    )


def _told(outcome: Outcome, failed: int) -> str:
    if outcome.verdict is not Verdict.OVER:
        return outcome.verdict.value
    return "partial" if failed else "success"


class _Answer(Enum):
    """What a receiver's answer means for the instance."""

    TAKEN = auto()
    REFUSED = auto()
    NOT_NOW = auto()


class _Enough(Exception):
    """Nothing more can be sent in this attempt."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.why)
        self.outcome = outcome


class _Forward:
    """One attempt at one job: sends an instance, and opens the next while the answer is awaited."""

    def __init__(self, job: Job, hands: Hands, scope: Scope, delivery: Sending) -> None:
        self._job = job
        self._hands = hands
        self._scope = scope
        self._delivery = delivery
        self._settled = set(job.settled)
        self._later: PacsError | None = None
        """Why something is left, if anything is."""
        self._left: set[str] = set()
        self._in_a_row = 0
        self._next: tuple[Entry, Outgoing] | None = None
        self.sent = self.failed = 0

    def run(self) -> Outcome:
        """Send everything, and what came meanwhile."""
        try:
            entries = self._find()
            if not entries and not self._settled:
                what = "Nothing of it is in this archive: it was deleted or rejected, or never came."
                return Outcome(Verdict.FAILED, what, "Look for it with: peerpacs find")
            while entries:
                self._send_all(entries)
                entries = self._find()
        except _Enough as enough:
            return enough.outcome
        if self._later:
            return Outcome(Verdict.LATER, self._later.what, self._later.next)
        return Outcome(Verdict.OVER)

    def close(self) -> None:
        """End the association."""
        if self._next:
            self._next[1].close()
        self._delivery.close(release=True)

    def _find(self) -> deque[Entry]:
        found = self._scope.catalog.select(selection_of(self._job.order))
        done = self._settled | self._left
        entries = deque(entry for entry in found if entry.SOPInstanceUID not in done)
        if entries:
            self._hands.plan(Counter(entry.SeriesInstanceUID for entry in found))
            self._delivery.expect((entry.SOPClassUID, entry.TransferSyntaxUID) for entry in entries)
        return entries

    def _send_all(self, entries: deque[Entry]) -> None:
        self._next = self._open_next(entries)
        while self._next:
            if self._hands.is_unwanted():
                raise _Enough(Outcome(Verdict.YIELDED))
            (entry, outgoing), self._next = self._next, None
            try:
                self._send(entry, outgoing, entries)
            finally:
                outgoing.close()
            self._next = self._next or self._open_next(entries)

    def _send(self, entry: Entry, outgoing: Outgoing, entries: deque[Entry]) -> None:
        try:
            self._delivery.begin(outgoing)
            self._next = self._open_next(entries)
            result = self._delivery.end(self._hands.is_stopping)
        except (NotAccepted, NotFound, Damaged) as error:
            self._settle(entry, 0, error.what)
        except PacsError as error:
            self._stumble(entry, error)
        else:
            self._take(entry, outgoing.size, result)

    def _open_next(self, entries: deque[Entry]) -> tuple[Entry, Outgoing] | None:
        while entries:
            entry = entries.popleft()
            outgoing = None
            try:
                outgoing = self._scope.retriever.open(entry)
                self._delivery.prepare(outgoing)
                return entry, outgoing
            except NotFound:
                self._left.add(entry.SOPInstanceUID)  # It was deleted since it was looked up.
            except PacsError as error:
                if error.retry:
                    self._leave(entry, error)
                else:
                    self._settle(entry, 0, error.what)
            if outgoing is not None:
                outgoing.close()
        return None

    def _take(self, entry: Entry, size: int, result: StoreResult) -> None:
        said = f"{self._job.order.destination} answered {result.status:04X} {result.comment}".strip()
        match _meaning(result.status):
            case _Answer.TAKEN:
                self._settle(entry, size)
            case _Answer.REFUSED:
                self._settle(entry, 0, said)
            case _Answer.NOT_NOW:
                self._leave(entry, Busy(f"{said}.", "It has no room or no time: look at the receiver."))
                self._in_a_row += 1
                if self._in_a_row >= _PATIENCE and self._later:
                    why, remedy = self._later.what, self._later.next
                    raise _Enough(Outcome(Verdict.LATER, why, remedy, blames_destination=True))

    def _stumble(self, entry: Entry, error: PacsError) -> None:
        """Go on after the association broke, unless the receiver cannot be reached at all."""
        if self._delivery.last_word is error:
            # It could not be dialled: nothing else would fare better.
            raise _Enough(Outcome(Verdict.LATER, error.what, error.next, blames_destination=True))
        if self._hands.is_unwanted():
            raise _Enough(Outcome(Verdict.YIELDED))
        # It may be this one instance that the receiver dies of, so the others go first.
        self._leave(entry, error)
        if self._delivery.last_word:
            raise _Enough(Outcome(Verdict.LATER, error.what, error.next))

    def _leave(self, entry: Entry, why: PacsError) -> None:
        self._left.add(entry.SOPInstanceUID)
        self._later = self._later or why

    def _settle(self, entry: Entry, size: int, why: str = "") -> None:
        self._in_a_row = 0
        self._settled.add(entry.SOPInstanceUID)
        self._hands.note(Item(entry.SeriesInstanceUID, entry.SOPInstanceUID, size, why))
        self.failed += bool(why)
        self.sent += not why


def _meaning(status: int) -> _Answer:
    """PS3.4 Table B.2-1 and PS3.7 Annex C: what a C-STORE status means for the instance."""
    if status == SUCCESS or is_warning(status):
        return _Answer.TAKEN
    is_passing = status >> 8 == 0xA7 or status in (PROCESSING_FAILURE, _RESOURCE_LIMITATION)
    return _Answer.NOT_NOW if is_passing else _Answer.REFUSED
