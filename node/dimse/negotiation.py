"""What an acceptor says to an A-ASSOCIATE-RQ: PS3.8 9.3.3 and PS3.7 Annex D.3.

One transfer syntax is accepted per presentation context: for storage the first proposed that we can keep,
since a sender then sends what it has, for identifiers the first we can read. Storage contexts may be used
both ways when the requestor asks for the SCP role (C-GET), and so may Storage Commitment, whose provider
calls with the result of what we asked; nothing else may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from catalog import Matching
from node.contracts import Device, Service
from node.storage import IMPLEMENTATION_CLASS_UID

from .commands import C_FIND_RQ, C_GET_RQ, C_MOVE_RQ
from .limits import Limits
from .pdu import Associate, ContextResult, ProposedContext, UserInformation
from .syntaxes import (
    COMMITMENT,
    FOR_IDENTIFIERS,
    NOT_STORAGE,
    QUERY_RETRIEVE,
    STORAGE,
    TRANSFER_SYNTAXES,
    VERIFICATION,
    is_unknown,
    matching_of,
)

IMPLEMENTATION_VERSION: Final = "PEERPACS"

# Result/Reason of a Presentation Context Item, PS3.8 Table 9-18.
ACCEPTANCE: Final = 0
USER_REJECTION: Final = 1
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4


_BY_REQUEST: Final = {C_FIND_RQ: Service.FIND, C_MOVE_RQ: Service.MOVE, C_GET_RQ: Service.GET}
_SERVICES: Final = {VERIFICATION: Service.ECHO} | {
    uid: _BY_REQUEST[request] for uid, request in QUERY_RETRIEVE.items()
}


class Context(NamedTuple):
    """An accepted presentation context, with the roles of the peer in it."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    peer_is_scu: bool = True
    peer_is_scp: bool = False


class Negotiated(NamedTuple):
    """The answer to an A-ASSOCIATE-RQ, and what it lets both sides do."""

    answer: Associate
    contexts: Mapping[int, Context]
    matching: Mapping[str, Matching]
    """By SOP Class of Query/Retrieve."""


def negotiate(
    request: Associate,
    device: Device | None,
    limits: Limits,
    may: Callable[[Service], bool],
    *,
    accept_unknown: bool,
    commits: bool = False,
) -> Negotiated:
    """Decide about every presentation context and about what the user information asks for.

    `commits` says whether what is called offers Storage Commitment.

    A context for a service that the caller may not use is rejected here, with user-rejection, so that
    nobody finds out only in the middle of an association.
    """
    results = []
    contexts: dict[int, Context] = {}
    allowed = device.transfer_syntaxes if device else ()
    for proposed in request.proposed:
        result = _result(proposed, request.user.roles, allowed, accept_unknown)
        if proposed.abstract_syntax == COMMITMENT and not commits:
            result = result._replace(result=ABSTRACT_SYNTAX_NOT_SUPPORTED)
        if result.result == ACCEPTANCE and not _is_permitted(
            proposed.abstract_syntax, request.user.roles, may
        ):
            result = result._replace(result=USER_REJECTION)
        results.append(result)
        if result.result == ACCEPTANCE:
            is_scu, is_scp = _roles(proposed.abstract_syntax, request.user.roles)
            contexts[proposed.id] = Context(
                proposed.id, proposed.abstract_syntax, result.transfer_syntax, is_scu, is_scp
            )
    accepted = {context.abstract_syntax for context in contexts.values()}
    user = UserInformation(
        max_pdu=limits.max_pdu,
        implementation_class=IMPLEMENTATION_CLASS_UID,
        implementation_version=IMPLEMENTATION_VERSION,
        roles={uid: _roles(uid, request.user.roles) for uid in request.user.roles if uid in accepted},
        extended={
            uid: performed(uid, info)
            for uid, info in request.user.extended.items()
            if uid in accepted and uid in QUERY_RETRIEVE
        },
        async_window=(1, 1) if request.user.async_window else None,
    )
    answer = Associate(request.called_ae, request.calling_ae, results=tuple(results), user=user)
    matching = {uid: _matching(uid, info) for uid, info in user.extended.items()}
    return Negotiated(answer, contexts, matching)


def _result(
    proposed: ProposedContext,
    roles: Mapping[str, tuple[bool, bool]],
    allowed: tuple[str, ...],
    accept_unknown: bool,
) -> ContextResult:
    uid, syntaxes = proposed.abstract_syntax, proposed.transfer_syntaxes
    is_storage = uid in STORAGE or (accept_unknown and is_unknown(uid))
    if not is_storage and uid not in NOT_STORAGE:
        return ContextResult(proposed.id, ABSTRACT_SYNTAX_NOT_SUPPORTED, syntaxes[0])
    if not any(_roles(uid, roles)):
        return ContextResult(proposed.id, USER_REJECTION, syntaxes[0])
    for syntax in syntaxes:
        if is_storage:
            is_known = syntax in TRANSFER_SYNTAXES or (accept_unknown and is_unknown(syntax))
            if is_known and (not allowed or syntax in allowed):
                return ContextResult(proposed.id, ACCEPTANCE, syntax)
        elif syntax in FOR_IDENTIFIERS:
            return ContextResult(proposed.id, ACCEPTANCE, syntax)
    return ContextResult(proposed.id, TRANSFER_SYNTAXES_NOT_SUPPORTED, syntaxes[0])


def _is_permitted(uid: str, roles: Mapping[str, tuple[bool, bool]], may: Callable[[Service], bool]) -> bool:
    """Say whether the caller may use a context as SCU.

    A receiver of C-GET asks for nothing but that, and who brings results of Storage Commitment for nothing.
    """
    if uid in _SERVICES:
        return may(_SERVICES[uid])
    _, is_scp = _roles(uid, roles)
    return is_scp or may(Service.COMMIT if uid == COMMITMENT else Service.STORE)


def _roles(uid: str, proposed: Mapping[str, tuple[bool, bool]]) -> tuple[bool, bool]:
    """Return the requestor's roles, PS3.7 D.3.3.4: SCU alone unless it negotiates."""
    is_scu, is_scp = proposed.get(uid, (True, False))
    return is_scu, is_scp and (uid == COMMITMENT or uid not in NOT_STORAGE)


def performed(uid: str, asked: bytes) -> bytes:
    """Answer Table C.5-2 (find) and C.5-3 (move, get): relational, and date-time for find; the rest is 0."""
    performed = 2 if QUERY_RETRIEVE[uid] == C_FIND_RQ else 1
    return bytes(int(byte == 1 and place < performed) for place, byte in enumerate(asked))


def _matching(uid: str, performed: bytes) -> Matching:
    return matching_of(performed)
