"""Copies between nodes, composed: what is kept for others, what others keep, and who decides about both."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from datetime import time as time_of_day
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import grpc
import msgspec

from catalog import Availability, Clock, Decision, Entry, Holding, NotPermitted, PacsError, Reader
from federation.copying import CopyLink, CopyService, Order
from federation.links.gate import Gate, Visitor
from federation.links.session import Spawn
from federation.objects import PeerLink
from federation.owners import Owner, holder_of
from federation.placement import CopyRule, Rules
from node.archives import DEFAULT
from node.copies.away import Away
from node.copies.carrier import CopyCarrier, Kept, study_of
from node.copies.commit_level import CommitLevel
from node.copies.homecoming import Homecoming
from node.copies.keeping import Keeping
from node.copies.ledger import Ledger
from node.copies.members import Members
from node.copies.planning import Around, Planner
from node.copies.proofs import Proofs
from node.copies.pulling import Fetch
from node.copies.returning import Home, Returning
from node.copies.slimming import Mark, Slimming
from node.copies.store import CopyStore
from node.grid import Grid
from node.inspection import Findings
from node.measures import Sample
from node.state import State
from node.storage import StorageSettings, VolumeStore
from node.storage.elsewhere import is_elsewhere
from node.transfers import Kind, Lane, TransferQueue
from node.transfers import Order as TransferOrder
from node.transfers.worker import Carrier

from .archive import Archive
from .chores import Chore, Loop
from .damage import look_at_copies
from .fetching import Fetching
from .settings import MB, storage_settings

logger = logging.getLogger(__name__)

FOLDER: Final = "copies"
_LOOK_AGAIN: Final = 60.0
_HEAR: Final = 5.0


class Copying:
    """Opened when the node serves; does something when it is in a grid."""

    def __init__(
        self,
        home: Path,
        state: State,
        archives: Mapping[str, Archive],
        grid: Callable[[], Grid],
        clock: Clock,
        alarm: Callable[[str, str, str], None],
        spawn: Spawn,
    ) -> None:
        self._home, self._archives, self._grid = home, archives, grid
        self._clock, self._alarm, self._spawn = clock, alarm, spawn
        self.rules = state.table("copy rules", CopyRule)
        self.is_open = False
        self._there: dict[str, int] = {}
        """Who was connected at the last look, and as which instance of the node."""
        self.queue: Callable[[], TransferQueue] | None = None

    def open(
        self, channel: Callable[[str], grpc.Channel], name: Callable[[str], str], fetching: Fetching
    ) -> None:
        """Open what is kept and what is known to be kept elsewhere; `channel` reaches a connected node."""
        section = self._config.copies
        folder = self._home / (section.folder or FOLDER)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        look_at_copies(folder, self._clock())
        self.store = CopyStore(folder, self._clock, self._settings(folder), section.limit_mb * MB)
        self.ledger = Ledger(folder / "ledger", self._clock)
        self.name = name
        self.link = CopyLink(channel, name, self._spawn, time.monotonic)
        self._peers = PeerLink(channel, name)
        lost_after = section.lost_after_hours * 3600
        self.members = Members(self._grid, self.ledger, self._clock, DEFAULT, lost_after)
        self._look_elsewhere(fetching)
        self.is_open = True

    def _look_elsewhere(self, fetching: Fetching) -> None:
        """Have the default archive read from others what is there alone."""
        main, own = self._archives[DEFAULT], Owner(self._config.node.node_id, DEFAULT)
        if not isinstance(main.segments, VolumeStore):
            return
        parts = (self.members.site_of, self.members.connected, self._clock)
        away = Away(own, self.ledger, self.link, lambda: fetching.fetches, *parts)

        def is_away(holding: Holding) -> bool | Availability:
            return is_elsewhere(holding) and away.availability(holding)

        main.segments.elsewhere = away
        main.away = lambda: is_away if self.ledger.away_bytes else None
        fetching.kept_elsewhere = lambda entry: away.sources(entry) if holder_of(entry) == own.name else []

    def close(self) -> None:
        """Write everything down and give everything back."""
        if self.is_open:
            self.is_open = False
            self.store.close()
            self.ledger.close()

    @property
    def _config(self) -> Any:
        return self._archives[DEFAULT].shared.config

    def _settings(self, folder: Path) -> StorageSettings:
        disk, settings = os.statvfs(folder), storage_settings(self._config)
        floor = int(disk.f_blocks * disk.f_frsize * self._config.copies.refuse_below_percent / 100)
        return StorageSettings(
            seal_at=settings.seal_at,
            buffered_at_most=settings.buffered_at_most,
            budget=settings.budget,
            full_below=max(floor, settings.full_below),
            resume_above=max(floor, settings.resume_above),
        )

    # What is kept for others.

    def service(self, gate: Gate) -> CopyService:
        """Return what other nodes ask to keep copies."""
        self.keeping = Keeping(self.store, self._fetch, self._admit, self._clock, self._told)
        return CopyService(gate, self.keeping)

    @property
    def _fetch(self) -> Fetch:
        return Fetch(self._peers.fetch, self._peers.letters, self._spawn, time.monotonic)

    def _admit(self, visitor: Visitor) -> None:
        if not self._config.copies.accept:
            what = f"{self._config.node.name} keeps no copies for others."
            raise NotPermitted(what, "Its admin can: copies.accept = true in peerpacs.toml.")

    def _told(self, visitor: Visitor, order: Order, kept: int, failed: int) -> None:
        if kept or failed:
            detail = {
                "node_id": visitor.identity.node_id,
                "StudyInstanceUID": [order.StudyInstanceUID],
                "objects": kept,
                "failed": failed,
            }
            audit = self._archives[DEFAULT].shared.audit
            audit.record("keep copies", None, "partial" if failed else "ok", detail)

    # What others keep.

    def carriers(self) -> dict[Kind, Carrier]:
        """Return who carries copies to where they are to be."""
        own = self._grid().settings.node_id
        return {
            Kind.COPY: CopyCarrier(
                self.ledger,
                self.link,
                own,
                self._catalog_of,
                self.members.may_go,
                self.may_drop,
                self.is_sound,
                self._over,
            )
        }

    def _over(self, uid: str) -> None:
        """Hear that a keeper has a study whole: who asked for commitment may have waited for that."""
        self.planner.tell(uid)
        self._archives[DEFAULT].commitment.hasten()
        self._slimming.look_again()

    def commit_level(self, entries: Sequence[Entry], asked: float) -> list[int]:
        """Say whether enough sites have each version, as the rules ask for; satisfies `Elsewhere`."""
        return self._level.of(entries, asked)

    @cached_property
    def _level(self) -> CommitLevel:
        stated = self._archives[DEFAULT].catalog.stated
        return CommitLevel(
            self.ledger,
            self._rules,
            stated,
            self.members.site_of,
            self.members.site,
            self._clock,
            self.planner.tell,
        )

    def _catalog_of(self, archive: str) -> Kept | None:
        found = self._archives.get(archive)
        return found.catalog if found else None

    @cached_property
    def proofs(self) -> Proofs:
        """Asks keepers for proofs."""
        return Proofs(
            self.ledger, self.link, self._catalog_of, self._read, self._clock, self._alarm, self.planner.tell
        )

    def _read(self, archive: str, entry: Entry) -> Reader | None:
        found = self._archives.get(archive)
        return found.store.open(entry.holding) if found else None

    def may_drop(self, archive: str, uid: str) -> bool:
        """Say whether who is no longer to have copies of a study may forget them."""
        placed = self.ledger.placed(uid)
        if placed is None or not (placed.nodes or placed.lacking):
            return self._is_whole_here(archive, uid)
        if placed.lacking:
            return False
        try:
            return self.proofs.have_all(placed.archive, uid, placed.nodes)
        except PacsError:
            return False

    def _is_whole_here(self, archive: str, uid: str) -> bool:
        """Read all that there is of a study; say whether all is here and what was stored."""
        found = self._archives.get(archive)
        if found is None:
            return False
        entries = study_of(found.catalog, uid).entries
        if any(is_elsewhere(entry.holding) for entry in entries):
            return False
        # All of it is read, so that all that is damaged comes home.
        damaged = [entry for entry in entries if not self.is_sound(archive, entry)]
        return not damaged

    def is_sound(self, archive: str, entry: Entry) -> bool:
        """Read one object of an archive whole; say whether it is what was stored, the book what is not."""
        found = self._archives.get(archive)
        return found is not None and found.care.inspector.check(entry, Findings())

    # What comes home.

    @cached_property
    def returning(self) -> Returning:
        """Brings home what is damaged or lost here."""
        main = self._archives[DEFAULT]
        home = Home(
            Owner(self._grid().settings.node_id, DEFAULT),
            main.catalog,
            main.ingest,
            lambda: main.care.book,
            main.shared.devices.issuer_of,
            self._decide_again,
            self.planner.tell,
        )
        parts = (self.ledger, self.link, self.members.connected, self._fetch)
        return Returning(home, *parts, self._clock, self._came_home)

    def _decide_again(self, decision: Decision) -> None:
        """Keep a decision that this node made and lost."""
        main = self._archives[DEFAULT]
        main.store.keep_decision(decision.id, msgspec.json.encode(decision))
        main.decisions.replay(decision)
        main.register.remember(decision)

    def _came_home(self, what: str, node_id: str, count: int) -> None:
        detail = {"node_id": node_id, "objects": count}
        self._archives[DEFAULT].shared.audit.record("copies", None, what, detail)

    def _bring_home(self) -> bool:
        try:
            steps = (self.returning.heal_step, self.returning.recover_step, self.homecoming.step)
            return any(step() for step in steps)
        except PacsError as error:
            logger.warning("What is to come home does not: %s", error)
            return False

    @cached_property
    def homecoming(self) -> Homecoming:
        """Brings home what lies at other sites alone, before this hospital leaves them."""
        members = self.members
        parts = (members.connected, self.name, members.counted, time.monotonic)
        return Homecoming(self.ledger, self.returning, *parts)

    def without(self, node_id: str) -> int:
        """Have what lies at a node alone that leaves go elsewhere or come home; return its bytes."""
        if not self.is_open:
            return 0
        self.members.leaves(node_id)
        return self.homecoming.without(node_id)

    def forget_keeper(self, node_id: str) -> None:
        """Count on nothing any more that a node keeps: it drops it."""
        if self.is_open:
            self.ledger.forget_keeper(node_id)

    @cached_property
    def _slimming(self) -> Slimming:
        main, section = self._archives[DEFAULT], self._config.copies
        return Slimming(
            DEFAULT,
            main.catalog,
            main.store.remove,
            lambda: main.catalog.totals().stored,
            self.ledger,
            self.proofs,
            Mark(self._over_mark, section.nearline_after_days * 86400.0),
            self._last_read,
            self._clock,
            self.homecoming.lets_go,
        )

    def _last_read(self, uid: str) -> float:
        day = self._archives[DEFAULT].accesses.last(uid)
        return datetime.combine(day, time_of_day.min, UTC).timestamp() if day else 0.0

    def _over_mark(self, here: int) -> int:
        section, over = self._config.copies, 0
        if section.nearline_above_mb:
            over = here - section.nearline_above_mb * MB
        if section.nearline_above_percent:
            disk = os.statvfs(self._archives[DEFAULT].folder)
            used = (disk.f_blocks - disk.f_bavail) * disk.f_frsize
            most = disk.f_blocks * disk.f_frsize * section.nearline_above_percent / 100
            over = max(over, int(used - most))
        return over

    # Who is to have what.

    def _rules(self) -> Rules:
        return Rules(rule for _, rule in self.rules.scan())

    @cached_property
    def planner(self) -> Planner:
        """Decides who is to have the default archive's studies."""
        members = self.members
        around = Around(members.site, self._rules, members.candidates, members.may_hold, self._order)
        return Planner(DEFAULT, self._archives[DEFAULT].catalog, self.ledger, around)

    def _order(self, orders: list[TransferOrder]) -> None:
        if self.queue is not None:
            self.queue().enqueue_all(orders, Lane.BULK, "rules", again=True)

    def _hear(self) -> None:
        """Note who is connected, and try at once what waits for them."""
        now, before = self._clock(), self._there
        self._there = self.members.instances()
        for node_id, instance in self._there.items():
            if before.get(node_id) != instance:
                self.proofs.returned(node_id)
        for node in self.members.candidates():
            # Who was never there since this ledger began is lost in its time as well.
            if self.ledger.heard.get(node.node_id.encode()) is None:
                self.ledger.heard.put(node.node_id.encode(), now)
        for node_id in self._there:
            self.ledger.heard.put(node_id.encode(), now)
            if self.queue is not None:
                self.queue().heard_from(node_id)

    # What goes on.

    def chores(self) -> Iterator[Chore]:
        """Yield what is done now and then."""
        if self.is_open:
            yield Chore("who keeps copies", _HEAR, self._hear)
            yield Chore("copies that are lacking", _LOOK_AGAIN, self.planner.look_again)
            yield Chore("copies of what is deleted", _HEAR, self.planner.look_at_deletions)

    def loops(self) -> Iterator[Loop]:
        """Yield what wants threads of its own."""
        if self.is_open:
            yield Loop("copies placed", self.planner.step, idle_pause=0.3)
            yield Loop("copies proved", self._prove, idle_pause=5.0)
            yield Loop("copies come home", self._bring_home, idle_pause=1.0)
            is_on_disks = isinstance(self._archives[DEFAULT].segments, VolumeStore)
            if is_on_disks and self._config.processes.count == 1:
                yield Loop("copies instead", self._slimming.step, idle_pause=1.0)

    def _prove(self) -> bool:
        try:
            return self.proofs.audit_step()
        except PacsError:
            return False

    def samples(self) -> Iterator[Sample]:
        """Yield what `/metrics` shows of copies."""
        if self.is_open:
            yield Sample("copies_kept", self.store.objects)
            yield Sample("copies_kept_bytes", self.store.size)
