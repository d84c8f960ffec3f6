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
from node.scrub import Scrub
from node.state import Tables
from node.storage import Item, SegmentStore, VolumeStore
from node.storage.draining import Drain
from node.whereabouts import Whereabouts

from .chores import Chore, Loop

_SAMPLE: Final = 0.05
"""Of the objects in a bucket that a scrub reads: each costs a transfer, and buckets check their own disks."""


class Care:
    """One archive's; `volumes` is None where a bucket keeps the objects."""

    def __init__(
        self,
        name: str,
        store: SegmentStore | VolumeStore | BucketStore,
        catalog: CatalogWriter,
        held: HeldShelf,
        tables: Tables,
        clock: Clock,
        pace: Pace,
        stored: Callable[[], int],
    ) -> None:
        self._name = name
        self._pace = pace
        self.volumes = store if isinstance(store, VolumeStore) else None
        rows = Whereabouts(catalog, held)
        self.rows = rows
        self.book = DamageBook(tables, clock)
        self.mender = Mender(store, rows, self.book)
        self.inspector = Inspector(store, self.volumes, catalog, held, self.book)
        share = 1.0 if self.volumes else _SAMPLE
        self.scrub = Scrub(self.inspector, tables, clock, stored, self.is_busy, share)
        self.intake = Intake(tables, clock)
        self.drain = Drain(self.volumes, rows, clock) if self.volumes else None

    def is_busy(self) -> bool:
        """Say whether somebody stores or retrieves just now."""
        return self._pace.is_busy

    def chores(self) -> Iterator[Chore]:
        """Yield what must be done now and then."""
        yield Chore(f"intake of {self._name}", 60.0, self.intake.step)

    def loops(self, take: Callable[[Iterator[Item]], object]) -> Iterator[Loop]:
        """Yield what wants threads of its own; `take` records what a volume that came back has to say."""
        yield Loop(f"{self._name} scrub", self.scrub.step)
        if self.volumes and self.drain:
            volumes, drain = self.volumes, self.drain

            def tend() -> bool:
                take(volumes.returned())
                # While others need the disks, one object at a time and then a rest.
                return drain.step() and not self.is_busy()

            yield Loop(f"{self._name} volumes", tend, idle_pause=0.5)

    def close(self) -> None:
        """Write down how far everything is."""
        self.scrub.note()
        self.intake.step()
