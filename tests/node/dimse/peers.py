"""Peers we did not write: DCMTK's programs, and pynetdicom as SCU and SCP."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sim.ports import free_port

CLIENT_TLS: list[str] = []
SERVER_TLS: list[str] = []
"""Options in front of all others, while the tests of the plain port run over TLS."""
SECURED: set[int] = set()
"""Ports where TLS is spoken."""
WITHOUT_TLS = ("getscu", "movescu")
"""Programs of DCMTK that know no TLS."""
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def dcmtk(program: str, *arguments: str, good: bool = True) -> str:
    """Run one of DCMTK's programs and return all it said; pynetdicom installs others of the same names."""
    path = shutil.which(program, path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if path is None:
        pytest.skip(f"{program} of DCMTK is not installed")
    with contextlib.ExitStack() as stack:
        if CLIENT_TLS and program in WITHOUT_TLS:
            *options, port = arguments
            words = [*options, str(stack.enter_context(tunnel(int(port))))]
        else:
            words = [*CLIENT_TLS, *arguments]
        done = subprocess.run([path, *words], capture_output=True, env=ENVIRONMENT, timeout=60, check=False)
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
    if SERVER_TLS:
        SECURED.add(port)
    with running([path, *SERVER_TLS, *arguments, "-od", str(folder), str(port)], port):
        yield port


@contextmanager
def tunnel(port: int) -> Iterator[int]:
    """Give a program that knows no TLS a port of its own that leads to a TLS port, for one connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def serve() -> None:
        near, _ = listener.accept()
        with near, context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as far:
            far.setblocking(False)
            poll(near, far)

    def poll(near: socket.socket, far: ssl.SSLSocket) -> None:
        while True:
            ready, _, _ = select.select([near, far], [], [], 20)
            if not ready:
                return
            if near in ready:
                data = near.recv(16384)
                if not data:
                    return
                far.setblocking(True)
                far.sendall(data)
                far.setblocking(False)
            with contextlib.suppress(ssl.SSLWantReadError):
                while data := far.recv(16384):
                    near.sendall(data)
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(5)


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """Run a server until the block ends; it is ready when its port answers."""
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _answers(port))
        yield
    finally:
        process.terminate()
        process.wait(60)


def until(is_so: Callable[[], object], seconds: float = 60.0) -> None:
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
