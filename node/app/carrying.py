"""The transfers of a node: their queue, its own workers, and the wires by which others may come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import zmq

from catalog import Clock
from node.sections import TransfersSection
from node.state import State
from node.supply import Supply
from node.transfers import Kind, Order, TransferQueue
from node.transfers.serving import LeaseServer, Reply
from node.transfers.wires import make_keys
from node.transfers.worker import Carrier, Pulse, Worker

from .chores import Loop

_INSIDE: Final = "inproc://transfers"
_SUPPLIERS: Final = 4
_BEAT: Final = 0.5
"""Seconds that each step waits for something to do before it looks whether the node stops."""


class Carrying:
    """The queue and, between `begin` and `close`, the lease server and the workers of this process."""

    def __init__(self, home: Path, section: TransfersSection, clock: Clock, state: State) -> None:
        self._home = home
        self._section = section
        self._clock = clock
        self._state = state
        self._server: LeaseServer | None = None
        self._workers: list[Worker] = []
        self._pool = ThreadPoolExecutor(_SUPPLIERS, "supply")
        """Its threads begin with the first worker that comes from elsewhere."""

    @cached_property
    def queue(self) -> TransferQueue:
        """The durable queue; opened when it is first needed."""
        places = self._section.per_destination
        return TransferQueue(self._state, self._home / "transfers", self._clock, per_destination=places)

    def begin(
        self, carriers: Mapping[Kind, Carrier], supply: Supply, is_stopping: Callable[[], bool]
    ) -> Iterator[Loop]:
        """Listen in process and where the configuration says; yield what wants threads of its own.

        Workers that come from elsewhere are given from the `supply`.

        Raises:
            Busy, BadRequest: the address in the configuration is taken, or none.
        """
        context, clock, url = zmq.Context(), self._clock, self._section.listen
        self._context = context
        self._supply = supply
        self._server = LeaseServer(self.queue, context, clock, self._answer)
        self._server.listen(_INSIDE)
        if url:
            keys = self._home / "secrets" / "transfers.key"
            self._server.listen(url, make_keys(keys) if url.startswith("tcp") else None)
        self._pulse = Pulse(context, _INSIDE, clock)
        self._workers = [
            Worker(context, _INSIDE, carriers, self._pulse, clock, is_stopping=is_stopping)
            for _ in range(self._section.workers)
        ]
        yield Loop("leases", partial(_step, self._server.step), wake=self._server.wake)
        yield from work(self._pulse, self._workers)

    def _answer(self, order: Order | None, lease: str, question: bytes, reply: Reply) -> None:
        self._pool.submit(lambda: reply(*self._supply.answer(order, lease, question)))

    def close(self) -> None:
        """Take in what the workers said last."""
        if self._server is None:
            return
        self._pool.shutdown(cancel_futures=True)
        self._supply.close()
        self._server.close()

    def let_go(self) -> None:
        """Close the wires of the workers, after `close` and when the threads of all loops have ended."""
        if self._server is None:
            return
        for worker in self._workers:
            worker.close()
        self._pulse.close()
        self._context.term()


def work(pulse: Pulse, workers: list[Worker]) -> Iterator[Loop]:
    """Yield what workers of one process want threads for."""
    yield Loop("pulse", partial(_step, pulse.step), wake=pulse.wake)
    for number, worker in enumerate(workers):
        yield Loop(f"worker {number}", partial(_step, worker.step), wake=worker.wake)


def _step(step: Callable[[float], object]) -> bool:
    step(_BEAT)
    return True
