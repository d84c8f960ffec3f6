"""C-MOVE and C-GET as SCP: what they name, who may have it, and the way it goes (PS3.4 C.4.2 and C.4.3)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from catalog import Attributes, Entry, Matching, PacsError, selection
from node.contracts import Device, Outgoing, Service, StoreResult

from .commands import MEDIUM, Command
from .delivery import Delivery, NotAccepted, Originator, store_request
from .dialing import Peer
from .find import Refused, receive_identifier, why_refused
from .negotiation import Context
from .outgoing import Sender
from .session import Session, response
from .statuses import CANNOT_COUNT_MATCHES, DESTINATION_UNKNOWN, OUT_OF_RESOURCES, UNABLE_TO_PROCESS
from .suboperations import US_MAX, Ears, SubOperations
from .syntaxes import PATIENT_ROOT
from .transport import Closed, Ended

logger = logging.getLogger(__name__)


def serve_move(session: Session, context: Context, request: Command) -> None:
    """Answer one C-MOVE-RQ."""

    def move(identifier: Attributes) -> None:
        title = request.MoveDestination or ""
        device = session.environment.access.destination(session.caller, title)
        if device is None or not device.port or not device.address or "/" in device.address:
            logger.warning(
                "%s may not C-MOVE to %s, or the device book has no host and port for it; it was told A801. "
                "`peerpacs devices` shows and changes both.",
                session.caller.ae_title, title,
            )  # fmt: skip
            raise Refused(DESTINATION_UNKNOWN, f"Move destination {title} is unknown here")
        ears = Ears(session, request)
        entries = _entries(session, context, identifier, ears)
        delivery = _delivery(session, request, device, entries)
        retrieve = SubOperations(session, context, request, entries, title)
        try:
            retrieve.run(delivery, ears)
        finally:
            delivery.close()

    _answer(session, context, request, Service.MOVE, move)


def serve_get(session: Session, context: Context, request: Command) -> None:
    """Answer one C-GET-RQ."""

    def get(identifier: Attributes) -> None:
        ears = Ears(session, request)
        entries = _entries(session, context, identifier, ears)
        SubOperations(session, context, request, entries).run(Back(session, request, ears), ears)

    _answer(session, context, request, Service.GET, get)


def _answer(
    session: Session,
    context: Context,
    request: Command,
    service: Service,
    retrieve: Callable[[Attributes], None],
) -> None:
    """Read the identifier and retrieve what it names; answer whatever goes wrong with a status."""
    try:
        retrieve(receive_identifier(session, context, request, service))
    except Ended:
        raise
    except Exception as error:
        status, comment, tags = why_refused(error, f"C-{service.name}")
        if status == OUT_OF_RESOURCES:
            status = CANNOT_COUNT_MATCHES
        session.association.send(context, response(request, status, comment, tags))
        detail = {"status": f"{status:04X}"}
        session.environment.audit.record(service.value, session.caller, "failure", detail)
        session.tally.tell(f"was refused a C-{service.name} ({status:04X})")


def _entries(session: Session, context: Context, identifier: Attributes, ears: Ears) -> list[Entry]:
    device = session.caller.device
    chosen = selection(
        identifier,
        patient_root=context.abstract_syntax.startswith(PATIENT_ROOT + "."),
        matching=session.matching.get(context.abstract_syntax, Matching.PLAIN),
        is_lenient=device is not None and device.is_lenient,
    )
    entries = session.scope.catalog.select(chosen)
    session.scope.retriever.expect(entries, ears.is_cancelled)
    return entries


def _delivery(session: Session, request: Command, device: Device, entries: list[Entry]) -> Delivery:
    security = session.environment.secure(device)
    return Delivery(
        Peer(device.ae_title, device.address, device.port, session.scope.ae_title, security),
        session.environment.limits,
        session.environment.convert,
        expected=dict.fromkeys((entry.SOPClassUID, entry.TransferSyntaxUID) for entry in entries),
        transfer_syntaxes=device.transfer_syntaxes,
        priority=MEDIUM if request.Priority is None else request.Priority,
        originator=Originator(session.caller.ae_title, request.MessageID or 0),
    )


class Back:
    """C-STORE over the association that asked, PS3.4 C.4.3: the caller took the SCP role."""

    def __init__(self, session: Session, request: Command, ears: Ears) -> None:
        self._association = session.association
        self._convert = session.environment.convert
        self._ears = ears
        self._request = request
        self._sender = Sender()
        self._message_id = 0
        self._contexts = {
            (context.abstract_syntax, context.transfer_syntax): context
            for context in session.association.contexts.values()
            if context.peer_is_scp
        }

    def prepare(self, outgoing: Outgoing) -> None:
        """Read the beginning of the next instance."""
        self._sender.load(outgoing)

    def begin(self, outgoing: Outgoing) -> None:
        """Send an instance.

        Raises:
            NotAccepted, PacsError: it cannot go; Ended: nothing more can.
        """
        uid, syntax = outgoing.SOPClassUID, outgoing.TransferSyntaxUID
        accepted = {other: context for (known, other), context in self._contexts.items() if known == uid}
        converted = (
            outgoing if syntax in accepted else self._convert(outgoing, accepted) if accepted else None
        )
        if converted is None:
            raise NotAccepted(f"The caller takes no {syntax} for {uid}.")
        self._message_id = self._message_id % US_MAX + 1
        if self._message_id == self._request.MessageID:
            self._message_id = self._message_id % US_MAX + 1
        priority = MEDIUM if self._request.Priority is None else self._request.Priority
        command = store_request(converted, self._message_id, priority, None)
        context = accepted[converted.TransferSyntaxUID]
        self._sender.load(converted)
        self._ears.await_answer(self._message_id)
        try:
            self._sender.send(self._association, context, command, converted)
        except PacsError as error:
            self._association.abort()
            raise Closed(f"an instance could not be sent to its end: {error.what}") from None
        finally:
            if converted is not outgoing:
                converted.close()

    def end(self, is_unwanted: Callable[[], bool]) -> StoreResult:
        """Return the caller's answer, whatever else it says before."""
        answer = self._ears.answer()
        status = UNABLE_TO_PROCESS if answer.Status is None else answer.Status
        return StoreResult(status, answer.ErrorComment or "")
