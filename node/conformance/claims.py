"""What the node claims to do on the wire, collected from the tables that make it do so."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from catalog import COMPUTED, FIXED_TABLE, NEVER_MATCHED, NUMBER_VR, UNMATCHABLE_VR, WILDCARD_VR, Level
from node.dimse.commands import C_FIND_RQ, C_GET_RQ, C_MOVE_RQ
from node.dimse.syntaxes import (
    FOR_IDENTIFIERS,
    NOT_STORAGE,
    PATIENT_ROOT,
    QUERY_RETRIEVE,
    STORAGE,
    STUDY_ROOT,
    TRANSFER_SYNTAXES,
    VERIFICATION,
)

from .markdown import named

SERVICES: Final = {C_FIND_RQ: "Query", C_MOVE_RQ: "Retrieve (C-MOVE)", C_GET_RQ: "Retrieve (C-GET)"}
PRIVATE_SOP_CLASSES: Final[tuple[str, ...]] = ()
"""There are none, and shall be none."""


class SopClass(NamedTuple):
    """A SOP Class, what the node is for it, and the transfer syntaxes it accepts as SCP."""

    uid: str
    name: str
    service: str
    is_scu: bool
    is_scp: bool
    transfer_syntaxes: Collection[str]


def sop_classes() -> list[SopClass]:
    """Return every SOP Class by service, then name."""
    found = [_class_of(uid) for uid in (*sorted(NOT_STORAGE, key=_order), *STORAGE)]
    services = list(dict.fromkeys(each.service for each in found))
    return sorted(found, key=lambda each: (services.index(each.service), each.name, each.uid))


def _order(uid: str) -> tuple[bool, str]:
    return uid != VERIFICATION, uid


def _class_of(uid: str) -> SopClass:
    if uid in STORAGE:
        return SopClass(uid, named(uid), "Storage", True, True, TRANSFER_SYNTAXES)
    if uid in QUERY_RETRIEVE:
        return SopClass(uid, named(uid), SERVICES[QUERY_RETRIEVE[uid]], True, True, FOR_IDENTIFIERS)
    service = "Verification" if uid == VERIFICATION else named(uid).removesuffix(" SOP Class")
    return SopClass(uid, named(uid), service, True, True, FOR_IDENTIFIERS)


class Key(NamedTuple):
    """A key of a query: its level in the information model, how it is matched, and whether it is computed."""

    tag: str
    keyword: str
    vr: str
    level: Level
    matching: str
    is_computed: bool


def keys() -> list[Key]:
    """Return the keys that are exact at once: the fixed table, and what is computed from it."""
    rows = [
        Key(row.tag, row.keyword, row.vr, row.level, kind_of(row.vr, row.tag), False) for row in FIXED_TABLE
    ]
    for number, level in COMPUTED.items():
        vr, keyword = _described(number)
        rows.append(Key(number, keyword, vr, level, kind_of(vr, number), True))
    levels = list(Level)
    return sorted(rows, key=lambda row: levels.index(row.level))


def kind_of(vr: str, number: str = "") -> str:
    """Return the kinds of matching of PS3.4 C.2.2.2 that a key of this VR takes part in."""
    if number in NEVER_MATCHED:
        return "none: it describes the request"
    if vr in UNMATCHABLE_VR:
        return "universal only"
    if vr == "UI":
        return "single value, list of UID"
    if vr == "PN":
        return "single value, wild card; without case, by component group"
    if vr in WILDCARD_VR:
        return "single value, wild card"
    if vr in ("DA", "TM", "DT"):
        return "single value, range"
    if vr == "SQ":
        return "sequence"
    return "single value, by number" if vr in NUMBER_VR else "single value"


def _described(number: str) -> tuple[str, str]:
    from pydicom.datadict import dictionary_VR, keyword_for_tag

    return dictionary_VR(int(number, 16)), keyword_for_tag(int(number, 16))


def models() -> dict[str, tuple[Level, ...]]:
    """Return the information models and their levels, PS3.4 C.6.1 and C.6.2."""
    return {PATIENT_ROOT: tuple(Level), STUDY_ROOT: tuple(Level)[1:]}
