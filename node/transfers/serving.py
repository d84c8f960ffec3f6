"""The queue's side of the conversation with workers: listens, gives, takes back, and writes it all down.

One thread calls `step`. Whatever came in together goes to disk in one commit, before anybody is answered.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

import msgspec
import zmq

from catalog import Clock, OutOfSpace
from node.bell import Bell

from .leases import Grant
from .messages import (
    PROTOCOL,
    Answer,
    Ask,
    Beat,
    FromWorker,
    Job,
    Note,
    Noted,
    Over,
    Ready,
    Stop,
    ToWorker,
    decode_from_worker,
    encode,
)
from .model import Kind, Order
from .queue import TransferQueue
from .wires import Doorkeeper, Keys, listen

logger = logging.getLogger(__name__)

READY_EVERY: Final = 5.0
"""Seconds after which an idle worker says so again; three times that, and it is gone."""
_AT_ONCE: Final = 1000
"""Messages that are taken in before they are written down."""
_EXPIRE_EVERY: Final = 1.0
_LONGEST_JOB: Final = 7 * 86400.0
"""Seconds after which a worker that was given a job and never came back is forgotten."""


Reply = Callable[[bytes, bool], None]
"""Takes the body of an answer, and whether it is a good one; any thread may call."""
Answering = Callable[[Order | None, str, bytes, Reply], None]
"""Has a question under a lease answered, at once or later; there is no order where the lease is over."""


def _nothing(order: Order | None, lease: str, question: bytes, reply: Reply) -> None:
    """Answer nobody: all workers are in this process and have what they need."""


class _Address(NamedTuple):
    """A worker as its socket knows it."""

    wire: int
    identity: bytes


class _Worker:
    """A worker that has shown itself."""

    def __init__(self) -> None:
        self.name = ""
        self.kinds: tuple[Kind, ...] = ()
        self.seen = 0.0
        self.turn = -1
        self.served = -1
        """The turn it was last given something for."""

    @property
    def is_idle(self) -> bool:
        """Say whether it waits for a job."""
        return self.turn > self.served


class LeaseServer:
    """Gives the transfers of a queue to whoever comes by the wires that `listen` opened."""

    def __init__(
        self, queue: TransferQueue, context: Any, clock: Clock, answering: Answering = _nothing
    ) -> None:
        self._queue = queue
        self._answering = answering
        self._replies: SimpleQueue[tuple[_Address, Answer]] = SimpleQueue()
        self._context = context
        self._clock = clock
        self._wires: list[Any] = []
        self._doorkeeper: Doorkeeper | None = None
        self._bell = Bell()
        self._workers: dict[_Address, _Worker] = {}
        self._carriers: dict[str, _Address] = {}
        """Who was given which lease."""
        self._expired = 0.0
        self._is_full = False
        queue.on_waiting = self.wake

    def listen(self, url: str, keys: Keys | None = None) -> str:
        """Let workers come by a URL; return it with the port that was taken. Raises as `wires.listen`."""
        if keys and self._doorkeeper is None:
            self._doorkeeper = Doorkeeper(self._context, keys)
        wire, taken = listen(self._context, url, keys)
        self._wires.append(wire)
        return taken

    def wake(self) -> None:
        """Have `step` look at the queue at once; any thread may call."""
        self._bell.ring()

    def step(self, timeout: float = 0.0) -> None:
        """Take in what workers say, or wait for it so many seconds, and answer."""
        doors = (self._doorkeeper.socket,) if self._doorkeeper else ()
        self._bell.wait(timeout, *self._wires, *doors)
        if self._doorkeeper:
            self._doorkeeper.step()
        answers = [answer for address, heard in self._heard() for answer in self._take(address, heard)]
        now = self._clock()
        if not 0 <= now - self._expired < _EXPIRE_EVERY:
            self._expired = now
            self._queue.leases.expire()
            self._forget_the_gone(now)
        self._reply()
        answers += self._give()
        answers += self._take_away()
        if self._write_down():
            for address, message in answers:
                self._send(address, message)

    def _heard(self) -> Iterator[tuple[_Address, FromWorker]]:
        for number, wire in enumerate(self._wires):
            for _ in range(_AT_ONCE):
                try:
                    identity, *rest = wire.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                try:
                    yield _Address(number, identity), decode_from_worker(b"".join(rest))
                except msgspec.MsgspecError as error:
                    logger.warning("A worker said what nobody understands: %s", error)

    def _take(self, address: _Address, heard: FromWorker) -> Iterator[tuple[_Address, ToWorker]]:
        leases = self._queue.leases
        match heard:
            case Ready():
                self._welcome(address, heard)
            case Note():
                leases.note(heard.id, heard.run, heard.items, heard.planned)
            case Beat():
                if not leases.beat(heard.id, heard.lease):
                    yield address, Stop(heard.lease)
            case Ask():
                self._ask(address, heard)
            case Over():
                leases.finish(heard.id, heard.lease, heard.outcome)
                if self._carriers.pop(heard.lease, None) == address:
                    # It is about to say that it is ready for the next one.
                    self._workers[address].turn = self._workers[address].served + 1
                yield address, Noted(heard.lease)

    def _ask(self, address: _Address, ask: Ask) -> None:
        def reply(body: bytes, is_good: bool) -> None:
            self._replies.put((address, Answer(ask.number, body, is_good)))
            self._bell.ring()

        order = self._queue.leases.order(ask.id, ask.lease)
        self._answering(order, ask.lease, ask.question, reply)

    def _reply(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                self._send(*self._replies.get_nowait())

    def _welcome(self, address: _Address, ready: Ready) -> None:
        worker = self._workers.setdefault(address, _Worker())
        if ready.protocol != PROTOCOL:
            logger.warning("Worker %s is of another version and is given nothing", ready.worker)
            return
        worker.name, worker.kinds, worker.turn = ready.worker, ready.kinds, ready.turn
        worker.seen = self._clock()

    def _forget_the_gone(self, now: float) -> None:
        for address, worker in list(self._workers.items()):
            if not 0 <= now - worker.seen <= (3 * READY_EVERY if worker.is_idle else _LONGEST_JOB):
                del self._workers[address]

    def _give(self) -> Iterator[tuple[_Address, ToWorker]]:
        if not self._queue.may_give():
            return
        for address, worker in list(self._workers.items()):
            if worker.is_idle and (grant := self._queue.leases.give(worker.name, worker.kinds)):
                worker.served = worker.turn
                # Who has just been given something stands at the end of the line.
                self._workers[address] = self._workers.pop(address)
                self._carriers[grant.lease] = address
                yield address, _job(grant, worker.turn)

    def _take_away(self) -> Iterator[tuple[_Address, ToWorker]]:
        kinds = {kind for worker in self._workers.values() for kind in worker.kinds}
        has_idle = any(worker.is_idle for worker in self._workers.values())
        for _, lease in self._queue.leases.unwanted(kinds, has_idle):
            # One that is not known by address is told when it gives its next sign of life.
            if lease in self._carriers:
                yield self._carriers[lease], Stop(lease)

    def _write_down(self) -> bool:
        try:
            self._queue.commit()
        except OutOfSpace as error:
            if not self._is_full:
                logger.error("Transfers go on, but how they stand cannot be written: %s", error.what)
            self._is_full = True
            return False
        self._is_full = False
        return True

    def _send(self, address: _Address, message: ToWorker) -> None:
        # Who has gone meanwhile is missed when the lease ends.
        with contextlib.suppress(zmq.ZMQError):
            self._wires[address.wire].send_multipart([address.identity, encode(message)], zmq.NOBLOCK)

    def close(self) -> None:
        """Take in what was said last, and listen no more."""
        self.step()
        self._queue.on_waiting = lambda: None
        for wire in self._wires:
            wire.close()
        if self._doorkeeper:
            self._doorkeeper.close()
        self._bell.close()


def _job(grant: Grant, turn: int) -> Job:
    transfer = grant.transfer
    return Job(transfer.id, grant.lease, transfer.run, transfer.order, transfer.lane, turn, grant.settled)
