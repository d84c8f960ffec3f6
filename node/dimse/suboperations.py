"""The sub-operations of one C-MOVE or C-GET and their responses, PS3.4 C.4.2 and C.4.3, whatever way they go.

Counters count what they say: Completed only what succeeded; Remaining and the other three are always the
total. A sub-operation that fails never ends the retrieve. Pending goes out at the start and about each
second by the server's pulse, whether or not anything moves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from catalog import Attributes, Entry, PacsError, encode_identifier
from node.contracts import Outgoing, Service, StoreResult, Unwanted

from .commands import (
    C_CANCEL_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    NO_DATA_SET,
    RESPONSE,
    Command,
    encode_command,
    error_comment,
)
from .negotiation import Context
from .pdu import UNEXPECTED_PARAMETER, Violation
from .session import Session, trail
from .statuses import (
    CANCEL,
    CANNOT_PERFORM_SUBOPERATIONS,
    PENDING,
    SUBOPERATIONS_WITH_FAILURES,
    SUCCESS,
    is_warning,
)
from .transport import Ended

logger = logging.getLogger(__name__)
US_MAX: Final = 0xFFFF
"""The counters are US: a larger number is shown as this one, and the instances are sent all the same."""
TOLD: Final = 5
"""Failures of one retrieve that are told one by one in the log."""


class Way(Protocol):
    """How instances get to where they shall go."""

    def prepare(self, outgoing: Outgoing) -> None:
        """Read the beginning of the next instance."""

    def begin(self, outgoing: Outgoing) -> None:
        """Send an instance."""

    def end(self, is_unwanted: Callable[[], bool]) -> StoreResult:
        """Return the answer to the last `begin`."""


class Ears:
    """What the caller says while it is being served: C-CANCEL, C-STORE-RSP, or the end of its association."""

    def __init__(self, session: Session, request: Command) -> None:
        self.ended: Ended | None = None
        """Kept, not raised: it must not be mistaken for the end of another association."""
        self._association = session.association
        self._request = request
        self._is_cancelled = False
        self._awaited: int | None = None
        self._answer: Command | None = None

    def is_cancelled(self) -> bool:
        """Listen without waiting."""
        try:
            while not self._is_cancelled and self._association.connection.has_input():
                self._listen()
        except Ended as error:
            self.ended = error
            self._is_cancelled = True
        return self._is_cancelled

    def await_answer(self, message_id: int) -> None:
        """Hear that a C-STORE-RQ with this Message ID goes to the caller, and that one alone."""
        self._awaited, self._answer = message_id, None

    def answer(self) -> Command:
        """Return the C-STORE-RSP that is awaited; it may have come while something else was.

        Raises:
            Ended: the caller left, or said what nobody asked for.
        """
        while self._answer is None:
            if self.ended:
                raise self.ended
            self._listen()
        return self._answer

    def _listen(self) -> None:
        """Take in one message."""
        context, command = self._association.receive_command()
        if self._association.took_answer(context, command):
            return
        if command.CommandField == C_CANCEL_RQ:
            self._is_cancelled |= command.MessageIDBeingRespondedTo == self._request.MessageID
            return
        is_answer = command.CommandField == C_STORE_RQ | RESPONSE
        if not is_answer or self._awaited is None or command.MessageIDBeingRespondedTo != self._awaited:
            raise Violation(UNEXPECTED_PARAMETER, "something came that nobody waits for")
        self._answer, self._awaited = command, None


class SubOperations:
    """The sub-operations of one request and their responses."""

    def __init__(
        self,
        session: Session,
        context: Context,
        request: Command,
        entries: list[Entry],
        destination: str = "",
    ) -> None:
        self._session = session
        self._context = context
        self._request = request
        self._entries = entries
        self._destination = destination
        self._completed = self._warning = self._size = 0
        self._failed: list[str] = []
        self._remaining = len(entries)
        self._complaint = ""
        """For the Error Comment: why something failed that no list can name, else the first reason."""
        self._is_over = False
        self._started = self._last = time.monotonic()

    def run(self, way: Way, ears: Ears) -> None:
        """Send everything, or until the caller cancels, then the final response."""
        try:
            if self._entries:
                self._session.association.send(self._context, self._response(PENDING))
                with self._session.environment.pulse.during(self._beat):
                    self._send_all(way, ears)
            if ears.ended:
                raise ears.ended
            status = self._status(ears)
            self._finish(status)
        except Ended:
            self._record("broken", 0)
            raise
        finally:
            self._session.scope.retriever.expect(())
        outcome = "failure" if status == CANNOT_PERFORM_SUBOPERATIONS else "partial" if status else "success"
        self._record(outcome, status)

    def _send_all(self, way: Way, ears: Ears) -> None:
        opened = self._opened(way)
        current = next(opened, None)
        try:
            while current is not None and not ears.is_cancelled():
                (entry, outgoing), current = current, None
                try:
                    way.begin(outgoing)
                except PacsError as error:
                    self._fail(entry, error.what)
                    current = next(opened, None)
                else:
                    current = next(opened, None)
                    self._count(entry, outgoing.size, way, ears)
                finally:
                    outgoing.close()
        finally:
            if current is not None:
                current[1].close()

    def _opened(self, way: Way) -> Iterator[tuple[Entry, Outgoing]]:
        """Yield what can be sent, with its beginning read, until nothing is wanted; the rest has failed."""
        retriever = self._session.scope.retriever
        for entry in self._entries:
            outgoing = None
            try:
                outgoing = retriever.open(entry)
                way.prepare(outgoing)
            except Unwanted:
                return
            except Exception as error:
                self._fail(entry, error.what if isinstance(error, PacsError) else trail(error))
                if outgoing is not None:
                    outgoing.close()
            else:
                yield entry, outgoing

    def _count(self, entry: Entry, size: int, way: Way, ears: Ears) -> None:
        try:
            result = way.end(ears.is_cancelled)
        except PacsError as error:
            self._fail(entry, error.what)
            return
        if result.status == SUCCESS:
            self._completed += 1
        elif is_warning(result.status):
            self._warning += 1
        else:
            self._fail(entry, f"The receiver answered {result.status:04X} {result.comment}".strip())
            return
        self._size += size
        self._remaining -= 1

    def _fail(self, entry: Entry, why: str) -> None:
        self._failed.append(entry.SOPInstanceUID)
        self._remaining -= 1
        is_named = bool(entry.SOPInstanceUID)
        if not self._complaint or not is_named:
            self._complaint = why
        if len(self._failed) <= TOLD:
            uid = entry.SOPInstanceUID if is_named else f"of series {entry.SeriesInstanceUID}"
            logger.warning("Instance %s could not be sent: %s", uid, why)

    def _beat(self) -> None:
        """Send Pending if none went out for a while; called by the pulse."""
        association = self._session.association
        now = time.monotonic()
        if now - self._last < self._session.environment.limits.progress:
            return
        if association.lock.acquire(blocking=False):
            try:
                if not self._is_over and association.connection.is_writable():
                    self._last = now
                    association.connection.send(association.message(self._context, self._response(PENDING)))
            except Ended:
                pass
            finally:
                association.lock.release()

    def _status(self, ears: Ears) -> int:
        """PS3.4 Tables C.4-2 and C.4-3."""
        if self._remaining and ears.is_cancelled():
            return CANCEL
        if self._failed and not self._completed and not self._warning:
            return CANNOT_PERFORM_SUBOPERATIONS
        return SUBOPERATIONS_WITH_FAILURES if self._failed or self._warning else SUCCESS

    def _finish(self, status: int) -> None:
        identifier = None
        if status:
            # What lies at a site that cannot be reached may have failed without a name.
            named = [uid for uid in self._failed if uid]
            uids: Attributes = {"00080058": {"vr": "UI", "Value": named}}
            identifier = encode_identifier(uids, self._context.transfer_syntax)
        association = self._session.association
        with association.lock:
            self._is_over = True
            association.connection.send(
                association.message(self._context, self._response(status), identifier)
            )

    def _response(self, status: int) -> bytes:
        """Remaining belongs to Pending and Cancel only, PS3.4 C.4.2.1.6."""
        has_remaining = status in (PENDING, CANCEL)
        return encode_command(
            Command(
                CommandField=self._request.CommandField | RESPONSE,
                MessageIDBeingRespondedTo=self._request.MessageID,
                CommandDataSetType=NO_DATA_SET if status in (SUCCESS, PENDING) else 0x0001,
                AffectedSOPClassUID=self._request.AffectedSOPClassUID,
                Status=status,
                ErrorComment=error_comment(self._complaint)
                if status != PENDING and self._complaint
                else None,
                NumberOfRemainingSuboperations=min(self._remaining, US_MAX) if has_remaining else None,
                NumberOfCompletedSuboperations=min(self._completed, US_MAX),
                NumberOfFailedSuboperations=min(len(self._failed), US_MAX),
                NumberOfWarningSuboperations=min(self._warning, US_MAX),
            )
        )

    def _record(self, outcome: str, status: int) -> None:
        session = self._session
        sent = self._completed + self._warning
        detail = {
            "status": f"{status:04X}",
            "completed": self._completed,
            "warning": self._warning,
            "failed": len(self._failed),
            "StudyInstanceUID": sorted({entry.StudyInstanceUID for entry in self._entries}),
        }
        if self._destination:
            detail["destination"] = self._destination
        service = Service.MOVE if self._request.CommandField == C_MOVE_RQ else Service.GET
        session.environment.audit.record(service.value, session.caller, outcome, detail)
        session.environment.counters.add(sent_instances=sent, sent_bytes=self._size)
        whither = f"to {self._destination}" if self._destination else "back"
        seconds = time.monotonic() - self._started
        session.tally.tell(
            f"had {sent} of {len(self._entries)} instances sent {whither}"
            f" ({self._size / 1e6:.1f} MB in {seconds:.1f} s)"
        )
