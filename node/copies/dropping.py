"""What was deleted here and is to go at other sites too: each keeper is asked until it has dropped it.

A row per study and keeper, written before the receipts of those copies are withdrawn, so that no break
between the two leaves copies that nobody asks for. When the keeper has answered, the row is its receipt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import msgspec
from msgspec.structs import replace

from catalog import Clock
from node.state import Tables

_LENGTH: Final = 32


class Dropping(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What one keeper is to drop of one study, or has dropped."""

    digests: bytes = b""
    """SHA-256 of each object that it has not dropped yet, one after the other, sorted."""
    since: float
    """When it was first asked, in seconds since 1970, as `done`."""
    done: float = 0.0
    """When it said that all of it is gone; 0 while it has not."""
    dropped: int = 0
    """How many objects it said it dropped."""

    def all(self) -> set[bytes]:
        """Return the SHA-256 of each object that is still to go."""
        return {self.digests[at : at + _LENGTH] for at in range(0, len(self.digests), _LENGTH)}


class Droppings:
    """The rows; any thread may call."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._table = tables.table("droppings", Dropping)
        self._clock = clock

    def owe(self, study: str, node_id: str, digests: Collection[bytes]) -> None:
        """Write down that a keeper is to drop objects, with what it has not dropped yet."""
        now = self._clock()

        def add(row: Dropping | None) -> Dropping:
            known = row if row is not None and not row.done else Dropping(since=now)
            return replace(known, digests=b"".join(sorted(known.all() | set(digests))))

        self._change(study, node_id, add)

    def owed(self, study: str, node_id: str) -> set[bytes]:
        """Return the SHA-256 of what a keeper has not dropped yet."""
        row = self._table.get(_key(study, node_id))
        return row.all() if row is not None else set()

    def dropped(self, study: str, node_id: str, count: int) -> bool:
        """Write down that nothing is owed any more, and how many objects went; False if nothing was."""
        now, was = self._clock(), self.owed(study, node_id)

        def close(row: Dropping | None) -> Dropping | None:
            if row is None or row.done:
                return row
            return replace(row, digests=b"", done=now, dropped=count)

        self._change(study, node_id, close)
        return bool(was)

    def of(self, study: str) -> dict[str, Dropping]:
        """Return how each keeper stands that was ever asked."""
        prefix = _key(study, "")
        return {key[len(prefix) :].decode(): row for key, row in self._table.scan(prefix)}

    def owing(self, study: str) -> list[str]:
        """Return the keepers that have not dropped all yet."""
        return [node_id for node_id, row in self.of(study).items() if row.digests]

    def studies(self) -> set[str]:
        """Return the studies of which something is still to go somewhere."""
        return {key.partition(b"\0")[0].decode() for key, row in self._table.scan() if row.digests}

    def forget_keeper(self, node_id: str) -> None:
        """Wait for nothing any more from a node that leaves: it drops all, and gives one receipt for it."""
        for key, row in list(self._table.scan()):
            if row.digests and key.partition(b"\0")[2].decode() == node_id:
                self._table.delete(key)

    def _change(self, study: str, node_id: str, change: Callable[[Dropping | None], Dropping | None]) -> None:
        self._table.change({_key(study, node_id): change})


def _key(study: str, node_id: str) -> bytes:
    return f"{study}\0{node_id}".encode()
