"""How an owner is named, a node's archive, and how the place of an object says that it lies there."""

from __future__ import annotations

from typing import Final, NamedTuple

from catalog import Entry

_THERE: Final = b"peer:"


class Owner(NamedTuple):
    """One archive of one node: the single writer of its statements."""

    node_id: str
    archive: str

    @property
    def name(self) -> bytes:
        """The owner as mirrors and places name it."""
        return f"{self.node_id}/{self.archive}".encode()


def owner_of(name: bytes) -> Owner:
    """Return the owner that a mirror or a place names."""
    node_id, _, archive = name.decode().partition("/")
    return Owner(node_id, archive)


def place_at(owner: bytes) -> bytes:
    """Return the word for the place of an object that lies at a peer."""
    return _THERE + owner


def holder_of(entry: Entry) -> bytes:
    """Return the name of the owner at whom an object lies, or nothing for one that lies here."""
    where = entry.holding.where
    return where[len(_THERE) :] if where.startswith(_THERE) else b""
