"""How a process of the node reaches the one that writes: ask, and wait for the answer."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import zmq

from catalog import PacsError, Uncertain

from .wire import GOOD, Call, decode_answer, decode_failure, encode

_PATIENCE: Final = 30_000
"""Milliseconds. A writer that takes longer is gone or stuck; senders hear A700 and send again."""


class WriterClient:
    """Any number of threads may ask at once; each question goes over a connection that nobody else uses."""

    def __init__(self, endpoint: str, patience: int = _PATIENCE) -> None:
        self._endpoint = endpoint
        self._patience = patience
        self._context = zmq.Context()
        self._idle: deque[zmq.Socket[bytes]] = deque()

    def ask(self, call: Call, archive: str, body: object) -> Any:
        """Return the answer to a call.

        Raises:
            Uncertain: the writer does not answer; whether it did what was asked is not known.
            PacsError: what it refused.
        """
        try:
            socket = self._idle.pop()
        except IndexError:
            socket = self._connect()
        try:
            socket.send_multipart([call.encode(), archive.encode(), encode(body)])
            if not socket.poll(self._patience):
                raise zmq.Again
            verdict, answer = socket.recv_multipart()
        except zmq.ZMQError as error:
            socket.close()
            what = "The process that writes the catalog does not answer."
            raise Uncertain(what, "It is started again by itself; send again.") from error
        self._idle.append(socket)
        if verdict == GOOD:
            return decode_answer[call](answer)
        failure: PacsError = decode_failure(answer).error()
        raise failure

    def close(self) -> None:
        """Give the connections back; nobody may be asking any more."""
        while self._idle:
            self._idle.pop().close()
        self._context.destroy(linger=0)

    def _connect(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.REQ)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(self._endpoint)
        return socket
