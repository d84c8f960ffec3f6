"""Audit messages to a syslog server, over TLS: RFC 5424 messages in RFC 5425 frames, as PS3.15 A.6 has it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from catalog import BadRequest, Unavailable

_PORTS: Final = {"tls": 6514, "tcp": 1468}
_FACILITY: Final = 10
"""Security and authorization."""
_PATIENCE: Final = 10.0
_BOM: Final = b"\xef\xbb\xbf"
_MESSAGE_ID: Final = "DICOM+RFC3881"


def parse_target(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of `tls://host:6514`, or `tcp://...` for a server on the same machine.

    Raises:
        BadRequest: it is neither.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in _PORTS or not parts.hostname or port == 0 or parts.path not in ("", "/"):
        raise BadRequest(f"{url!r} names no syslog server.", "Write tls://host:6514")
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme]


class Syslog:
    """One server; the connection is kept, and made anew when it broke."""

    def __init__(self, url: str, host: str, secured: Callable[[], ssl.SSLContext]) -> None:
        """`host` is this machine's name in messages; `secured` returns what TLS trusts and shows."""
        self._scheme, self._server, self._port = parse_target(url)
        self._host = host
        self._secured = secured
        self._line: socket.socket | None = None

    def send(self, messages: Iterable[tuple[str, bool, bytes]]) -> None:
        """Send messages: time, whether it is a warning, XML.

        Raises:
            Unavailable: they may not all have arrived; send them again.
        """
        frames = b"".join(self._frame(*each) for each in messages)
        try:
            line = self._connected()
            self._check_open(line)
            line.sendall(frames)
        except (OSError, ValueError) as error:
            self.close()
            where = f"{self._server}:{self._port}"
            what = f"The syslog server {where} does not take audit messages: {error}."
            raise Unavailable(what, "They wait in the audit, and are sent when it does.") from error

    def close(self) -> None:
        """End the connection."""
        if self._line is not None:
            with suppress(OSError):
                self._line.close()
            self._line = None

    def _connected(self) -> socket.socket:
        if self._line is None:
            line = socket.create_connection((self._server, self._port), timeout=_PATIENCE)
            try:
                if self._scheme == "tls":
                    line = self._secured().wrap_socket(line, server_hostname=self._server)
            except BaseException:
                line.close()
                raise
            self._line = line
        return self._line

    def _check_open(self, line: socket.socket) -> None:
        """Look whether the server closed it: what is sent into that is lost without a word.

        Raises:
            OSError: it did.
        """
        line.setblocking(False)
        try:
            if line.recv(1) == b"":
                raise ConnectionResetError("it closed the connection")
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        finally:
            line.settimeout(_PATIENCE)

    def _frame(self, time: str, is_warning: bool, xml: bytes) -> bytes:
        priority = 8 * _FACILITY + (4 if is_warning else 5)
        head = f"<{priority}>1 {time} {self._host} peerpacs - {_MESSAGE_ID} - ".encode()
        text = head + _BOM + xml
        return str(len(text)).encode() + b" " + text
