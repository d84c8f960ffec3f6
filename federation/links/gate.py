"""What stands in front of every handler: who calls, on whose behalf, and whether that still counts.

Checked when a call begins and again for every message that streams in either direction; `step` also cuts
calls over which nothing flows. TLS has verified the chain before; here certificates end and are revoked.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import grpc

from catalog import BadRequest, Clock, NotPermitted, PacsError
from federation.trust.assertion import Asker, verify_assertion
from federation.trust.names import Identity
from federation.trust.policy import Caller
from federation.trust.trust import Trust

from .roll import Roll
from .rpc import abort

INSTANCE: Final = "pp-instance"
ASSERTION: Final = "pp-assertion"
UNSIGNED: Final = frozenset({"/peerpacs.v1.Link/Session", "/peerpacs.v1.Enroll/Renew"})
"""Calls that nodes make for themselves alone: TLS says all there is to say."""
_CACHED: Final = 1024


class Visitor(NamedTuple):
    """Who makes a call."""

    identity: Identity
    asker: Asker
    method: str

    @property
    def caller(self) -> Caller:
        """The caller as policy sees it."""
        return Caller(self.identity.node_id, self.identity.site, self.asker.purpose, self.asker.role)


class Visit(NamedTuple):
    """A call that ended, for the audit; both sides write the same request id."""

    direction: str
    """`in` or `out`."""
    method: str
    node_id: str
    site: str
    asker: Asker
    outcome: str
    """`ok`, or what was refused."""


AuditHook = Callable[[Visit], None]
Behaviour = Callable[[Any, grpc.ServicerContext], Any]


class Gate(grpc.ServerInterceptor):
    """The interceptor of a node's mutual TLS ports."""

    def __init__(
        self,
        trust: Trust,
        own_id: str,
        clock: Clock,
        audit: AuditHook,
        roll: Roll,
    ) -> None:
        """`roll` knows the live sessions: which machine calls, and what time it is there."""
        self._trust = trust
        self._own_id = own_id
        self._clock = clock
        self._audit = audit
        self._roll = roll
        self._live: dict[int, tuple[grpc.ServicerContext, Visitor]] = {}
        self._lock = threading.Lock()
        self._ders: dict[bytes, bytes] = {}
        self._verified: dict[tuple[str, str], tuple[Asker, float]] = {}

    def visitor(self, context: grpc.ServicerContext) -> Visitor:
        """Return who makes the call that a handler is working on."""
        with self._lock:
            return self._live[id(context)][1]

    def step(self) -> int:
        """Cut the calls of who is no longer trusted; return how many."""
        cut = 0
        with self._lock:
            live = list(self._live.values())
        for context, visitor in live:
            try:
                self._trust.check(visitor.identity)
            except NotPermitted:
                cut += bool(context.cancel())
        return cut

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of a call; here, before it, gRPC does not say yet who calls."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        metadata: dict[str, Any] = dict(handler_call_details.invocation_metadata)
        inner, make = _parts(handler)
        wrap = self._streaming if handler.response_streaming else self._single
        wrapped = wrap(inner, method, metadata, is_stream=handler.request_streaming)
        made: grpc.RpcMethodHandler[Any, Any] = make(
            wrapped,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return made

    def _single(
        self, inner: Behaviour, method: str, metadata: dict[str, Any], *, is_stream: bool
    ) -> Behaviour:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            visitor = self._admit(context, method, metadata)
            outcome = "ok"
            try:
                return inner(self._watched(request, visitor) if is_stream else request, context)
            except PacsError as error:
                outcome = error.what
                abort(context, error)
            finally:
                self._leave(context, visitor, outcome)

        return call

    def _streaming(
        self, inner: Behaviour, method: str, metadata: dict[str, Any], *, is_stream: bool
    ) -> Behaviour:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            visitor = self._admit(context, method, metadata)
            outcome = "broken off"
            try:
                answers = inner(self._watched(request, visitor) if is_stream else request, context)
                yield from self._watched(answers, visitor)
                outcome = "ok"
            except PacsError as error:
                outcome = error.what
                abort(context, error)
            finally:
                self._leave(context, visitor, outcome)

        return call

    def _watched(self, messages: Iterator[Any], visitor: Visitor) -> Iterator[Any]:
        for message in messages:
            self._trust.check(visitor.identity)
            yield message

    def _admit(self, context: grpc.ServicerContext, method: str, metadata: dict[str, Any]) -> Visitor:
        try:
            identity = self.identify(context)
            asker = Asker()
            if method not in UNSIGNED:
                self._check_instance(identity, str(metadata.get(INSTANCE, "")))
                asker = self._asker(identity, str(metadata.get(ASSERTION, "")))
        except PacsError as error:
            abort(context, error)
        visitor = Visitor(identity, asker, method)
        with self._lock:
            self._live[id(context)] = (context, visitor)
        return visitor

    def identify(self, context: grpc.ServicerContext) -> Identity:
        """Return whose certificate the connection shows, and that it counts now.

        Raises:
            NotPermitted: it does not.
            BadRequest: it shows none.
        """
        pem = bytes(next(iter(context.auth_context().get("x509_pem_cert") or ()), b""))
        der = self._ders.get(pem)
        if der is None:
            try:
                der = ssl.PEM_cert_to_DER_cert(pem.decode())
            except ValueError as error:
                raise BadRequest("The caller shows no certificate.") from error
            if len(self._ders) >= _CACHED:
                self._ders = {}
            self._ders[pem] = der
        identity = self._trust.identify(der)
        if identity.node_id == self._own_id:
            what = "Somebody else calls with this node's own identity."
            raise NotPermitted(what, "Two machines run one home: stop one of them.")
        return identity

    def _check_instance(self, identity: Identity, claimed: str) -> None:
        live = self._roll.instance_of(identity.node_id)
        if live and claimed != str(live):
            what = f"Another machine with the identity of {identity.name} is connected at this moment."
            raise NotPermitted(what, "Two machines run one home: stop one of them.")

    def _asker(self, identity: Identity, text: str) -> Asker:
        """Verify an assertion; one that several calls share is verified once."""
        key, now = (identity.node_id, text), self._clock()
        asker, until = self._verified.get(key, (None, 0.0))
        if asker is None or now > until:
            # By the clock of the caller, as its session tells it: people are told of a wrong one.
            theirs = now + self._roll.skew_of(identity.node_id)
            asker = verify_assertion(self._trust, text, identity, self._own_id, theirs)
            if len(self._verified) >= _CACHED:
                self._verified = {}
            self._verified[key] = (asker, now + 60)
        return asker

    def _leave(self, context: grpc.ServicerContext, visitor: Visitor, outcome: str) -> None:
        with self._lock:
            self._live.pop(id(context), None)
        if visitor.method not in UNSIGNED:
            caller = visitor.caller
            self._audit(Visit("in", visitor.method, caller.node_id, caller.site, visitor.asker, outcome))


def _parts(handler: grpc.RpcMethodHandler[Any, Any]) -> tuple[Behaviour, Callable[..., Any]]:
    """Return a handler's behaviour, and what makes a handler of its kind."""
    kinds: dict[tuple[bool, bool], tuple[Any, Callable[..., Any]]] = {
        (False, False): (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
        (False, True): (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
        (True, False): (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
        (True, True): (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
    }
    return kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
