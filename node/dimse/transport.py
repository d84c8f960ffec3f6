"""One TCP connection: buffered reading of small things, direct reading of large ones, vectored sending.

Timeouts are the kernel's (SO_RCVTIMEO, SO_SNDTIMEO): a Python socket with a timeout polls before each
call. What is encrypted is `secure.SecureConnection`, with the same methods.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Sequence
from typing import Final

AHEAD: Final = 8192
_IOV_MAX: Final = 1024
_TIMEVAL: Final = struct.Struct("@ll")

Buffer = bytes | bytearray | memoryview


class Ended(Exception):
    """The association cannot go on."""


class Closed(Ended):
    """The peer closed the connection, or it broke."""


class Silent(Ended):
    """The peer sent or took nothing for as long as it was given."""


class Connection:
    """A connected socket in blocking mode; one thread reads, any thread sends under its own lock."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        """Take over a connected socket; `timeout` as in `set_timeout`."""
        self.sock = sock
        sock.settimeout(None)
        # Another process of this node may be at the other end, by a Unix socket.
        self._is_tcp = sock.family != socket.AF_UNIX
        if self._is_tcp:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.set_timeout(timeout)
        self._ahead = memoryview(bytearray(AHEAD))
        self._start = self._end = 0
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN | select.POLLHUP | select.POLLERR)

    @property
    def security(self) -> str:
        """How the connection is protected; empty when it is not."""
        return ""

    def set_timeout(self, seconds: float) -> None:
        """Set how long one call may make no progress."""
        timeval = _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1e6) + (seconds <= 0))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)

    def read(self, length: int) -> bytes:
        """Return exactly `length` bytes.

        Raises:
            Closed, Silent: they did not come; those that did are kept.
        """
        if length > AHEAD:
            data = bytearray(length)
            self.read_into(memoryview(data))
            return bytes(data)
        self.await_input(length)
        start = self._start
        self._start = start + length
        return bytes(self._ahead[start : start + length])

    def await_input(self, length: int) -> None:
        """Return when `length` bytes (few) are buffered.

        Raises:
            Closed, Silent: they did not come; those that did are kept.
        """
        ahead, start, end = self._ahead, self._start, self._end
        if end - start >= length:
            return
        if start:
            ahead[: end - start] = bytes(ahead[start:end])
            end -= start
            self._start, self._end = 0, end
        while end < length:
            end += self._receive(ahead[end:], 0)
            self._end = end

    def read_into(self, view: memoryview) -> None:
        """Fill the view; what is not buffered goes from the kernel straight into it.

        Raises:
            Closed, Silent: the bytes did not come.
        """
        length = len(view)
        start = self._start
        done = min(self._end - start, length)
        if done:
            view[:done] = self._ahead[start : start + done]
            self._start = start + done
        while done < length:
            done += self._receive(view[done:], socket.MSG_WAITALL)

    def skip(self, length: int) -> None:
        """Read `length` bytes and drop them."""
        buffered = min(self._end - self._start, length)
        self._start += buffered
        length -= buffered
        scratch = memoryview(bytearray(min(length, 65536)))
        while length:
            length -= self._receive(scratch[:length], 0)

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Send all buffers, in as few calls as the kernel takes.

        Raises:
            Closed, Silent: the peer is gone or takes nothing.
        """
        if len(buffers) > _IOV_MAX:
            for first in range(0, len(buffers), _IOV_MAX):
                self.send(buffers[first : first + _IOV_MAX])
            return
        total = sum(map(len, buffers))
        try:
            sent = self.sock.sendmsg(buffers)
            while sent < total:
                buffers = _after(buffers, sent)
                total -= sent
                sent = self.sock.sendmsg(buffers)
        except BlockingIOError:
            raise Silent("the peer takes nothing more") from None
        except OSError as error:
            raise Closed(str(error)) from None

    def send_some(self, buffers: Sequence[Buffer]) -> list[Buffer]:
        """Send what the kernel takes at once and return the rest."""
        try:
            return _after(buffers, self.sock.sendmsg(buffers[:_IOV_MAX], [], socket.MSG_DONTWAIT))
        except BlockingIOError:
            return list(buffers)
        except OSError as error:
            raise Closed(str(error)) from None

    def has_input(self, seconds: float = 0.0) -> bool:
        """Say whether there is something to read (the end counts), waiting at most so long for it."""
        return self._end > self._start or bool(self._poll.poll(seconds * 1000))

    def is_writable(self) -> bool:
        """Say whether a small send would return at once."""
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT)
        return bool(poll.poll(0))

    def shut(self) -> None:
        """Break the connection so that a thread blocked on it wakes; the socket stays open."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back."""
        self.sock.close()

    def _receive(self, view: memoryview, flags: int) -> int:
        # Peers that leave Nagle's algorithm on (DCMTK and Orthanc unless told) wait for our acknowledgement
        # before each small PDU: 22 instances a second with delayed ones, over 1000 without. It does not last.
        try:
            if self._is_tcp:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            count = self.sock.recv_into(view, 0, flags)
        except BlockingIOError:
            raise Silent("the peer sends nothing") from None
        except OSError as error:
            raise Closed(str(error)) from None
        if not count:
            raise Closed("the peer closed the connection")
        return count


def _after(buffers: Sequence[Buffer], sent: int) -> list[Buffer]:
    rest: list[Buffer] = []
    for buffer in buffers:
        if sent >= len(buffer):
            sent -= len(buffer)
        else:
            rest.append(memoryview(buffer)[sent:])
            sent = 0
    return rest
