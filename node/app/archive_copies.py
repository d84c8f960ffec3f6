"""One archive's copies at other nodes, composed: who is to have what, proofs, what goes and comes home."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from datetime import time as time_of_day
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from catalog import Availability, Clock, Decision, Entry, Holding, PacsError, Reader
from federation.copying import CopyLink
from federation.owners import Owner, holder_of
from federation.placement import CopyRule, Rules
from federation.sourcing import Source
from node.copies.away import Away
from node.copies.carrier import CopyCarrier, Kept, study_of
from node.copies.commit_level import CommitLevel
from node.copies.dropping import Dropping
from node.copies.homecoming import Homecoming
from node.copies.ledger import Ledger
from node.copies.members import Members
from node.copies.pins import Pins
from node.copies.planning import Around, Planner
from node.copies.proofs import Proofs
from node.copies.pulling import Fetch
from node.copies.returning import Home, Returning
from node.copies.slimming import Mark, Slimming
from node.inspection import Findings
from node.nearline import Fetches
from node.storage import VolumeStore
from node.storage.elsewhere import is_elsewhere
from node.transfers import Order as TransferOrder

from .archive import Archive
from .chores import Chore, Loop
from .settings import MB

logger = logging.getLogger(__name__)

_LOOK_AGAIN = 60.0
_LOOK_AT_DELETIONS = 5.0


class Shared(NamedTuple):
    """What the copies of all archives of a node have in common."""

    node_id: str
    clock: Clock
    link: CopyLink
    fetch: Fetch
    rules: Callable[[], list[CopyRule]]
    name: Callable[[str], str]
    alarm: Callable[[str, str, str], None]
    order: Callable[[list[TransferOrder]], None]
    fetches: Callable[[], Fetches]
    here: Callable[[], int]
    """Counts the bytes that lie here of all archives."""
    pins: Pins
    is_heard: Callable[[str, str], bool]
    """Says of an archive and a keeper whether it was asked what it knows, see `node.hearing`."""


class ArchiveCopies:
    """One archive's, with a ledger of its own."""

    def __init__(self, archive: Archive, ledger: Ledger, members: Members, shared: Shared) -> None:
        self.archive, self.ledger, self.members, self._shared = archive, ledger, members, shared
        self.name = archive.name
        self._owner = Owner(shared.node_id, archive.name)
        self._is_on_disks = isinstance(archive.segments, VolumeStore)
        self._away = self._look_elsewhere()

    def _look_elsewhere(self) -> Away | None:
        """Have the archive read from others what is there alone."""
        archive, shared = self.archive, self._shared
        if not isinstance(archive.segments, VolumeStore):
            return None
        parts = (self.members.site_of, self.members.connected, shared.clock)
        away = Away(self._owner, self.ledger, shared.link, shared.fetches, *parts)

        def is_away(holding: Holding) -> bool | Availability:
            return is_elsewhere(holding) and away.availability(holding)

        archive.segments.elsewhere = away
        archive.away = lambda: is_away if self.ledger.away_bytes else None
        return away

    def sources(self, entry: Entry) -> list[Source]:
        """Return who keeps an object of this archive that is not here; nobody for any other object."""
        if self._away is None or holder_of(entry) != self._owner.name:
            return []
        return self._away.sources(entry)

    def bytes_here(self) -> int:
        """Count the bytes of this archive's objects that lie here."""
        return self.archive.catalog.totals().stored - self.ledger.away_bytes

    # What others keep.

    @cached_property
    def carrier(self) -> CopyCarrier:
        """Carries copies to where they are to be."""
        return CopyCarrier(
            self.ledger,
            self._shared.link,
            self._shared.node_id,
            self._catalog_of,
            self._may_go,
            lambda archive, uid: self.may_drop(uid),
            lambda archive, entry: self.is_sound(entry),
            self._over,
            self._dropped,
            self.members.has_left,
        )

    def _dropped(self, uid: str, node_id: str, count: int) -> None:
        detail = {"node_id": node_id, "node": self._shared.name(node_id), "archive": self.name}
        self.archive.audit.record(
            "receipt", None, "dropped", {**detail, "StudyInstanceUID": uid, "instances": count}
        )

    def _may_go(self, node_id: str) -> str:
        if not self._shared.is_heard(self.name, node_id):
            return "This node was set back, and has not asked yet what was decided since."
        return self.members.may_go(node_id)

    def _over(self, uid: str) -> None:
        """Hear that a keeper has a study whole: who asked for commitment may have waited for that."""
        self.planner.tell(uid)
        self.archive.commitment.hasten()
        self._slimming.look_again()

    @cached_property
    def commit_level(self) -> CommitLevel:
        """Says whether enough sites have each version, as the rules ask for."""
        return CommitLevel(
            self.ledger,
            self._rules,
            self.archive.catalog.stated,
            self.members.site_of,
            self.members.site,
            self._shared.clock,
            self.planner.tell,
        )

    def _catalog_of(self, archive: str) -> Kept | None:
        return self.archive.catalog if archive == self.name else None

    @cached_property
    def proofs(self) -> Proofs:
        """Asks keepers for proofs."""
        shared = self._shared
        return Proofs(
            self.ledger, shared.link, self._catalog_of, self._read, shared.clock, shared.alarm, self._tell
        )

    def _tell(self, uid: str) -> None:
        self.planner.tell(uid)

    def _read(self, archive: str, entry: Entry) -> Reader | None:
        return self.archive.store.open(entry.holding)

    def may_drop(self, uid: str) -> bool:
        """Say whether who is no longer to have copies of a study may forget them."""
        placed = self.ledger.placed(uid)
        if placed is None or not (placed.nodes or placed.lacking):
            return self._is_whole_here(uid)
        if placed.lacking:
            return False
        try:
            return self.proofs.have_all(self.name, uid, placed.nodes)
        except PacsError:
            return False

    def _is_whole_here(self, uid: str) -> bool:
        """Read all that there is of a study; say whether all is here and what was stored."""
        entries = study_of(self.archive.catalog, uid).entries
        if any(is_elsewhere(entry.holding) for entry in entries):
            return False
        # All of it is read, so that all that is damaged comes home.
        damaged = [entry for entry in entries if not self.is_sound(entry)]
        return not damaged

    def is_sound(self, entry: Entry) -> bool:
        """Read one object whole; say whether it is what was stored, the book what is not."""
        return self.archive.care.inspector.check(entry, Findings())

    # What comes home.

    @cached_property
    def returning(self) -> Returning:
        """Brings home what is damaged or lost here."""
        archive, shared = self.archive, self._shared
        home = Home(
            self._owner,
            archive.catalog,
            archive.ingest,
            lambda: archive.care.book,
            archive.shared.devices.issuer_of,
            self._decide_again,
            self.planner.tell,
        )
        parts = (self.ledger, shared.link, self.members.connected, shared.fetch)
        return Returning(home, *parts, shared.clock, self._came_home)

    def _decide_again(self, decision: Decision) -> None:
        """Keep a decision that this node made and lost."""
        archive = self.archive
        archive.store.keep_decision(decision.id, msgspec.json.encode(decision))
        archive.decisions.replay(decision)
        archive.register.remember(decision)

    def _came_home(self, what: str, node_id: str, count: int) -> None:
        self.archive.audit.record("copies", None, what, {"node_id": node_id, "objects": count})

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
        members, name = self.members, self._shared.name
        parts = (members.connected, name, members.counted, time.monotonic, self._belongs_here)
        return Homecoming(self.ledger, self.returning, *parts)

    def _belongs_here(self, uid: str) -> bool:
        """Say whether a study is pinned, or there are rules, and none asks for copies of it."""
        if self._shared.pins.has(uid):
            return True
        placed = self.ledger.placed(uid)
        return bool(self._rules()) and (placed is None or not (placed.nodes or placed.lacking))

    @cached_property
    def _slimming(self) -> Slimming:
        archive, section = self.archive, self._config.copies
        return Slimming(
            self.name,
            archive.catalog,
            archive.store.remove,
            lambda: archive.catalog.totals().stored,
            self.ledger,
            self.proofs,
            Mark(self._over_mark, section.nearline_after_days * 86400.0),
            self._last_read,
            self._shared.clock,
            self.homecoming.lets_go,
            self._shared.pins.has,
        )

    @property
    def _config(self) -> Any:
        return self.archive.shared.config

    def _last_read(self, uid: str) -> float:
        day = self.archive.accesses.last(uid)
        return datetime.combine(day, time_of_day.min, UTC).timestamp() if day else 0.0

    def _over_mark(self, here: int) -> int:
        section, over = self._config.copies, 0
        if section.nearline_above_mb:
            over = self._shared.here() - section.nearline_above_mb * MB
        if section.nearline_above_percent:
            disk = os.statvfs(self.archive.folder)
            used = (disk.f_blocks - disk.f_bavail) * disk.f_frsize
            most = disk.f_blocks * disk.f_frsize * section.nearline_above_percent / 100
            over = max(over, int(used - most))
        return min(over, here)

    # Who is to have what.

    def _rules(self) -> Rules:
        """Return the rules that count here: of a research project's set none but those that name it."""
        names = {self.name} if self.archive.plan.research else {"", self.name}
        return Rules(rule for rule in self._shared.rules() if rule.archive in names)

    @cached_property
    def planner(self) -> Planner:
        """Decides who is to have the archive's studies."""
        members = self.members
        around = Around(members.site, self._rules, members.candidates, members.may_hold, self._shared.order)
        return Planner(self.name, self.archive.catalog, self.ledger, around)

    def owing(self, uid: str) -> dict[str, Dropping]:
        """Return how each keeper stands with what was deleted here of a study, also who was not asked yet."""
        found, keepers = self.ledger.droppings.of(uid), self.ledger.keepers(uid)
        versions = self.archive.catalog.versions((uid,)) if keepers else []
        here = {entry.holding.sha256 for entry in versions}
        for node_id, row in keepers.items():
            if left := row.all() - here:
                found[node_id] = Dropping(digests=b"".join(sorted(left)), since=row.proved)
        return found

    # What goes on.

    def chores(self) -> Iterator[Chore]:
        """Yield what is done now and then."""
        yield Chore(f"copies that are lacking of {self.name}", _LOOK_AGAIN, self.planner.look_again)
        deletions = self.planner.look_at_deletions
        yield Chore(f"copies of what is deleted of {self.name}", _LOOK_AT_DELETIONS, deletions)

    def loops(self) -> Iterator[Loop]:
        """Yield what wants threads of its own."""
        yield Loop(f"copies placed of {self.name}", self.planner.step, idle_pause=0.3)
        yield Loop(f"copies proved of {self.name}", self._prove, idle_pause=5.0)
        yield Loop(f"copies come home of {self.name}", self._bring_home, idle_pause=1.0)
        if self._is_on_disks and self._config.processes.count == 1:
            yield Loop(f"copies instead of {self.name}", self._slimming.step, idle_pause=1.0)

    def _prove(self) -> bool:
        try:
            return self.proofs.audit_step()
        except PacsError:
            return False
