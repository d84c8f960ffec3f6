"""Storage Commitment on associations that we ask for: as its user the request, as its provider the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from catalog import NotPermitted, PacsError, Unavailable
from node.contracts import Caller, CommitmentAnswer, CommitmentResult, Device, Line, Reference

from .association import Association
from .commands import N_ACTION_RQ, N_EVENT_REPORT_RQ, Command, encode_command
from .commitment import REQUEST_COMMITMENT, answer_of, is_answer, report_request
from .dialing import Peer, dial, hang_up
from .limits import Limits
from .negotiation import Context
from .pdu import UNEXPECTED_PARAMETER, Violation
from .session import response
from .statuses import INVALID_ARGUMENT, SUCCESS
from .syntaxes import COMMITMENT, COMMITMENT_INSTANCE, UNCOMPRESSED
from .tls import Security
from .transactions import LARGEST, Malformed, decode_result, encode_request, encode_result
from .transport import Ended

_MESSAGE_ID: Final = 1
_GLANCE: Final = 0.25
"""Seconds between two looks whether the result has come by another way."""
_ANSWER_WITHIN: Final = 30.0


class CallingLine:
    """Satisfies `Line` over an association that we opened for results; one thread uses it."""

    def __init__(self, association: Association, context: Context, caller: Caller) -> None:
        self.caller = caller
        self._association = association
        self._context = context
        self._message_id = 0

    def report(self, result: CommitmentResult) -> CommitmentAnswer:
        """Send an N-EVENT-REPORT and return what is answered.

        Raises:
            Unavailable: the association ended, or nothing was answered in time.
        """
        self._message_id = self._message_id % 0xFFFF + 1
        data = encode_result(result, self._context.transfer_syntax)
        try:
            self._association.send(self._context, report_request(self._message_id, result), data)
            while True:
                context, command = self._association.receive_command()
                if command.has_data_set:
                    self._association.skip_data_set(context)
                if is_answer(command, N_EVENT_REPORT_RQ, self._message_id):
                    return answer_of(command)
        except Ended as error:
            raise Unavailable(f"{self.caller.ae_title} did not acknowledge the result: {error}.") from None


@contextmanager
def calling(
    device: Device, ae_title: str, limits: Limits, security: Security | None = None
) -> Iterator[Line]:
    """Open an association to tell a device results, as the provider of Storage Commitment (PS3.7 D.3.3.4).

    A device that leaves role selection unanswered is told nevertheless: most of those take it.

    Raises:
        Unavailable, Busy, NotPermitted: it does not take the association, or nothing on it.
    """
    peer = Peer(device.ae_title, device.address, device.port, ae_title, security)
    association = dial(peer, [(COMMITMENT, UNCOMPRESSED)], limits, {COMMITMENT: (False, True)})
    is_good = False
    try:
        context = _context(association, peer)
        association.connection.set_timeout(_ANSWER_WITHIN)
        yield CallingLine(association, context, Caller(device.ae_title, device.address, ae_title, device))
        is_good = True
    except Unavailable:
        raise
    except PacsError:
        is_good = True
        raise
    finally:
        hang_up(association, release=is_good)


def ask_commitment(
    peer: Peer,
    TransactionUID: str,
    references: Sequence[Reference],
    limits: Limits,
    on_answer: Callable[[], None],
    on_result: Callable[[CommitmentResult], bool],
    wait: Callable[[], float],
) -> None:
    """Ask another system to commit, and wait on the association for its result while `wait` is above 0.

    `on_answer` is called when the request was taken, `on_result` with what comes on this association; it
    says whether it is the result of what was asked. `wait` returns how many seconds to go on waiting, 0
    once the result has come by another way.

    Raises:
        Unavailable: nobody answers, or the association breaks.
        NotPermitted: it does not offer Storage Commitment, or refuses the request.
    """
    association = dial(peer, [(COMMITMENT, UNCOMPRESSED)], limits)
    is_good = False
    try:
        context = _context(association, peer)
        _request(association, context, peer, TransactionUID, references)
        on_answer()
        is_done = False
        while not is_done and (left := wait()) > 0:
            if association.connection.has_input(min(left, _GLANCE)):
                is_done = _result(association, on_result)
        is_good = True
    except Ended as error:
        raise Unavailable(f"{peer} ended the association: {error}.") from None
    except PacsError:
        is_good = True
        raise
    finally:
        hang_up(association, release=is_good)


def _context(association: Association, peer: Peer) -> Context:
    for context in association.contexts.values():
        if context.abstract_syntax == COMMITMENT:
            return context
    what = f"{peer} does not accept Storage Commitment in this role."
    raise NotPermitted(what, "Allow it there for our AE title.")


def _request(
    association: Association, context: Context, peer: Peer, transaction: str, references: Sequence[Reference]
) -> None:
    request = Command(
        CommandField=N_ACTION_RQ,
        MessageID=_MESSAGE_ID,
        CommandDataSetType=0x0001,
        RequestedSOPClassUID=COMMITMENT,
        RequestedSOPInstanceUID=COMMITMENT_INSTANCE,
        ActionTypeID=REQUEST_COMMITMENT,
    )
    data = encode_request(transaction, references, context.transfer_syntax)
    association.send(context, encode_command(request), data)
    _, command = association.receive_command()
    if command.has_data_set:
        association.skip_data_set(context)
    if not is_answer(command, N_ACTION_RQ, _MESSAGE_ID):
        raise Violation(UNEXPECTED_PARAMETER, "it answered something that was not asked")
    answer = answer_of(command)
    if answer.status != SUCCESS:
        said = f" ({answer.comment})" if answer.comment else ""
        raise NotPermitted(f"{peer} refuses the request with status {answer.status:04X}{said}.")


def _result(association: Association, on_result: Callable[[CommitmentResult], bool]) -> bool:
    """Read what came on the association and acknowledge it; say whether it was the result."""
    context, command = association.receive_command()
    data = association.receive_data_set(context, LARGEST) if command.has_data_set else b""
    if command.CommandField != N_EVENT_REPORT_RQ:
        raise Violation(UNEXPECTED_PARAMETER, "it sent something that is no result")
    try:
        is_ours = on_result(decode_result(data or b"", context.transfer_syntax))
    except Malformed as error:
        association.send(context, response(command, INVALID_ARGUMENT, str(error)))
        return False
    association.send(context, response(command, SUCCESS if is_ours else INVALID_ARGUMENT))
    return is_ours
