"""A connection to a PACS under test: who trickles an answer hangs as much as who is silent.

A timeout for each receive would wait for ever on a peer that sends a byte now and then. Here an answer has
one deadline, which moves on only by what comes: by bytes at a rate that the slowest of links has, and by
whole messages. It never moves further away than the silence that is allowed.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

SLOWEST: Final = 8_000
"""Bytes a second below which a peer is said to trickle: those of the slowest line that anybody has."""
_MESSAGE: Final = 1.0
"""Seconds that a whole message is worth, however small: a match of a query, an instance of a retrieve."""
_PIECE: Final = 1 << 17
"""Bytes sent at once, so that a slow line is not asked to take a large object within one deadline."""


class Overdue(TimeoutError):
    """A peer began an answer, or took a part of a request, and did not go on in time."""


class Wire:
    """A connected socket whose peer is waited for no longer than it deserves.

    Args:
        timeout: seconds of silence that are allowed.

    Every method that waits raises TimeoutError when the deadline is over, and OSError as sockets do.
    """

    def __init__(self, connected: socket.socket, timeout: float) -> None:
        self._socket = connected
        self._is_tls = isinstance(connected, ssl.SSLSocket)
        self._timeout = timeout
        self.begin()

    def begin(self, expected: int = 0) -> None:
        """Give the peer its time anew; more of it if it is to move `expected` bytes somewhere else."""
        self._came, self._began = 0, time.monotonic()
        self._due = self._began + self._timeout + expected / SLOWEST

    def went_on(self, seconds: float = _MESSAGE) -> None:
        """Note that the peer did something worth so many seconds."""
        self._due = max(self._due, min(self._due + seconds, time.monotonic() + self._timeout))

    def sendall(self, data: bytes | memoryview) -> None:
        """Send all of it."""
        if len(data) <= _PIECE:
            self._send(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            self._send(view[start : start + _PIECE])

    def send_both(self, header: bytes, data: memoryview) -> None:
        """Send two pieces in as few packets, or records of TLS, as they need."""
        if self._is_tls:
            self._send(header + data)
        else:
            self._send(header, socket.MSG_MORE)
            self._send(data)

    def receive(self, into: Callable[[Any], int | None], view: Any) -> int:
        """Receive into a view with a method of the socket; return the number of bytes, 0 at the end."""
        self._socket.settimeout(self._left())
        try:
            count = into(view) or 0
        except TimeoutError:
            raise self._overdue() from None
        self._moved(count)
        return count

    def recv_into(self, view: memoryview) -> int:
        """Receive what has come, at least a byte; return the number of bytes, 0 at the end."""
        return self.receive(self._socket.recv_into, view)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return what http.client reads an answer from; it outlives `close` as with sockets."""
        return io.BufferedReader(_Answer(self, self._socket.makefile("rb", buffering=0)))

    def fileno(self) -> int:
        """Return its descriptor, for select."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _send(self, data: bytes | memoryview, flags: int = 0) -> None:
        self._socket.settimeout(self._left())
        try:
            self._socket.sendall(data, flags)
        except TimeoutError:
            raise self._overdue() from None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise ConnectionResetError(str(error)) from None
        self._moved(len(data))

    def _moved(self, count: int) -> None:
        self._came += count
        self.went_on(count / SLOWEST)

    def _left(self) -> float:
        left = self._due - time.monotonic()
        if left <= 0:
            raise self._overdue()
        return min(left, self._timeout)

    def _overdue(self) -> TimeoutError:
        if not self._came:
            return TimeoutError()
        seconds = time.monotonic() - self._began
        return Overdue(f"{self._came} bytes went over the line in {seconds:.3g} s, and then too few or none")


class _Answer(io.RawIOBase):
    """An answer as http.client reads it."""

    def __init__(self, wire: Wire, file: socket.SocketIO) -> None:
        self._wire, self._file = wire, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._wire.receive(self._file.readinto, buffer)

    def close(self) -> None:
        self._file.close()
        super().close()
