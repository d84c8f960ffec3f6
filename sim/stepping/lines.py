"""The connections to one address that calls use one after the other, where gRPC is played."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from catalog import PacsError
from federation.links.dialing import dial, split_address

from .chains import judge
from .frames import Frames, left

_KEPT: Final = 4
"""Connections that wait for calls."""
_CONNECT: Final = 20.0
"""Seconds to connect within, where no option says otherwise."""
_BACKOFF: Final = ("grpc.initial_reconnect_backoff_ms", "grpc.max_reconnect_backoff_ms")
_SLOWER: Final = 1.6
"""What gRPC multiplies its backoff by at each failure."""


class Credentials(NamedTuple):
    """What `grpc.ssl_channel_credentials` returns; PEM."""

    roots: bytes = b""
    chain: bytes = b""


class Line(NamedTuple):
    """A connection that calls can use one after the other."""

    frames: Frames
    until: float
    """Monotonic seconds until which calls may begin on it."""


class Lines:
    """To one address."""

    def __init__(self, address: str, credentials: Credentials, options: Sequence[tuple[str, Any]]) -> None:
        self.options = dict(options)
        self._address, self._credentials = address, credentials
        self._lock = threading.Lock()
        self._idle: list[Line] = []
        self._rest = self._rests_until = 0.0
        self._failure = ""
        self._is_closed = False

    def take(self) -> Line | None:
        """Return a connection that waited for a call, or None."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                line = self._idle.pop()
            if time.monotonic() < line.until and line.frames.is_quiet():
                return line
            line.frames.close()

    def keep(self, line: Line) -> None:
        """Have a connection wait for the next call."""
        with self._lock:
            is_kept = not self._is_closed and len(self._idle) < _KEPT and time.monotonic() < line.until
            if is_kept:
                self._idle.append(line)
        if not is_kept:
            line.frames.close()

    def connect(self, deadline: float | None) -> Line:
        """Return a new connection to whom the channel is for; after a failure nobody dials for a while.

        Raises:
            PacsError: nobody answers there.
            OSError: somebody else does, or nobody in time, or it is too soon to dial again.
        """
        began = time.monotonic()
        if began < self._rests_until:
            raise ConnectionError(self._failure)
        try:
            line = self._dialed(deadline)
        except (PacsError, OSError) as error:
            if deadline is None or time.monotonic() < deadline:
                first, longest = (self.options.get(name, 0) / 1000 for name in _BACKOFF)
                self._rest = min(max(_SLOWER * self._rest, first), longest)
                self._rests_until, self._failure = began + self._rest, str(error)
            raise
        self._rest = self._rests_until = 0.0
        return line

    def _dialed(self, deadline: float | None) -> Line:
        began = time.monotonic()
        within = self.options.get("grpc.min_reconnect_backoff_ms", 1000 * _CONNECT) / 1000
        until = began + within
        until = until if deadline is None else min(until, deadline)
        proxy = str(self.options.get("grpc.http_proxy", "")).removeprefix("http://")
        name = str(self.options.get("grpc.ssl_target_name_override", "")) or split_address(self._address)[0]
        frames = Frames(dial(self._address, proxy, left(until) or within))
        try:
            shown = frames.say_hello(name, self._credentials.chain, until)
            judge(shown.chain, self._credentials.roots, name)
        except BaseException:
            frames.close()
            raise
        return Line(frames, began + shown.age)

    def close(self) -> None:
        """Close those that wait, and have none wait any more."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for line in idle:
            line.frames.close()

    def __del__(self) -> None:
        for line in self._idle:
            line.frames.drop()
