"""Ports, where gRPC is played: a thread that accepts for each, and one that reads for each connection."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import grpc
import msgspec

from federation.links.dialing import split_address

from .answering import Answer, Caller
from .asking import Metadatum
from .chains import judge
from .frames import Frames, Greeting, Kind, Opening, read

logger = logging.getLogger(__name__)

_GREETING: Final = 120.0
"""Seconds within which who dials must have shown what it has to show."""
_YEAR: Final = 365 * 86400.0
_QUEUE: Final = 128


class InForce(NamedTuple):
    """What `grpc.ssl_server_certificate_configuration` returns; PEM."""

    chain: bytes
    roots: bytes = b""


class ServerCredentials:
    """What `grpc.dynamic_ssl_server_credentials` returns: at each greeting it asks what is in force."""

    def __init__(self, first: InForce, fetch: Callable[[], InForce | None], *, is_mutual: bool) -> None:
        self._told, self._fetch, self.is_mutual = first, fetch, is_mutual
        self._asking = threading.Lock()

    def now(self) -> InForce:
        """Return what is in force; one greeting asks at a time."""
        with self._asking:
            self._told = self._fetch() or self._told
            return self._told


class Details(NamedTuple):
    """`grpc.HandlerCallDetails`."""

    method: str
    invocation_metadata: tuple[Metadatum, ...]


class _Port:
    def __init__(self, listener: socket.socket, credentials: ServerCredentials) -> None:
        self.listener, self.credentials = listener, credentials
        self.thread: threading.Thread | None = None


class Server(grpc.Server):
    """One server of any number of ports."""

    def __init__(self, pool: Any, interceptors: Sequence[Any], options: Sequence[tuple[str, Any]]) -> None:
        self.pool, self._interceptors, self.options = pool, tuple(interceptors), dict(options)
        self.age: float = self.options.get("grpc.max_connection_age_ms", _YEAR * 1000) / 1000
        self.grace: float = self.options.get("grpc.max_connection_age_grace_ms", _YEAR * 1000) / 1000
        self._handlers: list[Any] = []
        self._ports: list[_Port] = []
        self._changed = threading.Condition()
        self._visits: dict[int, _Visit] = {}
        self._numbers = itertools.count()
        self._is_stopping = False
        self._stopped = threading.Event()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """See `grpc.Server.add_generic_rpc_handlers`."""
        self._handlers.extend(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Nothing: generated code adds the same ones as generic handlers."""

    def add_insecure_port(self, address: str) -> int:
        """There are none here."""
        raise NotImplementedError

    def add_secure_port(self, address: str, server_credentials: Any) -> int:
        """Take a port and return it.

        Raises:
            RuntimeError: it is taken.
        """
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=_QUEUE)
        except OSError as error:
            raise RuntimeError(f"Failed to bind to address {address}: {error.strerror or error}") from error
        self._ports.append(_Port(listener, server_credentials))
        return int(listener.getsockname()[1])

    def start(self) -> None:
        """Serve."""
        for port in self._ports:
            port.thread = threading.Thread(target=self._accept, args=(port,), name="accepts", daemon=True)
            port.thread.start()

    def _accept(self, port: _Port) -> None:
        with port.listener:
            while True:
                try:
                    connection, address = port.listener.accept()
                except OSError:
                    return
                visit = _Visit(self, connection, f"ipv4:{address[0]}:{address[1]}")
                with self._changed:
                    is_served = not self._is_stopping
                    number = next(self._numbers)
                    if is_served:
                        self._visits[number] = visit
                if not is_served:
                    visit.frames.close()
                    continue
                serve = partial(visit.serve, port.credentials, partial(self._forget, number))
                threading.Thread(target=serve, name=f"serves {visit.peer}", daemon=True).start()

    def _forget(self, number: int) -> None:
        with self._changed:
            self._visits.pop(number, None)
            self._changed.notify_all()

    def find(self, method: str, metadata: tuple[Metadatum, ...]) -> Any:
        """Return the handler of a method, as the interceptors have made it, or None."""

        def known(details: Any) -> Any:
            found = (each.service(details) for each in self._handlers)
            return next((each for each in found if each is not None), None)

        find = known
        for each in reversed(self._interceptors):
            find = partial(each.intercept_service, find)
        return find(Details(method, metadata))

    def begin(self, answer: Answer) -> None:
        """Have the pool work on a call."""
        if self._is_stopping:
            answer.end(grpc.StatusCode.UNAVAILABLE, "Server is shutting down")
            return
        try:
            self.pool.submit(contextvars.Context().run, answer.work, self.find)
        except RuntimeError:
            answer.end(grpc.StatusCode.UNAVAILABLE, "Server is shutting down")

    def answered(self) -> None:
        """Hear that a call has ended."""
        with self._changed:
            self._changed.notify_all()

    def stop(self, grace: float | None) -> threading.Event:
        """Take no calls any more, and cut those under way after `grace` seconds; the event is set then."""
        with self._changed:
            is_first, self._is_stopping = not self._is_stopping, True
        if is_first:
            for port in self._ports:
                with contextlib.suppress(OSError):
                    port.listener.shutdown(socket.SHUT_RDWR)
                if port.thread is None:
                    port.listener.close()
            threading.Thread(target=self._end, args=(grace or 0.0,), name="stops", daemon=True).start()
        return self._stopped

    def _end(self, grace: float) -> None:
        for visit in self._visiting():
            if not visit.is_busy():
                visit.frames.close()
        with self._changed:
            self._changed.wait_for(
                lambda: not any(visit.is_busy() for visit in self._visits.values()), timeout=grace
            )
        for visit in self._visiting():
            visit.frames.close()
        for port in self._ports:
            if port.thread is not None:
                port.thread.join()
        with self._changed:
            self._changed.wait_for(lambda: not self._visits)
        self._stopped.set()

    def _visiting(self) -> list[_Visit]:
        with self._changed:
            return list(self._visits.values())

    def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Wait for the end; say whether it did not come in time."""
        return not self._stopped.wait(timeout)


class _Visit:
    """One connection, from its greeting to its end."""

    def __init__(self, server: Server, connection: socket.socket, peer: str) -> None:
        self.frames, self.peer = Frames(connection), peer
        self._server = server
        self._since = time.monotonic()
        self._answer: Answer | None = None
        self._certificate = b""

    def is_busy(self) -> bool:
        """Say whether a call is under way."""
        return self._answer is not None and self._answer.is_open()

    def serve(self, credentials: ServerCredentials, ended: Callable[[], None]) -> None:
        """Read what comes, to the end."""
        try:
            self._greet(credentials)
            while True:
                self._read()
        except OSError as error:
            logger.debug("The connection of %s is over: %s", self.peer, error)
        finally:
            if self._answer is not None:
                self._answer.leave()
            self.frames.close()
            ended()

    def _greet(self, credentials: ServerCredentials) -> None:
        """Show our chain to whoever it is; only then look at theirs, as TLS does."""
        until = self._since + _GREETING
        shown = self.frames.hear_hello(until)
        in_force = credentials.now()
        own = msgspec.msgpack.encode(Greeting(in_force.chain, self._server.age))
        self.frames.send(Kind.GREETING, own, until)
        if credentials.is_mutual:
            self._certificate = judge(shown.chain, in_force.roots).leaf

    def _until(self) -> float:
        answer = self._answer
        if answer is not None and answer.is_open():
            return answer.until
        return self._since + self._server.age

    def _read(self) -> None:
        try:
            kind, payload = self.frames.receive(self._until())
        except TimeoutError:
            if time.monotonic() >= self._until():
                raise
            return
        if kind is Kind.CALL:
            self._begin(read(payload, Opening))
        elif kind is Kind.PING:
            self.frames.send(Kind.PONG)
        elif self._answer is not None and kind is Kind.MESSAGE:
            self._answer.take(payload)
        elif self._answer is not None and kind is Kind.END:
            self._answer.take_end()

    def _begin(self, opening: Opening) -> None:
        until = self._since + self._server.age + self._server.grace
        caller = Caller(self.frames, self.peer, self._certificate, until)
        self._answer = Answer(caller, opening, self._server.options, self._server.answered)
        self._server.begin(self._answer)
