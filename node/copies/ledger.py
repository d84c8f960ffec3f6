"""The owner's book of copies: who is to have each study, and which objects each has proved to have.

A row per study and keeper holds the SHA-256 of everything with a receipt, 32 bytes each. All of it is on the
disk when a call returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from catalog import Clock
from node.state import State

from .dropping import Droppings

_MAP_SIZE: Final = 64 << 30
_LENGTH: Final = 32


class Receipts(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What one keeper has of one study."""

    digests: bytes = b""
    """SHA-256 of each object, one after the other, sorted."""
    said: bytes = b""
    """What of the owner's decisions and statement it was told, as a hash."""
    proved: float = 0.0
    """When it last proved all of it, or took something in, in seconds since 1970."""

    def all(self) -> set[bytes]:
        """Return the SHA-256 of each object."""
        return {self.digests[at : at + _LENGTH] for at in range(0, len(self.digests), _LENGTH)}


class Placed(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Who is to have copies of a study."""

    archive: str
    rule: str
    nodes: tuple[str, ...]
    lacking: str = ""
    """Why there are fewer than the rule asks for."""
    is_met: bool = False
    """Whether all of them have all of it, as far as is known."""


class Follow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """How far an archive's change log was read."""

    epoch: int = 0
    seq: int = 0
    by: bytes = b""
    """The rules and nodes that everything up to there was placed by, as a hash."""


class Ledger:
    """Rows of one node; any thread may call."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._state = State(folder, map_size=_MAP_SIZE)
        self._receipts = self._state.table("receipts", Receipts)
        self._placed = self._state.table("placed", Placed)
        self.follow = self._state.table("follow", Follow)
        self.heard = self._state.table("heard", float)
        """When each node was last connected, in seconds since 1970."""
        self.awaited = self._state.table("awaited", float)
        """When each node that was not connected yet was first looked for."""
        self.droppings = Droppings(self._state, clock)
        """What was deleted here and is to go there."""
        self._away = self._state.table("away", int)
        self.away_bytes = sum(size for _, size in self._away.scan())
        """Bytes of own objects that lie at other sites alone."""
        self.moving = threading.RLock()
        """Held by whoever has own objects go from here, and by whoever counts on none going meanwhile."""
        self._clock = clock

    def close(self) -> None:
        """Give the rows back."""
        self._state.close()

    def receipts(self, study: str, node_id: str) -> Receipts:
        """Return what a keeper has of a study."""
        return self._receipts.get(_key(study, node_id)) or Receipts()

    def keepers(self, study: str) -> dict[str, Receipts]:
        """Return everybody who has something of a study."""
        prefix = study.encode() + b"\0"
        return {key[len(prefix) :].decode(): row for key, row in self._receipts.scan(prefix)}

    def holders(self, study: str, sha256: bytes) -> list[str]:
        """Return the keepers with a receipt for one object."""
        return [node_id for node_id, row in self.keepers(study).items() if sha256 in row.all()]

    def received(self, study: str, node_id: str, digests: Iterable[bytes], said: bytes = b"") -> None:
        """Write down receipts."""
        now, fresh = self._clock(), set(digests)

        def add(row: Receipts | None) -> Receipts:
            known = row or Receipts()
            joined = b"".join(sorted(known.all() | fresh))
            return Receipts(digests=joined, said=said or known.said, proved=now)

        self._receipts.change({_key(study, node_id): add})

    def claimed(self, study: str, node_id: str, digests: Iterable[bytes]) -> None:
        """Write down what a keeper says it has, if nothing is known of it; it has not proved anything."""
        row = Receipts(digests=b"".join(sorted(set(digests))))
        self._change(study, node_id, lambda known: known or row)

    def proved(self, study: str, node_id: str) -> None:
        """Write down that a keeper has proved all it has of a study."""
        now = self._clock()
        self._change(study, node_id, lambda row: replace(row, proved=now) if row else None)

    def untold(self, study: str, node_id: str) -> None:
        """Write down that a keeper does not know any more what it was told of a study."""
        self._change(study, node_id, lambda row: replace(row, said=b"") if row else None)

    def withdraw(self, study: str, node_id: str, digests: Collection[bytes] = ()) -> None:
        """Take receipts back, all of the study if none are named."""
        gone = set(digests)

        def take(row: Receipts | None) -> Receipts | None:
            if row is None or not gone or not (left := row.all() - gone):
                return None
            return replace(row, digests=b"".join(sorted(left)))

        self._change(study, node_id, take)
        placed = self.placed(study)
        if placed is not None and placed.is_met and node_id in placed.nodes:
            self.place(study, replace(placed, is_met=False))

    def forget_keeper(self, node_id: str) -> None:
        """Take back all receipts of a node that drops what it keeps; looks at every row."""
        for study in list(self.studies_at(node_id)):
            self.withdraw(study, node_id)
        self.droppings.forget_keeper(node_id)

    def _change(self, study: str, node_id: str, change: Callable[[Receipts | None], Receipts | None]) -> None:
        self._receipts.change({_key(study, node_id): change})

    def placed(self, study: str) -> Placed | None:
        """Return who is to have a study."""
        return self._placed.get(study.encode())

    def place(self, study: str, placed: Placed | None) -> None:
        """Write down who is to have a study, or that nobody is."""
        self._placed.change({study.encode(): lambda _: placed})

    def places(self) -> Iterator[tuple[str, Placed]]:
        """Yield every study that somebody is to have."""
        for key, row in self._placed.scan():
            yield key.decode(), row

    def lies_away(self, study: str, size: int) -> None:
        """Write down how many bytes of a study lie at other sites alone."""
        with self.moving:
            before = self._away.get(study.encode()) or 0
            if size != before:
                self._away.change({study.encode(): lambda _: size or None})
                self.away_bytes += size - before

    def is_away(self, study: str) -> bool:
        """Say whether something of a study lies at other sites alone."""
        return self._away.get(study.encode()) is not None

    def recount(self, study: str, away: Callable[[], int]) -> None:
        """Have counted how many bytes of a study lie at other sites alone, while none goes there."""
        with self.moving:
            self.lies_away(study, away())

    def away_at(self, node_id: str, others: Collection[str]) -> dict[str, int]:
        """Return the studies of which a keeper has something alone that is not here; how many bytes are away.

        `others` are the keepers that count besides it.
        """
        with self.moving:
            return {study: size for study, size in self._lying() if self._is_alone(study, node_id, others)}

    def _is_alone(self, study: str, node_id: str, others: Collection[str]) -> bool:
        rows = self.keepers(study)
        has = rows.pop(node_id, Receipts()).all()
        return bool(has.difference(*(row.all() for other, row in rows.items() if other in others)))

    def _lying(self) -> list[tuple[str, int]]:
        return [(key.decode(), size) for key, size in self._away.scan()]

    def lying_away(self) -> list[str]:
        """Return the studies of which something lies at other sites alone."""
        return [study for study, _ in self._lying()]

    def proved_at(self, node_id: str) -> dict[str, float]:
        """Return when a keeper proved or took what it has, by study; looks at every row."""
        found = {}
        for key, row in self._receipts.scan():
            study, _, keeper = key.partition(b"\0")
            if keeper.decode() == node_id:
                found[study.decode()] = row.proved
        return found

    def studies_at(self, node_id: str) -> Iterator[str]:
        """Yield the studies of which a keeper has something; looks at every row."""
        yield from self.proved_at(node_id)


def _key(study: str, node_id: str) -> bytes:
    return f"{study}\0{node_id}".encode()
