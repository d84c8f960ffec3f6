"""Copies between nodes, composed: what is kept for others, what others keep, and who decides about both."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import grpc

from catalog import Attributes, Clock, Entry, NotPermitted, PacsError, Reader
from federation.copying import CopyLink, CopyService, Order
from federation.links.gate import Gate, Visitor
from federation.links.rpc import letters
from federation.links.session import Spawn
from federation.objects import PeerLink
from federation.placement import Candidate, CopyRule, Rules
from federation.trust.policy import Caller, Op, Policy
from node.archives import DEFAULT
from node.copies.carrier import CopyCarrier, Kept
from node.copies.commit_level import CommitLevel
from node.copies.keeping import Fetch, Keeping
from node.copies.ledger import Ledger
from node.copies.planning import Around, Planner
from node.copies.proofs import Proofs
from node.copies.store import CopyStore
from node.grid import Grid
from node.measures import Sample
from node.state import State
from node.storage import StorageSettings
from node.transfers import Kind, Lane, TransferQueue
from node.transfers import Order as TransferOrder
from node.transfers.worker import Carrier

from .archive import Archive
from .chores import Chore, Loop
from .settings import MB, storage_settings

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
        self.queue: Callable[[], TransferQueue] | None = None

    def open(self, channel: Callable[[str], grpc.Channel], name: Callable[[str], str]) -> None:
        """Open what is kept and what is known to be kept elsewhere; `channel` reaches a connected node."""
        section = self._config.copies
        folder = self._home / (section.folder or FOLDER)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.store = CopyStore(folder, self._clock, self._settings(folder), section.limit_mb * MB)
        self.ledger = Ledger(folder / "ledger", self._clock)
        self.name = name
        self.link = CopyLink(channel, name)
        self._peers = PeerLink(channel, name)
        self.is_open = True

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
        fetch = Fetch(self._peers.fetch, lambda node_id: letters(self.name(node_id)), self._spawn)
        self.keeping = Keeping(self.store, fetch, self._admit, self._clock, self._told)
        return CopyService(gate, self.keeping)

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
                self._may_go,
                self._may_drop,
                self._damaged,
                self._over,
            )
        }

    def _over(self, uid: str) -> None:
        """Hear that a keeper has a study whole: who asked for commitment may have waited for that."""
        self.planner.tell(uid)
        self._archives[DEFAULT].commitment.hasten()

    def commit_level(self, entries: Sequence[Entry], asked: float) -> list[int]:
        """Say whether enough sites have each version, as the rules ask for; satisfies `Elsewhere`."""
        return self._level.of(entries, asked)

    @cached_property
    def _level(self) -> CommitLevel:
        stated = self._archives[DEFAULT].catalog.stated
        return CommitLevel(
            self.ledger, self._rules, stated, self._site_of, self._site, self._clock, self.planner.tell
        )

    def _site_of(self, node_id: str) -> str:
        """Return a member's site; nothing for who is none any more, or lost."""
        row = self._grid().tables.peers.get(node_id.encode())
        return row.site if row and row.state == "member" and node_id not in self.lost() else ""

    def _catalog_of(self, archive: str) -> Kept | None:
        found = self._archives.get(archive)
        return found.catalog if found else None

    @cached_property
    def proofs(self) -> Proofs:
        """Asks keepers for proofs."""
        return Proofs(self.ledger, self.link, self._catalog_of, self._read, self._clock, self._alarm)

    def _read(self, archive: str, entry: Entry) -> Reader | None:
        found = self._archives.get(archive)
        return found.store.open(entry.holding) if found else None

    def _may_go(self, node_id: str) -> str:
        """Say why nothing goes to a node at this hour."""
        row = self._grid().tables.peers.get(node_id.encode())
        if row is None or row.state != "member":
            return f"{node_id} is no member of this grid any more."
        caller, policy = Caller(row.node_id, row.site), self._policy()
        if policy.permissions(caller, Op.HOST_REPLICAS, self._clock()):
            return ""
        if later := policy.permissions(caller, Op.HOST_REPLICAS, None):
            return f"Copies go to {row.name} within the hours {later[0].grant.hours} only."
        return f"{row.name} may not keep copies of this node's studies: peerpacs grants add."

    def _may_drop(self, uid: str, node_id: str) -> bool:
        placed = self.ledger.placed(uid)
        if placed is None:
            return True  # Nobody is to have copies: it was deleted, or no rule asks for any.
        if placed.lacking:
            return False
        try:
            return self.proofs.have_all(placed.archive, uid, placed.nodes)
        except PacsError:
            return False

    def _damaged(self, archive: str, entry: Entry) -> None:
        """Look at what a keeper found to be other bytes than were stored."""
        found = self._archives.get(archive)
        if found:
            try:
                found.store.verify(entry.holding)
            except PacsError as error:
                found.care.book.mark(entry, error.what)

    # Who is to have what.

    def _policy(self) -> Policy:
        tables = self._grid().tables
        shares = [share for _, share in tables.shares.scan()]
        return Policy(shares, [grant for _, grant in tables.grants.scan()])

    def _rules(self) -> Rules:
        return Rules(rule for _, rule in self.rules.scan())

    @cached_property
    def planner(self) -> Planner:
        """Decides who is to have the default archive's studies."""
        around = Around(
            self._site,
            self._rules,
            self._nodes,
            self._may_hold,
            self._order,
        )
        return Planner(DEFAULT, self._archives[DEFAULT].catalog, self.ledger, around)

    def _site(self) -> str:
        member, config = self._grid().membership, self._config
        site = member.credentials.pair.identity.site if member else config.grid.site
        return str(site or config.node.name)

    def _nodes(self) -> list[Candidate]:
        own, lost = self._grid().settings.node_id, set(self.lost())
        return [
            Candidate(row.node_id, row.site)
            for _, row in self._grid().tables.peers.scan()
            if row.state == "member" and row.node_id != own and row.node_id not in lost
        ]

    def lost(self) -> list[str]:
        """Return the nodes that count as lost: members that were not connected for hours."""
        before = self._clock() - self._config.copies.lost_after_hours * 3600
        return [key.decode() for key, heard in self.ledger.heard.scan() if heard < before]

    def _may_hold(self, node: Candidate, study: Any) -> bool:
        found = self._policy().permissions(Caller(node.node_id, node.site), Op.HOST_REPLICAS, None)
        series: list[Attributes] = list(study)
        return any(
            permission.share.archive == DEFAULT and all(map(permission.admits, series))
            for permission in found
        )

    def _order(self, orders: list[TransferOrder]) -> None:
        if self.queue is not None:
            self.queue().enqueue_all(orders, Lane.BULK, "rules", again=True)

    def _hear(self) -> None:
        """Note who is connected, and try at once what waits for them."""
        member = self._grid().membership
        if member is None or not member.is_serving:
            return
        now = self._clock()
        for node_id in member.roll.everybody():
            self.ledger.heard.put(node_id.encode(), now)
            if self.queue is not None:
                self.queue().heard_from(node_id)

    # What goes on.

    def chores(self) -> Iterator[Chore]:
        """Yield what is done now and then."""
        if self.is_open:
            yield Chore("who keeps copies", _HEAR, self._hear)
            yield Chore("copies that are lacking", _LOOK_AGAIN, self.planner.look_again)

    def loops(self) -> Iterator[Loop]:
        """Yield what wants threads of its own."""
        if self.is_open:
            yield Loop("copies placed", self.planner.step, idle_pause=0.3)
            yield Loop("copies proved", self._prove, idle_pause=60.0)

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
