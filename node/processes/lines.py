"""Connections over which one process of a node asks another, each for one question at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

import zmq

from catalog import PacsError, Unavailable, Uncertain

from .wire import GOOD, decode_failure

PATIENCE: Final = 30.0
"""Seconds. Who takes longer is gone or stuck; senders hear A700 and send again."""
_CONNECTING: Final = 3000
"""Milliseconds for a connection; nothing is asked of who is not there, so nothing can have been done."""
_HEARTBEAT: Final = 2000
_SILENCE: Final = 6000


class _Line(NamedTuple):
    socket: Any
    monitor: Any
    """Says when the other side went."""


class Lines:
    """Any number of threads may ask at once; each question goes over a connection that nobody else uses."""

    def __init__(self, connect: Callable[[Any], None], what: str, next: str) -> None:
        """`connect` leads a socket to the other side; `what` and `next` say that nobody answers there."""
        self._connect = connect
        self._what, self._next = what, next
        self._context = zmq.Context()
        self._idle: deque[_Line] = deque()

    def ask(self, *frames: bytes, patience: float = PATIENCE) -> bytes:
        """Return the answer to a question.

        Raises:
            Unavailable: the other side is not there; it was not asked.
            Uncertain: it does not answer; whether it did what was asked is not known.
            PacsError: what it refused.
        """
        try:
            line = self._idle.pop()
        except IndexError:
            line = self._open()
        try:
            _forget_the_past(line)
            line.socket.send_multipart(frames)
        except zmq.ZMQError as error:
            _close(line)
            raise Unavailable(self._what, self._next) from error
        try:
            verdict, answer = _answer(line, patience)
        except zmq.ZMQError as error:
            _close(line)
            raise Uncertain(self._what, self._next) from error
        self._idle.append(line)
        if verdict == GOOD:
            return answer
        failure: PacsError = decode_failure(answer).error()
        raise failure

    def close(self) -> None:
        """Give the connections back; nobody may be asking any more."""
        while self._idle:
            _close(self._idle.pop())
        self._context.destroy(linger=0)

    def _open(self) -> _Line:
        socket = self._context.socket(zmq.REQ)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IMMEDIATE, 1),
            (zmq.SNDTIMEO, _CONNECTING),
            (zmq.HEARTBEAT_IVL, _HEARTBEAT),
            (zmq.HEARTBEAT_TIMEOUT, _SILENCE),
        ):
            socket.setsockopt(option, value)
        line = _Line(socket, socket.get_monitor_socket(zmq.EVENT_DISCONNECTED))
        try:
            self._connect(socket)
        except BaseException:
            _close(line)
            raise
        return line


def _forget_the_past(line: _Line) -> None:
    """Drop what the monitor says of connections before this question."""
    with suppress(zmq.Again):
        while True:
            line.monitor.recv_multipart(zmq.NOBLOCK)


def _answer(line: _Line, patience: float) -> tuple[bytes, bytes]:
    """Return verdict and body; raises Again when the other side went, or took too long."""
    poller = zmq.Poller()
    poller.register(line.socket, zmq.POLLIN)
    poller.register(line.monitor, zmq.POLLIN)
    ready = dict(poller.poll(int(patience * 1000)))
    if line.socket not in ready:
        raise zmq.Again
    verdict, body = line.socket.recv_multipart()
    return verdict, body


def _close(line: _Line) -> None:
    line.socket.disable_monitor()
    line.monitor.close(0)
    line.socket.close(0)
