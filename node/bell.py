"""A bell: whoever rings it, on any thread, has the thread that waits for a ZeroMQ socket look up at once."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import zmq


class Bell:
    """Rung by any thread, heard by one."""

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_open = True

    def fileno(self) -> int:
        """Return the descriptor that can be read once somebody rang."""
        return self._event

    def ring(self) -> None:
        """Have whoever waits look up; nothing happens to a bell that is closed."""
        if self._is_open:
            os.eventfd_write(self._event, 1)

    def hush(self) -> None:
        """Forget who rang until now."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)

    def wait(self, seconds: float, *sockets: Any) -> bool:
        """Wait for something to read on any of the sockets, or for the bell; say whether a socket has it."""
        poller = zmq.Poller()
        for each in (self._event, *sockets):
            poller.register(each, zmq.POLLIN)
        ready = dict(poller.poll(int(seconds * 1000)))
        if ready.pop(self._event, 0):
            self.hush()
        return bool(ready)

    def close(self) -> None:
        """Take the bell down."""
        if self._is_open:
            self._is_open = False
            os.close(self._event)
