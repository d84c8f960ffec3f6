"""Channels, where gRPC is played: the four kinds of method as stubs and interceptors of gRPC know them."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import grpc

from .asking import Call, Coding, Status
from .frames import Opening
from .lines import Credentials, Lines


class _Asking:
    """A method of a channel."""

    def __init__(self, channel: Channel, method: str, coding: Coding, *, is_stream: bool) -> None:
        self._channel, self._method, self._coding, self._is_stream = channel, method, coding, is_stream

    def _begin(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
        *,
        may_wait: bool,
    ) -> Call:
        """Begin a call with the settings that gRPC names so, and in this order."""
        said = [(str(key), value) for key, value in metadata or ()]
        opening = Opening(self._method, said, timeout)
        call = self._channel.call(opening, self._coding, is_patient=bool(wait_for_ready))
        requests = request if self._is_stream else (request,)
        return call.begin(requests, is_stream=self._is_stream, may_wait=may_wait)


class _OneAnswer(_Asking):
    def __call__(self, request: Any, *settings: Any, **named: Any) -> Any:
        return self.with_call(request, *settings, **named)[0]

    def with_call(self, request: Any, *settings: Any, **named: Any) -> tuple[Any, Call]:
        call = self._begin(request, *settings, **named, may_wait=True)
        return call.result(), call

    def future(self, request: Any, *settings: Any, **named: Any) -> Call:
        return self._begin(request, *settings, **named, may_wait=False)


class _ManyAnswers(_Asking):
    def __call__(self, request: Any, *settings: Any, **named: Any) -> Call:
        return self._begin(request, *settings, **named, may_wait=False)


def _kind(asking: type[_Asking], *, is_stream: bool) -> Any:
    """Return what makes methods of one of the four kinds, as `grpc.Channel` has them."""

    def method_of(
        channel: Channel,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        *_: Any,
        **__: Any,
    ) -> _Asking:
        return asking(channel, method, Coding(request_serializer, response_deserializer), is_stream=is_stream)

    return method_of


class Channel(grpc.Channel):
    """To one address."""

    def __init__(self, address: str, credentials: Credentials, options: Sequence[tuple[str, Any]]) -> None:
        self._lines = Lines(address, credentials, options)
        self._lock = threading.Lock()
        self._calls: dict[int, weakref.ref[Call]] = {}
        self._numbers = itertools.count()
        self._is_closed = False

    unary_unary = _kind(_OneAnswer, is_stream=False)
    unary_stream = _kind(_ManyAnswers, is_stream=False)
    stream_unary = _kind(_OneAnswer, is_stream=True)
    stream_stream = _kind(_ManyAnswers, is_stream=True)

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        """Nobody is told of a channel's state here."""
        raise NotImplementedError

    def unsubscribe(self, callback: Any) -> None:
        """Nobody is told of a channel's state here."""
        raise NotImplementedError

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every call, and take none any more."""
        with self._lock:
            self._is_closed = True
            calls = [known() for _, known in sorted(self._calls.items())]
        self._lines.close()
        for call in calls:
            if call is not None:
                call.end(Status(grpc.StatusCode.CANCELLED, "Channel closed!"))

    def call(self, opening: Opening, coding: Coding, *, is_patient: bool) -> Call:
        """Return a call that is to begin.

        Raises:
            ValueError: the channel is closed.
        """
        with self._lock:
            if self._is_closed:
                raise ValueError("Cannot invoke RPC on closed channel!")
            number = next(self._numbers)
            call = Call(self._lines, opening, coding, self._calls, number, is_patient=is_patient)
            self._calls[number] = weakref.ref(call)
            return call
