"""C-FIND as SCP, PS3.4 C.4.1: one lean pass from the search to the socket, ended at once by C-CANCEL."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from catalog import (
    Attributes,
    BadRequest,
    Level,
    Matching,
    PacsError,
    Query,
    answer,
    decode_identifier,
    encode_identifier,
    is_fully_supported,
    understand,
)
from federation import private_block
from federation.outcomes import Ending
from node.contracts import Service
from node.sections import GRID_SUFFIX

from .aside import aside
from .association import Association
from .commands import C_CANCEL_RQ, C_FIND_RQ, RESPONSE, Command, encode_command
from .negotiation import Context
from .pdu import UNEXPECTED_PARAMETER, Violation
from .session import Session, response, trail
from .statuses import (
    CANCEL,
    MATCHES_MAY_BE_MISSING,
    MISTYPED_ARGUMENT,
    OUT_OF_RESOURCES,
    PENDING,
    PENDING_WITHOUT_OPTIONAL_KEYS,
    SUCCESS,
    UNABLE_TO_PROCESS,
    status_of,
)
from .syntaxes import PATIENT_ROOT
from .transport import Buffer, Ended

logger = logging.getLogger(__name__)
_MOMENT: Final = 0.1
BATCH: Final = 32768
"""Bytes of answers that go out together."""


class Refused(Exception):
    """A request that ends without an answer: its status, Error Comment and Offending Element."""

    def __init__(self, status: int, comment: str, tags: tuple[str, ...] = ()) -> None:
        super().__init__(comment)
        self.status = status
        self.comment = comment
        self.tags = tags


def serve_find(session: Session, context: Context, request: Command) -> None:
    """Answer one C-FIND-RQ."""
    started = time.monotonic()
    status, comment, level, outcome = SUCCESS, "", "", "broken"
    tags: tuple[str, ...] = ()
    told: Mapping[str, Any] = {}
    answers = _Answers(session.association, context)
    try:
        try:
            query = _query(session, context, request)
            level = query.level.value
            with session.environment.pulse.during(answers.beat):
                found = _found(session, query)
                is_cancelled = _search(session, context, request, query, found, answers)
            told = found.told
            status, comment = (CANCEL, "") if is_cancelled else found.end()
        except Ended:
            raise
        except Exception as error:
            status, comment, tags = why_refused(error, "C-FIND")
        answers.finish(response(request, status, comment, tags))
        outcome = {SUCCESS: "success", CANCEL: "cancelled", MATCHES_MAY_BE_MISSING: "partial"}.get(
            status, "failure"
        )
    finally:
        seconds = time.monotonic() - started
        reach = "grid" if session.scope.ae_title.endswith(GRID_SUFFIX) else "local"
        session.environment.counters.find_seconds[reach].add(seconds)
        session.tally.tell(f"found {answers.count} in {1000 * seconds:.0f} ms")
        detail = {"level": level, "status": f"{status:04X}", "answers": answers.count, **told}
        session.environment.audit.record("find", session.caller, outcome, detail)


def receive_identifier(session: Session, context: Context, request: Command, service: Service) -> Attributes:
    """Read the identifier of a C-FIND, C-MOVE or C-GET and return it if the caller may ask at all.

    Raises:
        Refused, PacsError: what the caller must be told.
    """
    data = b""
    if request.has_data_set:
        limit = session.environment.limits.identifier
        received = session.association.receive_data_set(context, limit)
        if received is None:
            raise Refused(OUT_OF_RESOURCES, f"The identifier is longer than {limit} bytes")
        data = received
    if not session.may(service).is_allowed:
        raise Refused(0x0124, f"{session.caller.ae_title or 'This AE'} may not {service.value} here")
    if not request.has_data_set:
        raise Refused(MISTYPED_ARGUMENT, "The request has no identifier")
    return decode_identifier(data, context.transfer_syntax)


def why_refused(error: Exception, what: str) -> tuple[int, str, tuple[str, ...]]:
    """Return status, Error Comment and offending tags for an error, and log what was not foreseen."""
    if isinstance(error, Refused):
        return error.status, error.comment, error.tags
    if isinstance(error, PacsError):
        tags = error.tags if isinstance(error, BadRequest) else ()
        return status_of(error), error.what, tags
    logger.error("A %s failed (%s); its sender was told C000.", what, trail(error))
    return UNABLE_TO_PROCESS, "The node failed; its log says more", ()


def is_cancel(association: Association, request: Command) -> bool:
    """Read what came while a request is being answered: C-CANCEL-RQ for it, or the end of the association."""
    context, command = association.receive_command()
    if association.took_answer(context, command):
        return False
    if command.CommandField != C_CANCEL_RQ:
        raise Violation(UNEXPECTED_PARAMETER, "a request came before the last one was answered")
    return command.MessageIDBeingRespondedTo == request.MessageID


def _query(session: Session, context: Context, request: Command) -> Query:
    identifier = receive_identifier(session, context, request, Service.FIND)
    device = session.caller.device
    if device is not None and device.grid_details and session.scope.grid is not None:
        identifier = {**identifier, **private_block.KEYS}
    return understand(
        identifier,
        patient_root=context.abstract_syntax.startswith(PATIENT_ROOT + "."),
        matching=session.matching.get(context.abstract_syntax, Matching.PLAIN),
        is_lenient=device is not None and device.is_lenient,
    )


class _Found(NamedTuple):
    """The matches of a question, and what is said behind the last of them."""

    matches: Iterator[Attributes | None]
    """None: nothing came for a moment."""
    end: Callable[[], tuple[int, str]] = lambda: (SUCCESS, "")
    """Says how it ends, once all matches are out."""
    told: Mapping[str, Any] = {}
    """For the audit."""
    give_up: Callable[[], None] = lambda: None
    """Has matches end that other sites are asked for, when nobody waits for them any more."""


_ENDINGS: Final[Mapping[Ending, int]] = {
    Ending.COMPLETE: SUCCESS,
    Ending.COMMENT: SUCCESS,
    Ending.WARN: MATCHES_MAY_BE_MISSING,
    Ending.FAIL: OUT_OF_RESOURCES,
}


def _found(session: Session, query: Query) -> _Found:
    """Ask the scope's catalog; the grid's says too how its sites took part."""
    grid = session.scope.grid
    if grid is None:
        return _Found(session.scope.catalog.find(query))
    asked = grid.ask(query)
    sites = {outcome.site: outcome.part.value for outcome in asked.outcomes}

    def end() -> tuple[int, str]:
        ending, comment = asked.decide()
        return _ENDINGS[ending], comment

    matches: Iterator[Attributes | None] = asked.matches
    if query.level is Level.IMAGE:
        # Other sites are asked now which instances they have; a cancel is to be heard meanwhile.
        matches = aside(asked.matches, _MOMENT)
    return _Found(matches, end, {"request": asked.request_id, "sites": sites}, asked.give_up)


def _search(
    session: Session,
    context: Context,
    request: Command,
    query: Query,
    found: _Found,
    answers: _Answers,
) -> bool:
    """Send every match; say whether the caller cancelled."""
    ae_title = session.scope.ae_title
    device = session.caller.device
    character_set = device.character_set if device else ""
    command = encode_command(
        Command(
            CommandField=C_FIND_RQ | RESPONSE,
            MessageIDBeingRespondedTo=request.MessageID,
            CommandDataSetType=0x0001,
            AffectedSOPClassUID=request.AffectedSOPClassUID,
            Status=PENDING if is_fully_supported(query) else PENDING_WITHOUT_OPTIONAL_KEYS,
        )
    )
    try:
        for match in found.matches:
            if match is not None:
                identifier = encode_identifier(
                    answer(query, match, ae_title=ae_title), context.transfer_syntax, character_set
                )
                answers.add(command, identifier)
            if answers.is_look_due and _is_cancelled(session.association, request, answers):
                return True
    finally:
        found.give_up()
        close = getattr(found.matches, "close", None)
        if close:
            close()
    return False


def _is_cancelled(association: Association, request: Command, answers: _Answers) -> bool:
    answers.is_look_due = False
    return association.connection.has_input() and is_cancel(association, request)


class _Answers:
    """Pending responses on their way out, many to a call, none held back for more than two beats."""

    def __init__(self, association: Association, context: Context) -> None:
        self.count = 0
        self.is_look_due = False
        """Set at each beat: time to look whether the caller said something."""
        self._association = association
        self._context = context
        self._buffers: list[Buffer] = []
        self._size = 0

    def add(self, command: bytes, identifier: bytes) -> None:
        """Queue one answer, and send the queue when it is long."""
        with self._association.lock:
            self._buffers += self._association.message(self._context, command, identifier)
            self.count += 1
            self._size += len(identifier) + len(command)
            if self._size >= BATCH:
                self._association.connection.send([b"".join(self._buffers)])
                self._buffers, self._size = [], 0
                self.is_look_due = True

    def beat(self) -> None:
        """Send what waits, as far as the kernel takes it at once."""
        self.is_look_due = True
        lock = self._association.lock
        if self._buffers and lock.acquire(blocking=False):
            try:
                self._buffers = self._association.connection.send_some(self._buffers)
                self._size = sum(map(len, self._buffers))
            except Ended:
                pass
            finally:
                lock.release()

    def finish(self, command: bytes) -> None:
        """Send what waits and the final response."""
        with self._association.lock:
            self._buffers += self._association.message(self._context, command)
            buffers, self._buffers = self._buffers, []
            self._association.connection.send([b"".join(buffers)])
