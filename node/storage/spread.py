"""One archive's objects on several disks: a segment store for each volume, and the choice between them.

What is written goes to the volume with the most room; a disk that fails or is full sends it on to the next.
What lies on a disk that is not there is unavailable, never lost: nothing is concluded from an absence.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from catalog import Clock, Holding, Incoming, NotFound, Origin, OutOfSpace, PacsError, Reader, Unavailable

from .coverage import NOTHING, Coverage
from .elsewhere import Elsewhere, is_elsewhere
from .incoming import Buffers, IncomingObject, SpillFolder
from .places import place_of
from .replay import Item, in_order
from .segments import SegmentStore, StorageSettings
from .space import Room
from .syncing import EagerSync
from .volumes import Volume, VolumeList, Volumes

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_LOOK_EVERY: Final = 1.0
_REST: Final = 60.0
"""Seconds for which nothing is written to a disk that failed, while there are others."""
_NOTHING: Final = (
    "No volume of this archive takes anything in: each is read-only, drained, missing or failed."
)


class VolumeState(NamedTuple):
    """A volume as a person wants to see it; sizes in bytes, 0 while it is missing."""

    volume: Volume
    state: str
    """`ok`, `full`, `read-only`, `draining`, `returning`, `failing` or `missing`."""
    room: Room


class VolumeStore:
    """Satisfies `ObjectStore` on all volumes of an archive; the volume is a part of each `Place`."""

    def __init__(
        self,
        objects: Path,
        incoming: Path,
        clock: Clock,
        settings: StorageSettings,
        owner: str,
    ) -> None:
        """Open the volumes that are there; `owner` names node and archive in the label of each new one.

        Raises:
            Damaged: the list of volumes cannot be read.
        """
        self._objects = objects
        self._clock = clock
        self._settings = settings
        self._buffers = Buffers(settings.buffered_at_most, settings.budget)
        self._eager = EagerSync()
        self._looking = threading.Lock()
        self._failed: dict[int, float] = {}
        self._states: tuple[VolumeState, ...] = ()
        self._writable: tuple[SegmentStore, ...] = ()
        self._unread: frozenset[int] | None = None
        """Volumes that came back and were not replayed yet; None before the start's own replay."""
        self._gone: list[SegmentStore] = []
        self._told: set[int] = set()
        self.elsewhere: Elsewhere | None = None
        """Reads what lies at other sites alone."""
        self.on_removed: Callable[[Holding, bool], None] = lambda holding, erase: None
        """Removes what a drain has copied of an object that goes."""
        self.staying = threading.RLock()
        """Held while a row is led to a segment that lies here already, and while one goes."""
        first = self._segment_store(0, objects, incoming)
        self._stores: dict[int, SegmentStore] = {0: first}
        self.list = VolumeList(objects, owner)
        self._stamp = -1
        self._known = Volumes()
        self._looked = float("-inf")
        self._look()

    def _segment_store(self, number: int, objects: Path, incoming: Path) -> SegmentStore:
        return SegmentStore(
            objects,
            incoming,
            self._clock,
            self._settings,
            volume=number,
            buffers=self._buffers,
            eager=self._eager,
        )

    def incoming(self) -> IncomingObject:
        """Return a new empty object to fill; if it outgrows memory, a volume is chosen for it then."""
        return IncomingObject(self._buffers, self._choose_spill)

    def keep(self, incoming: Incoming, origin: Origin) -> Holding:
        """Write the object where it will stay; it is durable only after `sync`.

        Raises:
            OutOfSpace: every volume is full or may not be written; nothing was kept.
            Unavailable: the disks failed; nothing was kept.
        """
        stores = self.writable()
        spill = getattr(incoming, "spill", None)
        if spill and incoming.size > self._settings.buffered_at_most:
            # It is a file already, and becomes a segment where it lies.
            stores = tuple(store for store in self._stores.values() if store.spill is spill)
        return self._first(stores, lambda store: store.keep(incoming, origin))

    def sync(self, holding: Holding) -> None:
        """Return when everything up to and including this object has reached its disk.

        Raises:
            OutOfSpace: the disk is full after all; the object is not durable.
            Unavailable: the disk failed; the object is not durable.
        """
        if is_elsewhere(holding):
            return
        store = self._store_of(holding)
        try:
            store.sync(holding)
        except Unavailable as error:
            self._note_failure(store.volume, error)
            raise

    def sync_forever(self, stop: threading.Event) -> None:
        """Start each group commit as soon as something was appended anywhere, until told to stop."""
        self._eager.listen(stop)

    def wake(self) -> None:
        """Have `sync_forever` look at whether it was told to stop."""
        self._eager.wake()

    def open(self, holding: Holding) -> Reader:
        """Open a kept file.

        Raises:
            NotFound: the store does not have it (any more).
            Damaged: another header than the object's stands at its place.
            Unavailable: its disk is not there, or fails.
        """
        if is_elsewhere(holding):
            return self._others().open(holding)
        return self._read(holding, lambda store: store.open(holding))

    def verify(self, holding: Holding) -> None:
        """Read a kept file whole. Raises as `open`, and Damaged when it does not have its SHA-256."""
        if is_elsewhere(holding):
            self._others().verify(holding)
        else:
            self._read(holding, lambda store: store.verify(holding))

    def prefetch(self, holdings: Iterable[Holding]) -> None:
        """Have fetched what lies at other sites; every other file is near."""
        if self.elsewhere and (away := [each for each in holdings if is_elsewhere(each)]):
            self.elsewhere.prefetch(away)

    def is_safe(self, holding: Holding) -> bool:
        """Say whether the object's header stands at its place, on a disk that is there."""
        try:
            return self._store_of(holding).is_safe(holding)
        except (PacsError, OSError):
            return False

    def present(self) -> list[SegmentStore]:
        """Return the volumes that are there."""
        self.states()
        return [*self._stores.values()]

    def remove(self, holding: Holding, erase: bool = False) -> None:
        """Free the bytes; with `erase` overwrite them first. Removing twice is harmless.

        Raises:
            Damaged: no header stands at the object's place; nothing was touched.
            Unavailable: its disk is not there.
        """
        if not is_elsewhere(holding):
            try:
                self._store_of(holding).remove(holding, erase)
            finally:
                self.on_removed(holding, erase)

    def keep_decision(self, id: str, text: bytes) -> None:
        """Write a decision's JSON beside the objects; durable when it returns. The same id twice is one.

        Raises:
            BadRequest: the id cannot be the name of a file.
            OutOfSpace, Unavailable: no volume takes it; nothing was kept.
        """
        self._first(self.writable(), lambda store: store.keep_decision(id, text))

    def recover(self) -> Iterator[Item]:
        """Yield what the segments say that were open when the store was last used, in the order written.

        As `SegmentStore.recover`, for all volumes that are there; of the others nothing is said.
        """
        self._unread = frozenset()
        return in_order(map(self._replayed, self._stores.values()))

    def returned(self) -> Iterator[Item]:
        """Yield the same for volumes that came while the node ran; then they are written to."""
        for number in self._unread or ():
            if store := self._stores.get(number):
                yield from self._replayed(store)
            with self._looking:
                self._unread = (self._unread or frozenset()) - {number}
                self._look()

    def _replayed(self, store: SegmentStore) -> Iterator[Item]:
        try:
            yield from store.recover()
        except OSError as error:
            if not store.volume:
                raise
            text = "Volume %d cannot be replayed (%s); all else is served."
            logger.error(text, store.volume, error)

    def scan(self, known: Coverage = NOTHING) -> Iterator[Item]:
        """Yield everything the store has, in the order written: what a catalog is made again from.

        Segments that are `known` are passed over.

        Raises:
            Unavailable: a volume is missing; a catalog without its objects would be a wrong one.
        """
        for state in self.states():
            if state.state == "missing":
                raise self._missing(state.volume)
        begun = [each for store in self._stores.values() for each in store.segments(known)]
        return in_order(segment for _, segment in sorted(begun, key=itemgetter(0)))

    def close(self) -> None:
        """Make everything durable and let the segments go; the next start has nothing to replay."""
        for store in (*self._stores.values(), *self._gone):
            try:
                store.close()
            except OSError as error:
                logger.error("Volume %d was not closed properly: %s", store.volume, error)

    def states(self) -> tuple[VolumeState, ...]:
        """Return how each volume is just now, in order of their numbers."""
        with self._looking:
            self._look()
            return self._states

    def store(self, number: int) -> SegmentStore:
        """Return the segments of one volume.

        Raises:
            Unavailable: it is missing.
        """
        store = self._stores.get(number)
        if store is None:
            with self._looking:
                self._look()
            store = self._stores.get(number)
        if store is None:
            raise self._missing(next((v for v in self._known.volumes if v.number == number), number))
        return store

    def retire_draining(self) -> None:
        """End what this process appends to on volumes that are drained; for every process that appends."""
        for state in self.states():
            if state.volume.is_draining and state.volume.is_present():
                self.store(state.volume.number).retire()

    def writable(self) -> tuple[SegmentStore, ...]:
        """Return the volumes that may be written to, that with the most room first."""
        if not 0 <= self._clock() - self._looked < _LOOK_EVERY:
            with self._looking:
                self._look()
        return self._writable

    def _others(self) -> Elsewhere:
        if self.elsewhere is None:
            raise Unavailable("It lies at other sites alone.", "Run the node, in its grid: peerpacs peers")
        return self.elsewhere

    def _store_of(self, holding: Holding) -> SegmentStore:
        return self.store(place_of(holding.where).volume)

    def _read(self, holding: Holding, read: Callable[[SegmentStore], Result]) -> Result:
        store = self._store_of(holding)
        try:
            return read(store)
        except (NotFound, OSError):
            volume = next((each for each in self._known.volumes if each.number == store.volume), None)
            if volume and not volume.is_present():
                raise self._missing(volume) from None
            raise

    def _choose_spill(self) -> SpillFolder:
        return self._first(self.writable(), _spill_of)

    def _first(self, stores: tuple[SegmentStore, ...], write: Callable[[SegmentStore], Result]) -> Result:
        """Write to the first volume that takes it."""
        refused: PacsError = OutOfSpace(_NOTHING, "See peerpacs storage list; add a disk, or mend one.")
        for store in stores:
            try:
                return write(store)
            except OutOfSpace as error:
                refused = error
            except Unavailable as error:
                refused = error
                self._note_failure(store.volume, error)
        raise refused

    def _note_failure(self, number: int, error: Unavailable) -> None:
        if number not in self._failed:
            logger.error("Volume %d is not written to for %d s: %s", number, _REST, error)
        with self._looking:
            self._failed[number] = self._clock()
            self._look()

    def _look(self) -> None:
        """See which volumes are there and what may be written; the caller holds the lock."""
        now = self._looked = self._clock()
        if (stamp := self.list.stamp()) != self._stamp:
            self._known, self._stamp = self.list.read(), stamp
        self._failed = {n: at for n, at in self._failed.items() if 0 <= now - at < _REST}
        self._mount()
        states = [self._state_of(volume) for volume in self._known.volumes]
        self._states = tuple(sorted(states, key=lambda state: state.volume.number))
        # A failing disk is tried when there is no other.
        good = [s for s in states if s.state in ("ok", "full")] or [s for s in states if s.state == "failing"]
        good.sort(key=lambda state: state.room.usable, reverse=True)
        self._writable = tuple(self._stores[state.volume.number] for state in good)

    def _mount(self) -> None:
        stores = {0: self._stores[0]}
        for volume in self._known.volumes:
            if not volume.number:
                continue
            if volume.is_present():
                self._told.discard(volume.number)
                if store := self._mounted(volume):
                    stores[volume.number] = store
            elif volume.number not in self._told:
                self._told.add(volume.number)
                logger.error("%s", self._missing(volume))
        # Others may be in the middle of a call; what is gone is closed at the end.
        self._gone += [store for store in self._stores.values() if store is not stores.get(store.volume)]
        self._stores = stores

    def _mounted(self, volume: Volume) -> SegmentStore | None:
        folder = Path(volume.path)
        store = self._stores.get(volume.number)
        if store and store.objects == folder / "objects":
            return store
        try:
            store = self._segment_store(volume.number, folder / "objects", folder / "incoming")
        except OSError as error:
            logger.error("Volume %d (%s) cannot be opened: %s", volume.number, folder, error)
            return None
        if self._unread is not None:
            self._unread |= {volume.number}
        return store

    def _state_of(self, volume: Volume) -> VolumeState:
        store = self._stores.get(volume.number)
        if store is None:
            return VolumeState(volume, "missing", Room(0, 0, 0))
        try:
            room = store.space.look()
        except OSError:
            return VolumeState(volume, "failing", Room(0, 0, 0))
        if volume.is_draining or volume.is_read_only:
            return VolumeState(volume, "draining" if volume.is_draining else "read-only", room)
        if volume.number in (self._unread or ()):
            return VolumeState(volume, "returning", room)
        if volume.number in self._failed:
            return VolumeState(volume, "failing", room)
        return VolumeState(volume, "ok" if room.usable else "full", room)

    def _missing(self, volume: Volume | int) -> Unavailable:
        if isinstance(volume, int):
            return Unavailable(
                f"Volume {volume}, where this lies, is not among the volumes of this archive.",
                "Mount its disk and run: peerpacs storage add PATH. Nothing on it is taken for lost.",
            )
        return Unavailable(
            f"Volume {volume.number} ({volume.path}) is missing: its disk is not mounted there.",
            "Mount it; if it is somewhere else now, run peerpacs storage add PATH. All else is served.",
        )


def _spill_of(store: SegmentStore) -> SpillFolder:
    store.space.claim(0)
    return store.spill
