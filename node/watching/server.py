"""A plain HTTP server for watchers: one thread for all of them, bounded in number, size and time.

It understands GET and HEAD and closes after each answer (RFC 9112 9.6). Nobody logs in: it listens on
loopback unless told otherwise. A web server that takes over asks `Pages` instead.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from http import HTTPStatus
from typing import Final

from catalog import Clock
from node.bell import Bell

from .pages import Page, Pages

_LONGEST: Final = 8192
"""Bytes of a request, its headers included."""
_MOST: Final = 32
"""Connections at once; one more ends the oldest."""
_PATIENCE: Final = 5.0
"""Seconds from accepting a connection to its end, whatever it does."""
_REST: Final = 0.01
"""Seconds of rest after work, so that no flood of requests takes the node's one interpreter."""
_AT_ONCE: Final = 8
"""Connections accepted between two rests."""
_BEAT: Final = 0.5
_PLAIN: Final = "text/plain; charset=utf-8"


class WatchServer:
    """Answers on any number of addresses, on the thread that calls `serve` or `step`."""

    def __init__(self, pages: Pages, clock: Clock) -> None:
        """Take what to answer; `clock` measures patience, so a monotonic one."""
        self._pages = pages
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._visits: dict[socket.socket, _Visit] = {}
        self._bell = Bell()
        self.wake = self._bell.ring
        """Has `serve` look at whether it was told to stop; any thread may call."""
        self._selector.register(self._bell, selectors.EVENT_READ)

    def listen(self, host: str, port: int) -> int:
        """Bind an address and return the port (0 lets the system choose).

        Raises:
            OSError: the address is taken or not ours.
        """
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(64)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        self._selector.register(listener, selectors.EVENT_READ)
        return int(listener.getsockname()[1])

    def serve(self, stop: threading.Event) -> None:
        """Answer until `stop` is set."""
        while not stop.is_set():
            if self.step(_BEAT):
                stop.wait(_REST)

    def step(self, timeout: float = 0.0) -> bool:
        """Do what is ready, waiting for it at most so many seconds; say whether there was anything."""
        ready = self._selector.select(timeout)
        for key, _ in ready:
            sock = key.fileobj
            if not isinstance(sock, socket.socket):
                self._bell.hush()
            elif sock in self._visits:
                self._tend(sock, self._visits[sock])
            else:
                self._accept(sock)
        now = self._clock()
        for sock, visit in tuple(self._visits.items()):
            if now > visit.deadline:
                self._end(sock)
        return bool(ready)

    def close(self) -> None:
        """Close every connection and every address."""
        for key in tuple(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._bell.close()
        self._selector.close()
        self._visits.clear()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, _ = listener.accept()
            except OSError:
                # Nobody more; or no descriptor is free, and then those who came first end first.
                return
            if len(self._visits) >= _MOST:
                self._end(next(iter(self._visits)))
            sock.setblocking(False)
            self._visits[sock] = _Visit(self._clock() + _PATIENCE)
            self._selector.register(sock, selectors.EVENT_READ)

    def _end(self, sock: socket.socket) -> None:
        del self._visits[sock]
        self._selector.unregister(sock)
        sock.close()

    def _tend(self, sock: socket.socket, visit: _Visit) -> None:
        try:
            if visit.is_answered:
                self._go_on(sock, visit)
            else:
                self._hear(sock, visit)
        except BlockingIOError:
            return
        except OSError:
            self._end(sock)

    def _hear(self, sock: socket.socket, visit: _Visit) -> None:
        data = sock.recv(_LONGEST)
        visit.heard += data
        is_whole = b"\r\n\r\n" in visit.heard or b"\n\n" in visit.heard
        if is_whole or len(visit.heard) > _LONGEST:
            visit.left = memoryview(self._answer(bytes(visit.heard), is_whole))
            visit.is_answered = True
            self._selector.modify(sock, selectors.EVENT_WRITE)
            self._go_on(sock, visit)
        elif not data:
            self._end(sock)

    def _go_on(self, sock: socket.socket, visit: _Visit) -> None:
        """Send what is left of the answer, then wait for the peer to close: a reset could eat the answer."""
        if visit.left:
            visit.left = visit.left[sock.send(visit.left) :]
            if not visit.left:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_WR)
                self._selector.modify(sock, selectors.EVENT_READ)
        elif not sock.recv(_LONGEST):
            self._end(sock)

    def _answer(self, request: bytes, is_whole: bool) -> bytes:
        if not is_whole:
            return _response(Page(431, _PLAIN, b"The request is too long.\n"))
        words = request.split(b"\n", 1)[0].split()
        if len(words) != 3 or not words[2].startswith(b"HTTP/1.") or not words[1].startswith(b"/"):
            return _response(Page(400, _PLAIN, b"This is not an HTTP/1.1 request.\n"))
        if words[0] not in (b"GET", b"HEAD"):
            return _response(Page(405, _PLAIN, b"Only GET and HEAD.\n"))
        page = self._pages.page(words[1].decode("ascii", "replace"))
        return _response(page, is_head=words[0] == b"HEAD")


class _Visit:
    """One connection: what it said, what is left to say to it, and when its time is over."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.heard = bytearray()
        self.left: memoryview = memoryview(b"")
        self.is_answered = False


def _response(page: Page, *, is_head: bool = False) -> bytes:
    lines = [
        f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(page.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if page.status == HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    head = "\r\n".join((*lines, "", "")).encode("ascii")
    return head if is_head else head + page.body
