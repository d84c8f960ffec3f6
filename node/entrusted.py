"""What is decided here is entrusted to every peer, sealed, and asked back by a node that lost it.

Decisions and notes lie among the objects; who loses those too, and has a backup from before, has them at the
peers alone. What is erased is forgotten there as well. A peer cannot read what it keeps.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from catalog import Decision, PacsError
from catalog.truth import counted
from federation.entrusting import AT_ONCE, Seal, Word, portions
from node.state import Tables

logger = logging.getLogger(__name__)

_NAME: Final = b"name"
_NOTES: Final = b"notes"
_PORTION: Final = 500
_read_decision: Final = msgspec.json.Decoder(Decision).decode


class _Text(Struct, frozen=True, array_like=True):
    """A decision as it lies among the objects; nothing: it is to be forgotten."""

    text: bytes


class _Sealed(Struct, frozen=True, array_like=True):
    """A decision by its id, sealed; nothing: it is to be forgotten."""

    id: str
    sealed: bytes


class _Told(Struct, frozen=True, array_like=True):
    """How far a peer was told, by number, and the name of what it keeps."""

    upto: int
    shelf: str


class Outbox:
    """Where one archive's decisions wait to be entrusted; any process of the node may put some in."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.table("decisions to entrust", _Text)

    def keep(self, id: str, text: bytes) -> None:
        """Have a decision entrusted."""
        self._table.put(id.encode(), _Text(text))

    def forget(self, ids: Collection[str]) -> None:
        """Have decisions forgotten wherever they were entrusted."""
        self._table.change({id.encode(): lambda _: _Text(b"") for id in ids})

    def waiting(self) -> Iterator[tuple[str, bytes]]:
        """Yield what waits."""
        return ((key.decode(), row.text) for key, row in self._table.scan())

    def done(self, id: str, text: bytes) -> None:
        """Take out what was taken on, unless it is another word by now."""
        self._table.change({id.encode(): lambda row: None if row == _Text(text) else row})


class _Done(Struct, frozen=True, array_like=True):
    """What was entrusted once and is not looked for again."""


class Backlog:
    """What was decided before this node entrusted anything, or by an older version of it; one archive's.

    All decisions are looked through at each start, a portion at a time; notes once.
    """

    def __init__(
        self,
        tables: Tables,
        outbox: Outbox,
        known: Callable[[], Iterable[str]],
        decided: Callable[[bytes], Iterator[tuple[bytes, Callable[[], Decision | None]]]],
        notes: Callable[[], Iterable[Decision]],
    ) -> None:
        """`known` tells the ids of what was entrusted; `decided` yields decisions behind a key, by key."""
        self._done = tables.table("entrusted once", _Done)
        self._outbox = outbox
        self._known, self._decided, self._notes = known, decided, notes
        self._ids: set[str] | None = None
        self._after = b""
        self._is_over = False

    def step(self) -> bool:
        """Have a portion entrusted that was not; say whether there may be more."""
        if self._is_over:
            return False
        if self._ids is None:
            self._ids = {*self._known(), *(id for id, _ in self._outbox.waiting())}
        portion = list(islice(self._decided(self._after), _PORTION))
        for key, decision in portion:
            if key.decode() not in self._ids and (found := decision()) is not None:
                self._outbox.keep(found.id, msgspec.json.encode(found))
        if portion:
            self._after = portion[-1][0] + b"\0"
            return True
        if self._done.get(_NOTES) is None:
            for note in self._notes():
                self._outbox.keep(note.id, msgspec.json.encode(note))
            self._done.put(_NOTES, _Done())
        self._is_over, self._ids = True, None
        return False


class _Peer(Protocol):
    def entrust(self, archive: str, words: Sequence[Word]) -> str: ...

    def recall(self, archive: str) -> Iterator[Word]: ...


class Entrusting:
    """The owner's side, for one archive; one thread calls it."""

    def __init__(self, archive: str, tables: Tables, seal: Seal, peer: Callable[[str], _Peer]) -> None:
        self._archive, self._seal, self._peer = archive, seal, peer
        self._outbox = Outbox(tables)
        self._words = tables.table("entrusted", _Sealed)
        self._told = tables.table("entrusted to", _Told)
        self._looked: set[str] = set()
        """Peers that have said under which name they keep it, since they are connected."""
        self._last = max((_number(key) for key, _ in self._words.scan()), default=0)
        for _, told in self._told.scan():
            self._last = max(self._last, told.upto)

    def ids(self) -> Iterator[str]:
        """Yield the ids of what was entrusted."""
        return (row.id for _, row in self._words.scan())

    def take_on(self) -> None:
        """Seal what waits, and forget what is to be forgotten."""
        for id, text in list(self._outbox.waiting()):
            if not text:
                for key in [key for key, row in self._words.scan() if row.id == id]:
                    self._words.delete(key)
            self._last += 1
            sealed = self._seal.close(id, text) if text else b""
            self._words.put(counted(self._last), _Sealed(id, sealed))
            self._outbox.done(id, text)

    def tell(self, node_id: str) -> bool:
        """Entrust to a peer some of what it has not been told; say whether there is more.

        Raises:
            PacsError: it cannot be asked.
        """
        key = node_id.encode()
        told = self._told.get(key) or _Told(0, "")
        if told.upto >= self._last and node_id in self._looked:
            return False
        rows = list(islice(self._words.scan(begin=counted(told.upto + 1)), AT_ONCE))
        words = [Word(row.id, row.sealed) for _, row in rows]
        portion = next(portions(words), [])
        shelf = self._peer(node_id).entrust(self._archive, portion)
        self._looked.add(node_id)
        if told.shelf and shelf != told.shelf:
            # It lost what it kept: all of it goes there once more.
            self._told.put(key, _Told(0, shelf))
            return True
        upto = _number(rows[len(portion) - 1][0]) if portion else self._last
        self._told.put(key, _Told(upto, shelf))
        return upto < self._last

    def left(self, connected: Collection[str]) -> None:
        """Look again, when peers return that are not connected now, whether they have what they were told."""
        self._looked.intersection_update(connected)

    def recalled(self, node_id: str) -> list[Decision]:
        """Return what a peer keeps of this node's decisions, oldest first.

        Raises:
            PacsError: it cannot be asked.
        """
        found = []
        for word in self._peer(node_id).recall(self._archive):
            try:
                found.append(_read_decision(self._seal.open(word)))
            except (PacsError, msgspec.MsgspecError) as error:
                logger.error("A decision that a peer kept cannot be read: %s", error)
        return sorted(found, key=lambda each: (each.when, each.id))


class Safe:
    """The peer's side: satisfies `Keeping`. Nothing in it can be read here."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.table("entrusted by others", _Sealed)
        self._names = tables.table("entrusted by others, as", str)

    def keep(self, node_id: str, archive: str, words: Sequence[Word]) -> str:
        """Keep words of an owner, or forget them; return the name of what is kept."""
        start = f"{node_id}/{archive}\0"
        kept = {
            (start + word.id).encode(): _Sealed(word.id, word.sealed) if word.sealed else None
            for word in words
        }
        self._table.change({key: lambda _, row=row: row for key, row in kept.items()})  # type: ignore[misc]
        return self._name()

    def recall(self, node_id: str, archive: str) -> Iterator[Word]:
        """Yield what an owner entrusted."""
        for _, row in self._table.scan(f"{node_id}/{archive}\0".encode()):
            yield Word(row.id, row.sealed)

    def forget(self, node_id: str) -> None:
        """Forget everything of a node that left."""
        for key, _ in list(self._table.scan(f"{node_id}/".encode())):
            self._table.delete(key)

    def _name(self) -> str:
        if (known := self._names.get(_NAME)) is None:
            self._names.put(_NAME, known := secrets.token_hex(8))
        return known


def _number(key: bytes) -> int:
    return int.from_bytes(key, "big")
