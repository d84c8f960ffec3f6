"""The ports of a node in the grid: mutual TLS for peers, server certificate only for who wants to join."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc

from catalog import Busy
from federation.trust.credentials import Credentials
from federation.trust.trust import Trust

from .rpc import MAX_CONNECTION_AGE, server_options

THREADS: Final = 96
"""At most; each open session keeps one, and idle ones are not made."""
Register = Callable[[grpc.Server], None]
"""Adds a servicer to a server, as generated code does it."""


class GridServer:
    """One port. The pair in force is asked for at each handshake, so a renewal needs no restart."""

    def __init__(
        self,
        credentials: Credentials,
        trust: Trust,
        *,
        gate: grpc.ServerInterceptor | None,
        max_age: float = MAX_CONNECTION_AGE,
        threads: int = THREADS,
    ) -> None:
        """With a `gate` the port wants a certificate from who calls; without, anybody may come."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="grid")
        gates = [] if gate is None else [gate]
        self._server = grpc.server(self._pool, interceptors=gates, options=server_options(max_age))

        def configuration() -> Any:
            pair = credentials.pair
            roots = trust.roots_pem() if gates else None
            return grpc.ssl_server_certificate_configuration([(pair.key_pem, pair.chain_pem)], roots)

        self._tls = grpc.dynamic_ssl_server_credentials(
            configuration(), configuration, require_client_authentication=bool(gates)
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
