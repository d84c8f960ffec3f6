"""One archive (tenant), open: its own catalog, objects, shelves and doors; nothing crosses to another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Final

from catalog import Damaged, Holding, LmdbCatalog, OutOfSpace, Verb
from catalog.find import IsAway
from node.archives import Plan
from node.bucket import BucketStore
from node.catching_up import CatchUp, CaughtUp
from node.completeness import Completeness
from node.config import DISK
from node.disposal import Disposal, Places
from node.pacing import GivingWay
from node.reading import header_reader, pixel_comparer
from node.recovery import Recovered
from node.retention import Retention, Rule
from node.rollback import RollbackWatch
from node.storage import SegmentStore, VolumeStore
from node.study_events import StudyComplete, StudyEvents, described
from node.verification import Verification

from .chores import Chore, Loop
from .damage import refuse_damaged_catalog
from .doors import Doors, Shared
from .rebuilding import CATALOG, finish_swap, search_of
from .settings import bucket_settings, storage_settings

_STATED_EVERY: Final = 0.1
"""Seconds between two looks at what the change log has to say."""


class Archive(Doors):
    """One archive's parts by name, in the process that writes its catalog."""

    catalog: LmdbCatalog

    def __init__(self, plan: Plan, shared: Shared, *, catalog: str = CATALOG) -> None:
        """Open what lies under `archives/<name>`, and bring back what a crash left unrecorded.

        `catalog` is the name of the catalog's folder; a rebuild fills another one.

        Raises:
            Damaged: there are objects, but the catalog is gone.
            NotPermitted: others may read the key or the credentials of its bucket.
        """
        super().__init__(plan, shared)
        self.verifications: dict[str, Verification] = {}
        self.away: Callable[[], IsAway | None] = lambda: None
        """Tells what of a disk's archive lies at other sites alone."""
        self.forget_patients: Callable[[str, Collection[bytes]], None] = lambda decision, patients: None
        """Erases the links of patients who have nothing else."""
        try:
            self._open_truth(catalog)
            self.open_doors()
            self.disposal = self._make_disposal()
            self.retention = self._make_retention()
            # Closed before the catalog.
            self.opened.callback(self.care.close)
            self.rollback = RollbackWatch(
                self.folder / "objects",
                self.segments,
                self.catalog,
                shared.state,
                self.tables,
                shared.clock,
            )
            self.caught_up = self._catch_up() if catalog == CATALOG else None
            self.recovered = self.recover()
            if catalog == CATALOG:
                self.opened.callback(self.rollback.close)
            self._open_events()
        except BaseException:
            self.opened.close()
            raise

    def _make_disposal(self) -> Disposal:
        parts = (self.catalog, self.store, self.held, self.rejected)
        doors = (self.erase_decisions, self.care.book.clear, lambda *erased: self.forget_patients(*erased))
        places = Places(*parts, *doors, self.shared.state.scour)
        section = self.shared.config.life
        guard = self.clock_guard.why_not
        return Disposal(self.orders, places, lambda: section.undo_days, guard, self.audit, self.shared.clock)

    def _make_retention(self) -> Retention:
        rules = self.shared.journal.table(f"retention rules/{self.name}", Rule)

        def delete(study: str, rule: str) -> object:
            who = f"rule {rule}"
            return self.register.make(Verb.DELETE, (study,), reason=f"retention {who}", who=who)

        self.accesses.begin()
        parts = (self.catalog, self.accesses, self.clock_guard.why_not, self.limit.left, delete)
        return Retention(rules, *parts, self.shared.clock)

    def erase_decisions(self, ids: Collection[str]) -> None:
        """Overwrite decisions and notes by their ids, wherever the archive keeps them."""
        self.outbox.forget(ids)
        self.ground.erase_decisions(ids)
        if self.bucket:
            for id in ids:
                self.bucket.decisions.erase(id)

    def keep_note(self, id: str, text: bytes) -> None:
        """Write a note of the node's among the objects, and have peers keep it too."""
        self.store.keep_decision(id, text)
        self.outbox.keep(id, text)

    def _open_events(self) -> None:
        devices, audit = self.shared.devices, self.audit
        self.study_events = StudyEvents(self.tables)
        self._completeness = Completeness(
            self.study_events,
            self.catalog,
            devices.complete_after,
            self.register.released_since,
            self.shared.clock,
        )
        self._subscribers: dict[str, Callable[[StudyComplete], object]] = {}
        self.subscribe("audit", lambda event: audit.record("complete", None, "success", described(event)))

    def subscribe(self, name: str, take: Callable[[StudyComplete], object]) -> None:
        """Have events about studies taken from now on: the place of routing, prefetch and exports."""
        self.study_events.begin(name)
        self._subscribers[name] = take

    def make_sure_of_room(self) -> None:
        """Raise OutOfSpace while the archive takes nothing in: quota and disks, not a bucket's spool."""
        self.quota.make_sure_of_room()
        stores = self.segments.writable() if isinstance(self.segments, VolumeStore) else ()
        for number, store in enumerate(stores, 1):
            try:
                store.space.claim(0)
                return
            except OutOfSpace:
                if number == len(stores):
                    raise

    def recover(self) -> Recovered:
        """Record what processes that ended left unrecorded; those that live are not disturbed."""
        return self.recovery.take(self.store.recover())

    def _open_truth(self, catalog: str) -> None:
        folder, clock, shared = self.folder, self.shared.clock, self.shared
        finish_swap(folder)
        refuse_damaged_catalog(shared.home, folder, catalog, clock())
        is_new = catalog == CATALOG and not (folder / CATALOG).exists()
        if self.plan.storage == DISK:
            self.segments = self.store = self.open_objects()
        else:
            settings = storage_settings(self.shared.config)
            self.segments = spool = SegmentStore(folder / "objects", folder / "incoming", clock, settings)
            self.store = self.bucket = self._open_bucket(spool)
        self.opened.callback(self.store.close)
        if is_new and self.ground.has_objects():
            what = f"The catalog of {folder} is gone, but its objects are there."
            raise Damaged(what, "Run peerpacs rebuild: it makes the catalog again from the objects.")
        self.catalog = LmdbCatalog(
            folder / catalog,
            folder / search_of(catalog),
            clock=clock,
            read_header=header_reader(self.store),
            has_same_pixels=pixel_comparer(self.store),
            away=self.bucket.away if self.bucket else lambda: self.away(),
        )
        # Closed before the store, which then notes that nothing is left to replay.
        self.opened.callback(self.catalog.close)

    def _open_bucket(self, spool: SegmentStore) -> BucketStore:
        """Open the bucket over the segments."""
        plan, home, book = self.plan, self.shared.home, self.shared.book
        settings = bucket_settings(plan.storage, book.bucket_of(plan), home)
        key = home / "secrets" / f"objects-{plan.name}.key"
        key.parent.mkdir(mode=0o700, exist_ok=True)
        return BucketStore(settings, spool, self.tables, key, self.shared.clock)

    def _catch_up(self) -> CaughtUp | None:
        """Take in what came after a catalog or state that is an older copy; nothing is answered before."""
        caught = CatchUp(
            self.folder,
            self.store,
            self.segments,
            self.catalog,
            self.recovery,
            self.care.rows,
            self.care.book,
            self.rollback,
            self.shared.clock,
            self._presence(),
        ).run()
        if caught:
            told = {"instances": caught.recovered.instances, "decisions": caught.recovered.decisions}
            self.audit.record("catch up", None, "ok", {**told, "missing": caught.missing})
        return caught

    def _presence(self) -> Callable[[Holding], bool]:
        """Return what says whether an object can be read, as far as that costs little."""
        if self.bucket:
            return self.bucket.listing.is_there
        return self.ground.presence()

    def _replay_anew(self) -> bool:
        """Take in what a storage that began anew knows, so that it keeps again."""
        if not self.ground.is_replayed():
            self.recover()
        return False

    def change(self, plan: Plan) -> None:
        """Go by another plan from now on; AE titles and quota count at once, the rest at the next start."""
        self.plan = plan
        self.quota.limit_to(plan.quota_mb * 1_000_000)

    def chores(self) -> Iterator[Chore]:
        """Yield what must be done for the archive in the background."""
        clock = self.shared.clock
        yield Chore(f"tidy {self.name}", 60.0, self.catalog.tidy)
        yield Chore(f"commitments of {self.name}", 3600.0, self.commitment.tidy)
        yield Chore(f"disposal of {self.name}", 2.0, self.disposal.step)
        yield Chore(f"retention of {self.name}", 3600.0, self.retention.step)
        yield Chore(f"rollback of {self.name}", 5.0, self.rollback.step)
        yield from self.care.chores()
        yield Chore(f"completeness {self.name}", 1.0, self._completeness.step)
        yield Chore(f"study events {self.name}", 3600.0, lambda: self.study_events.tidy(clock()))
        for subscriber, take in tuple(self._subscribers.items()):
            follow = partial(self.study_events.follow, subscriber, take)
            yield Chore(f"{subscriber} of {self.name}", 1.0, follow)

    def loops(self) -> Iterator[Loop]:
        """Yield what wants threads of its own: the change log, scrub and drain, the work of a bucket."""
        # Not among the chores: how soon peers know of a study must not depend on how long those take.
        yield Loop(f"{self.name} log", self._state_changes, idle_pause=_STATED_EVERY)
        yield from self.care.loops(self.recovery.take)
        if self.ground.is_apart:
            yield Loop(f"{self.name} storage", self._replay_anew, idle_pause=0.5)
        if self.bucket is None:
            return
        section = self.shared.book.bucket_of(self.plan)
        yield Loop(f"{self.name} bucket", self._tend_bucket)
        bucket, is_busy = self.bucket, self.care.is_busy
        upload = GivingWay(bucket.upload_step, is_busy, bucket.behind, self.shared.clock)
        for number in range(section.upload_threads):
            yield Loop(f"{self.name} upload {number}", upload.step)
        for number in range(section.fetch_threads):
            name = f"{self.name} fetch {number}"
            yield Loop(name, bucket.fetch_turn, idle_pause=0.0, wake=bucket.end_fetching)

    def _state_changes(self) -> bool:
        self.catalog.publish(self.shared.clock())
        return False

    def _tend_bucket(self) -> bool:
        assert self.bucket is not None
        return self.bucket.tend_step()
