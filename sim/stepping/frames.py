"""Frames over a socket, in which calls travel where gRPC is played, and each side's certificates before them.

Who dials begins with a ClientHello, because a door sorts by it; nothing after it is TLS.
"""

from __future__ import annotations

import contextlib
import enum
import select
import socket
import struct
import threading
import time
from typing import Any, Final, TypeVar

import msgspec

from federation.links.tls import LONGEST, NotTls, hello_size

_HEAD: Final = struct.Struct(">BI")
_PIECE: Final = 1 << 16
_Held = TypeVar("_Held")
_LARGEST: Final = 1 << 28
"""Bytes of a frame; more than that is no frame but something else."""


class Kind(enum.IntEnum):
    """What a frame is."""

    GREETING = 1
    CALL = 2
    MESSAGE = 3
    END = 4
    """Whoever asks has said all."""
    STATUS = 5
    PING = 6
    PONG = 7


class Greeting(msgspec.Struct, array_like=True):
    """The first frame of each side."""

    chain: bytes = b""
    """Its certificates, PEM, its own first."""
    age: float = 0.0
    """Seconds for which calls may begin on the connection."""


class Opening(msgspec.Struct, array_like=True):
    """How a call begins."""

    method: str
    metadata: list[tuple[str, Any]]
    timeout: float | None


class Ending(msgspec.Struct, array_like=True):
    """How a call ended."""

    code: int
    details: str
    trailers: list[tuple[str, Any]]


def left(until: float | None) -> float | None:
    """Return the seconds until then, None for ever.

    Raises:
        TimeoutError: there are none.
    """
    if until is None:
        return None
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


def hello(name: str) -> bytes:
    """Return a ClientHello (RFC 8446 4.1.2) that asks for this name: the same bytes every time."""
    asked = name.encode("ascii")
    extensions = b""
    if asked:
        size = len(asked)
        extensions = struct.pack(">HHHBH", 0, size + 5, size + 3, 0, size) + asked
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0"
    body += struct.pack(">H", len(extensions)) + extensions
    said = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack(">H", len(said)) + said


class Frames:
    """One connection; one thread may send while another receives, and any may close it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._room = bytearray()
        self._sending, self._receiving = threading.Lock(), threading.Lock()
        self.heard = time.monotonic()
        """Monotonic seconds when something came."""
        self.pieces = 0
        """How often something came."""

    def say_hello(self, name: str, chain: bytes, until: float | None) -> Greeting:
        """Begin as the one who dialed, and return what the other side shows.

        Raises:
            OSError: it does not answer, or not like this.
        """
        self.pace(until)
        self._send(hello(name), until)
        self.send(Kind.GREETING, msgspec.msgpack.encode(Greeting(chain)), until)
        return self._greeting(until)

    def hear_hello(self, until: float | None) -> Greeting:
        """Begin as the one who was dialed, and return what the other side shows; it waits for as much.

        Raises:
            OSError: nothing like that comes.
        """
        with self._receiving:
            try:
                while not (size := hello_size(bytes(self._room[:LONGEST]))):
                    self._read(until)
            except NotTls as error:
                raise ConnectionError(str(error)) from error
            del self._room[:size]
        return self._greeting(until)

    def _greeting(self, until: float | None) -> Greeting:
        kind, payload = self.receive(until)
        if kind is not Kind.GREETING:
            raise ConnectionError("what answers there is something else")
        return read(payload, Greeting)

    def pace(self, until: float | None) -> None:
        """Have nothing on this connection wait for longer than that, from now on."""
        self._connection.settimeout(left(until))

    def send(self, kind: Kind, payload: bytes = b"", until: float | None = None) -> None:
        """Send one frame.

        Raises:
            TimeoutError: the other side took too little of it in time.
            OSError: the connection is broken.
        """
        self._send(_HEAD.pack(kind, len(payload)) + payload, until)

    def _send(self, data: bytes, until: float | None) -> None:
        wait = left(until)
        if not self._sending.acquire(timeout=-1 if wait is None else wait):
            raise TimeoutError("timed out")
        try:
            rest = memoryview(data)
            while rest:
                try:
                    rest = rest[self._connection.send(rest) :]
                except TimeoutError:
                    left(until)
        finally:
            self._sending.release()

    def receive(self, until: float | None = None) -> tuple[Kind, bytes]:
        """Return the next frame.

        Raises:
            TimeoutError: it did not come in time; what came of it is kept.
            OSError: the connection is broken.
        """
        with self._receiving:
            while (frame := self._cut()) is None:
                self._read(until)
            return frame

    def _read(self, until: float | None) -> None:
        self._connection.settimeout(left(until))
        try:
            piece = self._connection.recv(_PIECE)
        except TimeoutError:
            left(until)
            return
        if not piece:
            raise ConnectionError("the connection was closed")
        self._room += piece
        self.heard, self.pieces = time.monotonic(), self.pieces + 1

    def _cut(self) -> tuple[Kind, bytes] | None:
        if len(self._room) < _HEAD.size:
            return None
        number, size = _HEAD.unpack_from(self._room)
        if number not in Kind.__members__.values() or size > _LARGEST:
            raise ConnectionError("what answers there is something else")
        if len(self._room) < _HEAD.size + size:
            return None
        payload = bytes(memoryview(self._room)[_HEAD.size : _HEAD.size + size])
        del self._room[: _HEAD.size + size]
        return Kind(number), payload

    def is_quiet(self) -> bool:
        """Say whether nothing came, not even the end; only while nobody receives."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        return not self._room and not poll.poll(0)

    def part(self, kind: Kind, payload: bytes, patience: float) -> None:
        """Send one last frame if that takes no longer than `patience` seconds, and close."""
        with contextlib.suppress(OSError):
            until = time.monotonic() + patience
            self.pace(until)
            self.send(kind, payload, until)
        self.close()

    def drop(self) -> None:
        """Close what nobody uses any more, without a lock: there is no waiting where garbage is collected."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def close(self) -> None:
        """End the connection: who sends or receives at the moment is told by an OSError."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        with self._sending, self._receiving:
            # Its number may be another socket's at once, so nobody may be in the midst of using it.
            self._connection.close()


def read(payload: bytes, kind: type[_Held]) -> _Held:
    """Return what a frame holds.

    Raises:
        ConnectionError: it is not that.
    """
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except msgspec.MsgspecError as error:
        raise ConnectionError("what answers there is something else") from error
