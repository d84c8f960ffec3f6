"""Sessions with every known node: served to who dials, dialed where nobody has; the channels beside them."""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import grpc

from catalog import NotPermitted, PacsError, Unavailable
from federation.trust.certificates import parse, public_key
from federation.trust.keys import is_signed, sign
from federation.trust.names import Identity
from federation.trust.rows import PeerRow
from protos import trust_pb2 as wire
from protos import trust_pb2_grpc as services

from . import gossip
from .roll import Backoff, Refused
from .rpc import abort, letter_of
from .session import Conversation
from .talk import Talk

_NONCE: Final = 16
_GREETING: Final = 10.0
"""Seconds within which who was dialed must say who it is."""
Discovered = Callable[[str], tuple[str, ...]]
"""Returns addresses of a node (its id) that were seen on the LAN."""


class Links(services.LinkServicer):
    """The sessions of one node."""

    def __init__(self, talk: Talk, discovered: Discovered = lambda node_id: ()) -> None:
        self._talk = talk
        self._discovered = discovered
        self._addresses: dict[str, str] = {}
        self._dialing: set[str] = set()
        self._backoffs: dict[str, Backoff] = {}
        self._turns: dict[str, int] = {}
        self._failures: dict[str, PacsError] = {}
        self._greetings: dict[int, tuple[Any, float]] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    def register(self, server: grpc.Server) -> None:
        """Add the servicer to a server."""
        services.add_LinkServicer_to_server(self, server)

    # What the rest of the node uses.

    def channel(self, node_id: str, *, asks: bool = False) -> grpc.Channel:
        """Return the channel to a connected node, or the one for questions; see `Channels.channel`.

        Raises:
            Unavailable: it is not connected at this moment; the letter says why.
        """
        standing = self._talk.roll.standing(node_id)
        if standing is None:
            raise self._why_not(node_id)
        address = self._addresses.get(node_id) if standing.is_dialed else None
        if address is None:
            row = self._talk.tables.peers.get(node_id.encode())
            found = gossip.candidates(row, self._discovered(node_id)) if row else ()
            if not found:
                what = f"{standing.identity.name} dialed in, and no way back to it is known."
                raise Unavailable(what, "Name its address, or open a door at a node that both can reach.")
            address = found[0]
        return self._talk.channels.channel(node_id, address, asks=asks)

    def _why_not(self, node_id: str) -> PacsError:
        known = self._failures.get(node_id)
        if known is not None:
            return Unavailable(known.what, known.next)
        row = self._talk.tables.peers.get(node_id.encode())
        return Unavailable(f"{row.name if row else node_id} is not connected.", "See: peerpacs peers")

    def failure(self, node_id: str) -> PacsError | None:
        """Return why the last attempt to reach a node failed, or None."""
        return self._failures.get(node_id)

    def granted(self, node_id: str) -> tuple[str, ...] | None:
        """Return what a connected node lets this one do, in words; None if it did not say."""
        session = self._talk.session(node_id)
        return session.granted if session is not None else None

    def take_departure(self, document: bytes) -> None:
        """Hear that a node left, and tell everybody."""
        self._talk.take_departure(document)

    def addresses(self, node_id: str) -> tuple[str, ...]:
        """Return where a node is tried, in order."""
        row = self._talk.tables.peers.get(node_id.encode())
        return gossip.candidates(row, self._discovered(node_id)) if row else ()

    def head_moved(self, head: wire.Head, to: Iterable[str]) -> None:
        """Tell connected nodes that a log's head moved."""
        for node_id in to:
            self._talk.send(node_id, moved=wire.HeadMoved(head=head))

    def ask_to_dial_back(self, node_id: str, token: str) -> bool:
        """Ask a connected node to open a connection to this node's door; say whether it is connected."""
        return self._talk.send(node_id, dial_back=wire.DialBack(token=token))

    def step(self) -> None:
        """Keep sessions alive, end the dead, dial who is missing."""
        self._talk.step()
        now = self._talk.monotonic()
        for number, (call, until) in list(self._greetings.items()):
            if now > until:
                self._greetings.pop(number, None)
                call.cancel()
        for _, row in list(self._talk.tables.peers.scan()):
            if self._is_wanted(row, now):
                self._begin(row)

    def close(self) -> None:
        """End all sessions, and dial nobody any more."""
        self._is_closed = True
        self._talk.close()

    # As the one who is dialed.

    def Session(
        self, request_iterator: Iterator[wire.LinkMessage], context: grpc.ServicerContext
    ) -> Iterator[wire.LinkMessage]:
        """Serve one session; the name is the wire's."""
        talk = self._talk
        identity = talk.gate.visitor(context).identity
        first = next(request_iterator, None)
        if first is None or first.WhichOneof("kind") != "hello":
            abort(context, NotPermitted("A session begins with a Hello."))
        was_away = talk.roll.standing(identity.node_id) is None
        try:
            standing = talk.roll.greet(first.hello, identity, is_dialed=False)
        except Refused as error:
            letter = wire.Letter(what=error.what, next=error.next, is_quiet=error.is_quiet)
            yield wire.LinkMessage(refused=letter)
            return
        if was_away and identity.node_id not in self._dialing:
            # A channel that failed while the node was away waits for seconds; a new one connects at once.
            talk.channels.drop(identity.node_id)
        session = Conversation(standing)
        context.add_callback(session.end)
        session.send(hello=self._answer_to(first.hello, identity))
        talk.enter(session, standing, first.hello)
        if was_away:
            self._hope()
        talk.spawn(f"session {identity.name}", lambda: self._read(session, request_iterator))
        try:
            yield from session.messages()
        finally:
            talk.leave(session)

    def _read(self, session: Conversation, messages: Iterator[wire.LinkMessage]) -> None:
        try:
            self._talk.read(session, messages)
        except grpc.RpcError:
            pass  # the other side is gone, which `read` has noted
        except NotPermitted:
            session.end()

    def _answer_to(self, hello: wire.Hello, identity: Identity) -> wire.Hello:
        pair = self._talk.credentials.pair
        answer = self._talk.hello(identity)
        answer.certificate = pair.leaf
        answer.proof = sign(pair.key, _proof_text(hello.nonce, hello.node_id, answer.node_id))
        return answer

    # As the one who dials.

    def _is_wanted(self, row: PeerRow, now: float) -> bool:
        node_id = row.node_id
        return (
            not self._is_closed
            and row.state != "left"  # who was expelled may have been let in again since
            and node_id != self._talk.own_id
            and node_id not in self._dialing
            and self._talk.roll.standing(node_id) is None
            and self._backoff(node_id).is_due(now)
            and bool(gossip.candidates(row, self._discovered(node_id)))
        )

    def _backoff(self, node_id: str) -> Backoff:
        return self._backoffs.setdefault(node_id, Backoff(random.random))

    def _hope(self) -> None:
        """A node is connected: what kept it away may have kept others away, and be over for them too."""
        now = self._talk.monotonic()
        for each in list(self._backoffs.values()):
            each.hopes(now)

    def _begin(self, row: PeerRow) -> None:
        found = gossip.candidates(row, self._discovered(row.node_id))
        turn = self._turns.get(row.node_id, 0)
        self._turns[row.node_id] = turn + 1
        self._dialing.add(row.node_id)
        self._talk.spawn(f"session {row.name}", lambda: self._dial(row, found[turn % len(found)]))

    def _dial(self, row: PeerRow, address: str) -> None:
        """Keep a session with a node that was reached at this address, until it ends."""
        session = Conversation()
        try:
            self._converse(row, address, session)
        except (grpc.RpcError, PacsError) as error:
            letter = letter_of(error, row.name) if isinstance(error, grpc.RpcError) else error
            if not (isinstance(letter, Refused) and letter.is_quiet):
                self._failures[row.node_id] = letter
            self._backoff(row.node_id).failed(self._talk.monotonic())
        finally:
            self._talk.leave(session)
            if self._talk.roll.standing(row.node_id) is None:
                # Kept, it would connect when gRPC likes to, and the next attempt only hear of the last.
                self._talk.channels.drop(row.node_id, address)
            self._dialing.discard(row.node_id)

    def _converse(self, row: PeerRow, address: str, session: Conversation) -> None:
        talk, nonce = self._talk, secrets.token_bytes(_NONCE)
        stub = services.LinkStub(talk.channels.channel(row.node_id, address))
        hello = talk.hello(None)
        hello.nonce = nonce
        session.send(hello=hello)
        call = stub.Session(session.messages())
        try:
            answer = self._greeting(call)
            identity = self._proven(answer, row.node_id, nonce)
            standing = talk.roll.greet(answer, identity, is_dialed=True)
            self._addresses[row.node_id] = address
            talk.enter(session, standing, answer)
            self._failures.pop(row.node_id, None)
            self._backoff(row.node_id).worked()
            self._hope()
            talk.read(session, call)
        finally:
            session.end()
            call.cancel()

    def _greeting(self, call: Any) -> wire.Hello:
        """Return the Hello of who was dialed; `step` ends the call if it does not come."""
        self._greetings[id(call)] = (call, self._talk.monotonic() + _GREETING)
        try:
            message = next(call, None)
        finally:
            self._greetings.pop(id(call), None)
        if message is not None and message.WhichOneof("kind") == "refused":
            refused = message.refused
            raise Refused(refused.what, refused.next, is_quiet=refused.is_quiet)
        if message is None or message.WhichOneof("kind") != "hello":
            raise Unavailable("A session ended before it began.")
        answer: wire.Hello = message.hello
        return answer

    def _proven(self, hello: wire.Hello, node_id: str, nonce: bytes) -> Identity:
        """Return who answered: its certificate counts now, and its key signed our nonce.

        TLS made sure that it is a certificate of that node; only this tells that it is not a revoked one.
        """
        identity = self._talk.trust.identify(hello.certificate)
        text = _proof_text(nonce, self._talk.own_id, node_id)
        is_proven = is_signed(public_key(parse(hello.certificate)), hello.proof, text)
        if identity.node_id != node_id or not is_proven:
            raise NotPermitted(f"Whoever answered as {node_id} could not prove it.")
        return identity


def _proof_text(nonce: bytes, dialer: str, answerer: str) -> bytes:
    return b"\0".join((b"peerpacs hello", nonce, dialer.encode(), answerer.encode()))
