"""One archive (tenant), open: its own catalog, objects, shelves and doors; nothing crosses to another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from catalog import Clock, Damaged, LmdbCatalog
from node.config import Config
from node.contracts import Audit, Scope
from node.decisions import Decisions
from node.devices import DeviceBook
from node.held import HeldShelf
from node.ingest import Identity, NodeIngest
from node.pacing import Pace
from node.reading import header_reader, pixel_comparer
from node.recovery import Recovery
from node.register import Register
from node.rejected import RejectedShelf
from node.retriever import NodeRetriever
from node.state import State
from node.storage import SegmentStore

from .rebuilding import CATALOG, finish_swap, search_of
from .settings import MB, storage_settings

DEFAULT: Final = "main"
"""The archive that every node has."""


class Shared(NamedTuple):
    """What all archives of a node use together."""

    home: Path
    config: Config
    clock: Clock
    state: State
    devices: DeviceBook
    audit: Audit


class Chore(NamedTuple):
    """A step to take in the background, again and again."""

    name: str
    every: float
    """Seconds between two steps; 0 = at every round."""
    step: Callable[[], object]


class Archive:
    """One archive's parts by name; close it when everything that uses it has ended."""

    def __init__(self, name: str, shared: Shared, *, catalog: str = CATALOG) -> None:
        """Open what lies under `archives/<name>`, and bring back what a crash left unrecorded.

        `catalog` is the name of the catalog's folder; a rebuild fills another one.

        Raises:
            Damaged: there are objects, but the catalog is gone.
        """
        self.name = name
        self.folder = shared.home / "archives" / name
        self.ae_title = shared.config.node.ae_title
        self._shared = shared
        self._opened = ExitStack()
        try:
            self._open_truth(catalog)
            self._open_doors()
            self.recovered = self.recovery.take(self.store.recover())
        except BaseException:
            self._opened.close()
            raise

    def _open_truth(self, catalog: str) -> None:
        folder, clock = self.folder, self._shared.clock
        finish_swap(folder)
        if catalog == CATALOG and not (folder / CATALOG).exists() and any(folder.glob("objects/??")):
            what = f"The catalog of {folder} is gone, but its objects are there."
            raise Damaged(what, "Run peerpacs rebuild: it makes the catalog again from the objects.")
        settings = storage_settings(self._shared.config)
        self.store = SegmentStore(folder / "objects", folder / "incoming", clock, settings)
        self._opened.callback(self.store.close)
        self.catalog = LmdbCatalog(
            folder / catalog,
            folder / search_of(catalog),
            clock=clock,
            read_header=header_reader(self.store),
            has_same_pixels=pixel_comparer(self.store),
        )
        # Closed before the store, which then notes that nothing is left to replay.
        self._opened.callback(self.catalog.close)

    def _open_doors(self) -> None:
        home, config, clock, state, devices, audit = self._shared
        self.held = HeldShelf(state, self._held_allowance)
        self.rejected = RejectedShelf(
            home / "rejected",
            max_bytes=config.rejected.max_mb * MB,
            max_age=config.rejected.max_days * 86400.0,
            clock=clock,
        )
        identity = Identity(config.node.issuer, frozenset(p.upper() for p in config.node.placeholders))
        self.pace = Pace(clock)
        doors = (self.store, self.catalog, self.held, self.rejected)
        self.ingest = NodeIngest(*doors, identity, clock, on_new=lambda *_: self.pace.arrived())
        self.retriever = NodeRetriever(self.store, self.catalog, self.ae_title)
        self.decisions = Decisions(self.store, self.catalog, self.held, clock)
        self.register = Register(self.decisions, state, audit)
        self.recovery = Recovery(self.ingest, self.decisions, self.register, devices.issuer_of)

    def scope(self, ae_title: str) -> Scope:
        """Return what one of the archive's AE titles opens."""
        return Scope(self.name, ae_title, self.catalog, self.ingest, self.retriever)

    def chores(self) -> Iterator[Chore]:
        """Yield what must be done for the archive in the background."""
        clock = self._shared.clock
        yield Chore(f"publish {self.name}", 1.0, lambda: self.catalog.publish(clock()))
        yield Chore(f"tidy {self.name}", 60.0, self.catalog.tidy)

    def close(self) -> None:
        """Write everything down and give everything back."""
        self._opened.close()

    def _held_allowance(self) -> int:
        disk = os.statvfs(self.folder)
        return int(disk.f_blocks * disk.f_frsize * self._shared.config.storage.held_percent / 100)
