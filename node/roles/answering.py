"""The side of a role that is asked: one socket, and as many threads as answer at once."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec
import zmq

from catalog import BadRequest, Clock, PacsError, Unavailable
from node.bell import Bell
from node.processes.wire import BAD, GOOD, Failure
from node.transfers.wires import Doorkeeper, Keys, listen

from .calls import Question, encode

logger = logging.getLogger(__name__)

THREADS: Final = 16
_LOOK: Final = 0.2
_INSIDE: Final = "inproc://answers"
_AT_ONCE: Final = 256
_IDLE: Final = 600.0
"""Seconds after which somebody who reads page by page is taken for gone."""
T = TypeVar("T")
Answer = Callable[[str, Any], object]
"""Given the archive and the body; raises PacsError for what is refused."""


class RoleServer:
    """Answers questions: `route` on one thread, `answer` on several."""

    def __init__(self, url: str, keys: Keys | None, answers: Mapping[Question, Answer]) -> None:
        """Listen.

        Raises:
            Busy, BadRequest: the address is taken, is none, or would be open to everybody.
        """
        self._answers = {each.name: (each, answer) for each, answer in answers.items()}
        self._context = zmq.Context()
        self._bell = Bell()
        self.wake = self._bell.ring
        self._doorkeeper = Doorkeeper(self._context, keys) if keys else None
        try:
            self._front, self.url = listen(self._context, url, keys)
        except BaseException:
            self._context.destroy(linger=0)
            self._bell.close()
            raise
        self._back = self._context.socket(zmq.DEALER)
        self._back.bind(_INSIDE)

    def route(self, stop: threading.Event) -> None:
        """Bring questions to the threads and answers back, until `stop` is set."""
        doors = (self._doorkeeper.socket,) if self._doorkeeper else ()
        while not stop.is_set():
            self._bell.wait(_LOOK, self._front, self._back, *doors)
            if self._doorkeeper:
                self._doorkeeper.step()
            _pass_on(self._front, self._back)
            _pass_on(self._back, self._front)

    def answer(self, stop: threading.Event) -> None:
        """Answer one question after the other until `stop` is set."""
        socket = self._context.socket(zmq.REP)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(_INSIDE)
        while not stop.is_set():
            if socket.poll(int(_LOOK * 1000)):
                socket.send_multipart(self._answer(socket.recv_multipart()))
        socket.close()

    def close(self) -> None:
        """Answer nobody any more; the threads have ended."""
        self._context.destroy(linger=200)
        self._bell.close()

    def _answer(self, message: list[bytes]) -> tuple[bytes, bytes]:
        try:
            name, archive, body = message
            question, answer = self._answers[name.decode()]
            return GOOD, encode(answer(archive.decode(), question.decode_body(body)))
        except PacsError as error:
            return BAD, encode(Failure.of(error))
        except (KeyError, ValueError, msgspec.MsgspecError) as error:
            what = f"This role does not understand the question ({type(error).__name__})."
            return BAD, encode(Failure.of(BadRequest(what, "Are all processes of this node of one version?")))
        except Exception as error:
            logger.exception("A question of another role failed in a way nobody foresaw")
            what = f"The role failed ({type(error).__name__})."
            return BAD, encode(Failure.of(Unavailable(what, "Its log says more. Send again later.")))


def _pass_on(source: Any, target: Any) -> None:
    for _ in range(_AT_ONCE):
        try:
            message = source.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return
        # Who asked may have gone meanwhile.
        with suppress(zmq.ZMQError):
            target.send_multipart(message, copy=False)


class Page(msgspec.Struct, Generic[T], frozen=True, array_like=True):
    """Some of what there is, and under which token there is more; empty = no more."""

    items: list[T]
    token: str


class _Reading(NamedTuple):
    source: Iterator[Any]
    lock: threading.Lock
    asked: list[float]


class Pages:
    """What is given page by page, each reader's place in it kept here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._readings: dict[str, _Reading] = {}

    def begin(self, source: Iterator[T], size: int) -> Page[T]:
        """Return the first page of so many items."""
        self._forget_idle()
        token = secrets.token_hex(16)
        reading = _Reading(source, threading.Lock(), [self._clock()])
        with self._lock:
            self._readings[token] = reading
        return self.more(token, size)

    def more(self, token: str, size: int) -> Page[Any]:
        """Return the next page.

        Raises:
            Unavailable: nobody reads under this token (any more).
        """
        reading = self._readings.get(token)
        if reading is None:
            raise Unavailable("The rest of the answer is not kept any more.", "Ask again.")
        with reading.lock:
            reading.asked[0] = self._clock()
            try:
                items = list(islice(reading.source, size))
            except BaseException:
                self._readings.pop(token, None)
                raise
        if len(items) < size:
            self._readings.pop(token, None)
            token = ""
        return Page(items, token)

    def leave(self, token: str) -> None:
        """Forget a reader who wants no more."""
        reading = self._readings.pop(token, None)
        if reading:
            _close(reading)

    def _forget_idle(self) -> None:
        now = self._clock()
        with self._lock:
            idle = [token for token, each in self._readings.items() if abs(now - each.asked[0]) > _IDLE]
        for token in idle:
            self.leave(token)


def _close(reading: _Reading) -> None:
    with reading.lock:
        close = getattr(reading.source, "close", None)
        if close:
            close()
