"""The storage of a node as a process of its own: the disks of its archives, for catalog and gateways."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from catalog import Clock, NotFound
from node.archives import NAME
from node.config import load_config
from node.control import HomeLock
from node.roles.storage import StorageService
from node.storage import VolumeStore

from .background import Background
from .role_serving import serve_role
from .settings import storage_settings


class StorageRole:
    """Everything a process with nothing but the storage has open; close it, or use it in a `with` block."""

    def __init__(self, home: Path, clock: Clock = time.time) -> None:
        """Take the home folder; nothing is listened to yet.

        Raises:
            Busy: another process works on this home.
        """
        self._home = home
        self._config = load_config(home)
        self._clock = clock
        self._opened = ExitStack()
        self._background = Background(clock)
        self._opened.callback(HomeLock(home, "storage").close)
        self.url = self._config.roles.storage

    def start(self) -> dict[str, int]:
        """Answer at `roles.storage`; return the port by its name.

        Raises:
            Busy, BadRequest: the address cannot be had.
            NotFound: the node's keys were not copied here.
        """
        service = StorageService(self._open_store, self._clock)
        answers = service.answers()
        serve_role(
            "storage",
            self.url,
            self._home,
            answers,
            self._background,
            self._opened,
            may_make_keys=False,
        )
        port = urlsplit(self.url).port
        return {"storage": port} if port else {}

    def _open_store(self, archive: str) -> VolumeStore:
        if not NAME.fullmatch(archive):
            raise NotFound(f"{archive!r} cannot be an archive.", "List them with: peerpacs archives list")
        folder = self._home / "archives" / archive
        settings = storage_settings(self._config)
        owner = f"{self._config.node.node_id}/{archive}"
        store = VolumeStore(folder / "objects", folder / "incoming", self._clock, settings, owner)
        self._opened.callback(store.close)
        stopping = self._background.stopping
        self._background.run(f"{archive} syncer", lambda: store.sync_forever(stopping), store.wake)
        return store

    def close(self) -> None:
        """Answer nobody any more, and write everything down."""
        self._background.end()
        self._opened.close()
