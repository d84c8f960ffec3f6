"""How a worker that has nothing of its own asks the node about its job: one question, one answer, in turn."""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from typing import Any, Final

from catalog import Clock, Unavailable

from .messages import Answer, Ask, Job, decode_to_worker, encode
from .wires import Keys, reach

_PATIENCE: Final = 30.0
"""Seconds without an answer after which the node counts as gone; the job is tried again."""
_LOOK: Final = 0.5


class Asking:
    """A wire of its own to the queue; one thread uses it."""

    def __init__(
        self,
        context: Any,
        url: str,
        clock: Clock,
        *,
        keys: Keys | None = None,
        is_stopping: Callable[[], bool] = bool,
    ) -> None:
        """Reach the queue at a URL; raises as `wires.reach`."""
        self._wire = reach(context, url, f"asks-{token_hex(8)}", keys)
        self._clock = clock
        self._is_stopping = is_stopping
        self._number = 0

    def ask(self, job: Job, question: bytes) -> Answer:
        """Return the answer to a question about a job that this worker carries.

        Raises:
            Unavailable: the node does not answer, or this process stops.
        """
        return self._ask(job.id, job.lease, question, _PATIENCE)

    def greet(self, patience: float) -> None:
        """Return when the node has answered anything at all.

        Raises:
            Unavailable: it did not within so many seconds, or this process stops.
        """
        self._ask("", "", b"", patience)

    def _ask(self, id: str, lease: str, question: bytes, patience: float) -> Answer:
        self._number += 1
        self._wire.send(encode(Ask(id, lease, self._number, question)))
        deadline = self._clock() + patience
        while self._clock() < deadline and not self._is_stopping():
            if self._wire.poll(int(_LOOK * 1000)):
                heard = decode_to_worker(self._wire.recv())
                # An answer that came too late is no answer to this.
                if isinstance(heard, Answer) and heard.number == self._number:
                    return heard
        raise Unavailable("The node of this worker does not answer.", "Is it running, and to be reached?")

    def close(self) -> None:
        """Ask nothing more."""
        self._wire.close()
