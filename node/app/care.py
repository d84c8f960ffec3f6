"""What keeps an archive's objects whole and its disks in order: book of damage, scrub and drain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from catalog import CatalogWriter, Clock
from node.bucket import BucketStore
from node.damage import DamageBook, Mender
from node.held import HeldShelf
from node.inspection import Inspector
from node.intake import Intake
from node.pacing import Pace
from node.roles.remote_store import RemoteStore
from node.scrub import Reading, Scrub, sample_of_a_day
from node.state import Tables
from node.storage import Item, SegmentStore, VolumeStore
from node.storage.draining import Drain
from node.whereabouts import Whereabouts

from .chores import Chore, Loop

_SAMPLE: Final = 0.05
"""Of the objects in a bucket that a scrub reads: each costs a transfer, and buckets check their own disks."""
_ASKED: Final = 0.02
"""Of them, each day, the bucket is asked for size and checksum, which costs a request and no transfer."""
_LOST: Final = "Neither the spool nor the bucket has its bytes."


class Care:
    """One archive's; `volumes` is None where a bucket keeps the objects."""

    def __init__(
        self,
        name: str,
        store: SegmentStore | VolumeStore | BucketStore | RemoteStore,
        catalog: CatalogWriter,
        held: HeldShelf,
        tables: Tables,
        clock: Clock,
        pace: Pace,
        stored: Callable[[], int],
    ) -> None:
        self._name = name
        self._pace = pace
        self._told: frozenset[bytes] = frozenset()
        self.volumes = store if isinstance(store, VolumeStore) else None
        self.is_elsewhere = isinstance(store, RemoteStore)
        """Whether another process keeps the objects."""
        rows = Whereabouts(catalog, held)
        self.rows = rows
        self.book = DamageBook(tables, clock)
        self.mender = Mender(store, rows, self.book)
        bucket = self._bucket = store if isinstance(store, BucketStore) else None
        glance = bucket.glance if bucket else None
        inspector = self.inspector = Inspector(store, self.volumes, catalog, held, self.book, glance)
        whole = Reading("scrub", inspector.check, share=_SAMPLE if bucket else 1.0)
        self.scrub = Scrub(inspector, tables, clock, stored, self.is_busy, whole)
        asking = sample_of_a_day(inspector, _ASKED)
        self.sample = Scrub(inspector, tables, clock, stored, self.is_busy, asking) if bucket else None
        self.intake = Intake(tables, clock)
        self.drain = Drain(self.volumes, rows, clock) if self.volumes else None

    def is_busy(self) -> bool:
        """Say whether somebody stores or retrieves just now."""
        return self._pace.is_busy

    def chores(self) -> Iterator[Chore]:
        """Yield what must be done now and then."""
        yield Chore(f"intake of {self._name}", 60.0, self.intake.step)
        if self._bucket:
            yield Chore(f"losses of {self._name}", 5.0, self._list_losses)

    def loops(self, take: Callable[[Iterator[Item]], object]) -> Iterator[Loop]:
        """Yield what wants threads of its own; `take` records what a volume that came back has to say."""
        yield Loop(f"{self._name} scrub", self.scrub.step)
        if self.sample:
            yield Loop(f"{self._name} daily sample", self.sample.step)
        if self.volumes and self.drain:
            volumes, drain = self.volumes, self.drain

            def tend() -> bool:
                take(volumes.returned())
                # While others need the disks, one object at a time and then a rest.
                return drain.step() and not self.is_busy()

            yield Loop(f"{self._name} volumes", tend, idle_pause=0.5)

    def _list_losses(self) -> None:
        """Put into the book what an upload found to be gone; each is looked for once."""
        assert self._bucket is not None
        lost = self._bucket.lost()
        if fresh := lost - self._told:
            self.inspector.mark(fresh, _LOST)
        self._told = lost

    def close(self) -> None:
        """Write down how far everything is."""
        self.scrub.note()
        if self.sample:
            self.sample.note()
        self.intake.step()
