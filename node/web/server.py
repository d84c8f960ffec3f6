"""The web server: listens, hands requests to the application, and stops in an orderly way."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from catalog import BadRequest, Busy, Clock
from node.contracts import Audit
from node.pixels import Codecs

from .application import Roots, make_application
from .exchange import Convert, Services
from .gate import Gate, LoopbackGate
from .gateway import Server

logger = logging.getLogger(__name__)

__all__ = ["Roots", "WebLimits", "WebServer"]


_CUT: Final = 1.0
"""Seconds for requests whose connections were cut."""


@dataclass(frozen=True, slots=True)
class WebLimits:
    """How much of the node web clients may use."""

    threads: int = 24
    """Requests that are answered at the same time; more wait."""
    finishers: int = 4
    """Received instances made durable at the same time."""
    header_bytes: int = 32768
    timeout: int = 60
    """Seconds of silence after which a connection is closed."""


class WebServer:
    """Serves DICOMweb for the scopes of its `roots`, by one thread for each request under way."""

    def __init__(
        self,
        roots: Roots,
        audit: Audit,
        convert: Convert,
        codecs: Codecs,
        clock: Clock,
        *,
        gate: Gate | None = None,
        limits: WebLimits | None = None,
        folder: Path | None = None,
    ) -> None:
        """Take what opens the scopes. Without a `gate` only this machine is let in, and nobody logs in."""
        self._limits = limits or WebLimits()
        self._is_open_to_all = gate is None
        self._finishers = ThreadPoolExecutor(self._limits.finishers, thread_name_prefix="web-finisher")
        services = Services(gate or LoopbackGate(), audit, clock, convert, codecs, self._finishers, folder)
        self._application = make_application(roots, services)
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, host: str, port: int) -> int:
        """Listen and serve in threads of its own; return the port (0 lets the system choose).

        Raises:
            Busy: the port is taken.
            BadRequest: nobody can log in, and the address is not this machine's own.
        """
        if self._is_open_to_all and not _is_loopback(host):
            what = f"The web server does not listen on {host}: nobody can log in yet, so all would be let in."
            raise BadRequest(what, "Leave it on 127.0.0.1.")
        server = Server(
            (host, port), self._application, threads=self._limits.threads, timeout=self._limits.timeout
        )
        server.max_request_header_size = self._limits.header_bytes
        try:
            server.prepare()
        except OSError as error:
            what = f"Port {port} on {host} cannot be opened: {error.strerror or error}."
            raise Busy(what, "Stop what listens there (peerpacs check names it), or set web.port.") from error
        self._server = server
        self._thread = threading.Thread(target=server.serve, name="web-acceptor", daemon=True)
        self._thread.start()
        if self._is_open_to_all:
            logger.info("The web answers on %s only: nobody can log in yet.", host)
        address: Any = server.bind_addr
        return int(address[1])

    def stop(self, deadline: float) -> None:
        """Take no new requests, let those under way finish for `deadline` seconds, cut the rest off."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown_timeout = deadline
            # It waits without end for a request that is computed, and cuts off only who sends, not who reads.
            ending = threading.Thread(target=server.stop, name="web-ending", daemon=True)
            ending.start()
            ending.join(deadline)
            server.cut_off()
            ending.join(_CUT)
            if self._thread is not None:
                self._thread.join(_CUT)
        # What was received whole is made durable, whether or not anybody hears of it.
        self._finishers.shutdown(wait=True)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
