"""What a worker and the queue say to each other: the same words in process, over ipc and over tcp.

A worker says Ready and is sent a Job. While it carries it, it sends a Note for each answer and a Beat every
few seconds; it may be told to Stop. It gives the job back with Over, again and again until that is Noted.
A worker that has nothing of its own Asks for what its job needs, and is given an Answer to each question.
"""

from __future__ import annotations

from typing import Final

import msgspec

from .model import Item, Kind, Lane, Order, Outcome

PROTOCOL: Final = 1
"""A worker of another number is given nothing."""
LONGEST: Final = 1 << 26
"""Bytes of one message."""


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """A worker has nothing to do; `turn` counts the jobs it has had, so that saying it twice is harmless."""

    protocol: int
    worker: str
    kinds: tuple[Kind, ...]
    turn: int


class Beat(msgspec.Struct, frozen=True, array_like=True, tag="beat"):
    """The job is still being carried."""

    id: str
    lease: str


class Note(msgspec.Struct, frozen=True, array_like=True, tag="note"):
    """What became of instances, and how many each series has."""

    id: str
    run: int
    items: tuple[Item, ...]
    planned: dict[str, int] = {}


class Over(msgspec.Struct, frozen=True, array_like=True, tag="over"):
    """The job is given back."""

    id: str
    lease: str
    outcome: Outcome


class Ask(msgspec.Struct, frozen=True, array_like=True, tag="ask"):
    """A question about the job under a lease; `number` comes back with its answer."""

    id: str
    lease: str
    number: int
    question: bytes
    """What carrier and node understand, see `node.supply`."""


class Answer(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """What was asked, or why it cannot be had."""

    number: int
    body: bytes
    is_good: bool = True


class Job(msgspec.Struct, frozen=True, array_like=True, tag="job"):
    """An order to carry out; `settled` instances need not be tried."""

    id: str
    lease: str
    run: int
    order: Order
    lane: Lane
    turn: int
    """Of the Ready that it answers."""
    settled: tuple[str, ...] = ()


class Stop(msgspec.Struct, frozen=True, array_like=True, tag="stop"):
    """The job is to be given back after the instance under way."""

    lease: str


class Noted(msgspec.Struct, frozen=True, array_like=True, tag="noted"):
    """That the job was given back is on disk."""

    lease: str


FromWorker = Ready | Beat | Note | Over | Ask
ToWorker = Job | Stop | Noted | Answer
encode: Final = msgspec.msgpack.Encoder().encode
decode_from_worker: Final = msgspec.msgpack.Decoder(FromWorker).decode
decode_to_worker: Final = msgspec.msgpack.Decoder(ToWorker).decode
