"""The ports of a node in the grid: mutual TLS for peers, server certificate only for who wants to join."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc

from catalog import Busy, Clock
from federation.trust.credentials import Credentials
from federation.trust.trust import Trust

from .rpc import MAX_CONNECTION_AGE, server_options

THREADS: Final = 96
"""At most; each open session keeps one, and idle ones are not made."""
Register = Callable[[grpc.Server], None]
"""Adds a servicer to a server, as generated code does it."""
Pause = Callable[[float], object]
"""Waits for so many seconds, or until the node ends."""


_CALM: Final = 0.2
"""Seconds without a handshake begun, before the next one may bring another pair."""


class _InForce:
    """What gRPC asks at each handshake: another pair and other roots, or nothing while they are the same.

    gRPC (1.85) frees the pair that is replaced while handshakes begun a moment ago still take hold of it:
    parallel handshakes end the process (SIGSEGV). So nothing is replaced without need, and then only after a
    moment in which none began. It asks for one handshake at a time: others wait meanwhile.
    """

    def __init__(
        self, credentials: Credentials, trust: Trust, is_mutual: bool, monotonic: Clock, pause: Pause
    ) -> None:
        self._credentials, self._trust, self._is_mutual = credentials, trust, is_mutual
        self._monotonic, self._pause = monotonic, pause
        self._told = self._now()
        self._began = 0.0

    def first(self) -> Any:
        return grpc.ssl_server_certificate_configuration([self._told[0]], self._told[1])

    def __call__(self) -> Any:
        now = self._now()
        if now == self._told:
            self._began = self._monotonic()
            return None
        self._pause(max(0.0, self._began + _CALM - self._monotonic()))
        self._told, self._began = now, self._monotonic()
        return self.first()

    def _now(self) -> tuple[tuple[bytes, bytes], bytes | None]:
        pair = self._credentials.pair
        return (pair.key_pem, pair.chain_pem), self._trust.roots_pem() if self._is_mutual else None


class GridServer:
    """One port. The pair in force counts from the next handshake on, so a renewal needs no restart."""

    def __init__(
        self,
        credentials: Credentials,
        trust: Trust,
        monotonic: Clock,
        pause: Pause,
        *,
        gate: grpc.ServerInterceptor | None,
        max_age: float = MAX_CONNECTION_AGE,
        threads: int = THREADS,
    ) -> None:
        """With a `gate` the port wants a certificate from who calls; without, anybody may come."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="grid")
        gates = [] if gate is None else [gate]
        self._server = grpc.server(self._pool, interceptors=gates, options=server_options(max_age))
        in_force = _InForce(credentials, trust, bool(gates), monotonic, pause)
        self._tls = grpc.dynamic_ssl_server_credentials(
            in_force.first(), in_force, require_client_authentication=bool(gates)
        )

    def add(self, register: Register) -> None:
        """Add a servicer, before `start`."""
        register(self._server)

    def bind(self, host: str, port: int) -> int:
        """Take the port, and return it: the system chooses one for 0. Nobody is served before `start`.

        Raises:
            Busy: the port is taken.
        """
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = self._server.add_secure_port(where, self._tls)
        except RuntimeError as error:
            bound = 0
            reason = str(error)
        else:
            reason = "it is taken"
        if not bound:
            what = f"Port {port} on {host} cannot be opened for the grid: {reason}."
            raise Busy(what, "Choose another one in peerpacs.toml, section [grid].")
        return bound

    def start(self) -> None:
        """Serve."""
        self._server.start()

    def stop(self, grace: float = 0.5) -> None:
        """End: calls in flight have `grace` seconds."""
        self._server.stop(grace).wait()
        self._pool.shutdown(wait=False, cancel_futures=True)
