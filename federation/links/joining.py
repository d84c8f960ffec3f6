"""Enrolment on the wire, the joiner's side: from a ticket to a certificate, or to a letter that says why not.

The first connection verifies nothing and sends nothing: it fetches the roots, which must lead from the grid's
name in the ticket. Everything else goes over a channel pinned to those roots.
"""

from __future__ import annotations

import contextlib
import hmac
import queue
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import msgspec

from catalog import Clock, NotPermitted, PacsError, Unavailable
from federation.trust.bundle import check_lineage
from federation.trust.certificates import Node, identity_in, make_request, parse, to_pem
from federation.trust.credentials import (
    Pair,
    check_admission,
    drop_pending,
    pending_key,
    write_pair,
)
from federation.trust.enrolment import Applicant, mac_of, proof_of, resume_text, return_text
from federation.trust.keys import PrivateKey, make_key, sign, spki, write_secret
from federation.trust.names import Identity, server_name
from federation.trust.rows import Tables
from federation.trust.ticket import Ticket, key_of
from federation.trust.trust import Documents, Trust, begin
from federation.trust.words import fingerprint
from protos import trust_pb2 as wire
from protos import trust_pb2_grpc as services

from . import gossip
from .dialing import peer_certificate
from .rpc import channel_options, letters

_DEADLINE: Final = 20.0
_LOOK: Final = 4.0
"""Seconds for one look at an address, while a person waits."""
_WAITING_FILE: Final = "waiting.json"
LOOK_AGAIN: Final = "Look whether it was let in, and take its certificate: peerpacs join"
"""What somebody does whose request waits."""


class Waiting(msgspec.Struct, frozen=True):
    """A request that was made; kept beside its key, so that `join` can be run again."""

    address: str
    grid_id: bytes
    request_id: str
    words: tuple[str, ...]
    grid_name: str
    site: str
    """Whose admin decides."""


class Reached(NamedTuple):
    """An authority, pinned."""

    channel: grpc.Channel
    reply: wire.ProbeReply


class Joiner:
    """Takes one node into a grid; `folder` is its identity folder."""

    def __init__(self, folder: Path, node: Node, tables: Tables, clock: Clock, proxy: str = "") -> None:
        self._folder = folder
        self._node = node
        self._tables = tables
        self._clock = clock
        self._proxy = proxy

    def waiting(self) -> Waiting | None:
        """Return the request that waits for its answer, or None."""
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
            return msgspec.json.decode((self._folder / _WAITING_FILE).read_bytes(), type=Waiting)
        return None

    def ask(self, ticket: Ticket, applicant: Applicant) -> Waiting:
        """Hand in a request with a ticket.

        Raises:
            PacsError: it was refused, or nobody answers there; nothing is left behind.
        """
        key = make_key()
        with self._reach(ticket.address, ticket.grid_id) as reached:
            nonce = secrets.token_bytes(16)
            lineage = tuple(reached.reply.lineage)

            def request(challenge: wire.JoinChallenge) -> wire.JoinMessage:
                expected = proof_of(key_of(ticket.secret), lineage, nonce)
                if not hmac.compare_digest(challenge.proof, expected):
                    what = "Whoever answers there did not give out this ticket."
                    raise NotPermitted(what, "Check the ticket with the admin who made it: do not go on.")
                return self._request(ticket, key, challenge.nonce, applicant)

            pending = self._exchange(reached, wire.JoinHello(token_id=ticket.token_id, nonce=nonce), request)
        return self._wait(ticket.address, ticket.grid_id, key, pending)

    def _request(
        self, ticket: Ticket, key: PrivateKey, nonce: bytes, applicant: Applicant
    ) -> wire.JoinMessage:
        csr = make_request(key, self._node)
        said = wire.Applicant(
            name=applicant.name,
            ae_titles=applicant.ae_titles,
            addresses=applicant.addresses,
            is_dial_only=applicant.is_dial_only,
        )
        mac = mac_of(key_of(ticket.secret), csr, nonce)
        return wire.JoinMessage(request=wire.JoinRequest(csr=csr, mac=mac, applicant=said))

    def come_back(self, address: str, old: Pair) -> Waiting:
        """Ask to come back with a certificate that ended not long ago.

        Raises:
            PacsError: it was refused, or nobody answers there.
        """
        key, grid_id = make_key(), old.identity.grid_id

        def request(challenge: wire.JoinChallenge) -> wire.JoinMessage:
            csr = make_request(key, self._node)
            signature = sign(old.key, return_text(csr, challenge.nonce))
            return wire.JoinMessage(
                expired=wire.JoinExpired(certificate=old.leaf, csr=csr, signature=signature)
            )

        with self._reach(address, grid_id) as reached:
            pending = self._exchange(reached, wire.JoinHello(nonce=secrets.token_bytes(16)), request)
        return self._wait(address, grid_id, key, pending)

    def _wait(self, address: str, grid_id: bytes, key: PrivateKey, answer: wire.JoinMessage) -> Waiting:
        pending = answer.pending
        words = fingerprint(grid_id, spki(key.public_key()))
        if tuple(pending.words) != words:
            what = "The authority shows other words than this node: somebody stands between."
            raise NotPermitted(what, "Do not go on; tell the grid's admin.")
        waiting = Waiting(address, grid_id, pending.request_id, words, pending.grid_name, pending.site)
        drop_pending(self._folder)
        pending_key(self._folder, key)
        write_secret(self._folder / _WAITING_FILE, msgspec.json.encode(waiting))
        return waiting

    def collect(self, waiting: Waiting) -> Trust | None:
        """Return the trust this node now has, or None while the request still waits.

        Raises:
            NotPermitted: the request was denied; it is forgotten.
            PacsError: nobody answers there.
        """
        key = pending_key(self._folder)

        def resume(challenge: wire.JoinChallenge) -> wire.JoinMessage:
            signature = sign(key, resume_text(waiting.request_id, challenge.nonce))
            return wire.JoinMessage(
                resume=wire.JoinResume(request_id=waiting.request_id, signature=signature)
            )

        with self._reach(waiting.address, waiting.grid_id) as reached:
            try:
                answer = self._exchange(reached, wire.JoinHello(nonce=secrets.token_bytes(16)), resume)
            except NotPermitted:
                self._forget()
                raise
        if answer.WhichOneof("kind") != "welcome":
            return None
        return self._admit(waiting, key, answer.welcome)

    def _admit(self, waiting: Waiting, key: PrivateKey, welcome: wire.Welcome) -> Trust:
        issued = welcome.certificate
        trust = begin(self._tables.documents, issued.bundle, waiting.grid_id, issued.crls, self._clock)
        check_admission(trust, issued.chain, self._node.node_id, key)
        if welcome.publication:
            trust.accept(Documents(publication=welcome.publication))
        for member in list(welcome.members)[: gossip.MOST]:
            gossip.learn(self._tables.peers, trust, member, self._node.node_id, self._clock())
        write_pair(self._folder, key, issued.chain)
        self._forget()
        return trust

    def _forget(self) -> None:
        (self._folder / _WAITING_FILE).unlink(missing_ok=True)
        drop_pending(self._folder)

    def _exchange(
        self,
        reached: Reached,
        hello: wire.JoinHello,
        answer: Callable[[wire.JoinChallenge], wire.JoinMessage],
    ) -> wire.JoinMessage:
        """Say hello, answer the challenge, return what was said to that."""
        outbox: queue.SimpleQueue[wire.JoinMessage | None] = queue.SimpleQueue()
        outbox.put(wire.JoinMessage(hello=hello))
        with letters("The grid's authority"):
            call = services.EnrollStub(reached.channel).Join(iter(outbox.get, None), timeout=_DEADLINE)
            try:
                challenge = _next(call, "challenge").challenge
                outbox.put(answer(challenge))
                return _next(call, "pending", "welcome")
            finally:
                outbox.put(None)
                call.cancel()

    @contextlib.contextmanager
    def _reach(self, address: str, grid_id: bytes) -> Iterator[Reached]:
        """Connect to an authority: fetch its roots, check them against the grid's name, pin the channel."""
        shown = peer_certificate(address, self._proxy)
        identity = identity_in(parse(shown))
        with _pinned(address, identity.node_id, to_pem([parse(shown)]), self._proxy) as channel:
            reply = probe(channel, self._clock())
        roots = check_lineage(grid_id, tuple(reply.lineage))
        with _pinned(address, identity.node_id, to_pem(roots), self._proxy) as channel:
            yield Reached(channel, reply)


def probe(channel: grpc.Channel, now: float, certificate: bytes = b"") -> wire.ProbeReply:
    """Return what a node says of itself, and of a certificate.

    Raises:
        PacsError: it does not answer.
    """
    request = wire.ProbeRequest(now_ms=int(now * 1000), certificate=certificate)
    with letters("The node at that address"):
        reply: wire.ProbeReply = services.EnrollStub(channel).Probe(request, timeout=_DEADLINE)
    return reply


@contextlib.contextmanager
def _pinned(address: str, node_id: str, anchors: bytes, proxy: str) -> Iterator[grpc.Channel]:
    options = channel_options(server_name(node_id), proxy)
    channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(anchors), options)
    try:
        yield channel
    finally:
        channel.close()


def _next(call: Any, *kinds: str) -> wire.JoinMessage:
    message: wire.JoinMessage | None = next(call, None)
    kind = message.WhichOneof("kind") if message is not None else None
    if message is not None and kind == "refused":
        raise NotPermitted(message.refused.what, message.refused.next)
    if message is None or kind not in kinds:
        raise Unavailable("The grid's authority broke off.", "Try again: peerpacs join")
    return message


def _what_is_wrong(identity: Identity, own: Pair | None, now: float) -> list[str]:
    found = []
    if not identity.issued - 3600 <= now <= identity.expires:
        found.append(
            f"The certificate of {identity.name} does not count at this node's time: it ended, or one of the "
            "two clocks is wrong. Compare them: timedatectl"
        )
    if own is not None and identity.grid_id != own.identity.grid_id:
        found.append(f"{identity.name} is in another grid.")
    return found


def look_at(address: str, node_id: str, own: Pair, now: float, proxy: str = "") -> str:
    """Return what is wrong with whoever listens at a node's address for peers, or nothing."""
    try:
        shown = peer_certificate(address, proxy, server_name(node_id), _LOOK)
        identity = identity_in(parse(shown))
    except PacsError as error:
        return str(error)
    if identity.node_id != node_id:
        return f"Another node answers there: {identity.name}, {identity.node_id}."
    return " ".join(_what_is_wrong(identity, own, now))


def diagnose(address: str, own: Pair | None, clock: Clock, proxy: str = "") -> list[str]:
    """Return sentences about why a node's enrolment port, and with it the node, may not answer this one."""
    try:
        shown, now = peer_certificate(address, proxy), clock()
        identity = identity_in(parse(shown))
        if found := _what_is_wrong(identity, own, now):
            return found
        reply = _probe_pinned(address, shown, now, own, proxy)
    except PacsError as error:
        return [str(error)]
    skew = reply.now_ms / 1000 - now
    if abs(skew) > 300:
        found.append(f"Its clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this node's.")
    if reply.HasField("refusal"):
        found.append(f"It refuses this node: {reply.refusal.what} {reply.refusal.next}".strip())
    return found or [f"{identity.name} answers and would accept this node."]


def _probe_pinned(address: str, shown: bytes, now: float, own: Pair | None, proxy: str) -> wire.ProbeReply:
    """Ask over a channel pinned to the certificate shown, or to its successor. Raises as `probe`."""
    try:
        return _probe_at(address, shown, now, own, proxy)
    except PacsError:
        renewed = peer_certificate(address, proxy)
        if renewed == shown:
            raise
        return _probe_at(address, renewed, now, own, proxy)


def _probe_at(address: str, shown: bytes, now: float, own: Pair | None, proxy: str) -> wire.ProbeReply:
    leaf = parse(shown)
    with _pinned(address, identity_in(leaf).node_id, to_pem([leaf]), proxy) as channel:
        return probe(channel, now, own.leaf if own else b"")
