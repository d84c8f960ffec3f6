"""Bytes from one socket to another and back, for many pairs in one thread, without looking at any."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

_CHUNK: Final = 1 << 18


class _Way:
    """One direction: what was read from one socket and the other has not taken yet."""

    def __init__(self, source: socket.socket, target: socket.socket, first: bytes = b"") -> None:
        self.source, self.target = source, target
        self.waiting = memoryview(first)
        self.is_ended = self.is_closed = False

    def read(self, room: bytearray) -> int:
        """Read once and pass on what the target takes; return how many bytes came."""
        try:
            size = self.source.recv_into(room)
        except BlockingIOError:
            return 0
        if not size:
            self.is_ended = True
        else:
            self.waiting = memoryview(bytes(memoryview(room)[:size]))
        self.write()
        return size

    def write(self) -> None:
        """Pass on what waits, and the end of it."""
        with contextlib.suppress(BlockingIOError):
            while self.waiting:
                self.waiting = self.waiting[self.target.send(self.waiting) :]
        if self.is_ended and not self.waiting and not self.is_closed:
            self.is_closed = True
            with contextlib.suppress(OSError):
                self.target.shutdown(socket.SHUT_WR)


class _Pair:
    def __init__(self, left: socket.socket, right: socket.socket, to_right: bytes, to_left: bytes) -> None:
        self.ways = (_Way(left, right, to_right), _Way(right, left, to_left))

    def interest(self, end: socket.socket) -> int:
        """Return what to wait for at this end."""
        out = next(way for way in self.ways if way.target is end)
        into = next(way for way in self.ways if way.source is end)
        wanted = selectors.EVENT_WRITE if out.waiting else 0
        return wanted | (selectors.EVENT_READ if not into.waiting and not into.is_ended else 0)

    def is_over(self) -> bool:
        return all(way.is_closed for way in self.ways)


class Splicer:
    """The loop; `serve` is given a thread by whoever composes the node."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._tasks: deque[Callable[[], None]] = deque()
        self._room = bytearray(_CHUNK)
        self._pairs: dict[socket.socket, _Pair] = {}
        self.bytes = 0
        """Bytes forwarded since the start."""

    def splice(
        self, left: socket.socket, right: socket.socket, to_right: bytes = b"", to_left: bytes = b""
    ) -> None:
        """Join two connected sockets until both ends are over, beginning with bytes already read."""
        for end in (left, right):
            end.setblocking(False)
            with contextlib.suppress(OSError):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.soon(lambda: self._add(_Pair(left, right, to_right, to_left)))

    def soon(self, task: Callable[[], None]) -> None:
        """Have the loop's thread do something."""
        self._tasks.append(task)
        with contextlib.suppress(OSError):
            self._wake.send(b"\0")

    def serve(self, stop: threading.Event) -> None:
        """Work until `stop` is set; then close everything."""
        try:
            while not stop.is_set():
                self.turn(0.2)
        finally:
            self.close()

    def turn(self, timeout: float) -> None:
        """Wait for something to happen, at most `timeout` seconds, and do it."""
        for key, events in self._selector.select(timeout):
            if key.fileobj is self._woken:
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(4096)
            elif key.data is not None:
                key.data(key.fileobj, events)
            else:
                self._move(key.fileobj, events)  # type: ignore[arg-type]
        while self._tasks:
            self._tasks.popleft()()

    def close(self) -> None:
        """Close every socket; closing twice is harmless."""
        for key in list((self._selector.get_map() or {}).values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        for end in list(self._pairs):
            end.close()
        self._wake.close()
        self._selector.close()

    def watch(self, end: socket.socket, ready: Callable[[socket.socket, int], None]) -> None:
        """Call `ready` when there is something to read; in the loop's thread only."""
        end.setblocking(False)
        self._selector.register(end, selectors.EVENT_READ, ready)

    def forget(self, end: socket.socket) -> None:
        """Watch a socket no more."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(end)

    def _add(self, pair: _Pair) -> None:
        for way in pair.ways:
            self._pairs[way.source] = pair
        try:
            for way in pair.ways:
                way.write()
        except OSError:
            self._end(pair)
            return
        self._arrange(pair)

    def _move(self, end: socket.socket, events: int) -> None:
        pair = self._pairs.get(end)
        if pair is None:
            return  # what its other end told in the same turn has ended the pair
        try:
            for way in pair.ways:
                if way.source is end and events & selectors.EVENT_READ:
                    self.bytes += way.read(self._room)
                elif way.target is end and events & selectors.EVENT_WRITE:
                    way.write()
        except OSError:
            self._end(pair)
            return
        if pair.is_over():
            self._end(pair)
        else:
            self._arrange(pair)

    def _arrange(self, pair: _Pair) -> None:
        for way in pair.ways:
            end, wanted = way.source, pair.interest(way.source)
            known = end.fileno() in self._selector.get_map()
            if known and not wanted:
                self._selector.unregister(end)
            elif known:
                self._selector.modify(end, wanted)
            elif wanted:
                self._selector.register(end, wanted)

    def _end(self, pair: _Pair) -> None:
        for way in pair.ways:
            self.forget(way.source)
            self._pairs.pop(way.source, None)
            way.source.close()
