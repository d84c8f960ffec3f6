"""Peers we did not write: DCMTK's programs, and pynetdicom as SCU and SCP."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def dcmtk(program: str, *arguments: str, good: bool = True) -> str:
    """Run one of DCMTK's programs and return all it said; pynetdicom installs others of the same names."""
    path = shutil.which(program, path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if path is None:
        pytest.skip(f"{program} of DCMTK is not installed")
    done = subprocess.run([path, *arguments], capture_output=True, env=ENVIRONMENT, timeout=60, check=False)
    said = (done.stdout + done.stderr).decode("latin-1")
    assert (done.returncode == 0) is good, said
    return said


@contextmanager
def storescp(folder: Path, *arguments: str) -> Iterator[int]:
    """Run DCMTK's storescp on a free port, receiving into `folder`."""
    path = shutil.which("storescp", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if path is None:
        pytest.skip("storescp of DCMTK is not installed")
    port = free_port()
    with running([path, *arguments, "-od", str(folder), str(port)], port):
        yield port


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """Run a server until the block ends; it is ready when its port answers."""
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _answers(port))
        yield
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(is_so: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is true, and fail if it does not become so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True
