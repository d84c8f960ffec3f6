"""C-STORE as SCP, PS3.4 Annex B: from the socket into the one door in, with a status for everything.

Used by the acceptor and, for C-GET as SCU, by the requestor.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Final

from catalog import OutOfSpace
from node.contracts import Reception, Service, StoreResult

from .association import Association
from .commands import Command
from .negotiation import Context
from .session import Session, response, trail
from .statuses import (
    INVALID_INSTANCE,
    MISTYPED_ARGUMENT,
    NOT_AUTHORIZED,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
)
from .transport import Ended

logger = logging.getLogger(__name__)
Begin = Callable[[str, str, str], Reception]
"""Takes SOPClassUID, SOPInstanceUID and TransferSyntaxUID."""
_UID: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")
"""PS3.5 9.1, but hexadecimal digits and the like are in use and harm nobody."""


def serve_store(session: Session, context: Context, request: Command) -> None:
    """Answer one C-STORE-RQ."""
    started = time.monotonic()
    verdict = session.may(Service.STORE)
    refusal = contradiction(context, request)
    if refusal is None and not context.peer_is_scu:
        refusal = StoreResult(SOP_CLASS_NOT_SUPPORTED, "The caller gave up the SCU role for this SOP Class")
    if refusal is None and not verdict.is_allowed:
        comment = f"{session.caller.ae_title or 'This AE'} may not store here"
        refusal = StoreResult(NOT_AUTHORIZED, comment)

    def begin(SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str) -> Reception:
        return session.scope.ingest.begin(
            session.caller, SOPClassUID, SOPInstanceUID, TransferSyntaxUID, is_held=verdict.is_held
        )

    limit = session.environment.limits.data_set
    result, size = take_in(session.association, context, request, begin, limit, refusal)
    session.association.send(context, response(request, result.status, result.comment))
    session.stored(result.status, size, result.StudyInstanceUID, time.monotonic() - started)


def contradiction(context: Context, request: Command) -> StoreResult | None:
    """Say what is wrong with a C-STORE-RQ itself, PS3.7 9.3.1.1 and Annex C.5."""
    if request.AffectedSOPClassUID != context.abstract_syntax:
        return StoreResult(SOP_CLASS_NOT_SUPPORTED, "SOP Class is not that of the presentation context")
    if not _UID.fullmatch(request.AffectedSOPInstanceUID or ""):
        return StoreResult(INVALID_INSTANCE, "Affected SOP Instance UID is missing or not a UID")
    if not request.has_data_set:
        return StoreResult(MISTYPED_ARGUMENT, "C-STORE-RQ without a data set")
    return None


def take_in(
    association: Association,
    context: Context,
    request: Command,
    begin: Begin,
    limit: int,
    refusal: StoreResult | None = None,
) -> tuple[StoreResult, int]:
    """Receive the data set of a C-STORE-RQ and return what to answer, and its length.

    With a refusal, or once there is no space, the rest is read and dropped: the next message still works.
    """
    if refusal is not None:
        if request.has_data_set:
            association.skip_data_set(context)
        return refusal, 0
    try:
        reception = begin(
            request.AffectedSOPClassUID or "", request.AffectedSOPInstanceUID or "", context.transfer_syntax
        )
    except Exception as error:
        association.skip_data_set(context)
        return _failure(error), 0
    try:
        return _fill(association, context, reception, limit)
    except Ended:
        reception.abandon()
        raise


def _fill(
    association: Association, context: Context, reception: Reception, limit: int
) -> tuple[StoreResult, int]:
    connection = association.connection
    size, is_last, failure = 0, False, None
    while not is_last:
        length, is_last = association.next_fragment(context)
        size += length
        if failure is None and length:
            try:
                if size > limit:
                    raise OutOfSpace("The data set is longer than this node takes.")
                view = reception.space(length)
            except Exception as error:
                failure = _failure(error)
                reception.abandon()
            else:
                connection.read_into(view)
                reception.filled(length)
                continue
        connection.skip(length)
    if failure is not None:
        return failure, size
    try:
        return reception.finish(), size
    except Exception as error:
        reception.abandon()
        return _failure(error), size


def _failure(error: Exception) -> StoreResult:
    if isinstance(error, OutOfSpace):
        return StoreResult(OUT_OF_RESOURCES, error.what)
    logger.error("An instance could not be taken in (%s); its sender was told 0110.", trail(error))
    return StoreResult(PROCESSING_FAILURE, "The node failed; its log says more")
