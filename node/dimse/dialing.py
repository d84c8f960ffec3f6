"""An association asked for: PS3.8 9.2 as the requestor, from the connection to the A-ASSOCIATE-AC."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from catalog import Busy, NotPermitted, PacsError, Unavailable
from node.measures import Level
from node.storage import IMPLEMENTATION_CLASS_UID

from .association import Association
from .limits import Limits
from .negotiation import ACCEPTANCE, IMPLEMENTATION_VERSION, Context
from .pdu import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    HEADER,
    INVALID_PARAMETER,
    UNEXPECTED_PDU,
    Associate,
    ProposedContext,
    UserInformation,
    Violation,
    decode_associate,
    encode_associate,
)
from .secure import SecureConnection, TlsLayer
from .tls import Security, client_context, fingerprint, why_not_secure
from .transport import Connection, Ended

MAX_CONTEXTS: Final = 128
REQUESTED: Final = Level()
"""Associations this process asked for that are open now, whoever asked."""
Proposed = tuple[str, Sequence[str]]
"""An abstract syntax and the transfer syntaxes of one presentation context."""
_REASONS: Final = {
    (1, 3): "it does not know the calling AE title",
    (1, 7): "it does not know the called AE title",
    (1, 2): "it does not support DICOM's application context",
    (2, 2): "it does not support this version of the protocol",
    (3, 1): "it is congested",
    (3, 2): "its limit of associations is reached",
}
"""PS3.8 Table 9-21."""


class Peer(NamedTuple):
    """Another Application Entity and the title we call it with."""

    ae_title: str
    host: str
    port: int
    calling_ae: str
    security: Security | None = None
    """Without it the call is made without TLS."""

    def __str__(self) -> str:
        return f"{self.ae_title} ({self.host}:{self.port})"


def dial(
    peer: Peer,
    proposed: Sequence[Proposed],
    limits: Limits,
    roles: Mapping[str, tuple[bool, bool]] | None = None,
    extended: Mapping[str, bytes] | None = None,
) -> Association:
    """Open an association; `proposed` are abstract syntaxes, each with its transfer syntaxes, at most 128.

    Raises:
        Unavailable: nobody answers, or not in DICOM.
        Busy: it rejects for now.
        NotPermitted: it rejects for good.
    """
    request = _request(peer, proposed, limits, roles or {}, extended or {})
    connection = _connect(peer, limits)
    try:
        if isinstance(connection, SecureConnection):
            _shake_hands(connection, peer)
        connection.send([encode_associate(request, ASSOCIATE_RQ)])
        answer = _receive_answer(connection, peer, limits)
        association = Association(connection, _accepted(request, answer), limits.max_pdu, answer.user.max_pdu)
    except Ended as error:
        connection.close()
        raise Unavailable(f"{peer} gave no answer to an association request: {error}.") from None
    except BaseException:
        connection.close()
        raise
    connection.set_timeout(limits.message)
    REQUESTED.change(+1)
    return association


def _connect(peer: Peer, limits: Limits) -> Connection:
    try:
        sock = socket.create_connection((peer.host, peer.port), limits.connect)
    except OSError as error:
        raise Unavailable(
            f"{peer} does not answer: {error.strerror or error}.",
            "Check its address and port, and the network.",
        ) from None
    if peer.security is None:
        return Connection(sock, limits.connect)
    return SecureConnection(sock, limits.connect, TlsLayer(peer.security.context, server_name=peer.host))


def _shake_hands(connection: SecureConnection, peer: Peer) -> None:
    pinned = peer.security.pinned if peer.security else ""
    try:
        connection.shake_hands()
    except ssl.SSLError as error:
        what, remedy = why_not_secure(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            raise NotPermitted(f"{peer} {what}.", remedy) from None
        raise Unavailable(f"{peer} {what}.", remedy) from None
    shown = fingerprint(connection.layer.certificate())
    if pinned and shown != pinned:
        raise NotPermitted(
            f"{peer} shows another certificate than the one that was pinned: sha256:{shown}.",
            "If it was renewed there, pin the new one: peerpacs devices edit NAME --tls pin",
        )


def shown_certificate(host: str, port: int) -> str:
    """Return the fingerprint of the certificate that is shown at a TLS port, whoever signed it.

    Raises:
        Unavailable: nobody answers, or not in TLS.
    """
    peer = Peer("A TLS port", host, port, "", Security(client_context()))
    connection = _connect(peer, Limits())
    try:
        assert isinstance(connection, SecureConnection)
        _shake_hands(connection, peer)
        return fingerprint(connection.layer.certificate())
    except Ended as error:
        raise Unavailable(f"{host}:{port} does not speak TLS: {error}.") from None
    finally:
        connection.close()


def hang_up(association: Association, *, release: bool, source: int = 0, reason: int = 0) -> None:
    """Release an association we asked for, or abort it so, and close its connection; never raises."""
    try:
        if release:
            association.connection.set_timeout(5.0)
            association.release()
        else:
            association.abort(source, reason)
    except Violation as error:
        association.abort(2, error.reason)
    except Ended:
        pass
    finally:
        REQUESTED.change(-1)
        with contextlib.suppress(OSError):
            association.connection.close()


def _request(
    peer: Peer,
    proposed: Sequence[Proposed],
    limits: Limits,
    roles: Mapping[str, tuple[bool, bool]],
    extended: Mapping[str, bytes],
) -> Associate:
    contexts = tuple(
        ProposedContext(2 * place + 1, uid, tuple(syntaxes)) for place, (uid, syntaxes) in enumerate(proposed)
    )
    user = UserInformation(limits.max_pdu, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION, roles, extended)
    return Associate(peer.ae_title, peer.calling_ae, contexts, user=user)


def _receive_answer(connection: Connection, peer: Peer, limits: Limits) -> Associate:
    kind, length = HEADER.unpack(connection.read(6))
    if length > limits.associate_request:
        raise Violation(INVALID_PARAMETER, "its answer is too long")
    body = connection.read(length)
    if kind == ASSOCIATE_AC:
        return decode_associate(body)
    if kind == ASSOCIATE_RJ and length == 4:
        raise _rejection(peer, *body[1:4])
    if kind == ABORT:
        raise Unavailable(f"{peer} aborted the association instead of answering.")
    raise Violation(UNEXPECTED_PDU, f"it answered with PDU {kind:02X}")


def _rejection(peer: Peer, result: int, source: int, reason: int) -> PacsError:
    why = _REASONS.get((source, reason), f"it gives no known reason ({source} {reason})")
    if result == 2 or (source, reason) in ((3, 1), (3, 2)):
        return Busy(f"{peer} takes no association for now: {why}.", "Try again later.")
    return NotPermitted(
        f"{peer} rejects associations from {peer.calling_ae}: {why}.",
        "Register both AE titles there.",
    )


def _accepted(request: Associate, answer: Associate) -> dict[int, Context]:
    proposed = {context.id: context for context in request.proposed}
    contexts = {}
    for result in answer.results:
        context = proposed.get(result.id)
        if context is None or result.result != ACCEPTANCE:
            continue
        if result.transfer_syntax not in context.transfer_syntaxes:
            continue
        # Without an answer to role selection the default roles hold: the peer is the SCP (PS3.7 D.3.3.4).
        we_are_scu, we_are_scp = answer.user.roles.get(context.abstract_syntax, (True, False))
        contexts[context.id] = Context(
            context.id, context.abstract_syntax, result.transfer_syntax, we_are_scp, we_are_scu
        )
    return contexts
