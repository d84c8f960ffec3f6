"""TCP ports for servers about to start: not lent to a client meanwhile, not given to two processes."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Final

_FIRST: Final = 12_000
_LAST: Final = 32_000
"""Below what kernels lend to clients (from 32 768 on Linux), and above what is well known."""
_BLOCK: Final = 250
"""Ports that a process has for itself; it takes them in turn, so that one comes again after all others."""


def free_port() -> int:
    """Return a TCP port that nobody listens on, and that no other process is given here.

    Raises:
        OSError: more processes than there are blocks ask at once, or every port of this one's is taken.
    """
    global _own
    if _own is None or _own[0] != os.getpid():
        _own = os.getpid(), cycle(_block())
    for _ in range(_BLOCK):
        port = next(_own[1])
        if _is_free(port):
            return port
    raise OSError(f"None of {_BLOCK} TCP ports is free; something keeps those of earlier runs.")


_own: tuple[int, Iterator[int]] | None = None
_locks: Final[list[int]] = []
"""Open as long as the process lives; the kernel lets go of them when it ends, however it ends."""


def _block() -> range:
    """Take a block of ports for the life of this process."""
    folder = Path(tempfile.gettempdir()) / "peerpacs-ports"
    folder.mkdir(mode=0o1777, exist_ok=True)
    for first in range(_FIRST, _LAST, _BLOCK):
        lock = os.open(folder / str(first), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        _locks.append(lock)
        return range(first, first + _BLOCK)
    raise OSError("Every block of TCP ports is taken by another process.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
