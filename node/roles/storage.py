"""The storage of a node for roles elsewhere: the contract of `ObjectStore`, and what archives need besides.

After a start nothing is kept before the catalog has taken in what the segments know and it may lack: the
storage cannot tell what was recorded. Reading goes on meanwhile.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from catalog import Clock, Damaged, Holding, Incoming, NotFound, Unavailable
from node.reception import Origin
from node.storage import Damage, Item, Kept, KeptDecision, SegmentEnd, VolumeStore
from node.storage.coverage import Coverage
from node.storage.removal import erase_decisions

from .answering import Answer, Page, Pages
from .calls import Question

PIECE: Final = 4 << 20
"""Bytes of an object in one question or answer at most."""
_PAGE: Final = 64
"""Items in one answer: replaying reads each of their objects."""
_IDLE: Final = 600.0


class Told(msgspec.Struct, frozen=True, array_like=True):
    """An item of a replay, as one of its kinds."""

    kept: Kept | None = None
    decision: KeptDecision | None = None
    damage: Damage | None = None
    end: SegmentEnd | None = None

    @classmethod
    def of(cls, item: Item) -> Told:
        """Return it as it goes over the wire."""
        match item:
            case Kept():
                return cls(kept=item)
            case KeptDecision():
                return cls(decision=item)
            case Damage():
                return cls(damage=item)
            case SegmentEnd():
                return cls(end=item)

    def item(self) -> Item:
        """Return it again."""
        item = self.kept or self.decision or self.damage or self.end
        assert item is not None
        return item


class Delivery(msgspec.Struct, frozen=True, array_like=True):
    """An object to be kept: what was gathered under the token, if it is not empty, and then these bytes."""

    origin: Origin
    sha256: bytes
    """Of the whole: a storage that was begun anew in between has not all of it."""
    token: str
    data: bytes


class Condition(msgspec.Struct, frozen=True, array_like=True):
    """How the storage of an archive is."""

    is_replayed: bool
    """Whether the catalog took in what the segments know since this process began."""
    is_empty: bool
    size: int
    """Of its disks, in bytes."""
    run: str
    """Another one each time the storage begins."""


KEEP: Final = Question("keep", Delivery, Holding)
GATHER: Final = Question("gather", tuple[str, bytes], None)
DROP: Final = Question("drop", str, None)
SYNC: Final = Question("sync", Holding, None)
OPEN: Final = Question("open", Holding, None)
READ: Final = Question("read", tuple[Holding, int, int], bytes)
VERIFY: Final = Question("verify", Holding, None)
IS_SAFE: Final = Question("is safe", Holding, bool)
REMOVE: Final = Question("remove", tuple[Holding, bool], None)
KEEP_DECISION: Final = Question("keep decision", tuple[str, bytes], None)
ERASE_DECISIONS: Final = Question("erase decisions", list[str], None)
REPLAY: Final = Question("replay", None, Page[Told])
REPLAYED: Final = Question("replayed", str, None)
SCAN: Final = Question("scan", Coverage, Page[Told])
MORE: Final = Question("more items", str, Page[Told])
CONDITION: Final = Question("condition", None, Condition)
PRESENT: Final = Question("storage?", None, None)


class StorageService:
    """Answers for the stores of a node's archives; `open_store` opens one by the archive's name."""

    def __init__(
        self, open_store: Callable[[str], VolumeStore], clock: Clock, *, is_replayed: bool = False
    ) -> None:
        """`is_replayed` says that this process's own catalog takes in what the segments know."""
        self._open_store = open_store
        self._clock = clock
        self._all_replayed = is_replayed
        self._run = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._stores: dict[str, VolumeStore] = {}
        self._replayed: set[str] = set()
        self._coming: dict[str, tuple[Incoming, float]] = {}
        self._pages = Pages(clock)

    def answers(self) -> Mapping[Question, Answer]:
        """Return what can be asked, for a `RoleServer`."""
        return {
            PRESENT: lambda archive, body: None,
            KEEP: self._keep,
            GATHER: lambda archive, body: self._gather(archive, *body),
            DROP: lambda archive, body: self._drop(body),
            SYNC: self._sync,
            OPEN: lambda archive, body: self._store(archive).open(body).close(),
            READ: lambda archive, body: self._read(archive, *body),
            VERIFY: lambda archive, body: self._store(archive).verify(body),
            IS_SAFE: lambda archive, body: self._store(archive).is_safe(body),
            REMOVE: lambda archive, body: self._store(archive).remove(*body),
            KEEP_DECISION: lambda archive, body: self._writable(archive).keep_decision(*body),
            ERASE_DECISIONS: self._erase_decisions,
            REPLAY: lambda archive, body: self._pages.begin(self._replay(archive), _PAGE),
            REPLAYED: self._note_replayed,
            SCAN: lambda archive, body: self._pages.begin(self._scan(archive, body), _PAGE),
            MORE: lambda archive, body: self._pages.more(body, _PAGE),
            CONDITION: lambda archive, body: self._condition(archive),
        }

    def _store(self, archive: str) -> VolumeStore:
        with self._lock:
            store = self._stores.get(archive)
            if store is None:
                store = self._stores[archive] = self._open_store(archive)
            return store

    def _is_replayed(self, archive: str) -> bool:
        return self._all_replayed or archive in self._replayed

    def _writable(self, archive: str) -> VolumeStore:
        store = self._store(archive)
        if not self._is_replayed(archive):
            what = "The storage has begun, and the catalog has not yet taken in what it has."
            raise Unavailable(what, "It does so by itself within seconds; send again.")
        return store

    def _keep(self, archive: str, delivery: Delivery) -> Holding:
        store = self._writable(archive)
        gathered = self._coming.pop(delivery.token, None)
        incoming = gathered[0] if gathered else store.incoming()
        try:
            _fill(incoming, delivery.data)
            if incoming.digest() != delivery.sha256:
                raise Unavailable("The storage was begun anew while an object came.", "Send it again.")
            return store.keep(incoming, delivery.origin)
        finally:
            incoming.discard()

    def _gather(self, archive: str, token: str, data: bytes) -> None:
        now = self._clock()
        for other, (_, since) in tuple(self._coming.items()):
            if abs(now - since) > _IDLE:
                self._drop(other)
        incoming = self._coming[token][0] if token in self._coming else self._writable(archive).incoming()
        _fill(incoming, data)
        self._coming[token] = incoming, now

    def _drop(self, token: str) -> None:
        incoming, _ = self._coming.pop(token, (None, 0.0))
        if incoming:
            incoming.discard()

    def _read(self, archive: str, holding: Holding, offset: int, length: int) -> bytes:
        reader = self._store(archive).open(holding)
        try:
            buffer = bytearray(max(0, min(length, PIECE, holding.size - offset)))
            return bytes(memoryview(buffer)[: reader.read_into(memoryview(buffer), offset)])
        finally:
            reader.close()

    def _erase_decisions(self, archive: str, ids: list[str]) -> None:
        for store in self._store(archive).present():
            erase_decisions(store.objects, ids)

    def _sync(self, archive: str, holding: Holding) -> None:
        """Bring an object to the disk that is there: a power cut may have taken it since it was kept."""
        store = self._store(archive)
        try:
            store.open(holding).close()
        except (NotFound, Damaged) as error:
            what = "The storage was begun anew, and what had not reached the disk is gone."
            raise Unavailable(what, "Send it again.") from error
        store.sync(holding)

    def _replay(self, archive: str) -> Iterator[Told]:
        return map(Told.of, self._store(archive).recover())

    def _note_replayed(self, archive: str, run: str) -> None:
        """Keep from now on: the catalog has taken all in, so what is appended now is not taken for lost."""
        if run == self._run:
            self._replayed.add(archive)

    def _scan(self, archive: str, known: Coverage) -> Iterator[Told]:
        return map(Told.of, self._store(archive).scan(known))

    def _condition(self, archive: str) -> Condition:
        store = self._store(archive)
        is_empty = all(each.is_empty() for each in store.present())
        size = sum(state.room.size for state in store.states())
        return Condition(self._is_replayed(archive), is_empty, size, self._run)


def _fill(incoming: Incoming, data: Any) -> None:
    incoming.space(len(data))[:] = data
    incoming.filled(len(data))
