"""A connection that has no association: Sta2 until its A-ASSOCIATE-RQ is here, Sta13 until the peer closes.

It is heard without ever waiting, so that what is never sent costs a descriptor and no thread.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

from .pdu import ASSOCIATE_RQ, HEADER, encode_abort
from .secure import SecureConnection, TlsLayer
from .tls import HANDSHAKE, why_no_handshake
from .transport import Closed, Connection

MOST: Final = 65536
_TLS_ALERT: Final = bytes.fromhex("15 0301 0002 02 28")
"""A fatal handshake_failure, RFC 5246 7.2: what speaks TLS to a plain port understands it."""


class TurnedAway(Exception):
    """The connection ends before its association; `farewell` is the last the peer hears."""

    def __init__(self, why: str, remedy: str, farewell: bytes) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
        self.farewell = farewell


def request_length(received: bytes | bytearray, longest: int) -> int | None:
    """Return the length of the PDU at the start, 0 if not known yet, None if it is no A-ASSOCIATE-RQ."""
    if received[:1] and received[0] != ASSOCIATE_RQ:
        return None
    if len(received) < 6:
        return 0
    length: int = HEADER.unpack_from(received)[1]
    return 6 + length if length <= longest else None


class Arrival:
    """A connection in Sta2 on a plain port: what it sent so far, and when ARTIM expires."""

    is_ending = False

    def __init__(self, sock: socket.socket, address: str, deadline: float, longest: int) -> None:
        self.sock = sock
        self.address = address
        self.deadline = deadline
        self.received = bytearray()
        self._longest = longest

    def hear(self) -> bool:
        """Read what came; say whether a thread has something to do now.

        Raises:
            Closed: the peer is gone.
            TurnedAway: it speaks TLS.
        """
        data = self._recv()
        if not data:
            return False
        self.received += data
        if self.received[0] == HANDSHAKE:
            raise TurnedAway(
                "it began TLS on the port for plain DICOM",
                "call the TLS port (tls.port in peerpacs.toml), or turn TLS off at the device",
                _TLS_ALERT,
            )
        return self._is_asked()

    def connection(self, timeout: float) -> Connection:
        """Return the connection for the thread that serves it."""
        return Connection(self.sock, timeout)

    def close(self) -> None:
        """Give the socket back."""
        self.sock.close()

    def _recv(self) -> bytes:
        """Return what came, nothing if the kernel has nothing."""
        try:
            data = self.sock.recv(MOST)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise Closed(str(error)) from None
        if not data:
            raise Closed("the peer closed the connection")
        return data

    def _is_asked(self) -> bool:
        needed = request_length(self.received, self._longest)
        return needed is None or 0 < needed <= len(self.received)


class SecureArrival(Arrival):
    """The same on a TLS port: the handshake comes first, a step for whatever arrives."""

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        deadline: float,
        longest: int,
        context: Callable[[], ssl.SSLContext],
    ) -> None:
        """Take over a connection; the context is asked for when its first bytes are here."""
        super().__init__(sock, address, deadline, longest)
        self._context = context
        self._layer: TlsLayer | None = None

    def hear(self) -> bool:
        """Read what came; say whether a thread has something to do now.

        Raises:
            Closed: the peer is gone.
            TurnedAway: it speaks no TLS, or not as this node demands.
        """
        data = self._recv()
        if not data:
            return False
        layer = self._layer = self._layer or self._greet(data)
        layer.feed(data)
        if not layer.is_established and not self._shake(layer):
            return False
        self.received += layer.everything()
        self._push(layer.output())
        return bool(self.received) and self._is_asked()

    def connection(self, timeout: float) -> Connection:
        """Return the connection for the thread that serves it."""
        assert self._layer is not None
        return SecureConnection(self.sock, timeout, self._layer)

    def _greet(self, data: bytes) -> TlsLayer:
        if data[0] == HANDSHAKE:
            return TlsLayer(self._context())
        if data[0] == ASSOCIATE_RQ:
            why, farewell = "it began DICOM without TLS on the TLS port", encode_abort(2, 0)
        else:
            why, farewell = "what it sent to the TLS port is no TLS", b""
        remedy = "turn TLS on at the device, or call the plain port (dicom.port in peerpacs.toml)"
        raise TurnedAway(why, remedy, farewell)

    def _shake(self, layer: TlsLayer) -> bool:
        try:
            is_done = layer.shake()
        except ssl.SSLError as error:
            why, remedy = why_no_handshake(error)
            raise TurnedAway(why, remedy, layer.output()) from None
        self._push(layer.output())
        return is_done

    def _push(self, data: bytes) -> None:
        """Send a flight of the handshake: a fresh socket has room for it, unless its peer plays tricks."""
        try:
            if data and self.sock.send(data) < len(data):
                raise Closed("the peer does not take the TLS handshake")
        except OSError as error:
            raise Closed(str(error)) from None


class Departure:
    """A connection in Sta13: nothing more is said on it, and what comes is dropped."""

    is_ending = True

    def __init__(self, closing: Connection | socket.socket, address: str, deadline: float) -> None:
        self.sock = closing if isinstance(closing, socket.socket) else closing.sock
        self.address = address
        self.deadline = deadline
        self._closing = closing

    def say(self, farewell: bytes) -> None:
        """Say the last word to a peer that is turned away, if it listens."""
        with contextlib.suppress(OSError):
            self.sock.send(farewell)

    def hear(self) -> bool:
        """Drop what came.

        Raises:
            Closed: the peer is gone.
        """
        try:
            data = self.sock.recv(MOST)
        except BlockingIOError:
            return False
        except OSError as error:
            raise Closed(str(error)) from None
        if not data:
            raise Closed("the peer closed the connection")
        return False

    def close(self) -> None:
        """Give the socket back."""
        self._closing.close()
