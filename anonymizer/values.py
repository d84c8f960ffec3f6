"""Dummies, and which values of a VR are harmless enough to stay (PS3.5 6.2, PS3.15 Table E.1-1a)."""

from __future__ import annotations

import re

from pydicom._uid_dict import UID_dictionary

from anonymizer.dates import DUMMY as DATE_DUMMY
from anonymizer.elements import tags

_TEXT = ("REMOVED", "NOT PRESENT")
_ZEROS = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "UV": 8, "SV": 8, "AT": 4}
_ENUMERATED = {0x04000565: (b"CORRECT", b"COERCE"), 0x00102203: (b"UNALTERED", b"ALTERED")}

_NUMBER = re.compile(rb"[ 0-9+\-.eE\\]*[ \0]*")
_OFFSET = re.compile(rb"[+-]\d{4}[ \0]*")
_WRITING = re.compile(rb"[\t\n\r -~]{8,}\0*")
_WORD = re.compile(rb"[A-Za-z]{4}")
_AGE = re.compile(rb"(\d{3}[DWMY] ?)?")
_UID = re.compile(r"[0-9.]{1,64}")

# UIDs that name a class, a syntax, a scheme or a group, never an instance.
REGISTERED_ROLES = tags(
    "00080016 0008001A 0008001B 00080062 0008010C 00080117 00080118 0008040E 00081150 0008115A 00083002 "
    "00340003 04000010 04000510 3010001F 30100052 30100053"
)

# Attributes without a row in Table E.1-1 that tell of a person all the same: birth and death in another
# calendar, who made or owns a thing, where somebody is or travels.
NAMING = tags(
    "00100033 00100034 00102295 00140100 00720008 00720010 0074100C 20000050 21000160 21100030 4010101A "
    "4010102A 40101051 40101054 40101058"
)
_FREE_LABEL = re.compile("(Description|Comment|Explanation|Notes|Detail|Label)$")


def is_free_label(keyword: str) -> bool:
    """Whether PS3.6 calls a short text so that anything may be written into it."""
    return _FREE_LABEL.search(keyword) is not None


def is_registered(uid: str) -> bool:
    """Whether PS3.6 Annex A lists the UID: others below the standard's root were made up somewhere."""
    return uid in UID_dictionary


def dummy(tag: int, vr: str, original: bytes) -> bytes:
    """A value of the VR that says nothing and is not the original."""
    for candidate in _candidates(tag, vr):
        if candidate != original.strip(b" \0"):
            return candidate
    return _candidates(tag, vr)[0]


def _candidates(tag: int, vr: str) -> tuple[bytes, ...]:
    if vr in ("PN", "LO", "SH", "ST", "LT", "UT", "UC", "AE"):
        return tuple(text.encode() for text in _TEXT)
    if vr in DATE_DUMMY:
        return (DATE_DUMMY[vr].encode(), DATE_DUMMY[vr].replace("1900", "1901").encode())
    if vr in _ZEROS:
        return (b"\0" * _ZEROS[vr], b"\0" * (_ZEROS[vr] - 1) + b"\1")
    fixed = {"CS": (b"UNKNOWN", b"NONE"), "AS": (b"000D", b"001D"), "UR": (b"urn:removed", b"urn:none")}
    if vr == "CS" and tag in _ENUMERATED:
        return _ENUMERATED[tag]
    return fixed.get(vr, (b"0", b"1") if vr in ("DS", "IS") else (b"\0\0", b"\0\1"))


def is_number(data: bytes) -> bool:
    """Whether a DS or IS holds numbers only."""
    return _NUMBER.fullmatch(data) is not None


def is_offset(data: bytes) -> bool:
    """Whether this is a Timezone Offset From UTC (PS3.3 C.12.1.1)."""
    return _OFFSET.fullmatch(data) is not None


def is_writing(data: bytes) -> bool:
    """Whether bytes that should be numbers are words that somebody can read."""
    return _WRITING.fullmatch(data) is not None and _WORD.search(data) is not None


def is_age(data: bytes) -> bool:
    """Whether an AS is an age."""
    return _AGE.fullmatch(data) is not None


def capped_age(data: bytes) -> bytes:
    """Ages of 90 years and more become 90 years, as so few people share them."""
    return b"090Y" if data[3:4] == b"Y" and data[:3] > b"090" else data


def is_uid(value: str) -> bool:
    """Whether this can be a UID (PS3.5 9.1)."""
    return _UID.fullmatch(value) is not None
