"""gRPC played over ordinary sockets in this process: the real one has threads of its own that nobody steps.

What the product uses of `grpc` is replaced there; what is Python in it (stubs, interceptors, handlers) stays.
No TLS is played: each side shows its certificates and is believed to have their keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import grpc

from catalog import Unavailable
from federation.links import dialing, joining

from .chains import leaf_of
from .channels import Channel
from .frames import Frames
from .lines import Credentials
from .serving import InForce, Server, ServerCredentials
from .swaps import Swaps


def _secure_channel(
    target: str, credentials: Any, options: Sequence[tuple[str, Any]] | None = None, compression: Any = None
) -> Channel:
    return Channel(target, credentials, options or ())


def _ssl_channel_credentials(
    root_certificates: bytes | None = None,
    private_key: bytes | None = None,
    certificate_chain: bytes | None = None,
) -> Credentials:
    return Credentials(root_certificates or b"", certificate_chain or b"")


def _server(
    thread_pool: Any,
    handlers: Sequence[Any] | None = None,
    interceptors: Sequence[Any] | None = None,
    options: Sequence[tuple[str, Any]] | None = None,
    maximum_concurrent_rpcs: int | None = None,
    compression: Any = None,
    xds: bool = False,
) -> Server:
    server = Server(thread_pool, interceptors or (), options or ())
    server.add_generic_rpc_handlers(handlers or ())
    return server


def _certificate_configuration(
    private_key_certificate_chain_pairs: Sequence[tuple[bytes, bytes]], root_certificates: bytes | None = None
) -> InForce:
    return InForce(next(iter(private_key_certificate_chain_pairs))[1], root_certificates or b"")


def _dynamic_credentials(
    initial_certificate_configuration: InForce,
    certificate_configuration_fetcher: Callable[[], InForce | None],
    require_client_authentication: bool = False,
) -> ServerCredentials:
    fetch = certificate_configuration_fetcher
    return ServerCredentials(
        initial_certificate_configuration, fetch, is_mutual=require_client_authentication
    )


def _peer_certificate(
    address: str, proxy: str = "", name: str = "", timeout: float = dialing.TIMEOUT
) -> bytes:
    """As `federation.links.dialing.peer_certificate`."""
    frames = Frames(dialing.dial(address, proxy, timeout))
    try:
        return leaf_of(frames.say_hello(name, b"", time.monotonic() + timeout).chain)
    except OSError as error:
        what = f"{address} answers, but not with TLS."
        raise Unavailable(what, "Is that the enrolment port (7444) of a node?") from error
    finally:
        frames.close()


_PLAYED: Final[tuple[tuple[Any, str, Any], ...]] = (
    (grpc, "secure_channel", _secure_channel),
    (grpc, "ssl_channel_credentials", _ssl_channel_credentials),
    (grpc, "server", _server),
    (grpc, "ssl_server_certificate_configuration", _certificate_configuration),
    (grpc, "dynamic_ssl_server_credentials", _dynamic_credentials),
    (dialing, "peer_certificate", _peer_certificate),
    (joining, "peer_certificate", _peer_certificate),
)


def install() -> Callable[[], None]:
    """Play gRPC in this process from now on; return what has it be itself again."""
    swaps = Swaps()
    for where, name, played in _PLAYED:
        swaps.put(where, name, played)
    return swaps.undo


@contextmanager
def installed() -> Iterator[None]:
    """Play gRPC inside, for channels and servers that are made there and end there."""
    restore = install()
    try:
        yield
    finally:
        restore()
