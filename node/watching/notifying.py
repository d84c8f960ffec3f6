"""The word to the service manager: sd_notify(3), a datagram to the socket that it names."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from typing import Final

from catalog import Clock

_MICROSECONDS: Final = 1e6


def notify(environ: Mapping[str, str] = os.environ, **words: object) -> bool:
    """Send words like READY=1 to the service manager; say whether there was one. Never raises."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(1.0)
        manager.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
        manager.sendall("\n".join(f"{name}={word}" for name, word in words.items()).encode())
        return True
    return False


class Watchdog:
    """Pets the service manager's watchdog twice in its period, while nothing that must turn is silent."""

    def __init__(
        self,
        silent: Callable[[], list[str]],
        clock: Clock,
        environ: Mapping[str, str] = os.environ,
        process: int = 0,
    ) -> None:
        """Take what tells who is silent; WATCHDOG_USEC and WATCHDOG_PID say what is expected of whom."""
        meant = environ.get("WATCHDOG_PID", "")
        period = environ.get("WATCHDOG_USEC", "")
        is_meant = not meant or meant == str(process or os.getpid())
        self._every = int(period) / _MICROSECONDS / 2 if period.isdecimal() and is_meant else 0.0
        self._silent = silent
        self._clock = clock
        self._environ = environ
        self._last = float("-inf")

    def step(self) -> list[str]:
        """Pet it when it is time; return who is silent, and then leave it alone."""
        now = self._clock()
        if not self._every or now - self._last < self._every:
            return []
        self._last = now
        silent = self._silent()
        if silent:
            notify(self._environ, STATUS=f"Does not turn any more: {', '.join(silent)}")
        else:
            notify(self._environ, WATCHDOG=1)
        return silent
