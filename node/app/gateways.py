"""The gateways of a node: processes started, watched, and started again; they look like one server."""

from __future__ import annotations

import logging
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from catalog import Entry, LmdbCatalog, Recorded, Unavailable
from node.dimse import CountedAdmission, Limits
from node.measures import Sample
from node.processes import Ledger, Orders, WriterService

from .archive import Archive
from .ports import family_of, must_be_free

logger = logging.getLogger(__name__)

_PATIENCE: Final = 60.0
"""Seconds that a gateway has to open the archives and to listen."""
_LOOK: Final = 0.2
_LONGEST_PAUSE: Final = 30.0
_LIVED: Final = 60.0
"""Seconds after which a gateway that ended did not fail at its start."""


Run = Callable[[str, Callable[[], None]], None]
"""Gives a loop of that name a thread of its own."""


class Front(Protocol):
    """What talks to devices for a node: one server in its process, or several processes."""

    def listen(self, host: str, port: int, *, tls: Callable[[], ssl.SSLContext] | None = None) -> int:
        """Bind an address and return the port."""

    def start(self) -> None:
        """Serve."""

    def stop(self, deadline: float) -> None:
        """Take no new associations, let what is in flight finish for so many seconds, abort the rest."""

    def counters(self) -> dict[str, int]:
        """Return what `status` shows."""

    def samples(self) -> Iterator[Sample]:
        """Yield what `/metrics` shows."""

    def is_listening(self) -> bool:
        """Say whether addresses are bound and served."""

    def is_turning(self) -> bool:
        """Say whether everything went on since this was last asked."""


class Gateways:
    """Satisfies `Front` by processes; what they record comes back to the archives here."""

    def __init__(
        self, home: Path, count: int, archives: Mapping[str, Archive], limits: Limits, run: Run
    ) -> None:
        """Prepare `count` processes."""
        self._home, self._archives, self._run = home, archives, run
        self._ledger = Ledger(CountedAdmission(limits))
        self._endpoint = _endpoint(home)
        self._service = WriterService(self._endpoint, self._catalogs, self._ledger, self._recorded)
        self.relay = ""
        """Path of the socket at which this process serves what gateways do not open; set before `start`."""
        self._kept: list[socket.socket] = []
        self._bound: dict[str, tuple[str, int]] = {}
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._is_started = False
        self._gateways = [_Gateway(f"gateway {number}") for number in range(1, count + 1)]

    def listen(self, host: str, port: int, *, tls: Callable[[], ssl.SSLContext] | None = None) -> int:
        """Keep an address for the gateways, and return the port (0 lets the system choose).

        Raises:
            OSError: it is taken or not ours.
        """
        # Bound but never listening: the kernel gives connections only to those who listen.
        keeper = socket.socket(family_of(host), socket.SOCK_STREAM)
        try:
            if port:
                must_be_free(host, port)
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            keeper.bind((host, port))
        except OSError:
            keeper.close()
            raise
        self._kept.append(keeper)
        bound = int(keeper.getsockname()[1])
        self._bound["tls" if tls else "dicom"] = (host, bound)
        return bound

    def start(self) -> None:
        """Start the processes; return when all of them serve.

        Raises:
            Unavailable: one did not start; its own sentences are in the log.
        """
        self._is_started = True
        self._run("writer", lambda: self._service.serve(self._ended))
        for gateway in self._gateways:
            gateway.start(self._orders(gateway.name))
        for gateway in self._gateways:
            if not gateway.wait_until_ready():
                self.stop(0)
                what = f"The {gateway.name} of this node did not start."
                raise Unavailable(what, "The log above says why.")
        self._run("gateways", self._watch)

    def stop(self, deadline: float) -> None:
        """Have the processes finish what is in flight, and end them."""
        self._stopping.set()
        until = time.monotonic() + deadline + 2.0
        for gateway in self._gateways:
            gateway.tell_to_stop()
        for gateway in self._gateways:
            gateway.end(until)
        self._ended.set()
        if self._is_started:
            self._service.wake()
        else:
            self._service.close()
        for keeper in self._kept:
            keeper.close()

    def counters(self) -> dict[str, int]:
        """Return the sum of what the processes count."""
        return self._ledger.counters()

    def samples(self) -> Iterator[Sample]:
        """Yield the sum of what the processes show to watchers."""
        return self._ledger.samples()

    def is_listening(self) -> bool:
        """Say whether at least one process serves."""
        return bool(self._bound) and any(gateway.is_alive for gateway in self._gateways)

    def is_turning(self) -> bool:
        """Say whether the processes live; whoever does not is started again."""
        return self.is_listening()

    def _orders(self, name: str) -> Orders:
        return Orders(str(self._home), name, self._endpoint, **self._bound, relay=self.relay)

    def _catalogs(self) -> dict[str, LmdbCatalog]:
        return {name: archive.catalog for name, archive in tuple(self._archives.items())}

    def _recorded(self, archive: str, entry: Entry, recorded: Recorded) -> None:
        self._archives[archive].ingest.on_new(entry, recorded)

    def _watch(self) -> None:
        """Start again who has ended, after taking over what it left unrecorded."""
        while not self._stopping.wait(_LOOK):
            for gateway in self._gateways:
                if not gateway.is_alive and not self._stopping.is_set():
                    self._replace(gateway)

    def _replace(self, gateway: _Gateway) -> None:
        if not gateway.is_noticed:
            gateway.is_noticed = True
            text = "The %s ended with code %s. What it acknowledged is safe; another one is started."
            logger.error(text, gateway.name, gateway.code)
            self._ledger.ended(gateway.name)
            for archive in tuple(self._archives.values()):
                archive.recover()
        if time.monotonic() >= gateway.not_before:
            gateway.start(self._orders(gateway.name))
            if gateway.wait_until_ready():
                logger.info("The %s serves again.", gateway.name)


class _Gateway:
    """One place for a process, whichever process is in it just now."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_noticed = False
        """Whether the end of the last process was seen to."""
        self.not_before = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._failures = 0

    @property
    def is_alive(self) -> bool:
        """Whether there is a process and it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def code(self) -> int | None:
        """The exit code of the last process."""
        return self._process.poll() if self._process else None

    def start(self, orders: Orders) -> None:
        """Start a process; it serves when `wait_until_ready` says so."""
        self._forget()
        now = time.monotonic()
        self._failures = 0 if now - self._started > _LIVED else self._failures + 1
        self.not_before = now + min(2.0 ** min(self._failures, 16) / 2, _LONGEST_PAUSE)
        self._started, self.is_noticed = now, False
        command = [sys.executable, "-m", "node.app.gateway"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(orders) + b"\n")
        self._process.stdin.flush()

    def wait_until_ready(self) -> bool:
        """Return when it serves, or when it ended without; one that does neither is killed."""
        assert self._process is not None
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _PATIENCE)
        if not readable:
            self._process.kill()
        return self._process.stdout.readline().strip() == b"ready"

    def tell_to_stop(self) -> None:
        """Let it finish what is in flight and end."""
        if self._process and self._process.stdin:
            self._process.stdin.close()

    def end(self, until: float) -> None:
        """Wait until it ended, at most until then; kill it afterwards."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget()

    def _forget(self) -> None:
        if self._process:
            for stream in (self._process.stdin, self._process.stdout):
                if stream:
                    stream.close()


def _endpoint(home: Path) -> str:
    """Return the address of the writer's socket, in the folder that only the node's user may enter."""
    path = home / "run" / "writer"
    path.unlink(missing_ok=True)
    return f"ipc://{path}"
