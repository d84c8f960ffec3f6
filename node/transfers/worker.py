"""The worker's side: asks for a job, has it carried, tells what becomes of it, and gives it back.

It may sit in the node's own process or in another one, on another host even: the URL decides.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from secrets import token_hex
from threading import Lock
from typing import Any, Final, Protocol

import zmq

from catalog import Clock, PacsError
from node.bell import Bell

from .messages import (
    PROTOCOL,
    Beat,
    FromWorker,
    Job,
    Note,
    Noted,
    Over,
    Ready,
    Stop,
    ToWorker,
    decode_to_worker,
    encode,
)
from .model import Item, Kind, Outcome, Verdict
from .serving import READY_EVERY
from .wires import Keys, reach

logger = logging.getLogger(__name__)

BEAT_EVERY: Final = 3.0
"""Seconds between two signs of life."""
_HUNG: Final = 900.0
"""Seconds after which a carrier that neither asks nor tells anything counts as dead."""
_SAY_AGAIN: Final = 2.0


class Hands:
    """What a carrier has of its worker while it carries one job."""

    def __init__(self, job: Job, wire: Any, clock: Clock, is_stopping: Callable[[], bool]) -> None:
        self.job = job
        self.seen = clock()
        self._wire = wire
        self._clock = clock
        self._is_stopping = is_stopping
        self._must_stop = False

    def plan(self, planned: Mapping[str, int]) -> None:
        """Tell how many instances each series has."""
        self.seen = self._clock()
        _send(self._wire, Note(self.job.id, self.job.run, (), dict(planned)))

    def note(self, item: Item) -> None:
        """Tell what became of an instance, as soon as it is known."""
        self.seen = self._clock()
        _send(self._wire, Note(self.job.id, self.job.run, (item,)))

    def is_unwanted(self) -> bool:
        """Say whether the job is to be given back; asked between instances."""
        self.seen = self._clock()
        with contextlib.suppress(zmq.Again):
            while True:
                heard = decode_to_worker(self._wire.recv(zmq.NOBLOCK))
                self._must_stop |= isinstance(heard, Stop) and heard.lease == self.job.lease
        return self._must_stop or self._is_stopping()

    def is_stopping(self) -> bool:
        """Say whether there is no time for the instance under way either; asked while waiting."""
        self.seen = self._clock()
        return self._is_stopping()

    def stop(self) -> None:
        """Have the carrier give the job back; any thread may call."""
        self._must_stop = True


class Carrier(Protocol):
    """What moves things: carries jobs of one kind."""

    def carry(self, job: Job, hands: Hands) -> Outcome:
        """Carry a job out, or as much of it as can be.

        Raises:
            PacsError: it could not; one that may pass by itself is tried again.
        """


class Pulse:
    """Gives signs of life for everything that is carried in this process, on a thread of its own."""

    def __init__(self, context: Any, url: str, clock: Clock, keys: Keys | None = None) -> None:
        self._wire = reach(context, url, f"pulse-{token_hex(8)}", keys)
        self._clock = clock
        self._mutex = Lock()
        self._carried: dict[str, Hands] = {}
        self._last = 0.0
        self._bell = Bell()
        self.wake = self._bell.ring
        """Has a step that waits return at once; any thread may call."""

    @contextlib.contextmanager
    def during(self, hands: Hands) -> Iterator[None]:
        """Give signs of life for a job inside the block."""
        with self._mutex:
            self._carried[hands.job.lease] = hands
        try:
            yield
        finally:
            with self._mutex:
                del self._carried[hands.job.lease]

    def step(self, timeout: float = 0.0) -> None:
        """Beat if it is time, and pass on what is to be stopped; wait so many seconds for that."""
        now = self._clock()
        with self._mutex:
            carried = dict(self._carried)
        if not 0 <= now - self._last < BEAT_EVERY:
            self._last = now
            for hands in carried.values():
                if abs(now - hands.seen) < _HUNG:
                    _send(self._wire, Beat(hands.job.id, hands.job.lease))
        if self._bell.wait(timeout, self._wire):
            heard = decode_to_worker(self._wire.recv())
            if isinstance(heard, Stop) and heard.lease in carried:
                carried[heard.lease].stop()

    def close(self) -> None:
        """Give no more signs of life."""
        self._wire.close()
        self._bell.close()


class Worker:
    """Carries one job after the other; one thread calls `step`."""

    def __init__(
        self,
        context: Any,
        url: str,
        carriers: Mapping[Kind, Carrier],
        pulse: Pulse,
        clock: Clock,
        *,
        keys: Keys | None = None,
        is_stopping: Callable[[], bool] = bool,
    ) -> None:
        """Reach the queue at a URL; raises as `wires.reach`."""
        self._name = f"worker-{token_hex(8)}"
        self._wire = reach(context, url, self._name, keys)
        self._carriers = carriers
        self._pulse = pulse
        self._clock = clock
        self._is_stopping = is_stopping
        self._bell = Bell()
        self.wake = self._bell.ring
        """Has a step that waits return at once; any thread may call."""
        self._turn = 0
        self._said = float("-inf")
        self._over: Over | None = None
        """What was given back and is not known to be on disk."""

    def step(self, timeout: float = 0.0) -> bool:
        """Carry a job if one comes within so many seconds; say whether one did."""
        self._speak()
        if not self._bell.wait(timeout, self._wire):
            return False
        heard = decode_to_worker(self._wire.recv())
        if isinstance(heard, Job):
            return self._take(heard)
        self._listen(heard)
        return False

    def _speak(self) -> None:
        now = self._clock()
        if 0 <= now - self._said < (_SAY_AGAIN if self._over else READY_EVERY):
            return
        self._said = now
        if self._over:
            _send(self._wire, self._over)
        else:
            _send(self._wire, Ready(PROTOCOL, self._name, tuple(self._carriers), self._turn))

    def _listen(self, heard: ToWorker) -> None:
        if isinstance(heard, Noted) and self._over and heard.lease == self._over.lease:
            self._over = None
            self._said = float("-inf")
            self._speak()

    def _take(self, job: Job) -> bool:
        if self._over or job.turn != self._turn:
            return False  # It answers what was said long ago; its lease ends by itself.
        self._turn += 1
        hands = Hands(job, self._wire, self._clock, self._is_stopping)
        with self._pulse.during(hands):
            self._over = Over(job.id, job.lease, self._carry(job, hands))
        self._said = float("-inf")
        self._speak()
        return True

    def _carry(self, job: Job, hands: Hands) -> Outcome:
        try:
            return self._carriers[job.order.kind].carry(job, hands)
        except PacsError as error:
            return Outcome(Verdict.LATER if error.retry else Verdict.FAILED, error.what, error.next)
        except Exception as error:
            logger.exception("Transfer %s failed in a way nobody foresaw", job.id)
            what = f"The worker failed in a way nobody foresaw ({type(error).__name__})."
            return Outcome(Verdict.LATER, what, "The node's log says where; please report it.")

    def close(self) -> None:
        """Ask for nothing any more."""
        self._wire.close()
        self._bell.close()


def _send(wire: Any, message: FromWorker) -> None:
    # There is nobody to hear it only while the node goes down; then what arrived is sent once more.
    with contextlib.suppress(zmq.Again):
        wire.send(encode(message), zmq.NOBLOCK)
