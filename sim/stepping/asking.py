"""Whoever asks, where gRPC is played: a call reads its answers in the thread that wants them.

It has a connection to itself; if it ends well, it leaves it to the next call. Only what would have to wait,
to be connected or for more of its requests, is given a thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import grpc
import msgspec

from catalog import PacsError

from .frames import Ending, Frames, Kind, Opening, left, read
from .lines import Line, Lines

logger = logging.getLogger(__name__)

CODES: Final[dict[int, grpc.StatusCode]] = {each.value[0]: each for each in grpc.StatusCode}
LARGEST: Final = 4 << 20
"""Bytes of a message that is taken, where no option says otherwise."""
_PAUSE: Final = (0.5, 2.0)
"""Seconds until a call that waits for its peer dials again: at first, and at most."""


class Metadatum(NamedTuple):
    """One entry of metadata."""

    key: str
    value: Any


class Status(NamedTuple):
    """How a call ended."""

    code: grpc.StatusCode
    details: str
    trailers: tuple[Metadatum, ...] = ()


class Coding(NamedTuple):
    """How requests become bytes, and bytes answers; None where they are bytes."""

    serialize: Callable[[Any], bytes] | None = None
    deserialize: Callable[[bytes], Any] | None = None


class Call(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """One call: the answers as they come, how it ended, and what is raised when it did not end well."""

    def __init__(
        self,
        lines: Lines,
        opening: Opening,
        coding: Coding,
        among: dict[int, Any],
        number: int,
        *,
        is_patient: bool,
    ) -> None:
        """It is known under its number `among` those under way, and takes itself out at its end."""
        super().__init__()
        self._lines, self._opening, self._coding = lines, opening, coding
        self._among, self._number = among, number
        self._is_patient = is_patient
        self._deadline = None if opening.timeout is None else time.monotonic() + opening.timeout
        self._state = threading.Condition()
        self._line: Line | None = None
        self._status: Status | None = None
        self._callbacks: list[Callable[[Any], None]] = []
        self._has_said_all = False
        self._ahead: deque[bytes] = deque()
        self._pinged: tuple[float, int] | None = None
        self._answer: list[Any] = []

    def begin(self, requests: Iterable[Any], *, is_stream: bool, may_wait: bool) -> Call:
        """Say what is asked: here if nothing is to be waited for, or if this thread may wait."""
        line = self._lines.take()
        if is_stream or (line is None and not may_wait):
            name = f"asks {self._opening.method}"
            threading.Thread(target=self._ask, args=(requests, line), name=name, daemon=True).start()
        else:
            self._ask(requests, line)
        return self

    # Asking.

    def _ask(self, requests: Iterable[Any], line: Line | None) -> None:
        line = line or self._connected()
        if line is None or not self._adopt(line):
            return
        try:
            line.frames.pace(self._deadline)
            self._opening.timeout = left(self._deadline)
            line.frames.send(Kind.CALL, msgspec.msgpack.encode(self._opening), self._deadline)
            if self._say(line.frames, requests):
                line.frames.send(Kind.END, b"", self._deadline)
                self._has_said_all = True
        except TimeoutError:
            self.end(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))
        except OSError:
            pass  # what the other side said before may be there still: who reads finds it, or the end

    def _say(self, frames: Frames, requests: Iterable[Any]) -> bool:
        """Send the requests; say whether that was all, and not the end of the call."""
        most = self._lines.options.get("grpc.max_send_message_length", -1)
        for data in self._serialized(requests):
            if self._status is not None:
                return False
            if 0 <= most < len(data):
                what = f"Sent message larger than max ({len(data)} vs. {most})"
                self.end(Status(grpc.StatusCode.RESOURCE_EXHAUSTED, what))
                return False
            frames.send(Kind.MESSAGE, data, self._deadline)
        return self._status is None

    def _serialized(self, requests: Iterable[Any]) -> Iterator[bytes]:
        serialize = self._coding.serialize
        try:
            for request in requests:
                yield serialize(request) if serialize else request
        except Exception as error:
            logger.exception("Exception iterating requests!")
            self.end(Status(grpc.StatusCode.UNKNOWN, f"Exception iterating requests: {error!r}"))

    def _connected(self) -> Line | None:
        """Return a new connection; None if there is none, which ends the call."""
        pause, longest = _PAUSE
        while self._status is None:
            try:
                left(self._deadline)
                return self._lines.connect(self._deadline)
            except (PacsError, OSError) as error:
                self._was_not_reached(error)
            with self._state:
                until = time.monotonic() + pause
                until = until if self._deadline is None else min(until, self._deadline)
                self._state.wait_for(lambda: self._status is not None, max(until - time.monotonic(), 0.0))
            pause = min(2 * pause, longest)
        return None

    def _is_too_late(self) -> bool:
        """Say whether the deadline is over, which ends it."""
        is_late = self._deadline is not None and time.monotonic() >= self._deadline
        if is_late:
            self.end(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))
        return is_late

    def _was_broken(self, error: OSError) -> None:
        # The other side knows the deadline too, and may hang up a moment before this one wakes.
        if not self._is_too_late():
            self.end(Status(grpc.StatusCode.UNAVAILABLE, f"Socket closed: {error}"))

    def _was_not_reached(self, error: PacsError | OSError) -> None:
        if not self._is_too_late() and not self._is_patient:
            what = error.what if isinstance(error, PacsError) else f"failed to connect: {error}"
            self.end(Status(grpc.StatusCode.UNAVAILABLE, what))

    def _adopt(self, line: Line) -> bool:
        with self._state:
            is_over = self._status is not None
            if not is_over:
                self._line = line
                self._state.notify_all()
        if is_over:
            line.frames.close()
        return not is_over

    # Being answered.

    def _receive(self) -> bytes | None:
        """Return the next answer as it came, or None at the end."""
        if self._ahead:
            return self._ahead.popleft()
        with self._state:
            self._state.wait_for(lambda: self._line is not None or self._status is not None)
            line = self._line
        since = time.monotonic()
        while self._status is None and line is not None:
            try:
                kind, payload = line.frames.receive(self._patience(line.frames, since))
                if kind is Kind.STATUS:
                    ending = read(payload, Ending)
                    trailers = tuple(Metadatum(*each) for each in ending.trailers)
                    self.end(Status(CODES[ending.code], ending.details, trailers), is_whole=True)
                elif kind is Kind.MESSAGE and self._is_taken(payload):
                    return payload
            except TimeoutError:
                self._waits(line.frames)
            except OSError as error:
                self._was_broken(error)
        return None

    def _is_taken(self, payload: bytes) -> bool:
        most = self._lines.options.get("grpc.max_receive_message_length", LARGEST)
        if not 0 <= most < len(payload):
            return True
        what = f"Received message larger than max ({len(payload)} vs. {most})"
        self.end(Status(grpc.StatusCode.RESOURCE_EXHAUSTED, what))
        return False

    def _patience(self, frames: Frames, since: float) -> float | None:
        """Return until when to wait: the deadline, or when a sign of life is to be asked for or overdue."""
        options = self._lines.options
        if self._pinged is not None and self._pinged[1] != frames.pieces:
            self._pinged = None
        if self._pinged is not None:
            until = self._pinged[0] + self._sign_within
        elif every := options.get("grpc.keepalive_time_ms"):
            until = max(frames.heard, since) + every / 1000
        else:
            return self._deadline
        return until if self._deadline is None else min(until, self._deadline)

    @property
    def _sign_within(self) -> float:
        seconds: float = self._lines.options.get("grpc.keepalive_timeout_ms", 20_000) / 1000
        return seconds

    def _waits(self, frames: Frames) -> None:
        """Nothing came for as long as `_patience` said."""
        now = time.monotonic()
        if self._is_too_late():
            return
        if self._pinged is None:
            self._pinged = (now, frames.pieces)
            try:
                frames.send(Kind.PING, b"", now + self._sign_within)
            except OSError as error:
                self._was_broken(error)
        elif self._pinged[1] == frames.pieces:
            self.end(Status(grpc.StatusCode.UNAVAILABLE, "keepalive watchdog timeout"))

    def end(self, status: Status, *, is_whole: bool = False) -> bool:
        """End it like this, unless it has ended; `is_whole`: the other side said so, and the line is good."""
        with self._state:
            if self._status is not None:
                return False
            self._status, line = status, self._line
            callbacks, self._callbacks = self._callbacks, []
            self._state.notify_all()
        self._among.pop(self._number, None)
        if line is not None and is_whole and self._has_said_all:
            self._lines.keep(line)
        elif line is not None:
            line.frames.close()
        for callback in callbacks:
            callback(self)
        return True

    def __del__(self) -> None:
        if getattr(self, "_status", self) is None:
            self._status = Status(grpc.StatusCode.CANCELLED, "Nobody waits for this call any more.")
            self._among.pop(self._number, None)
            if self._line is not None:
                self._line.frames.drop()
            for callback in self._callbacks:
                callback(self)

    # As who asked sees it.

    def __iter__(self) -> Call:
        return self

    def __next__(self) -> Any:
        data = self._receive()
        if data is not None:
            return self._coding.deserialize(data) if self._coding.deserialize else data
        if self.code() is grpc.StatusCode.OK:
            raise StopIteration
        raise self

    def result(self, timeout: float | None = None) -> Any:
        """Return the one answer; raises the call itself when it failed."""
        if not self._answer:
            self._answer.append(next(self, None))
        self._over()
        if self.code() is not grpc.StatusCode.OK:
            raise self
        return self._answer[0]

    def exception(self, timeout: float | None = None) -> Any:
        """Return the call itself if it failed, else None."""
        return None if self._over().code is grpc.StatusCode.OK else self

    def traceback(self, timeout: float | None = None) -> Any:
        """Return nothing: where it failed is on another machine."""
        return None

    def _over(self) -> Status:
        """Return how it ended, reading to the end."""
        while self._status is None:
            if (data := self._receive()) is not None:
                self._ahead.append(data)
        return self._status

    def code(self) -> grpc.StatusCode:
        """Return how it ended; waits for that."""
        return self._over().code

    def details(self) -> str:
        """Return what was said at the end; waits for that."""
        return self._over().details

    def trailing_metadata(self) -> Any:
        """Return what came with the end; waits for that."""
        return self._over().trailers

    def initial_metadata(self) -> Any:
        """Return what came with the beginning: nothing, here."""
        return ()

    def is_active(self) -> bool:
        """Say whether its end is not known yet."""
        return self._status is None

    def running(self) -> bool:
        """Say whether its end is not known yet."""
        return self._status is None

    def done(self) -> bool:
        """Say whether its end is known."""
        return self._status is not None

    def cancelled(self) -> bool:
        """Say whether it was cancelled."""
        return self._status is not None and self._status.code is grpc.StatusCode.CANCELLED

    def cancel(self) -> bool:
        """End it, if it has not ended."""
        return self.end(Status(grpc.StatusCode.CANCELLED, "Locally cancelled by application!"))

    def time_remaining(self) -> Any:
        """Return the seconds until its deadline, or None."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call this with the call when it has ended."""
        with self._state:
            is_over = self._status is not None
            if not is_over:
                self._callbacks.append(fn)
        if is_over:
            fn(self)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call this when it has ended; False if it has."""
        with self._state:
            if self._status is not None:
                return False
            self._callbacks.append(lambda _: callback())
            return True

    def __str__(self) -> str:
        status = self._status
        ended = f"{status.code.name}: {status.details}" if status else "under way"
        return f"<call of {self._opening.method}, {ended}>"

    __repr__ = __str__
