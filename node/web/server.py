"""The web server: listens, hands requests to the application, and stops in an orderly way."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from falcon.routing import CompiledRouter

from catalog import BadRequest, Busy, Clock
from node.contracts import Audit
from node.pixels import Codecs

from .api import TABLE, Backing, Lookup, add_api
from .application import Roots, make_application
from .crowding import Crowd
from .exchange import Convert, Services
from .gate import Gate, LoopbackGate
from .gateway import Securing, Server
from .pages import Pages, add_pages

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
    body_bytes: int = 16 << 30
    """Longest body of a request."""
    rate: float = 0.0
    """Requests of one caller in a second; 0 = no limit."""
    at_once: int = 0
    """Requests of one caller at the same time; 0 = no limit."""


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
        backing: Backing | None = None,
        pages: Pages | None = None,
        limits: WebLimits | None = None,
        folder: Path | None = None,
        closed: Callable[[], str] = str,
    ) -> None:
        """Take what opens the scopes. Without a `gate` only this machine is let in, and nobody logs in;
        without a `backing` there is no REST API, without `pages` nothing to look at; `closed` says why
        nobody is answered for the moment."""
        self._limits = limits or WebLimits()
        self._is_open_to_all = gate is None
        self._finishers = ThreadPoolExecutor(self._limits.finishers, thread_name_prefix="web-finisher")
        self._gate = gate or LoopbackGate()
        self._crowd = Crowd(time.monotonic, self._limits.rate, self._limits.at_once)
        shared = (self._gate, audit, clock, convert, codecs, self._finishers, folder, self._crowd)
        services = Services(*shared, closed)
        router = CompiledRouter()
        self._application = make_application(roots, services, router)
        if backing is not None:
            add_api(self._application, TABLE, backing, services)
        if pages is not None:
            lookup = Lookup(TABLE, backing, services) if backing is not None else None
            add_pages(self._application, pages, services, lookup)
        # It compiles itself when it is first asked, which would cost the first client 20 ms.
        router.find("/")
        self._servers: list[tuple[Server, threading.Thread]] = []

    def start(self, host: str, port: int, tls: Callable[[], ssl.SSLContext] | None = None) -> int:
        """Listen and serve in threads of its own; return the port (0 lets the system choose).

        With `tls`, a function that is asked at each connection, over TLS; without, on loopback only.

        Raises:
            Busy: the port is taken.
            BadRequest: passwords would cross a network in the clear, or the TLS files do not work.
        """
        if (tls is None or self._is_open_to_all) and not _is_loopback(host):
            why = "nobody can log in" if self._is_open_to_all else "passwords would pass it in the clear"
            what = f"The web server does not listen on {host}: {why}."
            raise BadRequest(what, "Use web.port, which is for TLS, or leave it on 127.0.0.1.")
        limits = self._limits
        server = Server(
            (host, port), self._application,
            threads=limits.threads, timeout=limits.timeout, longest_body=limits.body_bytes,
            leave=self._crowd.leave,
        )  # fmt: skip
        if tls is not None:
            tls()
            server.ssl_adapter = Securing(tls)
        server.max_request_header_size = self._limits.header_bytes
        try:
            server.prepare()
        except OSError as error:
            what = f"Port {port} on {host} cannot be opened: {error.strerror or error}."
            raise Busy(what, "Stop what listens there (peerpacs check names it), or set web.port.") from error
        thread = threading.Thread(target=server.serve, name="web-acceptor", daemon=True)
        thread.start()
        self._servers.append((server, thread))
        address: Any = server.bind_addr
        return int(address[1])

    def stop(self, deadline: float) -> None:
        """Take no new requests, let those under way finish for `deadline` seconds, cut the rest off."""
        servers, self._servers = self._servers, []
        until = time.monotonic() + deadline
        endings = []
        for server, _ in servers:
            server.shutdown_timeout = deadline
            # It waits without end for a request that is computed, and cuts off only who sends, not who reads.
            ending = threading.Thread(target=server.stop, name="web-ending", daemon=True)
            ending.start()
            endings.append(ending)
        for ending in endings:
            ending.join(max(0.0, until - time.monotonic()))
        for server, _ in servers:
            server.cut_off()
        for thread in (*endings, *(thread for _, thread in servers)):
            thread.join(_CUT)
        # What was received whole is made durable, whether or not anybody hears of it.
        self._finishers.shutdown(wait=True)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
