"""How a process of the node reaches the one that writes: ask, and wait for the answer."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any, Final

import zmq

from catalog import PacsError, Unavailable, Uncertain
from node.contracts import Rejection

from .wire import GOOD, Call, Guest, decode_answer, decode_failure, encode

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


class RemoteAdmission:
    """Satisfies `Admission` by asking the process that keeps the count for all."""

    def __init__(self, gateway: str, writer: WriterClient) -> None:
        self._gateway = gateway
        self._writer = writer

    def admit(self, calling_ae: str, address: str) -> Rejection | None:
        """Count an association, or say which limit it would break; without an answer none is let in."""
        try:
            refused = self._writer.ask(Call.ADMIT, "", Guest(self._gateway, calling_ae, address))
        except Unavailable:
            return Rejection(2, 3, 1, "the process that writes the catalog does not answer")
        return refused and Rejection(refused.result, refused.source, refused.reason, refused.why)

    def discharge(self, calling_ae: str, address: str) -> None:
        """Count an association out that was let in."""
        with suppress(Unavailable):
            self._writer.ask(Call.DISCHARGE, "", Guest(self._gateway, calling_ae, address))
