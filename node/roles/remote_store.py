"""Objects that the storage role keeps elsewhere: an `ObjectStore`, with what an archive needs besides."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from catalog import Clock, Damaged, Holding, Incoming, Origin, Unavailable
from node.reception import Origin as Came
from node.storage import Buffers, Item, SegmentStore, StorageSettings
from node.storage.coverage import NOTHING, Coverage
from node.storage.incoming import IncomingObject, SpillFolder
from node.storage.space import FreeSpace

from .answering import Page
from .calls import Question, RoleClient
from .storage import (
    CONDITION,
    DROP,
    ERASE_DECISIONS,
    GATHER,
    IS_SAFE,
    KEEP,
    KEEP_DECISION,
    MORE,
    OPEN,
    PIECE,
    READ,
    REMOVE,
    REPLAY,
    REPLAYED,
    SCAN,
    SYNC,
    VERIFY,
    Condition,
    Delivery,
    Told,
)

_AHEAD: Final = 1 << 20
"""Bytes that are asked for at once by somebody who reads on."""
_READING: Final = 900.0
"""Seconds that reading a large object whole, or a segment, may take."""


class RemoteStore:
    """An archive's objects at the storage that a client reaches; what comes in is gathered here first."""

    def __init__(
        self, client: RoleClient, archive: str, incoming: Path, clock: Clock, settings: StorageSettings
    ) -> None:
        """`incoming` is the folder of this machine for what outgrows memory while it comes."""
        incoming.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._client = client
        self._archive = archive
        space = FreeSpace(incoming, clock, settings.full_below, settings.resume_above)
        self._spill = SpillFolder(incoming, space)
        self._spill.sweep()
        self._buffers = Buffers(settings.buffered_at_most, settings.budget)

    def incoming(self) -> IncomingObject:
        """Return a new empty object to fill."""
        return IncomingObject(self._buffers, lambda: self._spill)

    def keep(self, incoming: Incoming, origin: Origin) -> Holding:
        """See `ObjectStore.keep`; what is not whole at the storage is not kept there."""
        came, token = Came(origin.source, origin.received, origin.is_held), ""
        whole = incoming.size
        if whole > PIECE:
            token = secrets.token_hex(16)
        last = max(0, whole - 1) // PIECE * PIECE
        try:
            for offset in range(0, last, PIECE):
                self._ask(GATHER, (token, incoming.read_at(offset, PIECE)))
            delivery = Delivery(came, incoming.digest(), token, incoming.read_at(last, PIECE))
            kept: Holding = self._ask(KEEP, delivery)
        except Unavailable:
            raise
        except BaseException:
            if token:
                self._ask(DROP, token)
            raise
        return kept

    def sync(self, holding: Holding) -> None:
        """See `ObjectStore.sync`."""
        self._ask(SYNC, holding)

    def open(self, holding: Holding) -> RemoteFile:
        """See `ObjectStore.open`."""
        self._ask(OPEN, holding)
        return RemoteFile(self, holding)

    def read(self, holding: Holding, offset: int, length: int) -> bytes:
        """Return bytes of a kept file. Raises as `open`."""
        data: bytes = self._ask(READ, (holding, offset, length))
        return data

    def verify(self, holding: Holding) -> None:
        """See `ObjectStore.verify`: it is read there, and nothing of it comes here."""
        self._ask(VERIFY, holding, _READING)

    def prefetch(self, holdings: Iterable[Holding]) -> None:
        """Do nothing: what is read is asked for a little ahead."""

    def is_safe(self, holding: Holding) -> bool:
        """See `ObjectStore.is_safe`."""
        return bool(self._ask(IS_SAFE, holding))

    def remove(self, holding: Holding, erase: bool = False) -> None:
        """See `ObjectStore.remove`."""
        self._ask(REMOVE, (holding, erase), _READING)

    def keep_decision(self, id: str, text: bytes) -> None:
        """See `ObjectStore.keep_decision`."""
        self._ask(KEEP_DECISION, (id, text))

    def erase_decisions(self, ids: Collection[str]) -> None:
        """Overwrite decisions where they lie."""
        self._ask(ERASE_DECISIONS, list(ids), _READING)

    def recover(self) -> Iterator[Item]:
        """Yield what the segments know and the catalog may lack; taken to the end, new ones are kept."""
        run = self.condition().run
        yield from self._items(REPLAY, None)
        # Not before all is taken: where a segment ended would else be said of what is appended meanwhile.
        self._ask(REPLAYED, run)

    def scan(self, known: Coverage = NOTHING) -> Iterator[Item]:
        """Yield everything the storage has, in the order written: what a catalog is made again from."""
        return self._items(SCAN, known)

    def condition(self, patience: float = 30.0) -> Condition:
        """Say how the storage is; raises Unavailable when it does not answer within so many seconds."""
        condition: Condition = self._ask(CONDITION, None, patience)
        return condition

    def present(self) -> list[SegmentStore]:
        """Return none: no disk of the storage is here."""
        return []

    def sync_forever(self, stop: threading.Event) -> None:
        """Wait for the stop: what is kept is brought to the disk by the storage."""
        stop.wait()

    def wake(self) -> None:
        """Do nothing: `sync_forever` waits for nothing else."""

    def close(self) -> None:
        """Do nothing: who made the client closes it."""

    def _items(self, question: Question, body: object) -> Iterator[Item]:
        page: Page[Told] = self._ask(question, body, _READING)
        while True:
            for told in page.items:
                yield told.item()
            if not page.token:
                return
            page = self._ask(MORE, page.token, _READING)

    def _ask(self, question: Question, body: object, patience: float = 30.0) -> Any:
        return self._client.ask(question, self._archive, body, patience)


class RemoteFile:
    """Satisfies `Reader`: a kept file of the storage, read a little ahead."""

    def __init__(self, store: RemoteStore, holding: Holding) -> None:
        self.size = holding.size
        self._store = store
        self._holding = holding
        self._start = 0
        self._ahead = b""

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; return how many bytes there were. Raises as `ObjectStore.open`."""
        wanted = max(min(len(buffer), self.size - offset), 0)
        got = 0
        while got < wanted:
            piece = self._piece(offset + got, wanted - got)
            buffer[got : got + len(piece)] = piece
            got += len(piece)
        return got

    def _piece(self, offset: int, wanted: int) -> bytes:
        if not 0 <= offset - self._start < len(self._ahead):
            self._start = offset
            self._ahead = self._store.read(self._holding, offset, max(wanted, _AHEAD))
            if not self._ahead:
                raise Damaged("The storage has less of an object than was stored.", "Run: peerpacs verify")
        at = offset - self._start
        return self._ahead[at : at + wanted]

    def close(self) -> None:
        """Forget what was read ahead."""
        self._ahead = b""
