"""PS3.15 Table E.1-1 and its companions as data: which action each attribute and option asks for.

The rows are the standard's own, kept in data/ps3.15-table-e1-1.json with their copyright. Loading
fails if the rows are not the edition this code was written against, or name an action it does not know.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

EDITION = "2026d"
ROWS_SHA256 = "afcf5b787268b043dd8e02878d8e4571abfcc84b6b51bd40dc125a5633ae573f"
SAFE_PRIVATE_SHA256 = "378e63138ea883975c425db618862b2b58b7602a60d36714c6be8af6fcd5c73b"
DATA = Path(__file__).parent / "data"


class Option(StrEnum):
    """The options of the Basic Application Level Confidentiality Profile (PS3.16 CID 7050)."""

    CLEAN_PIXEL_DATA = "113101"
    CLEAN_RECOGNIZABLE_VISUAL_FEATURES = "113102"
    CLEAN_GRAPHICS = "113103"
    CLEAN_STRUCTURED_CONTENT = "113104"
    CLEAN_DESCRIPTORS = "113105"
    RETAIN_FULL_DATES = "113106"
    RETAIN_MODIFIED_DATES = "113107"
    RETAIN_PATIENT_CHARACTERISTICS = "113108"
    RETAIN_DEVICE_IDENTITY = "113109"
    RETAIN_UIDS = "113110"
    RETAIN_SAFE_PRIVATE = "113111"
    RETAIN_INSTITUTION_IDENTITY = "113112"


BASIC_PROFILE = "113100"

# The columns of the data file and the option each stands for; the other two options have no column.
COLUMNS = {
    "rtn_safe_priv": Option.RETAIN_SAFE_PRIVATE,
    "rtn_uids": Option.RETAIN_UIDS,
    "rtn_dev_id": Option.RETAIN_DEVICE_IDENTITY,
    "rtn_inst_id": Option.RETAIN_INSTITUTION_IDENTITY,
    "rtn_pat_chars": Option.RETAIN_PATIENT_CHARACTERISTICS,
    "rtn_long_full_dates": Option.RETAIN_FULL_DATES,
    "rtn_long_modif_dates": Option.RETAIN_MODIFIED_DATES,
    "clean_desc": Option.CLEAN_DESCRIPTORS,
    "clean_struct_cont": Option.CLEAN_STRUCTURED_CONTENT,
    "clean_graph": Option.CLEAN_GRAPHICS,
}

# Table E.1-1a with every compound code resolved by the attribute's Type in its IOD. "U*" keeps the
# sequence and replaces the UIDs inside it. Where X alone would break the IOD, a dummy or an empty
# value takes its place.
RESOLVED = {
    "D": {"1": "D", "2": "D", "3": "D", "": "X"},
    "Z": {"1": "D", "2": "Z", "3": "Z", "": "Z"},
    "X": {"1": "D", "2": "Z", "3": "X", "": "X"},
    "Z/D": {"1": "D", "2": "Z", "3": "Z", "": "Z"},
    "X/Z": {"1": "D", "2": "Z", "3": "X", "": "X"},
    "X/D": {"1": "D", "2": "D", "3": "X", "": "X"},
    "X/Z/D": {"1": "D", "2": "Z", "3": "X", "": "X"},
    "X/Z/U*": {"1": "U*", "2": "Z", "3": "X", "": "X"},
    "K": dict.fromkeys(("1", "2", "3", ""), "K"),
    "C": dict.fromkeys(("1", "2", "3", ""), "C"),
    "U": dict.fromkeys(("1", "2", "3", ""), "U"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One attribute of Table E.1-1: its basic action and what each option replaces it by."""

    tag: str
    name: str
    basic: str
    options: dict[Option, str]

    def action(self, chosen: frozenset[Option]) -> str:
        """The action code under `chosen`; of two that disagree, cleaning wins over keeping (E.1.1)."""
        codes = {code for option, code in self.options.items() if option in chosen}
        if not codes:
            return self.basic
        return "C" if "C" in codes else codes.pop()


@dataclass(frozen=True, slots=True)
class Concept:
    """One content item of Table E.3.4-1."""

    meaning: str
    basic: str
    options: dict[Option, str]


@dataclass(frozen=True, slots=True)
class SafePrivate:
    """One attribute of Table E.3.10-1."""

    vr: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Table:
    """Everything of PS3.15 Annex E that is a table; `repeating` is keyed by (group high byte, element)."""

    rows: dict[int, Row]
    repeating: dict[str, Row]
    concepts: dict[tuple[str, str, str], Concept]
    safe_private: dict[tuple[int, str, int], SafePrivate]
    cid_7050: dict[str, str]


@cache
def load_table() -> Table:
    """Table E.1-1, E.3.4-1, E.3.10-1 and CID 7050; ValueError if they are not edition 2026d."""
    data = json.loads((DATA / "ps3.15-table-e1-1.json").read_text(encoding="utf-8"))
    _require(digest(data["rows"]) == ROWS_SHA256, "Table E.1-1 is not the rows of edition 2026d.")
    _require(
        digest(data["safe_private_E3_10_1"]) == SAFE_PRIVATE_SHA256,
        "Table E.3.10-1 is not the rows of edition 2026d.",
    )
    rows = [_row(data["columns"], cells) for cells in data["rows"]]
    return Table(
        rows={int(row.tag, 16): row for row in rows if _is_plain(row.tag)},
        repeating={row.tag: row for row in rows if not _is_plain(row.tag)},
        concepts=_concepts(data),
        safe_private=_safe_private(data["safe_private_E3_10_1"]),
        cid_7050={value: meaning for _, value, meaning in data["cid_7050"]},
    )


def digest(rows: list[Any]) -> str:
    """SHA-256 of the rows as compact JSON."""
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def _require(is_true: bool, otherwise: str) -> None:
    if not is_true:
        raise ValueError(f"{otherwise} Update anonymizer/table.py together with the data file.")


def _is_plain(tag: str) -> bool:
    return "x" not in tag and tag != "PRIVATE"


def _row(columns: list[str], cells: list[Any]) -> Row:
    named = dict(zip(columns, cells, strict=True))
    options = {option: named[column] for column, option in COLUMNS.items() if named[column]}
    for code in (named["basic"], *options.values()):
        _require(code in RESOLVED, f"Table E.1-1 has an action code that is not known: {code}.")
    return Row(named["tag"], named["name"], named["basic"], options)


def _concepts(data: dict[str, Any]) -> dict[tuple[str, str, str], Concept]:
    concepts = {}
    for cells in data["sr_content_E3_4_1"]:
        named = dict(zip(data["sr_content_columns"], cells, strict=True))
        options = {o: named[c] for c, o in COLUMNS.items() if named.get(c)}
        key = (named["scheme"], named["code_value"], named["value_type"])
        concepts[key] = Concept(named["code_meaning"], named["basic"], options)
    return concepts


def _safe_private(rows: list[list[str]]) -> dict[tuple[int, str, int], SafePrivate]:
    return {
        (int(pattern[:4], 16), creator, int(pattern[6:], 16)): SafePrivate(vr, meaning)
        for pattern, creator, vr, _, meaning in rows
    }
