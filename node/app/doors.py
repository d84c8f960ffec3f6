"""What a process opens of an archive: its objects, its catalog, and the doors to both."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from catalog import Clock, Entry, LmdbCatalog, Recorded
from node.accounts import Accounts
from node.archives import DEFAULT, ArchiveBook, Plan
from node.audit import ArchiveAudit
from node.bucket import BucketStore
from node.clock_guard import ClockGuard
from node.commitment import (
    BucketSafety,
    Call,
    Commitments,
    DiskSafety,
    Elsewhere,
    Inquiries,
    Judge,
    Promises,
    nobody_else,
)
from node.contracts import Audit, Ingest, Scope
from node.decisions import Decisions
from node.devices import DeviceBook
from node.dimse import STORAGE
from node.disposal import ERASED_UIDS, ErasedUIDs, Orders
from node.entrusted import Outbox
from node.held import HeldShelf
from node.ingest import Identity, NodeIngest
from node.journal import Journal
from node.pacing import Pace
from node.processes import GatewayCatalog
from node.quota import Quota
from node.recovery import Recovery
from node.register import Register
from node.rejected import RejectedShelf
from node.retention import Accesses
from node.retirement import Retirement
from node.retriever import NodeRetriever
from node.roles.calls import RoleClient
from node.roles.remote_catalog import RemoteCatalog
from node.roles.remote_store import RemoteStore
from node.second_person import SecondPerson
from node.sections import REJECTED_SUFFIX, Config
from node.sent_again import SentAgain
from node.state import State, Tables
from node.storage import VolumeStore

from .care import Care
from .ground import Ground, Segments, ground_of
from .settings import MB, storage_settings


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
    door: Callable[[str], Ingest]
    """Opens the door of a research project's archive: what goes in is de-identified."""
    journal: Journal
    """Notes what must outlive the state."""
    elsewhere: Callable[[str], Elsewhere] = lambda archive: nobody_else
    """Says of an archive whether other sites have as many copies as commitment needs."""
    storage: RoleClient | None = None
    """What keeps the objects of archives on disk, where another process does."""


class Doors:
    """An archive as one process of the node has it; close it when everything that uses it has ended."""

    catalog: LmdbCatalog | GatewayCatalog | RemoteCatalog
    segments: Segments
    store: VolumeStore | BucketStore | RemoteStore
    bucket: BucketStore | None = None
    rest: float = 0.0
    """Seconds before a commitment is judged, see `Commitments`."""

    def __init__(self, plan: Plan, shared: Shared) -> None:
        """Open nothing yet: who inherits opens store and catalog, and then calls `open_doors`."""
        self.plan = plan
        self.name = plan.name
        self.folder = shared.home / "archives" / plan.name
        self.shared = shared
        is_default = plan.name == DEFAULT
        self.tables: Tables = shared.state if is_default else shared.state.of(plan.name)
        self._shelf = (shared.home if is_default else self.folder) / "rejected"
        self.audit: Audit = shared.audit if is_default else ArchiveAudit(shared.audit, plan.name)
        self.opened = ExitStack()
        self.peers_skew: Callable[[], float | None] = lambda: None
        """How far the median of the peers' clocks is ahead of this one, in seconds; None without peers."""
        self.clock_guard = ClockGuard(self.tables, shared.clock, lambda: self.peers_skew())

    def open_volumes(self) -> VolumeStore:
        """Open the disks that keep the objects; nothing is read of them."""
        folders = (self.folder / "objects", self.folder / "incoming")
        owner = f"{self.shared.config.node.node_id}/{self.name}"
        return VolumeStore(*folders, self.clock, storage_settings(self.shared.config), owner)

    def open_objects(self) -> VolumeStore | RemoteStore:
        """Open what keeps the objects of an archive on disk, wherever that is."""
        shared = self.shared
        if shared.storage is None:
            return self.open_volumes()
        settings = storage_settings(shared.config)
        return RemoteStore(shared.storage, self.name, self.folder / "incoming", self.clock, settings)

    def open_doors(self) -> None:
        """Put the doors in front of store and catalog."""
        config, clock = self.shared.config, self.shared.clock
        self.held = HeldShelf(self.tables, self._held_allowance)
        self.rejected = RejectedShelf(
            self._shelf,
            max_bytes=config.rejected.max_mb * MB,
            max_age=config.rejected.max_days * 86400.0,
            clock=clock,
            doubt=self.clock_guard.doubt,
        )
        issuer = self.plan.issuer or config.node.issuer
        identity = Identity(issuer, frozenset(p.upper() for p in config.node.placeholders))
        self.pace = Pace(clock)
        limit, warn = self.plan.quota_mb * 1_000_000, config.storage.quota_warn_percent
        self.quota = Quota(self.name, limit, warn, self._stored_bytes, clock)
        doors = (self.store, self.catalog, self.held, self.rejected)
        parts = (self.catalog, self.held, self.tables, clock, self.pace, self._stored_bytes)
        self.care = Care(self.name, self.store, *parts)
        self._open_register()
        self.ingest = NodeIngest(
            *doors,
            identity,
            clock,
            on_new=self._arrived,
            claim=self.quota.claim,
            mender=self.care.mender,
            may_begin=Retirement(self.shared.state, clock).check,
            judgement=SentAgain(
                self.catalog.standing, self.orders.is_erased, self.register.take, self.audit, clock
            ),
        )
        self._open_door_out()
        issuer_of = self.shared.devices.issuer_of
        self.recovery = Recovery(self.ingest, self.decisions, self.register, issuer_of)
        self.commitment = self._make_commitment()

    def _open_door_out(self) -> None:
        self.retriever = NodeRetriever(
            self.store,
            self.catalog,
            self.plan.ae_title,
            self.care.book,
            is_verifying=self.shared.config.storage.verify_reads,
            on_open=self.pace.asked,
            on_access=self.accesses.note,
        )

    def _open_register(self) -> None:
        """Open what persons decided, and what is to go by it."""
        shared, tables, clock = self.shared, self.tables, self.shared.clock
        lasting = shared.journal.table(f"{ERASED_UIDS}/{self.name}", ErasedUIDs)
        self.orders = Orders(tables, lasting)
        self.outbox = Outbox(tables)
        self.decisions = Decisions(
            self.store,
            self.catalog,
            self.held,
            clock,
            self.orders.put,
            shared.journal.replay,
            self.outbox.keep,
        )
        person = Accounts(shared.state, clock).person
        self.limit = SecondPerson(tables, self.orders, lambda: self.catalog.totals().studies, person, clock)
        self.register = Register(self.decisions, tables, self.audit, self.orders, self.limit)
        self.accesses = Accesses(tables, clock)

    def _make_commitment(self) -> Commitments:
        shared, clock = self.shared, self.shared.clock
        safety = BucketSafety(self.bucket) if self.bucket else DiskSafety(self.segments)
        judge = Judge(
            self.catalog.claims,
            safety,
            is_storage=STORAGE.__contains__,
            spread=shared.pool.map,
            on_damage=lambda entry: self.care.book.mark(entry, "Found when commitment was asked for."),
            elsewhere=shared.elsewhere(self.name),
        )
        return Commitments(
            Promises(self.tables, self.name, clock),
            Inquiries(shared.state, clock),
            judge,
            shared.devices.get,
            shared.call,
            self.audit,
            clock,
            rest=self.rest,
        )

    @property
    def clock(self) -> Clock:
        """What time it is, for whoever works on this archive."""
        return self.shared.clock

    def scope(self, ae_title: str) -> Scope:
        """Return what one of the archive's AE titles opens."""
        if ae_title.endswith(REJECTED_SUFFIX):
            # Nothing is stored there, or committed to: the gatekeeper refuses both.
            return Scope(self.name, ae_title, self.catalog.rejected(), self.ingest, self.retriever)
        if self.plan.research:
            # Its UIDs are not those that were sent, so it commits to nothing.
            door = self.shared.door(self.plan.research)
            return Scope(self.name, ae_title, self.catalog, door, self.retriever, insight=self.catalog)
        doors = (self.catalog, self.ingest, self.retriever)
        return Scope(self.name, ae_title, *doors, insight=self.catalog, commitment=self.commitment)

    def close(self) -> None:
        """Write everything down and give everything back."""
        self.opened.close()

    def _arrived(self, entry: Entry, recorded: Recorded) -> None:
        self.pace.arrived()
        self.care.intake.add(entry.holding.size)

    def _stored_bytes(self) -> int:
        return self.catalog.totals().stored + self.held.size

    def _held_allowance(self) -> int:
        return int(self.ground.size() * self.shared.config.storage.held_percent / 100)

    @property
    def ground(self) -> Ground:
        """Where the segments lie."""
        return ground_of(self.segments, self.folder)
