"""The device book and settings that a grid publishes: signed, versioned, merged so that local entries win.

Entries are JSON objects by kind and name (`devices`/`CT3`); what they mean is the node's business. A node
keeps for each entry it took over what the grid said then, so it can tell its own changes from the grid's.
Nothing of a new version counts before the node's admin accepted it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from catalog import BadRequest

from .certificates import Issuer
from .sealed import look_inside, seal

KIND: Final = "publication"
Entry = dict[str, Any]
Entries = dict[str, dict[str, Entry]]
"""By kind, then by name."""


class Publication(msgspec.Struct, frozen=True, array_like=True):
    """What the grid suggests to all its nodes."""

    version: int
    entries: Entries
    issued: int
    """Seconds since 1970."""
    who: str


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Publication).decode


class Fate(StrEnum):
    """What accepting a publication would do to one entry."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    KEPT = "kept"
    """This node has its own entry of that name, or changed what it took over: its own wins."""


class Difference(NamedTuple):
    """One entry in which node and publication differ."""

    kind: str
    name: str
    fate: Fate
    here: Entry | None
    published: Entry | None


def publish(entries: Entries, before: int, authority: Issuer, now: float, who: str) -> bytes:
    """Return the publication that follows version `before`, sealed by an authority of the grid.

    Raises:
        BadRequest: an entry is not an object with a name.
    """
    for kind, named in entries.items():
        if (
            not kind
            or not isinstance(named, dict)
            or not all(name and isinstance(entry, dict) for name, entry in named.items())
        ):
            raise BadRequest(f"What is to be published as {kind!r} are not named entries.")
    return seal(KIND, _encode(Publication(before + 1, entries, int(now), who)), authority.key)


def read_publication(document: bytes) -> Publication:
    """Return what a document says whose signature was verified when it was accepted.

    Raises:
        BadRequest: it cannot be read.
    """
    return _read(look_inside(KIND, document).body)


def version_of(body: bytes) -> int:
    """Return the version in the body of a publication.

    Raises:
        BadRequest: it cannot be read.
    """
    return _read(body).version


def _read(body: bytes) -> Publication:
    try:
        return _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRequest("What the grid published cannot be read.") from error


def differences(here: Entries, taken: Entries, published: Entries) -> list[Difference]:
    """Return what accepting would change, and what it would leave because this node decided otherwise.

    `here` is what is in force, `taken` what earlier publications contributed, as they said it.
    """
    return [each for each in _compare(here, taken, published) if each.here != each.published]


def _compare(here: Entries, taken: Entries, published: Entries) -> Iterator[Difference]:
    for kind in sorted(taken.keys() | published.keys()):
        ours, theirs, before = here.get(kind, {}), published.get(kind, {}), taken.get(kind, {})
        for name in sorted(before.keys() | theirs.keys()):
            fate = _fate(ours.get(name), before.get(name), theirs.get(name))
            yield Difference(kind, name, fate, ours.get(name), theirs.get(name))


def _fate(here: Entry | None, taken: Entry | None, published: Entry | None) -> Fate:
    if here != taken:
        return Fate.KEPT
    if published is None:
        return Fate.REMOVED
    return Fate.ADDED if here is None else Fate.CHANGED


def merged(here: Entries, taken: Entries, published: Entries) -> Entries:
    """Return what is in force after the admin accepted; afterwards `published` is what was taken over."""
    result = {kind: dict(named) for kind, named in here.items()}
    for each in differences(here, taken, published):
        named = result.setdefault(each.kind, {})
        if each.fate is Fate.REMOVED:
            named.pop(each.name, None)
        elif each.fate is not Fate.KEPT and each.published is not None:
            named[each.name] = each.published
    return result
