"""Channels to peers: pinned to a node's name, whatever the address; made anew when a certificate changes.

Each call carries the node's instance and a signed assertion on whose behalf it is made.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

import grpc

from catalog import Clock, NotPermitted, Unavailable
from federation.trust.assertion import Asker, make_assertion
from federation.trust.credentials import Credentials
from federation.trust.names import server_name
from federation.trust.trust import Trust

from .gate import ASSERTION, INSTANCE, UNSIGNED, AuditHook, Visit
from .rpc import QUESTIONS, channel_options, letter_of

_OWN_FOR: Final = 120.0
"""Seconds for which one assertion serves the node's own calls to a peer."""
_asking: ContextVar[Asker | None] = ContextVar("asking", default=None)


@contextmanager
def asking(asker: Asker) -> Iterator[Asker]:
    """Make the calls inside on behalf of a user or AE; yields the asker with its request id."""
    known = asker if asker.request_id else asker._replace(request_id=secrets.token_hex(8))
    token = _asking.set(known)
    try:
        yield known
    finally:
        _asking.reset(token)


class _Details(NamedTuple):
    """grpc.ClientCallDetails with other metadata."""

    method: Any
    timeout: Any
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class _Signer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Says in each call to one peer which instance of the node calls, and on whose behalf."""

    def __init__(self, channels: Channels, node_id: str) -> None:
        self._channels = channels
        self._node_id = node_id

    def _call(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        method = details.method if isinstance(details.method, str) else details.method.decode()
        if method not in UNSIGNED:
            self._channels.check(self._node_id)
        asker, added = self._channels.metadata(self._node_id, method)
        metadata = [*(details.metadata or ()), *added]
        said = _Details(
            method,
            details.timeout,
            metadata,
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )
        call = self._begun(continuation, said, request)
        if method not in UNSIGNED:
            self._channels.watch(call, method, self._node_id, asker)
        return call

    def _begun(self, continuation: Callable[..., Any], details: _Details, request: Any) -> Any:
        """Begin a call; a channel that was closed since it was asked for is a letter like any other.

        gRPC has a ValueError for it, which nobody foresees; of a call of one answer it is in the outcome.
        """
        try:
            call = continuation(details, request)
            if call.done() and isinstance(error := call.exception(), ValueError):
                raise error
        except ValueError as error:
            what = f"The connection to {self._node_id} is being made anew."
            raise Unavailable(what, "It is tried again; see: peerpacs peers") from error
        return call

    intercept_unary_unary = _call  # type: ignore[assignment]
    intercept_unary_stream = _call  # type: ignore[assignment]
    intercept_stream_unary = _call  # type: ignore[assignment]
    intercept_stream_stream = _call  # type: ignore[assignment]


class Channels:
    """The channels of one node: one to a peer and address, and one beside it for questions."""

    def __init__(
        self,
        credentials: Credentials,
        trust: Trust,
        instance: int,
        clock: Clock,
        audit: AuditHook,
        proxy: str = "",
    ) -> None:
        """`proxy` is the host:port of an HTTP proxy that CONNECT goes through."""
        self._credentials = credentials
        self._trust = trust
        self._instance = instance
        self._clock = clock
        self._audit = audit
        self._proxy = proxy
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str, bool], grpc.Channel] = {}
        self._made_for = self._state()
        self._own: dict[str, tuple[Asker, str, float]] = {}

    def _state(self) -> tuple[int, int]:
        return self._credentials.pair.identity.serial, self._trust.bundle.version

    def channel(self, node_id: str, address: str, *, asks: bool = False) -> grpc.Channel:
        """Return the channel to a node at this address; TLS makes sure that it is that node.

        One that `asks` is a connection of its own: no question waits behind objects. See `rpc.QUESTIONS`.
        """
        key = (node_id, address, asks)
        with self._lock:
            found = self._open.get(key)
            if found is None:
                found = self._open[key] = self._make(node_id, address, asks)
            return found

    def _make(self, node_id: str, address: str, asks: bool) -> grpc.Channel:
        pair = self._credentials.pair
        tls = grpc.ssl_channel_credentials(self._trust.roots_pem(), pair.key_pem, pair.chain_pem)
        options = [*channel_options(server_name(node_id), self._proxy), *(QUESTIONS if asks else ())]
        channel = grpc.secure_channel(address, tls, options)
        return grpc.intercept_channel(channel, _Signer(self, node_id))

    def refresh(self) -> bool:
        """Close every channel that was made with another certificate or other roots; say whether any was."""
        if self._state() == self._made_for:
            return False
        self._made_for = self._state()
        self._own = {}  # what the old key signed counts no longer than its certificate
        self.close()
        return True

    def drop(self, node_id: str, address: str = "") -> None:
        """Close the channels to a node, or the one to an address: calls in flight end."""
        with self._lock:
            gone = [
                self._open.pop(key)
                for key in list(self._open)
                if key[0] == node_id and address in ("", key[1])
            ]
        for channel in gone:
            channel.close()

    def drop_expelled(self) -> None:
        """Close the channels to every node that was expelled, whether a session with it lives or not."""
        for node_id in {key[0] for key in list(self._open)}:
            if self._trust.is_expelled(node_id):
                self.drop(node_id)

    def close(self) -> None:
        """Close all channels."""
        with self._lock:
            gone, self._open = list(self._open.values()), {}
        for channel in gone:
            channel.close()

    def check(self, node_id: str) -> None:
        """Make sure that a call may go to this node.

        Raises:
            NotPermitted: it was expelled, and nothing has come in its place.
        """
        if self._trust.is_expelled(node_id):
            what = f"The node {node_id} was expelled from this grid; nothing is sent to it."
            raise NotPermitted(what, "See: peerpacs peers")

    def metadata(self, node_id: str, method: str) -> tuple[Asker, tuple[tuple[str, str], ...]]:
        """Return on whose behalf a call is made now, and what says so."""
        instance = (INSTANCE, str(self._instance))
        if method in UNSIGNED:
            return Asker(), (instance,)
        asker, now = _asking.get(), self._clock()
        if asker is not None:
            text = make_assertion(self._credentials.pair, asker, node_id, now)
            return asker, (instance, (ASSERTION, text))
        own, text, made = self._own.get(node_id, (Asker(), "", 0.0))
        if not text or not made <= now < made + _OWN_FOR:
            own, made = Asker(request_id=secrets.token_hex(8)), now
            text = make_assertion(self._credentials.pair, own, node_id, now)
            self._own[node_id] = (own, text, made)
        return own, (instance, (ASSERTION, text))

    def watch(self, call: Any, method: str, node_id: str, asker: Asker) -> None:
        """Have the audit learn how a call ended."""

        def ended(future: Any) -> None:
            code = future.code()
            outcome = "ok"
            if code is not grpc.StatusCode.OK:
                outcome = letter_of(future, node_id).what if isinstance(future, grpc.RpcError) else str(code)
            self._audit(Visit("out", method, node_id, "", asker, outcome))

        call.add_done_callback(ended)
