"""Attributes as search terms `ggggeeee=VALUE`, and keys as questions about them.

A term proposes, the matcher decides, so a question may be wider than its key but never narrower: the same
normal forms on both sides, a prefix where the key is a range, mere presence where it is a time. What is in a
sequence is found under its path, `00400275.00400007=VALUE`. A tag with too many or too long values carries
a mark instead, which every question about it includes. Values never become query text: terms are objects,
and patterns are built with every character escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import tantivy

from .attributes import Level
from .dictionary import NUMBERS
from .levels import level_of
from .matching import NEVER_MATCHED, UNMATCHABLE_VR, WILDCARD_VR, is_universal
from .model import Attributes
from .order import normal_name, plain
from .values import texts

FIELD: Final = "v"
_LONGEST: Final = 200
"""Characters of a value in a term."""
_MARK: Final = "!"
UNKNOWN: Final = "!"
"""The mark of a series of which not every header was read."""
_IN_ROWS: Final = frozenset({Level.PATIENT, Level.STUDY, Level.SERIES})
_NUMERIC: Final = frozenset((*NUMBERS, "DS", "IS"))
_MODALITIES, _MODALITY = "00080061", "00080060"
_CLASSES, _CLASS = "00080062", "00080016"


def terms_of(attributes: Attributes, path: str = "") -> Iterator[str]:
    """Yield the terms of an attribute set, repeated ones too."""
    for tag, element in attributes.items():
        vr = element["vr"]
        name = path + tag
        if vr == "SQ":
            for item in element.get("Value") or ():
                yield from terms_of(item, name + ".")
            continue
        if vr in UNMATCHABLE_VR or tag in NEVER_MATCHED:
            continue
        for text in texts(element):
            for value in _normal(vr, text):
                if len(value) > _LONGEST:
                    yield name + _MARK
                yield f"{name}={value[:_LONGEST]}"


def marks_of(tags: Iterable[str]) -> Iterator[str]:
    """Yield the marks of tags whose values are not all among the terms."""
    return (tag + _MARK for tag in tags)


def _normal(vr: str, text: str) -> Iterable[str]:
    if vr == "PN":
        return (folded for group in text.split("=") if (folded := normal_name(group)))
    value = plain(text)
    if vr in _NUMERIC:
        number = _number(text)
        return (value,) if number is None or number == value else (number, value)
    if vr == "DA":
        value = value.replace(".", "")
    return (value,) if value else ()


def _number(text: str) -> str | None:
    try:
        return repr(float(text))
    except ValueError:
        return None


def question_about(schema: tantivy.Schema, tag: str, key: dict[str, Any]) -> tantivy.Query | None:
    """Return what narrows the series to those that could match the key; None if nothing does."""
    if tag == _MODALITIES:
        tag = _MODALITY
    elif tag == _CLASSES:
        tag = _CLASS
    return _about(schema, tag, key)


def _about(schema: tantivy.Schema, path: str, key: dict[str, Any]) -> tantivy.Query | None:
    if key["vr"] == "SQ":
        return _about_item(schema, path, key)
    values = [text for text in texts(key) if text.strip()]
    # The VR of a private key may be unknown while that of the stored element is not.
    vrs = ("LO", "PN", "DS") if key["vr"] == "UN" else (key["vr"],)
    ways: list[tantivy.Query] = []
    for text in values:
        for vr in vrs:
            way = _way(schema, path, vr, text)
            if way is None:
                return None
            ways.append(way)
    if not ways:
        return None
    tag = path.partition(".")[0]
    marks = {path + _MARK, tag + _MARK}
    if level_of(tag) not in _IN_ROWS:
        marks.add(UNKNOWN)
    return _any([*ways, *(tantivy.Query.term_query(schema, FIELD, mark) for mark in sorted(marks))])


def _about_item(schema: tantivy.Schema, path: str, key: dict[str, Any]) -> tantivy.Query | None:
    (item,) = key["Value"]
    questions = [
        question
        for tag, inner in item.items()
        if not is_universal(inner) and (question := _about(schema, f"{path}.{tag}", inner)) is not None
    ]
    if not questions:
        return None
    return tantivy.Query.boolean_query([(tantivy.Occur.Must, question) for question in questions])


def _any(questions: list[tantivy.Query]) -> tantivy.Query:
    return tantivy.Query.boolean_query([(tantivy.Occur.Should, question) for question in questions])


def _way(schema: tantivy.Schema, path: str, vr: str, text: str) -> tantivy.Query | None:
    if vr == "PN":
        groups = [group for group in text.split("=") if group.strip(" *^")]
        return _pattern(schema, path, normal_name(groups[0]), is_name=True) if groups else None
    if vr == "DA":
        return _pattern(schema, path, _date_pattern(plain(text)))
    if vr in ("TM", "DT"):
        return _pattern(schema, path, "*")
    if vr in WILDCARD_VR:
        return _pattern(schema, path, plain(text))
    values = [f"{path}={value[:_LONGEST]}" for value in _normal(vr, text)]
    return _any([tantivy.Query.term_query(schema, FIELD, value) for value in values]) if values else None


def _date_pattern(text: str) -> str:
    """Return what dates of a range begin with; a day the month does not have counts as its last."""
    low, dash, high = text.replace(".", "").partition("-")
    if not dash:
        return low if low[-2:] < "28" else low[:-2] + "*"
    shared = 0
    while shared < min(len(low), len(high)) and low[shared] == high[shared]:
        shared += 1
    return low[: min(shared, 6)] + "*"


def _pattern(schema: tantivy.Schema, path: str, text: str, *, is_name: bool = False) -> tantivy.Query:
    if "*" not in text and "?" not in text:
        return tantivy.Query.term_query(schema, FIELD, f"{path}={text[:_LONGEST]}")
    parts = []
    for character in text[:_LONGEST]:
        if character == "*" or (is_name and character == "^"):
            # DOE^* means DOE too: a caret in a pattern may be one that was left out of the name.
            parts.append("(?s:.)*")
        elif character == "?":
            parts.append("(?s:.)")
        else:
            parts.append(re.escape(character) if character.isascii() else character)
    tail = "(?s:.)*" if len(text) > _LONGEST else ""
    return tantivy.Query.regex_query(schema, FIELD, f"{re.escape(path)}={''.join(parts)}{tail}")
