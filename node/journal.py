"""What people changed in the node's state and must outlive it: written into the segments too, like decisions.

Links between patients, grants and shares, rules of retention, pins, which instances were erased: each change
is a note that a rebuild or a restore replays before anybody is answered. The newest note about a row wins,
whatever order they come in.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Struct

from catalog import Clock, Decision, Verb
from federation.trust.policy import Grant, Share
from node.copies.pins import TABLE, Pin
from node.disposal import ERASED_UIDS, ErasedUIDs
from node.patient_links import PatientLink
from node.retention import Rule
from node.state import State, Table

T = TypeVar("T")
_KEPT: Final[Mapping[str, type[Struct]]] = {
    "patient-links": PatientLink,
    "grid-grants": Grant,
    "grid-shares": Share,
    "retention rules": Rule,
    TABLE: Pin,
    ERASED_UIDS: ErasedUIDs,
}
"""Tables whose changes are noted, and what their rows are."""


_NAMING: Final = frozenset({"patient-links"})
"""Tables whose rows name patients: their notes must be found again, to be erased."""


class _Noted(Struct, frozen=True, array_like=True):
    """When the newest note about a row was written, in milliseconds since 1970."""

    when: int
    ids: tuple[str, ...] = ()
    """All notes about the row, where those may have to be erased."""


def _kind(name: str) -> type[Struct] | None:
    """Return what the rows of a table are; an archive's stands behind a slash."""
    return _KEPT.get(name.partition("/")[0])


class Journal:
    """The node's; `keep` writes a note where objects are, as soon as the default archive is open."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._noted = state.table("notes", _Noted)
        self._clock = clock
        self.keep: Callable[[str, bytes], None] | None = None
        self.erase_notes: Callable[[Collection[str]], object] | None = None
        """Overwrites notes by their ids, where `keep` wrote them."""

    def table(self, name: str, row: type[T]) -> Table[T]:
        """Return a table of the state; what is changed in some of them is noted."""
        plain = self._state.table(name, row)
        return NotedTable(plain, name, self._note) if _kind(name) else plain

    def _note(self, name: str, key: bytes, row: Any) -> None:
        if self.keep is None:
            return
        note = _made(name, key, row, int(self._clock() * 1000))
        self.keep(note.id, msgspec.json.encode(note))
        self._remember(note, note.when)

    def notes(self) -> Iterator[Decision]:
        """Yield a note about each row that was ever changed, as of then: for who keeps none yet."""
        for noted, known in list(self._noted.scan()):
            name, _, key = noted.decode().partition("\0")
            if (kind := _kind(name)) is None:
                continue
            row = self._state.table(name, kind).get(bytes.fromhex(key))
            note = _made(name, bytes.fromhex(key), row, known.when)
            if name in _NAMING:
                self._remember(note, known.when)
            yield note

    def erase(self, name: str, is_meant: Callable[[bytes], bool]) -> int:
        """Leave nothing of rows by their keys: neither them nor any note about them; return how many.

        The state is to be scoured afterwards. Whatever moment it is cut short at, it can be done again.
        """
        prefix = f"{name}\0".encode()
        noted = [
            (key, row)
            for key, row in self._noted.scan(prefix)
            if is_meant(bytes.fromhex(key[len(prefix) :].decode()))
        ]
        ids = [id for _, row in noted for id in row.ids]
        if ids and self.erase_notes is not None:
            self.erase_notes(ids)
        table = self._state.table(name, _KEPT[name])
        rows = [key for key, _ in table.scan() if is_meant(key)]
        for key in rows:
            table.delete(key)
        for key, _ in noted:
            self._noted.delete(key)
        return len({*rows, *(bytes.fromhex(key[len(prefix) :].decode()) for key, _ in noted)})

    def _remember(self, note: Decision, when: int) -> None:
        key = note.detail.encode()
        known = self._noted.get(key)
        ids = {*(known.ids if known else ()), note.id} if note.detail.partition("\0")[0] in _NAMING else ()
        self._noted.put(key, _Noted(when, tuple(sorted(ids))))

    def knows(self, note: Decision) -> bool:
        """Say whether a row is as a note says, or as a newer one does."""
        known = self._noted.get(note.detail.encode())
        return known is not None and known.when >= note.when

    def replay(self, note: Decision) -> None:
        """Make a row what a note says, unless a newer one said something else."""
        name, _, key = note.detail.partition("\0")
        known = self._noted.get(note.detail.encode())
        kind = _kind(name)
        if kind is None:
            return
        if known is not None and known.when > note.when:
            self._remember(note, known.when)
            return
        table = self._state.table(name, kind)
        if "row" in note.attributes:
            table.put(bytes.fromhex(key), msgspec.convert(note.attributes["row"]["is"], kind))
        else:
            table.delete(bytes.fromhex(key))
        self._remember(note, note.when)


def _made(name: str, key: bytes, row: Any, when: int) -> Decision:
    attributes = {} if row is None else {"row": {"is": msgspec.to_builtins(row)}}
    detail = f"{name}\0{key.hex()}"
    return Decision(
        id=uuid.uuid4().hex, verb=Verb.NOTE, target=(), reason="", who="", when=when,
        attributes=attributes, detail=detail,
    )  # fmt: skip


class NotedTable(Table[T], Generic[T]):
    """A table of the state whose changes are noted: before they are made, or right behind them."""

    def __init__(self, plain: Table[T], name: str, note: Callable[[str, bytes, Any], None]) -> None:
        self._plain = plain
        self._named = name
        self._note = note

    def get(self, key: bytes) -> T | None:
        """Return the row, as it is at this moment, or None."""
        return self._plain.get(key)

    def put(self, key: bytes, row: T) -> None:
        """Write a row over what was there."""
        self._note(self._named, key, row)
        self._plain.put(key, row)

    def delete(self, key: bytes) -> bool:
        """Remove a row; say whether there was one."""
        if self._plain.get(key) is None:
            return False
        self._note(self._named, key, None)
        return self._plain.delete(key)

    def change(self, changes: Mapping[bytes, Callable[[T | None], T | None]]) -> None:
        """Replace rows by what each change makes of them, all or nothing and with nobody in between."""
        made: dict[bytes, T | None] = {}

        def noting(key: bytes, change: Callable[[T | None], T | None]) -> Callable[[T | None], T | None]:
            def changed(row: T | None) -> T | None:
                made[key] = change(row)
                return made[key]

            return changed

        self._plain.change({key: noting(key, change) for key, change in changes.items()})
        for key, row in made.items():
            self._note(self._named, key, row)

    def scan(self, prefix: bytes = b"", begin: bytes = b"") -> Iterator[tuple[bytes, T]]:
        """Yield (key, row) of every key that begins so, in key order."""
        return self._plain.scan(prefix, begin)
