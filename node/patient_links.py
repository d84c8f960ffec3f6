"""Which Patient IDs people said to belong to one person: rows of the node, read anew when one changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from catalog import BadRequest, NotFound
from federation.identities import Identity, Links
from node.state import Tables

_GENERATION: Final = b"generation"
_TABLE: Final = "patient-links"
Erase = Callable[[str, Callable[[bytes], bool]], int]


class PatientLink(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Two identities of one person."""

    one: Identity
    other: Identity
    who: str
    when: int
    """Seconds since 1970."""


class _Generation(msgspec.Struct, frozen=True, array_like=True):
    number: int


class PatientLinks:
    """The links of a node; several processes may use them at once."""

    def __init__(self, state: Tables, erase: Erase = lambda name, is_meant: 0) -> None:
        """`erase` leaves nothing of a table's rows, nor of what was noted of them, by their keys."""
        self._erase = erase
        self._rows = state.table(_TABLE, PatientLink)
        self._changes = state.table("patient-links-changed", _Generation)
        self._known: tuple[int, Links] = -1, Links()

    def current(self) -> Links:
        """Return the links as they are now."""
        row = self._changes.get(_GENERATION)
        number = row.number if row else 0
        if self._known[0] != number:
            self._known = number, Links((link.one, link.other) for _, link in self._rows.scan())
        return self._known[1]

    def all(self) -> list[PatientLink]:
        """Return every link."""
        return [link for _, link in self._rows.scan()]

    def add(self, pairs: Iterable[tuple[Identity, Identity]], who: str, when: int) -> int:
        """Take links in; return how many are new.

        Raises:
            BadRequest: an identity lacks its issuer or its id, or is linked to itself; none was taken in.
        """
        found: dict[bytes, PatientLink] = {}
        for one, other in pairs:
            first, second = sorted((_checked(one), _checked(other)))
            if first == second:
                raise BadRequest(f"{'/'.join(first)} is one identity already.", "Name two.")
            found[_key(first, second)] = PatientLink(one=first, other=second, who=who, when=when)
        new = {key: link for key, link in found.items() if self._rows.get(key) is None}
        if new:
            self._rows.change({key: lambda _, link=link: link for key, link in new.items()})  # type: ignore[misc]
            self._changed()
        return len(new)

    def remove(self, one: Identity, other: Identity) -> None:
        """Take a link back.

        Raises:
            NotFound: there is none between these two.
        """
        first, second = sorted((_checked(one), _checked(other)))
        if not self._rows.delete(_key(first, second)):
            raise NotFound("These two are not linked.", "List the links with: peerpacs link")
        self._changed()

    def forget(self, is_forgotten: Callable[[Identity], bool]) -> int:
        """Leave nothing of the links, there or taken back, that name such an identity; return how many."""

        def is_meant(key: bytes) -> bool:
            issuer, id, other_issuer, other_id = key.decode().split("\0")
            return is_forgotten((issuer, id)) or is_forgotten((other_issuer, other_id))

        count = self._erase(_TABLE, is_meant)
        if count:
            self._changed()
        return count

    def look_again(self) -> None:
        """Have the links read anew: something else changed them."""
        self._changed()

    def _changed(self) -> None:
        def next_number(row: _Generation | None) -> _Generation:
            return _Generation(row.number + 1 if row else 1)

        self._changes.change({_GENERATION: next_number})


def _checked(identity: Identity) -> Identity:
    issuer, id = (part.strip() for part in identity)
    if not issuer or not id or max(len(issuer), len(id)) > 64:
        raise BadRequest("An identity is an issuer and an id.", "Write both, at most 64 characters each.")
    return issuer, id


def _key(one: Identity, other: Identity) -> bytes:
    return "\0".join((*one, *other)).encode()
