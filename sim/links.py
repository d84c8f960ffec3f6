"""A link between programs on this machine, as networks are: cut, silent, slow, lossy, listened to."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from random import Random
from typing import Final, NamedTuple

_PIECE: Final = 1 << 16
_WINDOW: Final = 4 << 20
"""Bytes that are under way in one direction; who sends more waits."""
_PACKET: Final = 1400
_AGAIN: Final = 0.2
"""Seconds after which TCP sends a lost packet again: Linux' shortest retransmission timeout."""


class Weather(NamedTuple):
    """What one direction of a link does to what is sent over it."""

    delay: float = 0.0
    """Seconds until a byte is at the other end."""
    rate: float = 0.0
    """Bytes in a second; 0: no limit."""
    loss: float = 0.0
    """Share of packets that are lost, and come when TCP has sent them again, with all behind them."""
    is_silent: bool = False
    """Nothing arrives and nobody is told; what was sent comes when the silence is over."""


CALM: Final = Weather()
SILENT: Final = Weather(is_silent=True)


class Link:
    """Listens at `port` and passes everything to another port; each direction has its weather."""

    def __init__(self, target: int | None, *, keeps: bool = False, seed: int = 1) -> None:
        """Without a target it is an HTTP proxy (CONNECT); if it `keeps`, `crossed` has what passes."""
        self.target = target
        self.connected: list[str] = []
        """host:port of what CONNECT asked for."""
        self.crossed = bytearray()
        self._keeps = keeps
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._chance = Random(seed)
        self._weather = (CALM, CALM)
        self._is_cut = False
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._passing: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Its host:port."""
        return f"127.0.0.1:{self.port}"

    def be(self, there: Weather = CALM, back: Weather = CALM) -> None:
        """Have this weather from who connects to the target, and back; at once, for all connections."""
        with self._changed:
            self._weather = (there, back)
            self._changed.notify_all()

    def cut(self) -> None:
        """End every connection, and let no new one through."""
        with self._changed:
            self._is_cut = True
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            self._changed.notify_all()

    def heal(self) -> None:
        """Let everything through again, at once."""
        self._is_cut = False
        self.be()

    def close(self) -> None:
        """End it for good."""
        self.cut()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in (self._thread, *self._passing):
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(near,), daemon=True)
            self._passing.append(thread)
            thread.start()

    def _serve(self, near: socket.socket) -> None:
        if not self._admit(near):
            return
        far = self._reached(near)
        if far is None or not self._admit(far):
            self._end(near)
            return
        thread = threading.Thread(target=self._pass, args=(far, near, 1), daemon=True)
        self._passing.append(thread)
        thread.start()
        self._pass(near, far, 0)
        thread.join()
        self._end(near)
        self._end(far)

    def _admit(self, connection: socket.socket) -> bool:
        with self._changed:
            if self._is_cut:
                connection.close()
                return False
            self._open.add(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return True

    def _end(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.discard(connection)
            connection.close()

    def _reached(self, near: socket.socket) -> socket.socket | None:
        try:
            port = self.target if self.target is not None else self._asked(near)
            far = socket.create_connection(("127.0.0.1", port), 5)
        except (OSError, ValueError):
            return None
        far.settimeout(None)
        if self.target is None:
            near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return far

    def _asked(self, near: socket.socket) -> int:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (byte := near.recv(1)):
                raise ValueError(head)
            head += byte
        method, where, _ = head.split(b" ", 2)
        if method != b"CONNECT":
            near.sendall(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            raise ValueError(head)
        self.connected.append(where.decode())
        return int(where.rpartition(b":")[2])

    def _pass(self, source: socket.socket, sink: socket.socket, direction: int) -> None:
        with contextlib.suppress(OSError):
            self._flow(source, sink, direction)
        for end, how in ((source, socket.SHUT_RD), (sink, socket.SHUT_WR)):
            with contextlib.suppress(OSError):
                end.shutdown(how)

    def _flow(self, source: socket.socket, sink: socket.socket, direction: int) -> None:
        """Carry bytes until the source ends: each piece is sent on when it is due."""
        poll = select.poll()
        poll.register(source, select.POLLIN)
        under_way: deque[tuple[float, bytes]] = deque()
        size, last, is_over = 0, 0.0, False
        while not is_over or under_way:
            pause = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
            if is_over or size >= _WINDOW:
                time.sleep(pause or 0.0)
            elif poll.poll(None if pause is None else 1000 * pause):
                piece = source.recv(_PIECE)
                is_over = not piece
                last = self._due(len(piece), last, self._weather[direction])
                under_way.append((last, piece))
                size += len(piece)
            while under_way and under_way[0][0] <= time.monotonic():
                self._wait_for_sound(direction)
                piece = under_way.popleft()[1]
                size -= len(piece)
                if self._keeps:
                    self.crossed += piece
                sink.sendall(piece)

    def _due(self, size: int, last: float, weather: Weather) -> float:
        """Return when a piece arrives: never before what was sent before it."""
        now = time.monotonic()
        due = max(last, now + weather.delay)
        if weather.rate:
            due += size / weather.rate
        if weather.loss:
            due += _AGAIN * sum(self._chance.random() < weather.loss for _ in range(0, size, _PACKET))
        return due

    def _wait_for_sound(self, direction: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_cut or not self._weather[direction].is_silent)


class Line:
    """What a node of a grid has to all others: a link for what it dials, and one for who dials it."""

    def __init__(self, port: int) -> None:
        """`port` is where the node listens for its peers."""
        self._out, self._into = Link(None), Link(port)

    @property
    def settings(self) -> dict[str, str]:
        """The settings with which the node uses it."""
        return {"grid.proxy": self._out.address, "grid.addresses": self._into.address}

    def be(self, sent: Weather = CALM, got: Weather = CALM) -> None:
        """Have this weather for what the node sends, and for what it gets."""
        self._out.be(sent, got)
        self._into.be(got, sent)

    def cut(self) -> None:
        """End all connections over it, and refuse new ones."""
        self._out.cut()
        self._into.cut()

    def heal(self) -> None:
        """Have it as it was."""
        self._out.heal()
        self._into.heal()

    def close(self) -> None:
        """End it for good."""
        self._out.close()
        self._into.close()
