"""What a policy promised about every value, read anew from the table's JSON, and what may not be found then.

The verifier's own view: nothing here is the engine's. What it concludes about a value is remembered for a
while, since the instances of a series carry nearly the same ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import NamedTuple

from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.uid import UID

from anonymizer.elements import Element, Item, tags, text_value
from anonymizer.leaks import Needles, squeeze
from anonymizer.table import DATA

MEASURED = frozenset(("US", "SS", "UL", "SL", "FL", "FD", "UV", "SV", "AT"))
_ADDRESSES = tags("00080092 00101040")
_IDENTIFYING = tags(
    "00080050 00080094 00100020 00101000 00102154 00102155 00200010 00380010 00401001 00401103 "
    "00402010 00402016 00402017 00101090"
)
_BIRTH_DATE, _CHARSET = 0x00100030, 0x00080005
# Keywords of attributes whose UIDs name a class, syntax, scheme or template, never an instance.
_ROLES = re.compile("Class|TransferSyntax|CodingScheme|ContextUID|MappingResource|TemplateUID")
_COLUMNS = {
    "rtn_safe_priv": "113111",
    "rtn_uids": "113110",
    "rtn_dev_id": "113109",
    "rtn_inst_id": "113112",
    "rtn_pat_chars": "113108",
    "rtn_long_full_dates": "113106",
    "rtn_long_modif_dates": "113107",
    "clean_desc": "113105",
    "clean_struct_cont": "113104",
    "clean_graph": "113103",
}
_REMEMBERED = 1 << 14


class Value(NamedTuple):
    """An element of a tree with where it was found."""

    path: tuple[int, ...]
    tag: int
    element: Element


class Told(NamedTuple):
    """What one value gives to look for: of its subject, of this instance, or words that may stay."""

    subject: Needles | None = None
    own: Needles | None = None
    kept: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Expected:
    """What the policy promised: chosen options, overridden actions, blanked boxes, allowed words."""

    options: frozenset[str]
    overrides: dict[int, str] = field(default_factory=dict)
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    words: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()

    @property
    def promises(self) -> Promises:
        """The same promises are one object, so that they remember."""
        return _promises(self.options, frozenset(self.overrides.items()))

    def action(self, tag: int) -> str:
        """The code of the override, or of the row under the options; "" for an attribute without either."""
        return self.overrides.get(tag) or row_code(tag, self.options)


class Promises:
    """What happens to each value under some options and overrides."""

    def __init__(self, options: frozenset[str], overrides: dict[int, str]) -> None:
        self._options = options
        self._overrides = overrides
        self._told: dict[str, dict[Value, Told]] = {}

    def needles(self, root: Item, values: list[Value]) -> tuple[Needles, Needles, set[str]]:
        """What must not be found of the subject, what not of this instance, and words that may stay."""
        subject, own, kept = Needles(), Needles(), set[str]()
        charset = text_value(root, _CHARSET)
        remembered = self._told.setdefault(charset, {})
        for value in values:
            if isinstance(value.element.value, memoryview):
                continue
            told = remembered.get(value)
            if told is None:
                told = remembered[value] = self._tells(value, charset)
            if told is _NOTHING:
                continue
            if told.subject is not None:
                subject.update(told.subject)
            if told.own is not None:
                own.update(told.own)
            kept |= told.kept
        if sum(map(len, self._told.values())) > _REMEMBERED:
            self._told.clear()
        return subject, own, kept

    def _tells(self, value: Value, charset: str) -> Told:
        text = _text(value.element, charset)
        if not text:
            return _NOTHING
        action, found, vr = self._action(value), Needles(), value.element.vr
        if is_name(value):
            found.add_name(text)
            return Told(subject=found)
        if value.tag in _ADDRESSES:
            found.add_text(text)
            return Told(subject=found)
        if value.tag in _IDENTIFYING:
            found.add_number(text)
            return Told(subject=found)
        if action == "K" or self._is_safe_creator(value.tag, text):
            return Told(kept=frozenset(squeeze(word) for word in re.findall(r"[^\W_]+", text)))
        if vr == "UI":
            uids = text.split("\\")
            found.words |= {squeeze(uid) for uid in uids if len(uid) > 11 and not is_registered(uid)}
        elif vr in ("DA", "DT"):
            found.add_date(text)
            if value.tag == _BIRTH_DATE:
                return Told(subject=found)
        elif vr not in ("TM", "AS", "DS", "IS"):
            found.add_text(text)
        return Told(own=found) if found else _NOTHING

    def _action(self, value: Value) -> str:
        """The code that decides about a value: that of the nearest thing that goes, else its own."""
        if value.tag & 0x10000:
            return "X"
        if any(tag & 0x10000 or row_code(tag, self._options) == "X" for tag in value.path):
            return "X"
        code = self._overrides.get(value.tag) or row_code(value.tag, self._options)
        if code:
            return code
        if value.element.vr in ("PN", "UN", "UR", "AE"):
            return "X"
        if value.element.vr in ("DA", "DT"):
            return "K" if "113106" in self._options else "C"
        if value.element.vr == "UI":
            return "K" if _ROLES.search(keyword_for_tag(value.tag)) else "U"
        return "C" if value.element.vr in ("ST", "LT", "UT", "UC") else "K"

    def _is_safe_creator(self, tag: int, text: str) -> bool:
        """Whether this reserves a block of Table E.3.10-1, whose safe attributes keep their creator."""
        is_creator = bool(tag & 0x10000) and tag & 0xFFFF < 0x100
        return is_creator and "113111" in self._options and text in _safe_creators()


_NOTHING = Told()


@lru_cache(maxsize=16)
def _promises(options: frozenset[str], overrides: frozenset[tuple[int, str]]) -> Promises:
    return Promises(options, dict(overrides))


def walk(item: Item, path: tuple[int, ...] = ()) -> Iterator[Value]:
    """Every value of the tree that is not a sequence."""
    for tag, element in item.items():
        if isinstance(element.value, tuple):
            for nested in element.value:
                yield from walk(nested, (*path, tag))
        else:
            yield Value(path, tag, element)


def is_name(value: Value) -> bool:
    """Whether it is a PN, by what the file or PS3.6 says."""
    return value.element.vr == "PN" or _names_person(value.tag)


@cache
def _names_person(tag: int) -> bool:
    return not tag & 0x10000 and bool(keyword_for_tag(tag)) and dictionary_VR(tag) == "PN"


def is_registered(uid: str) -> bool:
    """Whether PS3.6 Annex A lists the UID."""
    return UID(uid).name != uid


def has_row(tag: int) -> bool:
    """Whether Table E.1-1 has a row of this attribute's own."""
    return tag in _rows()


@lru_cache(maxsize=1 << 14)
def row_code(tag: int, options: frozenset[str]) -> str:
    """The row's code under the options; "" for an attribute without a row."""
    row = _rows().get(tag)
    if row is None:
        return ""
    codes = {code for option, code in row[1].items() if option in options}
    return "C" if "C" in codes else codes.pop() if codes else row[0]


@cache
def _rows() -> dict[int, tuple[str, dict[str, str]]]:
    data = json.loads((DATA / "ps3.15-table-e1-1.json").read_text(encoding="utf-8"))
    rows = {}
    for cells in data["rows"]:
        named = dict(zip(data["columns"], cells, strict=True))
        if len(named["tag"]) == 8 and "x" not in named["tag"]:
            codes = {option: named[c] for c, option in _COLUMNS.items() if named[c]}
            rows[int(named["tag"], 16)] = (named["basic"], codes)
    return rows


@cache
def _safe_creators() -> frozenset[str]:
    data = json.loads((DATA / "ps3.15-table-e1-1.json").read_text(encoding="utf-8"))
    return frozenset(row[1] for row in data["safe_private_E3_10_1"])


def _text(element: Element, charset: str) -> str:
    """The value as text, as far as it is text; bulk and numbers give none."""
    if element.vr in MEASURED:
        return ""
    data = element.data.strip(b" \0")
    if element.vr in ("OB", "OW", "OF", "OD", "OL", "OV", "UN"):
        return data.decode("ascii") if data.isascii() and data.decode("ascii").isprintable() else ""
    if data.isascii() and b"\x1b" not in data:
        return data.decode("ascii")
    return _decoded(data, charset)


def _decoded(data: bytes, charset: str) -> str:
    from pydicom.charset import convert_encodings, decode_bytes

    try:
        return str(decode_bytes(data, convert_encodings(charset.split("\\")), {0x5E, 0x3D, 0x5C}))
    except (UnicodeError, LookupError, ValueError):
        return data.decode("latin-1")
