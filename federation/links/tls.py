"""The first flight of TLS as bytes: which name a ClientHello asks for (RFC 6066 3), and making one.

A relay reads nothing else of what it forwards, and could not.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Final

LONGEST: Final = 16_384 + 5
"""Bytes of a ClientHello that is still read: one record."""
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0


class NotTls(ValueError):
    """What came is no ClientHello."""


def hello_size(data: bytes) -> int:
    """Return the length of the first record, or 0 while too little of it is here.

    Raises:
        NotTls: it does not begin like TLS.
    """
    if (data[:1] and data[0] != _HANDSHAKE) or (data[1:2] and data[1] != 3):
        raise NotTls("This is not TLS.")
    if len(data) < 5:
        return 0
    size = 5 + int.from_bytes(data[3:5], "big")
    if size > LONGEST:
        raise NotTls("This ClientHello is too long.")
    return size if len(data) >= size else 0


def server_name_in(data: bytes) -> str:
    """Return the name that the ClientHello in a whole first record asks for, in lower case, or nothing.

    Raises:
        NotTls: it is no ClientHello.
    """
    try:
        return _server_name(memoryview(data)[5 : hello_size(data)])
    except IndexError as error:
        raise NotTls("This ClientHello ends too early.") from error


def _server_name(hello: memoryview) -> str:
    if hello[0] != _CLIENT_HELLO:
        raise NotTls("This is not a ClientHello.")
    at = 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + _number(hello, at)
    at += 1 + hello[at]
    end = min(at + 2 + _number(hello, at), len(hello))
    at += 2
    while at + 4 <= end:
        kind, size = _number(hello, at), _number(hello, at + 2)
        if kind == _SERVER_NAME:
            length = _number(hello, at + 7)
            name = bytes(hello[at + 9 : at + 9 + length])
            return name.decode("ascii", errors="replace").lower()
        at += 4 + size
    return ""


def _number(data: memoryview, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def client_hello(name: str) -> bytes:
    """Return a ClientHello that asks for this name; nobody means to go on with the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sent = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return sent.read()
