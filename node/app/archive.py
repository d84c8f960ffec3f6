"""One archive (tenant), open: its own catalog, objects, shelves and doors; nothing crosses to another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from catalog import Clock, Damaged, LmdbCatalog
from node.archives import DEFAULT, ArchiveBook, Plan
from node.audit import ArchiveAudit
from node.bucket import BucketStore
from node.commitment import BucketSafety, Call, Commitments, DiskSafety, Inquiries, Judge, Promises
from node.config import DISK
from node.contracts import Audit, Scope
from node.decisions import Decisions
from node.devices import DeviceBook
from node.dimse import STORAGE
from node.held import HeldShelf
from node.ingest import Identity, NodeIngest
from node.pacing import Pace
from node.quota import Quota
from node.reading import header_reader, pixel_comparer
from node.recovery import Recovery
from node.register import Register
from node.rejected import RejectedShelf
from node.retriever import NodeRetriever
from node.sections import Config
from node.state import State, Tables
from node.storage import SegmentStore

from .rebuilding import CATALOG, finish_swap, search_of
from .settings import MB, bucket_settings, storage_settings

_BUSY_PAUSE: Final = 0.02
_IDLE_PAUSE: Final = 0.2


class Shared(NamedTuple):
    """What all archives of a node use together."""

    home: Path
    config: Config
    clock: Clock
    state: State
    devices: DeviceBook
    audit: Audit
    book: ArchiveBook
    pool: ThreadPoolExecutor
    """For work of one task that is worth more than one core."""
    call: Call
    """Opens an association to a device, to tell it results."""


class Chore(NamedTuple):
    """A step to take in the background, again and again."""

    name: str
    every: float
    """Seconds between two steps; 0 = at every round."""
    step: Callable[[], object]


class Loop(NamedTuple):
    """A step for a thread of its own: it says whether there may be more to do at once."""

    name: str
    step: Callable[[], bool]
    busy_pause: float = 0.0
    idle_pause: float = _IDLE_PAUSE


class Archive:
    """One archive's parts by name; close it when everything that uses it has ended."""

    def __init__(self, plan: Plan, shared: Shared, *, catalog: str = CATALOG) -> None:
        """Open what lies under `archives/<name>`, and bring back what a crash left unrecorded.

        `catalog` is the name of the catalog's folder; a rebuild fills another one.

        Raises:
            Damaged: there are objects, but the catalog is gone.
            NotPermitted: others may read the key or the credentials of its bucket.
        """
        self.plan = plan
        self.name = plan.name
        self.folder = shared.home / "archives" / plan.name
        self._shared = shared
        is_default = plan.name == DEFAULT
        self._tables: Tables = shared.state if is_default else shared.state.of(plan.name)
        self._shelf = (shared.home if is_default else self.folder) / "rejected"
        self.audit: Audit = shared.audit if is_default else ArchiveAudit(shared.audit, plan.name)
        self._opened = ExitStack()
        try:
            self._open_truth(catalog)
            self._open_doors()
            self.commitment = self._make_commitment()
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
        self.segments = SegmentStore(folder / "objects", folder / "incoming", clock, settings)
        self.bucket = self._open_bucket()
        self.store: SegmentStore | BucketStore = self.bucket or self.segments
        self._opened.callback(self.store.close)
        self.catalog = LmdbCatalog(
            folder / catalog,
            folder / search_of(catalog),
            clock=clock,
            read_header=header_reader(self.store),
            has_same_pixels=pixel_comparer(self.store),
            away=self.bucket.away if self.bucket else lambda: None,
        )
        # Closed before the store, which then notes that nothing is left to replay.
        self._opened.callback(self.catalog.close)

    def _open_bucket(self) -> BucketStore | None:
        """Open the bucket over the segments, where the plan names one."""
        plan, home, book = self.plan, self._shared.home, self._shared.book
        if plan.storage == DISK:
            return None
        settings = bucket_settings(plan.storage, book.bucket_of(plan), home)
        key = home / "secrets" / f"objects-{plan.name}.key"
        key.parent.mkdir(mode=0o700, exist_ok=True)
        return BucketStore(settings, self.segments, self._tables, key, self._shared.clock)

    def _open_doors(self) -> None:
        config, clock = self._shared.config, self._shared.clock
        self.held = HeldShelf(self._tables, self._held_allowance)
        self.rejected = RejectedShelf(
            self._shelf,
            max_bytes=config.rejected.max_mb * MB,
            max_age=config.rejected.max_days * 86400.0,
            clock=clock,
        )
        issuer = self.plan.issuer or config.node.issuer
        identity = Identity(issuer, frozenset(p.upper() for p in config.node.placeholders))
        self.pace = Pace(clock)
        limit, warn = self.plan.quota_mb * 1_000_000, config.storage.quota_warn_percent
        self.quota = Quota(self.name, limit, warn, self._stored_bytes, clock)
        doors = (self.store, self.catalog, self.held, self.rejected)
        self.ingest = NodeIngest(
            *doors, identity, clock, on_new=lambda *_: self.pace.arrived(), claim=self.quota.claim
        )
        self.retriever = NodeRetriever(self.store, self.catalog, self.plan.ae_title)
        self.decisions = Decisions(self.store, self.catalog, self.held, clock)
        self.register = Register(self.decisions, self._tables, self.audit)
        issuer_of = self._shared.devices.issuer_of
        self.recovery = Recovery(self.ingest, self.decisions, self.register, issuer_of)

    def _make_commitment(self) -> Commitments:
        shared, clock = self._shared, self._shared.clock
        safety = BucketSafety(self.bucket) if self.bucket else DiskSafety(self.segments)
        known = STORAGE.__contains__
        return Commitments(
            Promises(self._tables, self.name, clock),
            Inquiries(shared.state, clock),
            Judge(self.catalog.claims, safety, is_storage=known, spread=shared.pool.map),
            shared.devices.get,
            shared.call,
            shared.audit,
            clock,
        )

    def scope(self, ae_title: str) -> Scope:
        """Return what one of the archive's AE titles opens."""
        return Scope(
            self.name, ae_title, self.catalog, self.ingest, self.retriever, commitment=self.commitment
        )

    def change(self, plan: Plan) -> None:
        """Go by another plan from now on; AE titles and quota count at once, the rest at the next start."""
        self.plan = plan
        self.quota.limit_to(plan.quota_mb * 1_000_000)

    def chores(self) -> Iterator[Chore]:
        """Yield what must be done for the archive in the background."""
        clock = self._shared.clock
        yield Chore(f"publish {self.name}", 1.0, lambda: self.catalog.publish(clock()))
        yield Chore(f"tidy {self.name}", 60.0, self.catalog.tidy)
        yield Chore(f"commitments of {self.name}", 3600.0, self.commitment.tidy)

    def loops(self) -> Iterator[Loop]:
        """Yield what wants threads of its own: the work of a bucket."""
        if self.bucket is None:
            return
        section = self._shared.book.bucket_of(self.plan)
        yield Loop(f"{self.name} bucket", self._tend_bucket)
        for number in range(section.upload_threads):
            yield Loop(f"{self.name} upload {number}", self.bucket.upload_step, idle_pause=_BUSY_PAUSE)
        for number in range(section.fetch_threads):
            yield Loop(f"{self.name} fetch {number}", self.bucket.fetch_step, idle_pause=_BUSY_PAUSE)

    def close(self) -> None:
        """Write everything down and give everything back."""
        self._opened.close()

    def _tend_bucket(self) -> bool:
        assert self.bucket is not None
        return self.bucket.tend_step()

    def _stored_bytes(self) -> int:
        return self.catalog.totals().stored + self.held.size

    def _held_allowance(self) -> int:
        disk = os.statvfs(self.folder)
        return int(disk.f_blocks * disk.f_frsize * self._shared.config.storage.held_percent / 100)
