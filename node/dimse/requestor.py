"""The node as SCU: echo, store, find, move and get at another Application Entity, an association each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from catalog import (
    Attributes,
    BadRequest,
    Busy,
    Matching,
    NotPermitted,
    PacsError,
    Unavailable,
    decode_identifier,
    encode_identifier,
)
from node.contracts import Outgoing

from .association import Association
from .commands import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    MEDIUM,
    RESPONSE,
    Command,
    encode_command,
)
from .delivery import Delivery, Pair
from .dialing import MAX_CONTEXTS, Peer, Proposed, dial, hang_up
from .limits import Limits
from .negotiation import Context
from .outgoing import Convert
from .pdu import UNEXPECTED_PARAMETER, Violation
from .reencode import reencode
from .session import response
from .statuses import (
    CANCEL,
    IDENTIFIER_DOES_NOT_MATCH,
    NOT_AUTHORIZED,
    OUT_OF_RESOURCES,
    PENDING,
    PENDING_WITHOUT_OPTIONAL_KEYS,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
)
from .store import Begin, contradiction, take_in
from .syntaxes import (
    COMMON_COMPRESSION,
    COMMON_IMAGES,
    COMMON_STORAGE,
    PATIENT_ROOT,
    SERVICE_SUFFIX,
    STUDY_ROOT,
    UNCOMPRESSED,
    VERIFICATION,
)
from .tls import Security
from .transport import Ended

_PENDING: Final = (PENDING, PENDING_WITHOUT_OPTIONAL_KEYS)
_MESSAGE_ID: Final = 1
_ERRORS: Final[dict[int, type[PacsError]]] = {
    IDENTIFIER_DOES_NOT_MATCH: BadRequest,
    OUT_OF_RESOURCES: Busy,
    NOT_AUTHORIZED: NotPermitted,
    SOP_CLASS_NOT_SUPPORTED: NotPermitted,
}


class Sent(NamedTuple):
    """What a peer said to one instance: a C-STORE status and its comment, or why it never got there."""

    SOPInstanceUID: str
    status: int
    comment: str = ""


class Retrieved(NamedTuple):
    """A response to C-MOVE or C-GET: its status and counters, PS3.4 C.4.2.1 and C.4.3.1."""

    status: int
    remaining: int = 0
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: tuple[str, ...] = ()
    comment: str = ""


class Requestor:
    """Asks one peer; every method opens an association, and releases it at its end.

    All of them raise Unavailable when nobody answers or the association breaks, Busy when the peer rejects
    it for now and NotPermitted when it does for good.
    """

    def __init__(
        self,
        ae_title: str,
        host: str,
        port: int,
        called_ae: str,
        *,
        limits: Limits | None = None,
        transfer_syntaxes: Sequence[str] = (),
        convert: Convert = reencode,
        security: Security | None = None,
    ) -> None:
        """Take our AE title and the peer's address; `transfer_syntaxes` narrow the proposals for storage."""
        self.peer = Peer(called_ae, host, port, ae_title, security)
        self._limits = limits or Limits()
        self._allowed = tuple(transfer_syntaxes)
        self._convert = convert

    def echo(self) -> float:
        """Send C-ECHO and return how many seconds its answer took."""
        with self._association([(VERIFICATION, UNCOMPRESSED)]) as association:
            context = self._context(association, VERIFICATION)
            started = time.perf_counter()
            request = Command(CommandField=C_ECHO_RQ, MessageID=_MESSAGE_ID, AffectedSOPClassUID=VERIFICATION)
            association.send(context, encode_command(request))
            _, answer = _answer(association, C_ECHO_RQ, self._limits.message)
            if answer.Status != SUCCESS:
                raise self._error("C-ECHO", answer)
            return time.perf_counter() - started

    def store(
        self, instances: Iterable[Outgoing], *, expected: Iterable[Pair] = (), priority: int = MEDIUM
    ) -> Iterator[Sent]:
        """Send instances as they are stored, and yield what the peer said to each; closes them.

        `expected` are the SOP Classes and transfer syntaxes to come, so that one association suffices.
        """
        delivery = Delivery(
            self.peer,
            self._limits,
            self._convert,
            expected=expected,
            transfer_syntaxes=self._allowed,
            priority=priority,
        )
        try:
            for outgoing in instances:
                try:
                    delivery.begin(outgoing)
                    result = delivery.end()
                    yield Sent(outgoing.SOPInstanceUID, result.status, result.comment)
                except PacsError as error:
                    if delivery.last_word:
                        raise
                    yield Sent(outgoing.SOPInstanceUID, 0x0110, error.what)
                finally:
                    outgoing.close()
        finally:
            delivery.close()

    def find(
        self, identifier: Attributes, *, patient_root: bool = False, matching: Matching = Matching.PLAIN
    ) -> Find:
        """Ask C-FIND; iterate over the result for the answers. `matching` is negotiated, so may not hold."""
        return Find(self, identifier, (PATIENT_ROOT if patient_root else STUDY_ROOT) + ".1", matching)

    def move(
        self,
        identifier: Attributes,
        destination: str,
        *,
        patient_root: bool = False,
        priority: int = MEDIUM,
        on_progress: Callable[[Retrieved], None] | None = None,
    ) -> Retrieved:
        """Ask the peer to send instances to the AE title `destination`; return its final response."""
        uid = _model(C_MOVE_RQ, patient_root)
        with self._association([(uid, UNCOMPRESSED)]) as association:
            context = self._context(association, uid)
            request = Command(
                CommandField=C_MOVE_RQ,
                MessageID=_MESSAGE_ID,
                CommandDataSetType=0x0001,
                AffectedSOPClassUID=uid,
                MoveDestination=destination,
                Priority=priority,
            )
            data = encode_identifier(identifier, context.transfer_syntax)
            association.send(context, encode_command(request), data)
            while True:
                context, answer = _answer(association, C_MOVE_RQ, self._limits.idle)
                retrieved = self._retrieved(association, context, answer)
                if retrieved.status not in _PENDING:
                    return retrieved
                if on_progress:
                    on_progress(retrieved)

    def get(
        self,
        identifier: Attributes,
        on_store: Begin,
        *,
        patient_root: bool = False,
        storage: Iterable[Pair] = (),
        on_progress: Callable[[Retrieved], None] | None = None,
    ) -> Retrieved:
        """Have instances sent over the same association; `on_store` opens a `Reception` for each.

        `storage` names the SOP Classes and transfer syntaxes to take, a presentation context each (at most
        127); without it, the common classes, and the common images also compressed.
        """
        uid = _model(C_GET_RQ, patient_root)
        chosen: list[Proposed] = [(sop_class, (syntax,)) for sop_class, syntax in dict.fromkeys(storage)]
        proposed = [(uid, UNCOMPRESSED), *(chosen or self._usual_storage())][:MAX_CONTEXTS]
        roles = {sop_class: (False, True) for sop_class, _ in proposed[1:]}
        with self._association(proposed, roles) as association:
            context = self._context(association, uid)
            request = Command(
                CommandField=C_GET_RQ,
                MessageID=_MESSAGE_ID,
                CommandDataSetType=0x0001,
                AffectedSOPClassUID=uid,
                Priority=MEDIUM,
            )
            data = encode_identifier(identifier, context.transfer_syntax)
            association.send(context, encode_command(request), data)
            return self._take(association, on_store, on_progress)

    def _take(
        self, association: Association, on_store: Begin, on_progress: Callable[[Retrieved], None] | None
    ) -> Retrieved:
        while True:
            context, command = association.receive_command(self._limits.idle)
            if command.CommandField == C_STORE_RQ:
                self._store_here(association, context, command, on_store)
            elif command.CommandField == C_GET_RQ | RESPONSE:
                retrieved = self._retrieved(association, context, command)
                if retrieved.status not in _PENDING:
                    return retrieved
                if on_progress:
                    on_progress(retrieved)
            else:
                raise Violation(UNEXPECTED_PARAMETER, "it sent something that is no part of a C-GET")

    def _usual_storage(self) -> list[Proposed]:
        """Return what a C-GET takes unless told: images as they may be compressed, the rest uncompressed."""
        allowed = self._allowed
        compressed = [syntax for syntax in COMMON_COMPRESSION if not allowed or syntax in allowed]
        plain = [syntax for syntax in UNCOMPRESSED if not allowed or syntax in allowed]
        usual: list[Proposed] = [
            (sop_class, syntaxes)
            for sop_class in COMMON_IMAGES
            for syntaxes in (plain, *([syntax] for syntax in compressed))
        ]
        usual += [(sop_class, plain) for sop_class in COMMON_STORAGE if sop_class not in COMMON_IMAGES]
        return [(sop_class, syntaxes) for sop_class, syntaxes in usual if syntaxes]

    def _store_here(
        self, association: Association, context: Context, command: Command, on_store: Begin
    ) -> None:
        result, _ = take_in(
            association, context, command, on_store, self._limits.data_set, contradiction(context, command)
        )
        association.send(context, response(command, result.status, result.comment))

    def _retrieved(self, association: Association, context: Context, answer: Command) -> Retrieved:
        failed: tuple[str, ...] = ()
        if answer.has_data_set:
            data = association.receive_data_set(context, self._limits.identifier * 8)
            if data:
                attributes = decode_identifier(data, context.transfer_syntax)
                failed = tuple(attributes.get("00080058", {}).get("Value", ()))
        return Retrieved(
            0xC000 if answer.Status is None else answer.Status,
            answer.NumberOfRemainingSuboperations or 0,
            answer.NumberOfCompletedSuboperations or 0,
            answer.NumberOfFailedSuboperations or 0,
            answer.NumberOfWarningSuboperations or 0,
            failed,
            answer.ErrorComment or "",
        )

    @contextmanager
    def _association(
        self,
        proposed: Sequence[Proposed],
        roles: dict[str, tuple[bool, bool]] | None = None,
        extended: dict[str, bytes] | None = None,
    ) -> Iterator[Association]:
        association = dial(self.peer, proposed, self._limits, roles, extended)
        is_good, source, reason = False, 0, 0
        try:
            yield association
            is_good = True
        except Ended as error:
            if isinstance(error, Violation):
                source, reason = 2, error.reason
            raise Unavailable(f"{self.peer} broke the association: {error}.") from None
        except PacsError:
            is_good = True
            raise
        finally:
            hang_up(association, release=is_good, source=source, reason=reason)

    def _context(self, association: Association, uid: str) -> Context:
        for context in association.contexts.values():
            if context.abstract_syntax == uid and context.peer_is_scp:
                return context
        raise NotPermitted(f"{self.peer} does not offer the service {uid}.")

    def _error(self, what: str, answer: Command) -> PacsError:
        status = 0xC000 if answer.Status is None else answer.Status
        comment = f" ({answer.ErrorComment})" if answer.ErrorComment else ""
        return _ERRORS.get(status, Unavailable)(
            f"{self.peer} answered {what} with status {status:04X}{comment}."
        )


class Find:
    """A C-FIND under way: an iterator of answers that `cancel` ends early."""

    def __init__(self, requestor: Requestor, identifier: Attributes, uid: str, matching: Matching) -> None:
        self.status = PENDING
        """The last status; the final one once the iteration is over."""
        self._requestor = requestor
        self._identifier = identifier
        self._uid = uid
        self._matching = matching
        self._sent: tuple[Association, Context] | None = None

    def __iter__(self) -> Iterator[Attributes]:
        asked = bytes(int(bool(self._matching & bit)) for bit in Matching)
        extended = {self._uid: asked} if self._matching else None
        requestor = self._requestor
        with requestor._association([(self._uid, UNCOMPRESSED)], None, extended) as association:
            context = requestor._context(association, self._uid)
            request = Command(
                CommandField=C_FIND_RQ,
                MessageID=_MESSAGE_ID,
                CommandDataSetType=0x0001,
                AffectedSOPClassUID=self._uid,
                Priority=MEDIUM,
            )
            data = encode_identifier(self._identifier, context.transfer_syntax)
            association.send(context, encode_command(request), data)
            self._sent = (association, context)
            yield from self._answers(association)

    def cancel(self) -> None:
        """Send C-CANCEL, from any thread; answers already under way still come."""
        if self._sent:
            association, context = self._sent
            cancel = Command(CommandField=C_CANCEL_RQ, MessageIDBeingRespondedTo=_MESSAGE_ID)
            association.send(context, encode_command(cancel))

    def _answers(self, association: Association) -> Iterator[Attributes]:
        while True:
            context, answer = _answer(association, C_FIND_RQ, self._requestor._limits.idle)
            data = b""
            if answer.has_data_set:
                data = association.receive_data_set(context, self._requestor._limits.identifier) or b""
            self.status = 0xC000 if answer.Status is None else answer.Status
            if self.status in _PENDING:
                yield decode_identifier(data, context.transfer_syntax)
            elif self.status in (SUCCESS, CANCEL) or self.status >> 12 == 0xB:
                return
            else:
                raise self._requestor._error("C-FIND", answer)


def _model(request: int, patient_root: bool) -> str:
    return (PATIENT_ROOT if patient_root else STUDY_ROOT) + SERVICE_SUFFIX[request]


def _answer(association: Association, request: int, idle: float) -> tuple[Context, Command]:
    context, answer = association.receive_command(idle)
    if answer.CommandField != request | RESPONSE or answer.MessageIDBeingRespondedTo != _MESSAGE_ID:
        raise Violation(UNEXPECTED_PARAMETER, "it answered something that was not asked")
    return context, answer
