"""Roles of a node inside a test: served on a port of this machine, reached over it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from node.roles.answering import Answer, RoleServer
from node.roles.calls import Question, RoleClient
from node.roles.remote_store import RemoteStore
from node.roles.storage import StorageService
from node.transfers.wires import make_keys
from tests.node.storage.filling import SMALL, Stopped, two_volumes

_THREADS = 4


class Served:
    """A role that answers until it is closed, and a client that reaches it."""

    def __init__(self, folder: Path, role: str, answers: Mapping[Question, Answer]) -> None:
        keys = make_keys(folder / "roles.key")
        self._server = RoleServer("tcp://127.0.0.1:*", keys, answers)
        self._stop = threading.Event()
        loops: list[Callable[[threading.Event], None]] = [self._server.route]
        loops += [self._server.answer] * _THREADS
        self._threads = [threading.Thread(target=loop, args=(self._stop,)) for loop in loops]
        for thread in self._threads:
            thread.start()
        self.url = self._server.url
        self.client = RoleClient(role, self.url, keys)

    def close(self) -> None:
        """Answer nobody any more."""
        self.client.close()
        self._stop.set()
        self._server.wake()
        for thread in self._threads:
            thread.join()
        self._server.close()


class ServedStore(RemoteStore):
    """A store over the wire that ends its server with itself."""

    def __init__(self, folder: Path) -> None:
        store = two_volumes(folder)
        service = StorageService(lambda archive: store, Stopped(), is_replayed=True)
        self.served = Served(folder, "storage", service.answers())
        super().__init__(self.served.client, "main", folder / "gathering", Stopped(), SMALL)

    def close(self) -> None:
        """Give everything back."""
        self.served.close()


def remote_store(folder: Path) -> ServedStore:
    """Return a store whose objects two volumes keep behind a port."""
    return ServedStore(folder)
