"""The two contracts that carry the whole system.

A `Catalog` knows what exists and who holds it. An `ObjectStore` keeps DICOM files. The local pair, a
remote one, one on S3 and a legacy PACS satisfy the same contract tests; a peer is a catalog and a store
somewhere else, narrowed by what its owner grants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from .model import (
    Arrival,
    Attributes,
    Change,
    Conflict,
    Decision,
    Entry,
    Head,
    Holding,
    Move,
    Moved,
    Query,
    Recorded,
    Selection,
    Standing,
)
from .purging import Doomed


class Catalog(Protocol):
    """What exists, as one node states it."""

    def find(self, query: Query) -> Iterator[Attributes]:
        """Yield the effective attributes of each match, newest study first (date, time, then UID).

        The keys asked for are in each answer where a value is known, computed ones included (counts,
        ModalitiesInStudy, InstanceAvailability). Sees every arrival recorded before the call. Lazy:
        closing the iterator ends the search (C-CANCEL).
        """

    def select(self, selection: Selection) -> list[Entry]:
        """Return the preferred, visible versions that the unique keys name, in series and instance order."""

    def changes(self, after: int, limit: int, share: int = 0) -> list[Change]:
        """Return at most `limit` live rows of the log with seq > `after`, in order."""

    def head(self, share: int = 0) -> Head:
        """Return the end of the share's log."""


class CatalogWriter(Catalog, Protocol):
    """The one writer of a catalog: the node's own."""

    def holds(self, SOPInstanceUID: str, sha256: bytes) -> bool:
        """Say whether exactly these bytes are recorded already (and so need not be stored again)."""

    def record(self, arrivals: Sequence[Arrival]) -> list[Recorded]:
        """Record instances whose bytes are written; return when the rows are on disk.

        Many threads may call at once: whatever gathers while one commit runs goes into the next one.

        Raises:
            OutOfSpace: the map or the disk is full; nothing of this call was recorded.
        """

    def forget_lost(self, is_lost: Callable[[Holding], bool]) -> list[Entry]:
        """Take back the newest rows whose bytes a power cut took; return what they were."""

    def relocate(self, moves: Sequence[Move]) -> list[Moved]:
        """Have rows name another place of the same bytes, all together, and only where they name the old one.

        Not even a power cut takes it back afterwards, so the old bytes may go. Nobody is told: nothing that
        is answered changes.

        Raises:
            OutOfSpace: the map or the disk is full; nothing of this call was changed.
        """

    def whereabouts(self, SOPInstanceUID: str, sha256: bytes) -> Holding | None:
        """Return where these bytes of the instance lie now, whatever was decided about them."""

    def stored_after(self, cursor: bytes, limit: int) -> list[tuple[bytes, Entry]]:
        """Return at most `limit` versions behind the cursor, hidden ones too, each with its own cursor.

        An empty cursor begins; nothing comes behind the last one.
        """

    def decide(self, decision: Decision) -> None:
        """Apply a person's decision; return when it is on disk. The same id twice changes nothing.

        Raises:
            NotFound: there is no such study, series, instance or earlier decision.
        """

    def restore(self, decision: Decision) -> None:
        """Take in a decision while the catalog is made again; its study may still be on its way."""

    def decisions(self, StudyInstanceUID: str) -> list[Decision]:
        """Return the decisions that touch the study, oldest first, undone ones included."""

    def standing(self, *uids: str) -> Standing:
        """Return what was decided about an instance that arrives now: study, series and instance."""

    def corrections(self, entry: Entry) -> list[Decision]:
        """Return the corrections in force for an instance, oldest first; empty for nearly all."""

    def doomed(self, decision: Decision) -> Doomed:
        """Return what is to go by a decision to delete or erase, as it stands now."""

    def knows_patient(self, IssuerOfPatientID: str, PatientID: str) -> bool:
        """Say whether a study of the patient is here, seen or hidden."""

    def conflicts(self, resolved: bool = False) -> Iterator[Conflict]:
        """Yield the instances whose UID is claimed by several versions that differ in identity or pixels."""


class Origin(Protocol):
    """What a segment says about an object besides its bytes, so that a catalog can be made again from it."""

    @property
    def source(self) -> str:
        """The calling AE title, or the name of the import."""

    @property
    def received(self) -> int:
        """Milliseconds since 1970."""

    @property
    def is_held(self) -> bool:
        """Whether the sender was unknown, so that a person must release it first."""


class Incoming(Protocol):
    """One object on its way in: hashed as it comes, kept nowhere until `ObjectStore.keep`."""

    @property
    def size(self) -> int:
        """Bytes so far."""

    def space(self, length: int) -> memoryview:
        """Return a writable view of exactly `length` bytes to receive into.

        Raises:
            OutOfSpace: there is neither memory nor disk for them.
        """

    def filled(self, length: int) -> None:
        """Say that `length` bytes of the last space now count."""

    def head(self, limit: int) -> memoryview:
        """Return the first bytes, at most `limit`, for the header scan."""

    def digest(self) -> bytes:
        """Return the SHA-256 of everything so far."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes already taken in, from memory or from the spill file."""

    def discard(self) -> None:
        """Forget the object and free what it used; harmless after `keep`."""


class Reader(Protocol):
    """One stored file, open for reading; any thread may read, one at a time."""

    @property
    def size(self) -> int:
        """Length of the Part 10 file in bytes."""

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; return how many bytes there were."""

    def close(self) -> None:
        """Give back what reading took."""


class ObjectStore(Protocol):
    """Keeps Part 10 files under their SHA-256, as they came."""

    def incoming(self) -> Incoming:
        """Return a new empty object to fill."""

    def keep(self, incoming: Incoming, origin: Origin) -> Holding:
        """Write the object where it will stay; it is durable only after `sync`.

        Raises:
            OutOfSpace: the disk is full or below its watermark; nothing was kept.
        """

    def sync(self, holding: Holding) -> None:
        """Return when everything up to and including this object has reached the disk."""

    def open(self, holding: Holding) -> Reader:
        """Open a kept file.

        Raises:
            NotFound: the store does not have it (any more).
            Unavailable: whoever keeps it does not answer.
        """

    def verify(self, holding: Holding) -> None:
        """Read a kept file whole, where it is kept, and compare it with its SHA-256.

        Raises:
            NotFound: the store does not have it (any more).
            Damaged: its bytes are not what was stored.
            Unavailable: whoever keeps it does not answer; this says nothing about the bytes.
        """

    def prefetch(self, holdings: Iterable[Holding]) -> None:
        """Hear what will be opened soon, in this order; a store whose files are near does nothing."""

    def is_safe(self, holding: Holding) -> bool:
        """Say whether the bytes lie where nothing but the loss of that place itself can take them.

        That is what commitment, receipts and the dropping of other copies rest on. The bytes themselves are
        not read: whoever must know that they are whole reads them.
        """

    def remove(self, holding: Holding, erase: bool = False) -> None:
        """Free the bytes; with `erase` overwrite them first. Removing twice is harmless."""

    def keep_decision(self, id: str, text: bytes) -> None:
        """Write a decision's JSON beside the objects; durable when it returns. The same id twice is one."""
