"""Copies between nodes, composed: what is kept for others, what others keep, and who decides about both."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from catalog import Clock, Entry, NotPermitted, PacsError
from federation.copying import CopyLink, CopyService, Order
from federation.links.gate import Gate, Visitor
from federation.links.session import Spawn
from federation.objects import PeerLink
from federation.placement import CopyRule
from federation.sourcing import Source
from node.archives import DEFAULT
from node.commitment import Elsewhere, nobody_else
from node.copies.keeping import Keeping
from node.copies.ledger import Ledger
from node.copies.members import Members
from node.copies.pins import Pins
from node.copies.pulling import Fetch
from node.copies.store import CopyStore
from node.grid import Grid
from node.measures import Sample
from node.state import State
from node.storage import StorageSettings
from node.transfers import Kind, Lane, Outcome, TransferQueue, Verdict
from node.transfers import Order as TransferOrder
from node.transfers.messages import Job
from node.transfers.worker import Carrier, Hands

from .archive import Archive
from .archive_copies import ArchiveCopies, Shared
from .chores import Chore, Loop
from .damage import look_at_copies
from .fetching import Fetching
from .settings import MB, storage_settings

logger = logging.getLogger(__name__)

FOLDER: Final = "copies"
LEDGER: Final = "ledger"
"""The folder of the default archive's; another one's has its name behind a dash."""
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
        self.each: dict[str, ArchiveCopies] = {}
        """By archive."""
        self._there: dict[str, int] = {}
        """Who was connected at the last look, and as which instance of the node."""
        self.queue: Callable[[], TransferQueue] | None = None
        self.is_heard: Callable[[str, str], bool] = lambda archive, node_id: True
        """Says whether a keeper may be told anything of an archive: it might know better."""

    def open(
        self, channel: Callable[[str], grpc.Channel], name: Callable[[str], str], fetching: Fetching
    ) -> None:
        """Open what is kept and what is known to be kept elsewhere; `channel` reaches a connected node."""
        section = self._config.copies
        folder = self._home / (section.folder or FOLDER)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        look_at_copies(folder, self._clock())
        self.store = CopyStore(folder, self._clock, self._settings(folder), section.limit_mb * MB)
        self.name = name
        self.link = CopyLink(channel, name, self._spawn, time.monotonic)
        self._peers = PeerLink(channel, name)
        self._fetching, self._folder = fetching, folder
        # The default archive's first: its ledger also says when each node was heard of.
        for archive in self._archives.values():
            self._open_archive(archive)
        fetching.kept_elsewhere = self._sources
        self.is_open = True

    def join(self, archive: Archive) -> Iterator[Loop]:
        """Take in an archive that was made while the node runs; yield what wants threads of its own."""
        if self.is_open:
            self._open_archive(archive)
            yield from self.each[archive.name].loops()

    def _open_archive(self, archive: Archive) -> None:
        named = LEDGER if archive.name == DEFAULT else f"{LEDGER}-{archive.name}"
        ledger = Ledger(self._folder / named, self._clock)
        heard = self.each[DEFAULT].ledger if self.each else ledger
        lost_after = self._config.copies.lost_after_hours * 3600
        members = Members(self._grid, heard, self._clock, archive.name, lost_after)
        shared = Shared(
            self._config.node.node_id,
            self._clock,
            self.link,
            self._fetch,
            lambda: [rule for _, rule in self.rules.scan()],
            self.name,
            self._alarm,
            self._order,
            lambda: self._fetching.fetches,
            lambda: sum(each.bytes_here() for each in self.each.values()),
            self.pins,
            lambda archive, node_id: self.is_heard(archive, node_id),
        )
        self.each[archive.name] = ArchiveCopies(archive, ledger, members, shared)

    def _sources(self, entry: Entry) -> list[Source]:
        return next((found for each in self.each.values() if (found := each.sources(entry))), [])

    def close(self) -> None:
        """Write everything down and give everything back."""
        if self.is_open:
            self.is_open = False
            self.store.close()
            for each in self.each.values():
                each.ledger.close()

    @property
    def ledger(self) -> Ledger:
        """The default archive's."""
        return self.each[DEFAULT].ledger

    @property
    def archives(self) -> Collection[str]:
        """The names of all archives."""
        return self._archives.keys()

    @property
    def ledgers(self) -> list[Ledger]:
        """Of all archives."""
        return [each.ledger for each in self.each.values()]

    @property
    def pins(self) -> Pins:
        """Which studies stay on this node's disk; their changes are noted among the objects."""
        return Pins(self._archives[DEFAULT].shared.journal, self._clock)

    def has_study(self, StudyInstanceUID: str) -> bool:
        """Say whether any archive has something of a study, here or at other sites."""
        return any(each.catalog.versions((StudyInstanceUID,)) for each in self._archives.values())

    @property
    def members(self) -> Members:
        """The members of the grid, as the default archive may rest on them."""
        return self.each[DEFAULT].members

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
        return {Kind.COPY: self}

    def carry(self, job: Job, hands: Hands) -> Outcome:
        """Have one keeper take what it lacks of one study; satisfies `Carrier`."""
        found = self.each.get(job.order.archive)
        if found is None:
            return Outcome(Verdict.FAILED, f"There is no archive {job.order.archive!r} here any more.")
        return found.carrier.carry(job, hands)

    def commit_level(self, archive: str) -> Elsewhere:
        """Return what says whether enough sites have each version of an archive, as the rules ask for."""

        def level(entries: Sequence[Entry], asked: float) -> list[int]:
            found = self.each.get(archive)
            return found.commit_level.of(entries, asked) if found else nobody_else(entries, asked)

        return level

    def _order(self, orders: list[TransferOrder]) -> None:
        if self.queue is not None:
            self.queue().enqueue_all(orders, Lane.BULK, "rules", again=True)

    # When somebody leaves.

    def come_home(self) -> int:
        """Have everything come home; return how many bytes are away. See `Homecoming.begin`."""
        every = [each.homecoming for each in self.each.values()]
        try:
            left = sum([each.begin() for each in every])
        except PacsError:
            self.stay()
            raise
        for each in every if left else ():
            each.go_on()
        return left

    def stay(self) -> None:
        """Let things go again that others have."""
        for each in self.each.values():
            each.homecoming.end()

    @property
    def came(self) -> int:
        """How many objects came home since somebody asked for it."""
        return sum(each.homecoming.came for each in self.each.values())

    @property
    def why_away(self) -> str:
        """What was in the way of the last study that did not come home."""
        return next((each.homecoming.why for each in self.each.values() if each.homecoming.why), "")

    def without(self, node_id: str) -> int:
        """Have what lies at a node alone that leaves go elsewhere or come home; return its bytes."""
        if not self.is_open:
            return 0
        for each in self.each.values():
            each.members.leaves(node_id)
        return sum([each.homecoming.without(node_id) for each in self.each.values()])

    def forget_keeper(self, node_id: str) -> None:
        """Count on nothing any more that a node keeps: it drops it."""
        if self.is_open:
            for each in self.each.values():
                each.ledger.forget_keeper(node_id)

    def _hear(self) -> None:
        """Note who is connected, and try at once what waits for them."""
        now, before = self._clock(), self._there
        self._there = self.members.instances()
        for node_id, instance in self._there.items():
            if before.get(node_id) != instance:
                for each in self.each.values():
                    each.proofs.returned(node_id)
        for node in self.members.candidates():
            key = node.node_id.encode()
            if self.ledger.heard.get(key) is None and self.ledger.awaited.get(key) is None:
                self.ledger.awaited.put(key, now)
        for node_id in self._there:
            self.ledger.heard.put(node_id.encode(), now)
            if self.queue is not None:
                self.queue().heard_from(node_id)

    # What goes on.

    def chores(self) -> Iterator[Chore]:
        """Yield what is done now and then."""
        if self.is_open:
            yield Chore("who keeps copies", _HEAR, self._hear)
            for each in self.each.values():
                yield from each.chores()

    def loops(self) -> Iterator[Loop]:
        """Yield what wants threads of its own."""
        if self.is_open:
            for each in self.each.values():
                yield from each.loops()

    def samples(self) -> Iterator[Sample]:
        """Yield what `/metrics` shows of copies."""
        if self.is_open:
            yield Sample("copies_kept", self.store.objects)
            yield Sample("copies_kept_bytes", self.store.size)
