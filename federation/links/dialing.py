"""TCP to a peer's address, straight or through an HTTP proxy (CONNECT, RFC 9110 9.3.6)."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Final

from catalog import Unavailable

TIMEOUT: Final = 10.0
_LONGEST: Final = 16_384


def split_address(address: str) -> tuple[str, int]:
    """Return (host, port) of host:port; an IPv6 host is in brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def dial(address: str, proxy: str = "", timeout: float = TIMEOUT) -> socket.socket:
    """Return a connection to host:port, through the proxy at host:port if there is one.

    Raises:
        Unavailable: nobody answers there, or the proxy refuses.
    """
    try:
        with contextlib.ExitStack() as opened:
            connection = socket.create_connection(split_address(proxy or address), timeout)
            opened.callback(connection.close)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if proxy:
                _connect(connection, address, proxy)
            opened.pop_all()
            return connection
    except OSError as error:
        through = f" through the proxy {proxy}" if proxy else ""
        what = f"{address} cannot be reached{through}: {error.strerror or error}."
        raise Unavailable(what, "Check the address, and that nothing between blocks that port.") from error


def _connect(connection: socket.socket, address: str, proxy: str) -> None:
    connection.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        # A byte at a time: what follows the empty line belongs to whoever was asked for.
        byte = connection.recv(1)
        if not byte or len(answer) > _LONGEST:
            break
        answer += byte
    words = answer.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(words) < 2 or words[1] != b"200":
        said = b" ".join(words[1:]).decode(errors="replace")[:80] or "nothing"
        raise Unavailable(f"The proxy {proxy} does not connect to {address}: it says {said}.")


def peer_certificate(address: str, proxy: str = "", name: str = "", timeout: float = TIMEOUT) -> bytes:
    """Return the certificate, DER, that whoever listens there shows; nothing is verified.

    `name` is the server's name in the ClientHello, by which a door sorts.

    Raises:
        Unavailable: nobody answers there, or not with TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            dial(address, proxy, timeout) as connection,
            context.wrap_socket(connection, server_hostname=name or None) as shown,
        ):
            return shown.getpeercert(binary_form=True) or b""
    except (ssl.SSLError, OSError) as error:
        what = f"{address} answers, but not with TLS."
        raise Unavailable(what, "Is that the enrolment port (7444) of a node?") from error
