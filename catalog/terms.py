"""Attributes as search terms, and keys as questions about them.

A term `ggggeeee=VALUE` finds what is equal, under its path what is in a sequence (`00400275.00400007=X`).
The texts of the fixed table are also cut into trigrams, so that any part of a name or description finds its
series as fast as the whole; parts of other texts are found by a pattern over the terms.

A term proposes, the matcher decides, so a question may be wider than its key but never narrower: the same
normal forms on both sides, a prefix where the key is a range, mere presence where it is a time. A tag with
too many or too long values carries a mark instead, which every question about it includes. Values never
become query text: terms are objects, and patterns are built with every character escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import tantivy

from .attributes import FIXED_TABLE, Level
from .dictionary import NUMBERS
from .levels import level_of
from .matching import NEVER_MATCHED, UNMATCHABLE_VR, WILDCARD_VR, is_universal
from .model import Attributes
from .order import normal_name, plain
from .values import texts

FIELD: Final = "v"
GRAMS: Final = "g"
GRAM: Final = 3
"""Characters of a trigram."""
_LONGEST: Final = 200
"""Characters of a value in a term."""
_MARK: Final = "!"
UNKNOWN: Final = "!"
"""The mark of a series of which not every header was read."""
_TEXTS: Final = tuple(row for row in FIXED_TABLE if row.vr in WILDCARD_VR)
_TEXT_TAGS: Final = frozenset(row.tag for row in _TEXTS)
_IN_ROWS: Final = frozenset({Level.PATIENT, Level.STUDY, Level.SERIES})
_WILD: Final = {"*": "(?s:.)*", "?": "(?s:.)"}
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


def text_of(attributes: Attributes) -> str:
    """Return the texts of the fixed table as they are cut into trigrams."""
    texts_of_all = (
        value
        for row in _TEXTS
        if (element := attributes.get(row.tag))
        for text in texts(element)
        for value in _normal(row.vr, text)
    )
    return "\n".join(texts_of_all)


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
    # DOE^* means DOE too: a caret in a pattern may be one that was left out of the name.
    pattern = text.replace("^", "*") if is_name else text
    if path in _TEXT_TAGS and (grams := _grams(pattern)):
        musts = [
            (tantivy.Occur.Must, tantivy.Query.term_query(schema, GRAMS, gram)) for gram in sorted(grams)
        ]
        return tantivy.Query.boolean_query(musts)
    body = "".join(_WILD.get(character) or _escaped(character) for character in pattern[:_LONGEST])
    tail = _WILD["*"] if len(pattern) > _LONGEST else ""
    return tantivy.Query.regex_query(schema, FIELD, f"{re.escape(path)}={body}{tail}")


def _grams(pattern: str) -> set[str]:
    return {part[at : at + GRAM] for part in re.split(r"[*?]", pattern) for at in range(len(part) - GRAM + 1)}


def _escaped(character: str) -> str:
    return re.escape(character) if character.isascii() else character
