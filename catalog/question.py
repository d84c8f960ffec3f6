"""What a C-FIND, C-MOVE or C-GET Identifier asks for, and how a match is answered, PS3.4 C.4 and C.6."""

from __future__ import annotations

from typing import Any, Final

from .attributes import UNIQUE_KEY, Level
from .dictionary import known_vr, name
from .errors import BadRequest
from .matching import NEVER_MATCHED, UNMATCHABLE_VR, compile_matcher, is_universal
from .model import Attributes, Matching, Query, Selection
from .values import texts

_CHARACTER_SET: Final = "00080005"
_LEVEL: Final = "00080052"
_RETRIEVE_AE: Final = "00080054"
_ISSUER: Final = "00100021"
_LEVELS: Final = tuple(Level)


def understand(
    identifier: Attributes,
    *,
    patient_root: bool,
    matching: Matching,
    is_lenient: bool,
    issuers: tuple[str, ...] | None = None,
) -> Query:
    """Return the question that the Identifier of a C-FIND asks.

    `is_lenient` is for devices that cannot do better: unique keys of the levels above may be missing, `*`
    may stand in any key for no restriction, and keys other than UIDs may have several values, any of which
    counts.

    Raises:
        BadRequest: the Identifier breaks PS3.4 C.4.1; `tags` names the offending elements. The answer is
            A900, also to a value that no key can have: only another Identifier can help.
    """
    level = _level(identifier, patient_root)
    keys = {
        tag: _with_known_vr(tag, content)
        for tag, content in identifier.items()
        if tag not in (_CHARACTER_SET, _LEVEL)
    }
    if is_lenient:
        keys = {tag: _without_star(content) for tag, content in keys.items()}
    else:
        _check_single_values(keys)
    if not (is_lenient or matching & Matching.RELATIONAL):
        for above in _levels_above(level, patient_root):
            _single(keys, above)
    query = Query(level=level, keys=keys, matching=matching, patient_root=patient_root, issuers=issuers)
    compile_matcher(keys, matching)
    return query


def _level(identifier: Attributes, patient_root: bool) -> Level:
    values = texts(identifier.get(_LEVEL) or {"vr": "CS"})
    allowed = [level for level in _LEVELS if patient_root or level is not Level.PATIENT]
    if len(values) != 1 or values[0] not in allowed:
        raise BadRequest(
            "Query/Retrieve Level (0008,0052) is missing or not one of this information model.",
            f"It is one of {', '.join(allowed)}.",
            (_LEVEL,),
        )
    return Level(values[0])


def _levels_above(level: Level, patient_root: bool) -> tuple[Level, ...]:
    return _LEVELS[0 if patient_root else 1 : _LEVELS.index(level)]


def _with_known_vr(tag: str, content: dict[str, Any]) -> dict[str, Any]:
    vr = known_vr(int(tag, 16))
    if vr in (content["vr"], "UN") or "InlineBinary" in content:
        return content
    if not content.get("Value"):
        return {"vr": vr}
    if (vr == "SQ") != (content["vr"] == "SQ"):
        raise BadRequest(
            f"{name(int(tag, 16))} has VR {content['vr']}, but is {vr}.", "Correct the VR.", (tag,)
        )
    return {**content, "vr": vr}


def _without_star(content: dict[str, Any]) -> dict[str, Any]:
    is_star = content["vr"] != "SQ" and not any(text.strip("* ") for text in texts(content))
    return {"vr": content["vr"]} if is_star else content


_LISTS: Final = frozenset(("00080061",))
"""Modalities in Study is a list by nature: workstations ask for any of several (PS3.4 C.3.4)."""


def _check_single_values(keys: Attributes) -> None:
    for tag, content in keys.items():
        if content["vr"] not in ("UI", "SQ") and tag not in _LISTS and len(texts(content)) > 1:
            raise BadRequest(
                f"{name(int(tag, 16))} has several values; multiple value matching was not negotiated.",
                "Ask once for each value, or have the device marked lenient.",
                (tag,),
            )


def _single(keys: Attributes, level: Level) -> str:
    tag = UNIQUE_KEY[level]
    values = texts(keys.get(tag) or {"vr": "UI"})
    if len(values) != 1 or not values[0] or set(values[0]) & set("*?"):
        raise BadRequest(
            f"The unique key of level {level}, {name(int(tag, 16))}, has to have one value here.",
            "Name the one object above the level asked for, or negotiate relational queries.",
            (tag,),
        )
    return values[0]


def is_fully_supported(query: Query) -> bool:
    """Say whether no key with a value has to be ignored: FF00, else FF01 (PS3.4 C.4.1.1.4, Table C.4-1)."""
    return all(
        is_universal(content) or _is_matchable(content)
        for tag, content in query.keys.items()
        if tag not in NEVER_MATCHED
    )


def _is_matchable(content: dict[str, Any]) -> bool:
    if content["vr"] != "SQ":
        return content["vr"] not in UNMATCHABLE_VR
    items = content.get("Value") or ()
    return all(is_universal(each) or _is_matchable(each) for item in items for each in item.values())


def answer(query: Query, attributes: Attributes, *, ae_title: str) -> Attributes:
    """Return the Identifier of one C-FIND response: the keys asked for, zero length where nothing is known.

    `ae_title` is where the match can be retrieved from. PS3.4 C.4.1.1.3.2; sequences C.2.2.2.6.
    """
    told = {tag: _asked_part(content, attributes.get(tag)) for tag, content in query.keys.items()}
    told[_LEVEL] = {"vr": "CS", "Value": [query.level.value]}
    told[_RETRIEVE_AE] = {"vr": "AE", "Value": [ae_title]}
    return told


def _asked_part(key: dict[str, Any], known: dict[str, Any] | None) -> dict[str, Any]:
    if not known:
        return {"vr": key["vr"]}
    asked = (key.get("Value") or [{}])[0] if key["vr"] == "SQ" else None
    if not asked or not known.get("Value"):
        return known
    items = [
        {tag: _asked_part(each, item.get(tag)) for tag, each in asked.items()} for item in known["Value"]
    ]
    return {"vr": "SQ", "Value": items}


def selection(
    identifier: Attributes,
    *,
    patient_root: bool,
    matching: Matching,
    is_lenient: bool,
    issuers: tuple[str, ...] | None = None,
) -> Selection:
    """Return what the Identifier of a C-MOVE or C-GET names: unique keys only, PS3.4 C.4.2.2.1.

    Keys that are not unique keys are ignored, those below the level too; but Issuer of Patient ID beside a
    Patient ID is heeded, since only both say who is meant.

    Raises:
        BadRequest: the level's own unique key is missing, or a level above lacks its single value and
            neither relational retrieval was negotiated nor the device is lenient.
    """
    level = _level(identifier, patient_root)
    is_relational = is_lenient or bool(matching & Matching.RELATIONAL)
    named: dict[Level, tuple[str, ...]] = {level: _named(identifier, level)}
    for above in _levels_above(level, patient_root):
        if not is_relational:
            named[above] = (_single(identifier, above),)
        elif texts(identifier.get(UNIQUE_KEY[above]) or {"vr": "UI"}):
            named[above] = _named(identifier, above)
    told = tuple(text for text in texts(identifier.get(_ISSUER) or {"vr": "LO"}) if text.strip("*"))
    if told and Level.PATIENT in named:
        issuers = told if issuers is None else tuple(issuer for issuer in told if issuer in issuers)
    return Selection(
        patient=named.get(Level.PATIENT, ()),
        studies=named.get(Level.STUDY, ()),
        series=named.get(Level.SERIES, ()),
        instances=named.get(Level.IMAGE, ()),
        issuers=issuers,
    )


def _named(identifier: Attributes, level: Level) -> tuple[str, ...]:
    if level is Level.PATIENT:
        return (_single(identifier, level),)
    tag = UNIQUE_KEY[level]
    uids = tuple(uid for uid in texts(identifier.get(tag) or {"vr": "UI"}) if uid)
    if not uids or set("".join(uids)) & set("*?"):
        raise BadRequest(
            f"Level {level} needs one or more UIDs in {name(int(tag, 16))}.",
            "UIDs have no wildcards.",
            (tag,),
        )
    return uids
