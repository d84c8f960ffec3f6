"""What every process of a node stands on: state, books, rights, audit, and a server for devices."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final

from catalog import Clock
from node.access import Gatekeeper
from node.archives import DEFAULT, ArchiveBook
from node.audit import AuditLog
from node.closed import Closed
from node.config import FILE_NAME
from node.contracts import Device, Ingest, Line, Scope
from node.credentials import own_credentials
from node.devices import DeviceBook
from node.dimse import Admission, DimseServer, calling, reencode
from node.drain import Drain
from node.journal import Journal
from node.research.senders import Senders
from node.roles.calls import RoleClient, guest_keys
from node.roles.plan import has
from node.sections import Config, Role
from node.standing import load_standing
from node.state import State
from node.transcoding import Transcoder

from .background import Background
from .doors import Shared
from .settings import limits

DRAIN: Final = 6.0
"""Seconds that what is in flight has at the end; SIGTERM must be over within ten."""
SWITCH: Final = 0.0005
"""LMDB's Python binding gives the interpreter lock away at each call: beside a busy thread the usual 5 ms a
switch would make every commit wait for tens of them."""


class Foundation:
    """The parts by name that a node and its gateways have alike; whoever inherits closes `_opened`."""

    def __init__(self, home: Path, config: Config, clock: Clock) -> None:
        """Open nothing yet, see `_open_foundation`."""
        self.home = home
        self.config = config
        self.clock = clock
        self.standing = load_standing(home / FILE_NAME)
        self._opened = ExitStack()
        self._background = Background(clock)

    def _open_foundation(self, door: Callable[[str], Ingest]) -> None:
        """Open the parts; `door` opens the one of a research project's archive."""
        home, config = self.home, self.config
        self.state = self._open_state()
        self._opened.callback(self.state.close)
        self.drain = Drain(self.state)
        self.closed = Closed(self.state)
        self.devices = DeviceBook(self.state)
        self.book = ArchiveBook(self.state, config)
        senders = Senders(self.state, self.book)
        self.access = Gatekeeper(self.state, config, self.clock, self._titles, senders)
        asked = frozenset(pacs.receive_as for pacs in self.standing.old_pacs)
        self.access.brings_what_was_asked_for = lambda caller: caller.called_ae in asked
        self.credentials = own_credentials(home, config)
        self.audit = AuditLog(home / "audit", self.clock)
        self._opened.callback(self.audit.close)
        pool = ThreadPoolExecutor(os.cpu_count(), "pool")
        self._opened.callback(pool.shutdown, wait=False, cancel_futures=True)
        books = (self.state, self.devices, self.audit, self.book)
        self.journal = Journal(self.state, self.clock)
        storage = None if has(config, Role.STORAGE) else self._reach("storage", config.roles.storage)
        self._shared = Shared(
            home, config, self.clock, *books, pool, self._call, door, self.journal, storage=storage
        )
        self.transcoder = Transcoder(reencode, home / "archives" / DEFAULT / "incoming")

    def _open_state(self) -> State:
        return State(self.home / "state")

    def _reach(self, role: str, url: str) -> RoleClient:
        """Return a role that runs elsewhere, which need not answer yet.

        Raises:
            NotFound: this host has no key of the node.
        """
        client = RoleClient(role, url, guest_keys(self.home, url))
        self._opened.callback(client.close)
        return client

    def _titles(self) -> dict[str, str]:
        """Return the AE titles that this node answers to, and the archive of each.

        Who may call the default archive's titles may call those for old PACS, which look at who sends.
        """
        return self.book.titles() | {pacs.receive_as: DEFAULT for pacs in self.standing.old_pacs}

    def _make_server(
        self, scope: Callable[[str], Scope | None], admission: Admission | None = None, relay: str = ""
    ) -> DimseServer:
        """Return a server for devices, which does not listen yet."""
        return DimseServer(
            scope,
            self.access,
            self.audit,
            limits(self.config),
            self.clock,
            accept_unknown=self.config.dicom.accept_unknown,
            convert=self.transcoder,
            secure=self.credentials.towards,
            admission=admission,
            relay=relay,
        )

    def _call(self, device: Device, ae_title: str) -> AbstractContextManager[Line]:
        return calling(device, ae_title, limits(self.config), self.credentials.towards(device))
