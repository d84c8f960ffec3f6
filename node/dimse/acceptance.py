"""One association as its acceptor, from the A-ASSOCIATE-RQ to the end: PS3.8 9.2 from Sta2, a thread each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from catalog import Unavailable
from node.contracts import Caller, Rejection, Scope, Service, Verdict

from .arrivals import request_length
from .association import Aborted, Association, Released
from .commands import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    RESPONSE,
    Command,
)
from .commitment import close_line, open_line, serve_commitment
from .find import serve_find
from .negotiation import Context, negotiate
from .pdu import (
    ABORT,
    ASSOCIATE_AC,
    DICOM_APPLICATION_CONTEXT,
    NOT_SPECIFIED,
    RELEASE_RESPONSE,
    UNEXPECTED_PARAMETER,
    Associate,
    Violation,
    decode_associate,
    encode_abort,
    encode_associate,
    encode_reject,
)
from .relaying import relay
from .retrieve import serve_get, serve_move
from .session import Environment, Session, tell_refusal, trail
from .statuses import MISTYPED_ARGUMENT, SOP_CLASS_NOT_SUPPORTED, SUCCESS, UNRECOGNIZED_OPERATION
from .store import serve_store
from .syntaxes import COMMITMENT, NOT_STORAGE, QUERY_RETRIEVE, VERIFICATION
from .transport import Closed, Connection, Ended, Silent

logger = logging.getLogger(__name__)
Admit = Callable[[str, str], Rejection | None]
"""Takes calling AE title and address, and counts the association or says which limit it would break."""

_WRONG_VERSION: Final = Rejection(1, 2, 2, "it speaks another version of the protocol")
_WRONG_CONTEXT: Final = Rejection(1, 1, 2, "it proposes another application context than DICOM's")
_WRONG_CALLED: Final = Rejection(1, 1, 7, "no archive here has the AE title it calls")
_QUERIES: Final[Mapping[int, Callable[[Session, Context, Command], None]]] = {
    C_FIND_RQ: serve_find,
    C_MOVE_RQ: serve_move,
    C_GET_RQ: serve_get,
}


class Acceptance:
    """Serves one connection; `run` returns when nothing is left to say on it."""

    def __init__(
        self, environment: Environment, connection: Connection, address: str, received: bytes, admit: Admit
    ) -> None:
        self.environment = environment
        self.address = address
        self.calling_ae = ""
        """Set once this association counts against the limits."""
        self.session: Session | None = None
        self.connection = connection
        self._received = received
        self._admit = admit
        self._is_stopping = False

    def run(self) -> None:
        """Negotiate, serve, and say farewell; never raises."""
        try:
            self.session = self._negotiate()
            if self.session:
                self._converse(self.session)
        except Violation as error:
            self._say(encode_abort(2, error.reason) if self.session else encode_abort(0, 0))
            logger.warning("%s broke the protocol: %s. The association was aborted.", self._who(), error)
            self.environment.counters.add(violations=1)
        except Ended as error:
            logger.info("%s is gone before its association began: %s.", self._who(), error)
        except Exception as error:
            self._say(encode_abort(2, 0))
            logger.error("Serving %s failed (%s); the association was aborted.", self._who(), trail(error))

    def abort(self) -> None:
        """End it from another thread: A-ABORT as the service user, and no more reading."""
        if self._is_stopping:
            return
        self._is_stopping = True
        if self.session:
            self.session.association.abort()
        self.connection.shut()

    def _who(self) -> str:
        return f"{self.calling_ae} at {self.address}" if self.calling_ae else self.address

    def _say(self, pdu: bytes) -> None:
        try:
            self.connection.send([pdu])
        except (Closed, Silent):
            logger.debug("%s did not wait for the end of its association.", self._who())

    def _negotiate(self) -> Session | None:
        received, self._received = self._received, b""
        request = self._requested(received)
        if self.environment.relay and self.environment.resolve(request.called_ae) is None:
            self._relay(request, received)
            return None
        admitted = self._admitted(request)
        if isinstance(admitted, Rejection):
            self._reject(request, admitted)
            return None
        caller, scope = admitted
        environment = self.environment
        verdicts: dict[Service, Verdict] = {}

        def may(service: Service) -> bool:
            if service not in verdicts:
                verdict = verdicts[service] = environment.access.may(caller, service)
                if not verdict.is_allowed and caller.device is not None:
                    tell_refusal(environment, caller, service, verdict)
            return verdicts[service].is_allowed

        negotiated = negotiate(
            request,
            caller.device,
            environment.limits,
            may,
            accept_unknown=environment.accept_unknown,
            commits=scope.commitment is not None,
        )
        refused = [verdict for verdict in verdicts.values() if not verdict.is_allowed]
        if refused and not negotiated.contexts and caller.device is None:
            self._reject(request, Rejection(1, 1, 3, refused[0].why, refused[0].remedy))
            return None
        association = Association(
            self.connection, negotiated.contexts, environment.limits.max_pdu, request.user.max_pdu
        )
        self.connection.send([_accept(negotiated.answer, received)])
        if request.user.identity_type:
            logger.debug("%s gave a user identity of type %d.", self._who(), request.user.identity_type)
        return Session(environment, association, caller, scope, negotiated.matching)

    def _requested(self, received: bytes) -> Associate:
        if request_length(received, self.environment.limits.associate_request) != len(received):
            if received[:1] == bytes((ABORT,)):
                raise Closed("it aborted")
            raise Violation(NOT_SPECIFIED, "what it sent is no A-ASSOCIATE-RQ that fits")
        return decode_associate(received[6:])

    def _relay(self, request: Associate, received: bytes) -> None:
        try:
            relay(self.connection, received, self.address, self.environment.relay)
        except OSError:
            self._reject(request, Rejection(2, 3, 1, "the process that serves the grid does not answer"))

    def _admitted(self, request: Associate) -> tuple[Caller, Scope] | Rejection:
        if not request.protocol_version & 1:
            return _WRONG_VERSION
        if request.application_context != DICOM_APPLICATION_CONTEXT:
            return _WRONG_CONTEXT
        limit = self._admit(request.calling_ae, self.address)
        if limit:
            return limit
        self.calling_ae = request.calling_ae or "?"
        try:
            caller = self.environment.access.admit(request.calling_ae, self.address, request.called_ae)
            if isinstance(caller, Rejection):
                return caller
            scope = self.environment.resolve(request.called_ae)
        except Unavailable as error:
            # The catalog of this gateway is on another host, and away: temporary congestion.
            return Rejection(2, 3, 1, error.what, error.next)
        if scope is None:
            return _WRONG_CALLED
        return caller, scope.seen_by(caller) if scope.seen_by else scope

    def _reject(self, request: Associate, rejection: Rejection) -> None:
        self.environment.counters.refuse(rejection.source, rejection.reason)
        caller = Caller(request.calling_ae, self.address, request.called_ae)
        triple = f"{rejection.result} {rejection.source} {rejection.reason}"
        detail = {"triple": triple, "why": rejection.why}
        self.environment.audit.record("association", caller, "refused", detail)
        logger.info(
            "%s at %s may not call %s: %s (A-ASSOCIATE-RJ %s). %s",
            request.calling_ae, self.address, request.called_ae, rejection.why, triple, rejection.remedy,
        )  # fmt: skip
        self._say(encode_reject(rejection.result, rejection.source, rejection.reason))

    def _converse(self, session: Session) -> None:
        started = time.monotonic()
        self.environment.counters.add(accepted=1)
        ending = "ended in an error"
        line = session.line = open_line(session)
        try:
            while True:
                self._serve_next(session)
        except Released:
            self._say(RELEASE_RESPONSE)
            ending = "released"
        except (Aborted, Closed) as error:
            ending = "aborted by this node, which stops" if self._is_stopping else f"broken off: {error}"
        except Silent as error:
            session.association.abort()
            ending = f"aborted: {error}"
        except Violation:
            ending = "aborted"
            raise
        finally:
            session.is_serving = False
            if line:
                close_line(session, line)
            self._record(session, ending, time.monotonic() - started)

    def _serve_next(self, session: Session) -> None:
        session.is_serving = False
        context, request = session.association.receive_command(self.environment.limits.idle)
        session.is_serving = True
        field = request.CommandField
        if session.association.took_answer(context, request):
            pass
        elif field & RESPONSE or field == C_CANCEL_RQ:
            if request.has_data_set:
                session.association.skip_data_set(context)
        elif request.MessageID is None:
            raise Violation(UNEXPECTED_PARAMETER, "a request has no Message ID")
        elif field == C_STORE_RQ and context.abstract_syntax not in NOT_STORAGE:
            serve_store(session, context, request)
        elif QUERY_RETRIEVE.get(context.abstract_syntax) == field:
            self._serve_query(session, context, request)
        elif context.abstract_syntax == COMMITMENT:
            serve_commitment(session, context, request)
        else:
            _serve_other(session, context, request)
        session.last_served = time.monotonic()

    def _serve_query(self, session: Session, context: Context, request: Command) -> None:
        if request.AffectedSOPClassUID == context.abstract_syntax:
            _QUERIES[request.CommandField](session, context, request)
            return
        if request.has_data_set:
            session.association.skip_data_set(context)
        comment = "SOP Class is not that of the presentation context"
        session.respond(context, request, SOP_CLASS_NOT_SUPPORTED, comment)

    def _record(self, session: Session, ending: str, seconds: float) -> None:
        tally, caller, audit = session.tally, session.caller, self.environment.audit
        outcome = "success" if ending == "released" else "broken"
        detail = {"seconds": round(seconds, 3), "ending": ending}
        if self.connection.security:
            detail["security"] = self.connection.security
        audit.record("association", caller, outcome, detail)
        session.record_stored()
        refused = sum(tally.statuses.values()) - tally.instances
        if refused:
            statuses = {f"{status:04X}": count for status, count in tally.statuses.items() if status}
            audit.record("store", caller, "failure", {"instances": refused, "statuses": statuses})
        logger.info(
            "%s spoke to %s for %.1f s: %s; %s.",
            self._who(), caller.called_ae, seconds, tally.sentence(), ending,
        )  # fmt: skip


def _serve_other(session: Session, context: Context, request: Command) -> None:
    """C-ECHO, and the right refusal for what is no service here, PS3.7 9.3.5 and Annex C.5."""
    if request.has_data_set:
        session.association.skip_data_set(context)
    if request.CommandField != C_ECHO_RQ:
        session.respond(context, request, UNRECOGNIZED_OPERATION, "No such operation on this context")
    elif context.abstract_syntax != VERIFICATION or request.AffectedSOPClassUID != VERIFICATION:
        session.respond(context, request, SOP_CLASS_NOT_SUPPORTED, "C-ECHO is for Verification")
    elif request.has_data_set:
        session.respond(context, request, MISTYPED_ARGUMENT, "C-ECHO with a data set")
    elif not session.refuse(context, request, Service.ECHO):
        session.respond(context, request, SUCCESS)
        session.tally.tell("echoed")


def _accept(answer: Associate, received: bytes) -> bytes:
    """Return the A-ASSOCIATE-AC with the AE titles and reserved bytes of the request, PS3.8 Table 9-17."""
    accept = encode_associate(answer, ASSOCIATE_AC)
    return accept[:10] + received[10:74] + accept[74:]
