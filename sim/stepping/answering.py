"""Whoever is asked, where gRPC is played: one call, as its handler sees it and as it is worked on."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, NoReturn

import grpc
import msgspec

from .asking import LARGEST, Metadatum
from .frames import Ending, Frames, Kind, Opening

logger = logging.getLogger(__name__)

_AHEAD: Final = 4 << 20
"""Bytes of requests that wait for a handler; who sends more waits."""
_PARTING: Final = 1.0
"""Seconds for the word that a call is cut."""
Find = Callable[[str, tuple[Metadatum, ...]], "grpc.RpcMethodHandler[Any, Any] | None"]
"""Returns the handler of a method for this metadata."""


class Caller(NamedTuple):
    """Who asks, over which connection."""

    frames: Frames
    peer: str
    certificate: bytes
    """PEM; none is shown by who need not."""
    until: float
    """Monotonic seconds at which the connection is cut."""


class Aborted(Exception):
    """A handler ended its call."""


class Gone(grpc.RpcError):
    """Whoever asked is gone."""


class Answer(grpc.ServicerContext):
    """One call."""

    def __init__(
        self, caller: Caller, opening: Opening, options: dict[str, Any], ended: Callable[[], None]
    ) -> None:
        """`ended` is called once, when nothing is said any more."""
        self._caller, self._opening, self._options, self._ended = caller, opening, options, ended
        self._metadata = tuple(Metadatum(*each) for each in opening.metadata)
        self._deadline = None if opening.timeout is None else time.monotonic() + opening.timeout
        self._changed = threading.Condition()
        self._requests: deque[bytes] = deque()
        self._waiting = 0
        self._has_all = self._is_gone = self._is_over = self._is_aborted = False
        self._callbacks: list[Callable[[], None]] | None = []
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailers: Any = ()

    @property
    def until(self) -> float:
        """Monotonic seconds when it must have ended."""
        return self._caller.until if self._deadline is None else min(self._caller.until, self._deadline)

    # For the thread that reads the connection.

    def take(self, payload: bytes) -> None:
        """Have a request wait for the handler; the connection waits while too much does."""
        most = self._options.get("grpc.max_receive_message_length", LARGEST)
        if 0 <= most < len(payload):
            what = f"Received message larger than max ({len(payload)} vs. {most})"
            self.end(grpc.StatusCode.RESOURCE_EXHAUSTED, what)
            return
        with self._changed:
            self._changed.wait_for(lambda: self._waiting < _AHEAD or not self.is_open())
            if self.is_open():
                self._requests.append(payload)
                self._waiting += len(payload)
                self._changed.notify_all()

    def take_end(self) -> None:
        """Note that all was said."""
        with self._changed:
            self._has_all = True
            self._changed.notify_all()

    def leave(self) -> bool:
        """Note that whoever asked is gone; say whether that is news."""
        with self._changed:
            if not self.is_open():
                return False
            self._is_gone = True
            self._changed.notify_all()
        self._finish()
        return True

    def is_open(self) -> bool:
        """Say whether its end was not said, and whoever asked is not gone."""
        return not self._is_gone and not self._is_over

    def _finish(self) -> None:
        with self._changed:
            callbacks, self._callbacks = self._callbacks or [], None
        self._ended()
        for callback in callbacks:
            try:
                callback()
            except Exception:
                logger.exception("Exception calling callback!")

    # For the thread that works on it.

    def work(self, find: Find) -> None:
        """Have the handler answer."""
        try:
            handler = find(self._opening.method, self._metadata)
            if handler is None:
                self.end(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            else:
                self._respond(handler)
        except Exception as error:
            self._failed(error)

    def _respond(self, handler: Any) -> None:
        requests = _Requests(self, handler.request_deserializer)
        kind = ("stream_" if handler.request_streaming else "unary_") + (
            "stream" if handler.response_streaming else "unary"
        )
        request = requests if handler.request_streaming else next(requests, None)
        if request is None:
            self.end(grpc.StatusCode.INTERNAL, "No request came.")
            return
        answers = getattr(handler, kind)(request, self)
        if not handler.response_streaming:
            answers = (answers,)
        with contextlib.ExitStack() as stack:
            if hasattr(answers, "close"):
                stack.callback(answers.close)
            for each in answers:
                data = handler.response_serializer(each) if handler.response_serializer else each
                if not self._say(data):
                    return
        self.end(self._code or grpc.StatusCode.OK, self._details)

    def _say(self, data: bytes) -> bool:
        most = self._options.get("grpc.max_send_message_length", -1)
        if 0 <= most < len(data):
            what = f"Sent message larger than max ({len(data)} vs. {most})"
            self.end(grpc.StatusCode.RESOURCE_EXHAUSTED, what)
        if not self.is_active():
            return False
        try:
            self._caller.frames.send(Kind.MESSAGE, data, self.until)
        except OSError:
            self._caller.frames.close()
            self.leave()
            return False
        return True

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Gone):
            self.leave()
        elif self._is_aborted:
            self.end(self._code or grpc.StatusCode.UNKNOWN, self._details)
        else:
            logger.error("Exception calling application: %s", error, exc_info=error)
            self.end(self._code or grpc.StatusCode.UNKNOWN, f"Exception calling application: {error}")

    def end(self, code: grpc.StatusCode, details: str) -> None:
        """Say how it ended, unless it has."""
        with self._changed:
            if not self.is_open():
                return
            self._is_over = True
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            self._caller.frames.send(Kind.STATUS, self._ending(code, details), self._caller.until)
        self._finish()

    def _ending(self, code: grpc.StatusCode, details: str) -> bytes:
        number: Any = code.value
        trailers = [(str(key), value) for key, value in self._trailers or ()]
        return msgspec.msgpack.encode(Ending(number[0], details, trailers))

    def next_request(self) -> bytes | None:
        """Return the next request, or None when there is none any more.

        Raises:
            Gone: whoever asked is gone.
        """
        with self._changed:
            self._changed.wait_for(lambda: bool(self._requests) or self._has_all or not self.is_open())
            if self._is_gone:
                raise Gone
            if not self._requests:
                return None
            found = self._requests.popleft()
            self._waiting -= len(found)
            self._changed.notify_all()
            return found

    # As the handler knows it, see `grpc.ServicerContext`.

    def is_active(self) -> bool:
        """Say whether somebody still waits for the answer."""
        return self.is_open() and (self._deadline is None or time.monotonic() < self._deadline)

    def time_remaining(self) -> float:
        """Return the seconds until the deadline."""
        return float("inf") if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def cancel(self) -> bool:
        """Cut it; that is said by a thread of its own, because nobody who cuts waits for the wire."""
        with self._changed:
            is_news, self._is_gone = self.is_open(), True
            self._changed.notify_all()
        if is_news:
            threading.Thread(target=self._part, name=f"cuts {self._opening.method}", daemon=True).start()
        return is_news

    def _part(self) -> None:
        ending = self._ending(grpc.StatusCode.CANCELLED, "Cancelled on the server side")
        self._caller.frames.part(Kind.STATUS, ending, _PARTING)
        self._finish()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call this at its end; False if that has come."""
        with self._changed:
            if self._callbacks is None:
                return False
            self._callbacks.append(callback)
            return True

    def invocation_metadata(self) -> Any:
        """Return what came with the call."""
        return self._metadata

    def peer(self) -> str:
        """Return from where it is made."""
        return self._caller.peer

    def peer_identities(self) -> Any:
        """Return nothing: see `auth_context`."""
        return None

    def peer_identity_key(self) -> str | None:
        """Return nothing: see `auth_context`."""
        return None

    def auth_context(self) -> Any:
        """Return the certificate of who calls, as PEM under `x509_pem_cert`."""
        shown = {"x509_pem_cert": [self._caller.certificate]} if self._caller.certificate else {}
        return {"transport_security_type": [b"ssl"], **shown}

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Nothing comes with the beginning of an answer here."""
        raise NotImplementedError

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Have this come with the end."""
        self._trailers = trailing_metadata

    def trailing_metadata(self) -> Any:
        """Return what comes with the end."""
        return self._trailers

    def set_code(self, code: grpc.StatusCode) -> None:
        """Have it end so."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Have it end with these words."""
        self._details = details

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End it so."""
        self._code = grpc.StatusCode.UNKNOWN if code is grpc.StatusCode.OK else code
        self._details, self._is_aborted = details, True
        raise Aborted

    def abort_with_status(self, status: Any) -> NoReturn:
        """End it so."""
        self._trailers = status.trailing_metadata
        self.abort(status.code, status.details)


class _Requests:
    """The requests of a call, one after the other."""

    def __init__(self, answer: Answer, deserialize: Callable[[bytes], Any] | None) -> None:
        self._answer, self._deserialize = answer, deserialize

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        data = self._answer.next_request()
        if data is None:
            raise StopIteration
        return self._deserialize(data) if self._deserialize else data
