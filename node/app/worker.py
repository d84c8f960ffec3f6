"""A process that carries transfers for a node, here or elsewhere, with nothing of it but a wire."""

from __future__ import annotations

from pathlib import Path

import zmq

from catalog import Clock
from node.dimse import Limits, reencode
from node.dimse.session import Secure
from node.elsewhere import ForwardElsewhere
from node.transcoding import Transcoder
from node.transfers import Kind
from node.transfers.asking import Asking
from node.transfers.wires import Keys
from node.transfers.worker import Pulse, Worker

from .background import Background
from .carrying import work


class WorkerProcess:
    """Any number of workers for one node; close it, and what they carry is given back."""

    def __init__(
        self, url: str, keys: Keys | None, count: int, secure: Secure, folder: Path, clock: Clock
    ) -> None:
        """Reach the node at a URL; `folder` is where large instances lie while they are transcoded.

        Raises:
            BadRequest: the URL is none, or tcp without keys.
        """
        self._background = Background(clock)
        is_stopping = self._background.stopping.is_set
        self._context = context = zmq.Context()
        self._transcoder = Transcoder(reencode, folder)
        self._pulse = Pulse(context, url, clock, keys)
        self._asking = [Asking(context, url, clock, keys=keys, is_stopping=is_stopping) for _ in range(count)]
        self._workers = [
            Worker(
                context,
                url,
                {Kind.DELIVER: ForwardElsewhere(asking, Limits(), secure, self._transcoder)},
                self._pulse,
                clock,
                keys=keys,
                is_stopping=is_stopping,
            )
            for asking in self._asking
        ]

    def greet(self, patience: float) -> None:
        """Return when the node has answered; only before `start`.

        Raises:
            Unavailable: it did not within so many seconds.
        """
        self._asking[0].greet(patience)

    def start(self) -> None:
        """Carry what the node gives."""
        for loop in work(self._pulse, self._workers):
            self._background.repeat(loop)

    def close(self) -> None:
        """Give back what is carried, after the instance under way."""
        self._background.end()
        self._transcoder.close()
        self._background.afterwards(self._let_go)

    def _let_go(self) -> None:
        for worker, asking in zip(self._workers, self._asking, strict=True):
            worker.close()
            asking.close()
        self._pulse.close()
        self._context.term()
