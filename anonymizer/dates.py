"""Moving DA and DT values by whole days, and telling which dates must not move (PS3.15 E.3.6)."""

from __future__ import annotations

import re
from datetime import date, timedelta

from anonymizer.elements import tags

DUMMIES = ("19000101", "19010101")
DUMMY = {"DA": "19000101", "TM": "000000", "DT": "19000101000000"}

# Dates of devices and vocabularies are publicly known: moved by the offset they would disclose it.
UNSHIFTABLE = tags(
    "00080106 00080107 00181200 00181201 00181202 00181204 00181205 0018700C 0018700E 0014407C 0014407E"
)

_DA = re.compile(r"(\d{4})(\.?)(\d{2})\2(\d{2})")
_DT = re.compile(r"(\d{8})(\d{0,6}(?:\.\d{1,6})?(?:[+-]\d{4})?)")
_TM = re.compile(r"\d{2}(?::?[0-5]\d(?::?[0-6]\d(?:\.\d{1,6})?)?)?")


def shifted(vr: str, text: str, days: int, *, must_have_value: bool) -> str:
    """A DA or DT value (or several) moved by `days`; times and fractions stay.

    A date that is partial or no date cannot be moved: alone it is emptied, or replaced by the dummy
    if it `must_have_value`; among several it becomes the dummy.
    """
    values = [part.strip(" \0") for part in text.split("\\")]
    moved = [_shifted_one(vr, value, days) if value else "" for value in values]
    if len(moved) == 1 and moved[0] is None:
        return DUMMY[vr] if must_have_value else ""
    return "\\".join(DUMMY[vr] if value is None else value for value in moved)


def is_time(text: str) -> bool:
    """Whether every value is a TM (PS3.5 6.2), so that keeping it keeps nothing else."""
    return all(not part.strip(" \0") or _TM.fullmatch(part.strip(" \0")) for part in text.split("\\"))


def is_date(vr: str, text: str) -> bool:
    """Whether every value is a complete or partial DA or DT and nothing else."""
    pattern = r"\d{8}|\d{4}\.\d{2}\.\d{2}" if vr == "DA" else r"\d{4,14}(\.\d{1,6})?([+-]\d{4})?"
    return all(not p.strip(" \0") or re.fullmatch(pattern, p.strip(" \0")) for p in text.split("\\"))


def _shifted_one(vr: str, value: str, days: int) -> str | None:
    rest = ""
    if vr == "DT":
        whole = _DT.fullmatch(value)
        if whole is None:
            return None
        value, rest = whole.groups()
    match = _DA.fullmatch(value)
    if match is None:
        return None
    try:
        moved = date(int(match[1]), int(match[3]), int(match[4])) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return f"{moved.year:04}{moved.month:02}{moved.day:02}{rest}"
