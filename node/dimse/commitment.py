"""Storage Commitment Push Model (PS3.4 Annex J) on an association that we accepted, in both roles.

As its provider we take N-ACTION and answer at once; the result goes out by N-EVENT-REPORT, over this
association or another. As its user we take the N-EVENT-REPORT of a provider that calls us back.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]

from catalog import OutOfSpace, Unavailable
from node.contracts import Caller, Commitment, CommitmentAnswer, CommitmentResult, Reference, Service

from .association import Association
from .commands import N_ACTION_RQ, N_EVENT_REPORT_RQ, RESPONSE, Command, encode_command
from .negotiation import Context
from .session import Session, response, trail
from .statuses import (
    CLASS_INSTANCE_CONFLICT,
    INVALID_ARGUMENT,
    INVALID_INSTANCE,
    MISTYPED_ARGUMENT,
    NO_SUCH_ACTION,
    NO_SUCH_EVENT_TYPE,
    NO_SUCH_INSTANCE,
    NO_SUCH_SOP_CLASS,
    NOT_AUTHORIZED,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SUCCESS,
    UNRECOGNIZED_OPERATION,
)
from .syntaxes import COMMITMENT, COMMITMENT_INSTANCE
from .transactions import LARGEST, Malformed, TooMany, decode_request, decode_result, encode_result
from .transport import Ended

logger = logging.getLogger(__name__)
REQUEST_COMMITMENT: Final = 1
"""Action Type ID, PS3.4 J.3.2."""
ALL_COMMITTED: Final = 1
SOME_FAILED: Final = 2
"""Event Type IDs, PS3.4 J.3.3."""
_ANSWER_WITHIN: Final = 30.0
"""Seconds that the answer to an N-EVENT-REPORT may take."""


class AssociationLine:
    """Satisfies `Line` over an association that its own thread reads; any other thread may report."""

    def __init__(self, association: Association, context: Context, caller: Caller) -> None:
        self.caller = caller
        self._association = association
        self._context = context
        self._changed = threading.Condition()
        self._turn = threading.Lock()
        self._message_id = 0
        self._answer: Command | None = None
        self._is_closed = False
        association.on_report_answer = self._heard

    def report(self, result: CommitmentResult) -> CommitmentAnswer:
        """Send an N-EVENT-REPORT and return what is answered.

        Raises:
            Unavailable: the association ended, or nothing was answered in time.
        """
        data = encode_result(result, self._context.transfer_syntax)
        with self._turn:
            self._message_id = self._message_id % 0xFFFF + 1
            self._answer = None
            if self._is_closed:
                raise Unavailable("The association over which it was asked has ended.")
            try:
                self._association.send(self._context, report_request(self._message_id, result), data)
            except Ended as error:
                raise Unavailable(f"The association broke: {error}.") from None
            return self._await()

    def close(self) -> None:
        """Say that the association has ended."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _await(self) -> CommitmentAnswer:
        deadline = time.monotonic() + _ANSWER_WITHIN
        with self._changed:
            while self._answer is None and not self._is_closed:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise Unavailable(f"The result was not acknowledged within {_ANSWER_WITHIN:.0f} s.")
            if self._answer is None:
                raise Unavailable("The association ended before the result was acknowledged.")
            return answer_of(self._answer)

    def _heard(self, command: Command) -> None:
        with self._changed:
            if command.MessageIDBeingRespondedTo == self._message_id:
                self._answer = command
                self._changed.notify_all()


def open_line(session: Session) -> AssociationLine | None:
    """Return a line to the other side, made known to the archive, if results may go over this association."""
    commitment = session.scope.commitment
    for context in session.association.contexts.values():
        if commitment and context.abstract_syntax == COMMITMENT and context.peer_is_scu:
            line = AssociationLine(session.association, context, session.caller)
            commitment.opened(line)
            return line
    return None


def close_line(session: Session, line: AssociationLine) -> None:
    """Say everywhere that the association has ended."""
    line.close()
    if session.scope.commitment:
        session.scope.commitment.closed(line)


def serve_commitment(session: Session, context: Context, request: Command) -> None:
    """Answer one request on a presentation context of Storage Commitment."""
    data: bytes | None = b""
    if request.has_data_set:
        data = session.association.receive_data_set(context, LARGEST)
    commitment = session.scope.commitment
    try:
        if commitment is None:
            raise _Refused(UNRECOGNIZED_OPERATION, "This archive commits to nothing")
        if request.CommandField == N_ACTION_RQ:
            _serve_action(session, commitment, context, request, data)
        elif request.CommandField == N_EVENT_REPORT_RQ:
            _serve_report(session, commitment, context, request, data)
        else:
            raise _Refused(UNRECOGNIZED_OPERATION, "No such operation on this context")
    except _Refused as refusal:
        session.respond(context, request, refusal.status, str(refusal))
        session.tally.tell(f"was refused Storage Commitment ({refusal.status:04X})")
        detail = {"status": f"{refusal.status:04X}", "why": str(refusal)}
        session.environment.audit.record("commit", session.caller, "failure", detail)


class _Refused(Exception):
    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status = status


def _serve_action(
    session: Session, commitment: Commitment, context: Context, request: Command, data: bytes | None
) -> None:
    if not context.peer_is_scu or session.line is None:
        raise _Refused(UNRECOGNIZED_OPERATION, "The caller gave up the SCU role for this SOP Class")
    _check_target(request.RequestedSOPClassUID, request.RequestedSOPInstanceUID)
    if not session.may(Service.COMMIT).is_allowed:
        who = session.caller.ae_title or "This AE"
        raise _Refused(NOT_AUTHORIZED, f"{who} may not ask for commitment here")
    if request.ActionTypeID != REQUEST_COMMITMENT:
        raise _Refused(NO_SUCH_ACTION, "Action Type ID is not 1")
    transaction, references = _request(data, context)
    try:
        answer = commitment.request(session.line, transaction, references)
    except Exception as error:
        raise _failure(error) from error
    if answer.status != SUCCESS:
        raise _Refused(answer.status, answer.comment)
    try:
        session.association.send(context, response(request, SUCCESS))
    finally:
        commitment.answered(session.line, transaction)
    session.tally.tell(f"asked for commitment of {len(references)} instances")


def _request(data: bytes | None, context: Context) -> tuple[str, list[Reference]]:
    if data is None:
        raise _Refused(RESOURCE_LIMITATION, f"The request is longer than {LARGEST} bytes")
    if not data:
        raise _Refused(MISTYPED_ARGUMENT, "The request has no data set")
    try:
        return decode_request(data, context.transfer_syntax)
    except Malformed as error:
        raise _Refused(INVALID_ARGUMENT, str(error)) from None
    except TooMany as error:
        raise _Refused(RESOURCE_LIMITATION, str(error)) from None


def _serve_report(
    session: Session, commitment: Commitment, context: Context, request: Command, data: bytes | None
) -> None:
    _check_target(request.AffectedSOPClassUID, request.AffectedSOPInstanceUID)
    # Some providers leave the Event Type ID out; the data set says the same.
    if request.EventTypeID not in (ALL_COMMITTED, SOME_FAILED, None):
        raise _Refused(NO_SUCH_EVENT_TYPE, "Event Type ID is neither 1 nor 2")
    try:
        if not data:
            raise Malformed("The result has no data set, or one that is too long")
        result = decode_result(data, context.transfer_syntax)
    except Malformed as error:
        raise _Refused(INVALID_ARGUMENT, str(error)) from None
    try:
        answer = commitment.take_result(session.caller, result)
    except Exception as error:
        raise _failure(error) from error
    if answer.status != SUCCESS:
        raise _Refused(answer.status, answer.comment)
    session.respond(context, request, SUCCESS)
    session.tally.tell("brought a result of Storage Commitment")


def _check_target(SOPClassUID: str | None, SOPInstanceUID: str | None) -> None:
    """Refuse what does not name the well-known instance of the class, PS3.7 Annex C.5."""
    if SOPClassUID != COMMITMENT:
        raise _Refused(NO_SUCH_SOP_CLASS, "SOP Class is not that of the presentation context")
    if not SOPInstanceUID:
        raise _Refused(INVALID_INSTANCE, "No SOP Instance UID")
    if SOPInstanceUID == COMMITMENT_INSTANCE:
        return
    if SOPInstanceUID in UID_dictionary:
        raise _Refused(CLASS_INSTANCE_CONFLICT, "That instance is of another SOP Class")
    raise _Refused(NO_SUCH_INSTANCE, f"Only {COMMITMENT_INSTANCE} is here")


def _failure(error: Exception) -> _Refused:
    if isinstance(error, OutOfSpace):
        return _Refused(RESOURCE_LIMITATION, error.what)
    logger.error("A commitment could not be taken (%s); its sender was told 0110.", trail(error))
    return _Refused(PROCESSING_FAILURE, "The node failed; its log says more")


def report_request(message_id: int, result: CommitmentResult) -> bytes:
    """Return the command set of an N-EVENT-REPORT-RQ, PS3.7 10.3.1."""
    return encode_command(
        Command(
            CommandField=N_EVENT_REPORT_RQ,
            MessageID=message_id,
            CommandDataSetType=0x0001,
            AffectedSOPClassUID=COMMITMENT,
            AffectedSOPInstanceUID=COMMITMENT_INSTANCE,
            EventTypeID=SOME_FAILED if result.failed else ALL_COMMITTED,
        )
    )


def answer_of(command: Command) -> CommitmentAnswer:
    """Return what a response says."""
    status = PROCESSING_FAILURE if command.Status is None else command.Status
    return CommitmentAnswer(status, command.ErrorComment or "")


def is_answer(command: Command, request: int, message_id: int) -> bool:
    """Say whether a command is the response to this request of ours."""
    return command.CommandField == request | RESPONSE and command.MessageIDBeingRespondedTo == message_id
