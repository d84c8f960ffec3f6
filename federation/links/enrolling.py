"""Enrolment on the wire, the authority's side: Probe, Join and Renew. `trust.enrolment` decides."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import grpc

from catalog import BadRequest, Clock, NotPermitted, PacsError
from federation.trust.authority import Authority
from federation.trust.credentials import Credentials
from federation.trust.enrolment import NONCE_SIZE, Applicant, Pending, Registrar, read_request
from federation.trust.keys import parse_public_key
from federation.trust.rows import PeerRow, Tables
from federation.trust.trust import Trust, Versions
from protos import trust_pb2 as wire
from protos import trust_pb2_grpc as services

from . import gossip
from .gate import Gate
from .roll import FEATURES, PROTOCOL
from .rpc import abort


class Probing(services.EnrollServicer):
    """What every node answers to who has no certificate that counts: the time, and what is wrong."""

    def __init__(self, credentials: Credentials, trust: Trust, clock: Clock) -> None:
        self._credentials = credentials
        self._trust = trust
        self._clock = clock

    def register(self, server: grpc.Server) -> None:
        """Add the servicer to a server."""
        services.add_EnrollServicer_to_server(self, server)

    def Probe(self, request: wire.ProbeRequest, context: grpc.ServicerContext) -> wire.ProbeReply:
        """Say who this is and what time it is, and why the caller's certificate would be refused."""
        identity = self._credentials.pair.identity
        reply = wire.ProbeReply(
            now_ms=int(self._clock() * 1000),
            grid_id=self._trust.grid_id,
            grid_name=self._trust.bundle.name,
            site=identity.site,
            node_id=identity.node_id,
            lineage=self._trust.bundle.lineage,
            features=FEATURES,
            protocol=PROTOCOL,
        )
        if request.certificate:
            try:
                self._trust.identify(request.certificate)
            except PacsError as error:
                reply.refusal.CopyFrom(wire.Letter(what=error.what, next=error.next))
        return reply


class Enrolling(Probing):
    """The desk of an authority."""

    def __init__(
        self,
        credentials: Credentials,
        trust: Trust,
        tables: Tables,
        registrar: Registrar,
        clock: Clock,
        myself: Callable[[], PeerRow],
    ) -> None:
        """`myself` returns this node as others hear of it."""
        super().__init__(credentials, trust, clock)
        self._tables = tables
        self._registrar = registrar
        self._myself = myself

    def Join(
        self, request_iterator: Iterator[wire.JoinMessage], context: grpc.ServicerContext
    ) -> Iterator[wire.JoinMessage]:
        """Challenge who asks, and answer what was asked."""
        try:
            first = next(request_iterator, wire.JoinMessage())
            if first.WhichOneof("kind") != "hello":
                raise BadRequest("A request to join begins with a Hello.")
            nonce = secrets.token_bytes(NONCE_SIZE)
            proof = self._registrar.prove(first.hello.token_id, first.hello.nonce)
            yield wire.JoinMessage(challenge=wire.JoinChallenge(nonce=nonce, proof=proof))
            second = next(request_iterator, wire.JoinMessage())
            yield self._answer(first.hello.token_id, nonce, second)
        except PacsError as error:
            yield wire.JoinMessage(refused=wire.Letter(what=error.what, next=error.next))

    def _answer(self, token_id: bytes, nonce: bytes, message: wire.JoinMessage) -> wire.JoinMessage:
        kind = message.WhichOneof("kind")
        if kind == "request":
            said = message.request.applicant
            applicant = Applicant(said.name, tuple(said.ae_titles), tuple(said.addresses), said.is_dial_only)
            asked = self._registrar.ask(token_id, nonce, message.request.csr, message.request.mac, applicant)
            return self._pending(asked)
        if kind == "resume":
            found = self._registrar.resume(message.resume.request_id, message.resume.signature, nonce)
            return self._pending(found) if isinstance(found, Pending) else self._welcome(found)
        if kind == "expired":
            back = message.expired
            return self._pending(self._registrar.come_back(back.certificate, back.csr, back.signature, nonce))
        raise BadRequest("This node does not understand what is asked when joining.")

    def _pending(self, pending: Pending) -> wire.JoinMessage:
        return wire.JoinMessage(
            pending=wire.JoinPending(
                request_id=pending.request_id,
                words=pending.words,
                grid_name=self._trust.bundle.name,
                site=self._credentials.pair.identity.site,
            )
        )

    def _welcome(self, chain: tuple[bytes, ...]) -> wire.JoinMessage:
        rows = [row for _, row in self._tables.peers.scan() if row.state == "member"]
        welcome = wire.Welcome(
            certificate=certificate_message(self._trust, chain),
            members=[gossip.member_message(row) for row in (self._myself(), *rows)],
            publication=self._trust.publication(),
        )
        return wire.JoinMessage(welcome=welcome)


class Renewing(services.EnrollServicer):
    """Renewal over mutual TLS, at an authority."""

    def __init__(self, gate: Gate, trust: Trust, authority: Authority) -> None:
        self._gate = gate
        self._trust = trust
        self._authority = authority

    def register(self, server: grpc.Server) -> None:
        """Add the servicer to a server."""
        services.add_EnrollServicer_to_server(self, server)

    def Renew(self, request: wire.RenewRequest, context: grpc.ServicerContext) -> wire.Certificate:
        """Issue a certificate for another key of whom TLS and the gate have recognised."""
        identity = self._gate.visitor(context).identity
        try:
            node_id, key = read_request(request.csr)
            if node_id != identity.node_id:
                raise NotPermitted("A node can have only its own certificate renewed.")
            return certificate_message(self._trust, self._authority.renew(identity, parse_public_key(key)))
        except PacsError as error:
            abort(context, error)


def certificate_message(trust: Trust, chain: tuple[bytes, ...]) -> wire.Certificate:
    """Return a chain with the documents by which to judge it."""
    documents = trust.newer_than(Versions())
    return wire.Certificate(chain=chain, bundle=documents.bundle, crls=documents.crls)
