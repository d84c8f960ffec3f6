"""What every gRPC server and channel here has in common: options, and errors as letters in both directions.

A PacsError crosses the wire as a status code and three trailers: its class, what happened, what to do next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import grpc
import grpc.experimental

from catalog import (
    BadRequest,
    Busy,
    Contradiction,
    Damaged,
    NotFound,
    NotPermitted,
    OutOfSpace,
    PacsError,
    Unavailable,
    Unreadable,
)

_KIND: Final = "pp-kind"
_WHAT: Final = "pp-what-bin"
_NEXT: Final = "pp-next-bin"
_LONGEST: Final = 1500
"""Bytes of a letter's sentence on the wire: HTTP/2 peers refuse header lists over 8 KB."""
CODES: Final[dict[type[PacsError], grpc.StatusCode]] = {
    NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    NotFound: grpc.StatusCode.NOT_FOUND,
    BadRequest: grpc.StatusCode.INVALID_ARGUMENT,
    Unreadable: grpc.StatusCode.INVALID_ARGUMENT,
    Contradiction: grpc.StatusCode.FAILED_PRECONDITION,
    OutOfSpace: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Busy: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Damaged: grpc.StatusCode.DATA_LOSS,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
}
"""The border's table: a class of ours, and the status code a foreign client sees."""
_BY_NAME: Final = {each.__name__: each for each in CODES}
_LARGEST: Final = 4 << 20
_KEEPALIVE_MS: Final = 30_000
_CONNECT_MS: Final = 5_000
"""Within which a connection is made, or tried anew: the line may have been mended meanwhile."""
_COMMON: Final = (
    ("grpc.max_receive_message_length", _LARGEST),
    ("grpc.max_send_message_length", _LARGEST),
)
SERVER_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    *_COMMON,
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
)
MAX_CONNECTION_AGE: Final = 900.0
"""Seconds after which a connection is made anew: one that is open outlives its certificate."""


def server_options(max_age: float = MAX_CONNECTION_AGE) -> list[tuple[str, int]]:
    """Return the options of a server; `max_age` in seconds."""
    return [*SERVER_OPTIONS, ("grpc.max_connection_age_ms", int(max_age * 1000))]


def channel_options(server: str, proxy: str = "") -> list[tuple[str, int | str]]:
    """Return the options of a channel to the node that TLS calls `server`; `proxy` is host:port.

    BDP probing stays on (without it a link with 80 ms round trip carries a fortieth); own connections, so
    that several channels are several connections.
    """
    options: list[tuple[str, int | str]] = [
        *_COMMON,
        ("grpc.ssl_target_name_override", server),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.initial_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
        ("grpc.enable_retries", 0),
    ]
    options.append(("grpc.http_proxy", f"http://{proxy}") if proxy else ("grpc.enable_http_proxy", 0))
    return options


def serve_stream(
    server: grpc.Server,
    service: str,
    method: str,
    answer: Callable[[Any, Any], Iterator[bytes]],
    read: Callable[[bytes], Any],
) -> None:
    """Add a method of one request and many replies that its handler has put into bytes itself."""
    handler: Any = grpc.unary_stream_rpc_method_handler(answer, request_deserializer=read)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))


def abort(context: grpc.ServicerContext, error: PacsError) -> NoReturn:
    """End a call with this letter."""
    context.set_trailing_metadata(
        (
            (_KIND, type(error).__name__),
            (_WHAT, error.what.encode()[:_LONGEST]),
            (_NEXT, error.next.encode()[:_LONGEST]),
        )
    )
    code = next((code for kind, code in CODES.items() if isinstance(error, kind)), grpc.StatusCode.UNKNOWN)
    context.abort(code, "")


def letter_of(error: grpc.RpcError, who: str) -> PacsError:
    """Return a failed call as a letter; `who` names the other side in sentences."""
    call = error if isinstance(error, grpc.Call) else None
    trailers: dict[str, str | bytes] = dict(call.trailing_metadata() or ()) if call else {}
    kind = _BY_NAME.get(_as_text(trailers.get(_KIND)))
    if kind is not None:
        return kind(_as_text(trailers.get(_WHAT)), _as_text(trailers.get(_NEXT)))
    code = call.code() if call else grpc.StatusCode.UNKNOWN
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"{who} did not answer in time.", "It is asked again later; see: peerpacs peers")
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return Unavailable(f"{who} cannot be reached.", "It is tried again; see why: peerpacs peers")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return NotFound(f"{who} does not know this call yet.", "Update PeerPACS there.")
    details = (call.details() or "") if call else ""
    return Unavailable(f"{who} failed at this call: {code.name} {details[:200]}".strip() + ".")


QUESTIONS: Final = ((grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),)
"""Options of a channel for questions: who reads an answer waits for it in gRPC itself. Else each call has a
thread begin that does, and wakes the reader. Every answer must be read to its end."""


@contextmanager
def letters(who: str) -> Iterator[None]:
    """Turn what gRPC raises inside into letters.

    Raises:
        PacsError: the call failed, here or there.
    """
    try:
        yield
    except grpc.RpcError as error:
        raise letter_of(error, who) from error


def _as_text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
