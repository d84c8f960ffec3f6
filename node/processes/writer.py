"""The writer's side: answers the other processes, many of their records in one commit.

Whatever gathers while one commit runs goes into the next one, so a lone sender never waits for company.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
import zmq

from catalog import Arrival, BadRequest, Entry, LmdbCatalog, NotFound, PacsError, Recorded
from node.bell import Bell

from .ledger import Ledger
from .wire import BAD, GOOD, Call, Failure, decode_body, encode

logger = logging.getLogger(__name__)

OnRecorded = Callable[[str, Entry, Recorded], None]
_BEAT: Final = 0.2
"""Seconds between two looks at whether to stop."""
_AT_ONCE: Final = 512
"""Messages taken up before they are answered."""


class WriterService:
    """Serves the catalogs of all archives on one socket; one thread calls `serve`."""

    def __init__(
        self,
        endpoint: str,
        catalogs: Callable[[], Mapping[str, LmdbCatalog]],
        ledger: Ledger,
        on_recorded: OnRecorded = lambda archive, entry, recorded: None,
    ) -> None:
        self._catalogs = catalogs
        self._ledger = ledger
        self._on_recorded = on_recorded
        self._bell = Bell()
        self.wake = self._bell.ring
        """Has `serve` look at whether it was told to stop; any thread may call."""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.bind(endpoint)

    def serve(self, stop: threading.Event) -> None:
        """Answer until `stop` is set."""
        while not stop.is_set():
            self.step(_BEAT)

    def step(self, patience: float = 0.0) -> bool:
        """Answer what has gathered, after at most so many seconds of waiting; say whether any was."""
        if not self._bell.wait(patience, self._socket):
            return False
        records: dict[str, list[tuple[bytes, list[Arrival]]]] = defaultdict(list)
        for _ in range(_AT_ONCE):
            try:
                message = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._take(message, records)
        for archive, waiting in records.items():
            self._record(archive, waiting)
        return True

    def close(self) -> None:
        """Take no more questions."""
        self._socket.close()
        self._context.term()
        self._bell.close()

    def _take(self, message: list[bytes], records: dict[str, list[tuple[bytes, list[Arrival]]]]) -> None:
        """Answer a message, or put it with those that are recorded together."""
        try:
            who, _, verb, archive, body = message
        except ValueError:
            logger.error("A message of %d parts came to the writer and was dropped.", len(message))
            return
        try:
            call = Call(verb.decode())
            told: Any = decode_body[call](body)
        except (ValueError, msgspec.MsgspecError) as error:
            what = f"The writer does not understand this ({type(error).__name__})."
            self._answer(who, BadRequest(what, "Are all processes of this node of one version?"))
            return
        if call is Call.RECORD:
            records[archive.decode()].append((who, told))
            return
        try:
            self._answer(who, self._do(call, archive.decode(), told))
        except PacsError as error:
            self._answer(who, error)

    def _do(self, call: Call, archive: str, told: Any) -> object:
        ledger = self._ledger
        match call:
            case Call.ADMIT:
                return ledger.admit(told)
            case Call.DISCHARGE:
                ledger.discharge(told)
                return None
            case Call.BEAT:
                ledger.heard(told)
                return None
        catalog = self._catalog(archive)
        works: dict[Call, Callable[[Any], object]] = {
            Call.FORGET: catalog.forget,
            Call.RELOCATE: catalog.relocate,
            Call.DECIDE: catalog.decide,
            Call.RESTORE: catalog.restore,
        }
        return works[call](told)

    def _record(self, archive: str, waiting: list[tuple[bytes, list[Arrival]]]) -> None:
        """Record what several processes brought in one commit; alone, what makes that commit fail."""
        together = [arrival for _, arrivals in waiting for arrival in arrivals]
        try:
            recorded = self._catalog(archive).record(together)
        except PacsError as error:
            if len(waiting) == 1:
                self._answer(waiting[0][0], error)
                return
            for each in waiting:
                self._record(archive, [each])
            return
        results = iter(recorded)
        for who, arrivals in waiting:
            self._answer(who, [next(results) for _ in arrivals])
        for arrival, result in zip(together, recorded, strict=True):
            if result is not Recorded.SAME:
                self._on_recorded(archive, arrival.entry, result)

    def _catalog(self, archive: str) -> LmdbCatalog:
        catalog = self._catalogs().get(archive)
        if catalog is None:
            raise NotFound(f"There is no archive {archive!r}.", "List them with: peerpacs archives list")
        return catalog

    def _answer(self, who: bytes, answer: object) -> None:
        is_bad = isinstance(answer, PacsError)
        body = encode(Failure.of(answer) if isinstance(answer, PacsError) else answer)
        # Who asked may have gone meanwhile.
        with suppress(zmq.ZMQError):
            self._socket.send_multipart([who, b"", BAD if is_bad else GOOD, body])
