"""How a process of the node reaches the one that writes: ask, and wait for the answer."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import zmq

from catalog import Unavailable
from node.contracts import Rejection

from .lines import Lines
from .wire import Call, Guest, decode_answer, encode


class WriterClient:
    """Any number of threads may ask at once."""

    def __init__(self, endpoint: str) -> None:
        def connect(socket: zmq.Socket[bytes]) -> None:
            socket.connect(endpoint)

        what = "The process that writes the catalog does not answer."
        self._lines = Lines(connect, what, "It is started again by itself; send again.")
        self.close = self._lines.close

    def ask(self, call: Call, archive: str, body: object) -> Any:
        """Return the answer to a call.

        Raises:
            Unavailable: the writer is not there; it was not asked.
            Uncertain: it does not answer; whether it did what was asked is not known.
            PacsError: what it refused.
        """
        return decode_answer[call](self._lines.ask(call.encode(), archive.encode(), encode(body)))


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
