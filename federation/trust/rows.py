"""What federation asks of whoever keeps its rows: small typed tables, all changes on disk when they return.

The node hands in its `state/` tables, which several processes may use at once; nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar

import msgspec

from .policy import Grant, Share

T = TypeVar("T")


class Rows(Protocol[T]):
    """Rows of one type by a key of bytes."""

    def get(self, key: bytes) -> T | None:
        """Return the row, as it is at this moment, or None."""

    def put(self, key: bytes, row: T) -> None:
        """Write a row over what was there."""

    def delete(self, key: bytes) -> bool:
        """Remove a row; say whether there was one."""

    def change(self, changes: Mapping[bytes, Callable[[T | None], T | None]]) -> None:
        """Replace rows by what each change makes of them, all or nothing and with nobody in between.

        A change that raises leaves everything as it was.
        """

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, T]]:
        """Yield (key, row) of every key that begins so, in key order."""


class Open(Protocol):
    """Opens a table by its name and the type of its rows."""

    def __call__(self, name: str, row: type[T]) -> Rows[T]:
        """Return the table; it exists as soon as it has a row."""


class Document(msgspec.Struct, frozen=True, array_like=True):
    """A signed document that travels by gossip: bundle, CRL, publication."""

    content: bytes
    version: int
    received: int
    """Milliseconds since 1970."""


class Invitation(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A ticket that was given out; of its secret only a hash is here."""

    key: bytes
    site: str
    template: str
    who: str
    created: int
    expires: int
    """Seconds since 1970, as `created`."""
    replace: str = ""
    """The node_id whose place the joiner takes."""
    bad_tries: int = 0
    request: str = ""
    """The request it was used for."""


class Request(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Somebody who asks to join, or to come back."""

    node_id: str
    name: str
    site: str
    spki: bytes
    words: tuple[str, ...]
    received: int
    """Seconds since 1970."""
    state: str = "pending"
    """pending, approved, denied."""
    ae_titles: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    is_dial_only: bool = False
    template: str = ""
    is_return: bool = False
    """A known node whose certificate ended."""
    replace: str = ""
    who: str = ""
    """Who decided."""
    reason: str = ""
    chain: tuple[bytes, ...] = ()


class Issued(msgspec.Struct, frozen=True, array_like=True):
    """A certificate this authority issued."""

    serial: bytes
    expires: int
    """Seconds since 1970."""


class PeerRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A node of the grid, as far as this node knows it."""

    node_id: str
    name: str
    site: str
    addresses: tuple[str, ...] = ()
    """host:port, in the order in which to try them."""
    ae_titles: tuple[str, ...] = ()
    is_dial_only: bool = False
    is_authority: bool = False
    revision: int = 0
    relays: tuple[str, ...] = ()
    """host:port at which somebody forwards to it."""
    door: str = ""
    """host:port at which it forwards to others."""
    static: tuple[str, ...] = ()
    """Addresses that this node's admin named; tried first and never replaced."""
    state: str = "member"
    """member, revoked, left."""
    since: int = 0
    """Seconds since 1970."""
    desk: str = ""
    """host:port at which an authority answers who wants to join, or comes back."""


class Departed(msgspec.Struct, frozen=True, array_like=True):
    """A node that left of its own will."""

    document: bytes
    """Signed by an authority, as it travels."""
    is_dropped: bool = False
    """Whether what this node had of it is gone."""


class Tables:
    """The tables of trust, opened by the node."""

    def __init__(self, open_table: Open) -> None:
        self.documents = open_table("grid-documents", Document)
        self.invitations = open_table("grid-invitations", Invitation)
        self.requests = open_table("grid-requests", Request)
        self.issued = open_table("grid-issued", Issued)
        self.peers = open_table("grid-peers", PeerRow)
        self.departed = open_table("grid-departed", Departed)
        self.shares = open_table("grid-shares", Share)
        self.grants = open_table("grid-grants", Grant)
