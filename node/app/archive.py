"""One archive (tenant), open: its own catalog, objects, shelves and doors; nothing crosses to another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from catalog import Clock, Damaged, Entry, LmdbCatalog, Recorded
from node.archives import DEFAULT, ArchiveBook, Plan
from node.audit import ArchiveAudit
from node.bucket import BucketStore
from node.commitment import BucketSafety, Call, Commitments, DiskSafety, Inquiries, Judge, Promises
from node.completeness import Completeness
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
from node.storage import SegmentStore, VolumeStore, has_objects
from node.study_events import StudyComplete, StudyEvents, described
from node.verification import Verification

from .care import Care
from .chores import Chore, Loop
from .rebuilding import CATALOG, finish_swap, search_of
from .settings import MB, bucket_settings, storage_settings

_BUSY_PAUSE: Final = 0.02


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
        self.verifications: dict[str, Verification] = {}
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
        if catalog == CATALOG and not (folder / CATALOG).exists() and has_objects(folder):
            what = f"The catalog of {folder} is gone, but its objects are there."
            raise Damaged(what, "Run peerpacs rebuild: it makes the catalog again from the objects.")
        settings = storage_settings(self._shared.config)
        folders = (folder / "objects", folder / "incoming")
        self.segments: SegmentStore | VolumeStore
        if self.plan.storage == DISK:
            self.bucket = None
            owner = f"{self._shared.config.node.node_id}/{self.name}"
            self.segments = VolumeStore(*folders, clock, settings, owner)
        else:
            self.segments = SegmentStore(*folders, clock, settings)
            self.bucket = self._open_bucket(self.segments)
        self.store: SegmentStore | VolumeStore | BucketStore = self.bucket or self.segments
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

    def _open_bucket(self, spool: SegmentStore) -> BucketStore:
        """Open the bucket over the segments."""
        plan, home, book = self.plan, self._shared.home, self._shared.book
        settings = bucket_settings(plan.storage, book.bucket_of(plan), home)
        key = home / "secrets" / f"objects-{plan.name}.key"
        key.parent.mkdir(mode=0o700, exist_ok=True)
        return BucketStore(settings, spool, self._tables, key, self._shared.clock)

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
        parts = (self.catalog, self.held, self._tables, clock, self.pace, self._stored_bytes)
        self.care = Care(self.name, self.store, *parts)
        # Closed before the catalog.
        self._opened.callback(self.care.close)
        mender, claim = self.care.mender, self.quota.claim
        self.ingest = NodeIngest(*doors, identity, clock, on_new=self._arrived, claim=claim, mender=mender)
        self.retriever = NodeRetriever(
            self.store,
            self.catalog,
            self.plan.ae_title,
            self.care.book,
            is_verifying=config.storage.verify_reads,
            on_open=self.pace.asked,
        )
        self.decisions = Decisions(self.store, self.catalog, self.held, clock)
        self.register = Register(self.decisions, self._tables, self.audit)
        issuer_of = self._shared.devices.issuer_of
        self.recovery = Recovery(self.ingest, self.decisions, self.register, issuer_of)
        self._open_events()

    def _open_events(self) -> None:
        devices, audit = self._shared.devices, self.audit
        self.study_events = StudyEvents(self._tables)
        self._completeness = Completeness(
            self.study_events,
            self.catalog,
            devices.complete_after,
            self._shared.clock,
        )
        self.subscribers: dict[str, Callable[[StudyComplete], object]] = {
            "audit": lambda event: audit.record("complete", None, "success", described(event))
        }
        """Who takes each event about a study: routing, prefetch and exports belong here."""

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

    @property
    def clock(self) -> Clock:
        """What time it is, for whoever works on this archive."""
        return self._shared.clock

    def scope(self, ae_title: str) -> Scope:
        """Return what one of the archive's AE titles opens."""
        doors = (self.catalog, self.ingest, self.retriever)
        return Scope(self.name, ae_title, *doors, insight=self.catalog, commitment=self.commitment)

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
        yield from self.care.chores()
        yield Chore(f"completeness {self.name}", 1.0, self._completeness.step)
        yield Chore(f"study events {self.name}", 3600.0, lambda: self.study_events.tidy(clock()))
        for subscriber, take in tuple(self.subscribers.items()):
            follow = partial(self.study_events.follow, subscriber, take)
            yield Chore(f"{subscriber} of {self.name}", 1.0, follow)

    def loops(self) -> Iterator[Loop]:
        """Yield what wants threads of its own: scrub and drain, the work of a bucket."""
        yield from self.care.loops(self.recovery.take)
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

    def _arrived(self, entry: Entry, recorded: Recorded) -> None:
        self.pace.arrived()
        self.care.intake.add(entry.holding.size)

    def _stored_bytes(self) -> int:
        return self.catalog.totals().stored + self.held.size

    def _held_allowance(self) -> int:
        if isinstance(self.segments, VolumeStore):
            size = sum(state.room.size for state in self.segments.states())
        else:
            disk = os.statvfs(self.folder)
            size = disk.f_blocks * disk.f_frsize
        return int(size * self._shared.config.storage.held_percent / 100)
