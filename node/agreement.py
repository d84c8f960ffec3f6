"""Whether the studies of a patient agree about who it is, asked when a correction made one of them so."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final, Protocol

from catalog import Attributes, Level, Query
from catalog.order import first_value
from node.keys import keyword_of

_STUDY: Final = "0020000D"
_ID: Final = "00100020"
_ISSUER: Final = "00100021"
_PERSON: Final = {"00100010": "PN", "00100030": "DA", "00100040": "CS"}
"""PatientName, PatientBirthDate and PatientSex."""


class _Catalog(Protocol):
    def find(self, query: Query) -> Iterator[Attributes]: ...


def disagreement(catalog: _Catalog, StudyInstanceUID: str, changed: Collection[str]) -> list[str]:
    """Return the keywords of what other studies of its patient say otherwise; what is empty says nothing.

    `changed` are the tags that were corrected: without one of a person's nothing is to be asked.
    """
    if {_ID, _ISSUER, *_PERSON}.isdisjoint(changed):
        return []
    own = next(_studies(catalog, {_STUDY: {"vr": "UI", "Value": [StudyInstanceUID]}}), None)
    id = first_value(own, _ID) if own else None
    if own is None or not id:
        return []
    keys: Attributes = {_ID: {"vr": "LO", "Value": [id]}}
    issuer = first_value(own, _ISSUER)
    found: set[str] = set()
    for other in _studies(catalog, keys):
        # An ID may hold what stands for anything in a question.
        if first_value(other, _ID) == id and first_value(other, _ISSUER) == issuer:
            found.update(tag for tag in _PERSON if _differs(own, other, tag))
    return [keyword_of(tag) for tag in _PERSON if tag in found]


def _studies(catalog: _Catalog, keys: Attributes) -> Iterator[Attributes]:
    wanted: Attributes = {tag: {"vr": vr} for tag, vr in {_ID: "LO", _ISSUER: "LO", **_PERSON}.items()}
    return catalog.find(Query(level=Level.STUDY, keys={**wanted, **keys}))


def _differs(one: Attributes, other: Attributes, tag: str) -> bool:
    values = [_plain(first_value(each, tag)) for each in (one, other)]
    return all(values) and values[0] != values[1]


def _plain(value: object) -> str:
    said = value.get("Alphabetic", "") if isinstance(value, dict) else value
    return str(said or "").strip(" ^").casefold()
