"""The order of answers, and the small indexes that are sorted by it.

Every list of studies in the grid is StudyDate descending, StudyTime descending, StudyInstanceUID. A date is
stored with each digit taken from nine, so that a forward scan meets the newest first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from .model import Attributes, PatientKey
from .truth import INDEX

_NINES: Final = bytes.maketrans(b"0123456789", b"9876543210")
_UNKNOWN_DATE: Final = b"~" * 8
_UNKNOWN_TIME: Final = b"~" * 12
_DATE: Final = re.compile(r"(\d{4})\.?(\d\d)\.?(\d\d)", re.ASCII)
"""YYYYMMDD, or YYYY.MM.DD of ACR-NEMA files (PS3.5 6.2)."""
_TIME: Final = re.compile(r"(\d\d):?(\d\d)?:?(\d\d)?(?:\.(\d{1,6}))?", re.ASCII)
_FIT: Final = 120
"""Bytes of a value in an index key; LMDB keys end at 511, and the matcher looks at the whole value."""

BY_DATE: Final = INDEX + b"d"
BY_PATIENT: Final = INDEX + b"p"
BY_ACCESSION: Final = INDEX + b"a"
BY_NAME: Final = INDEX + b"n"
BY_SERIES: Final = INDEX + b"s"

_STUDY_DATE, _STUDY_TIME, _ACCESSION, _NAME = "00080020", "00080030", "00080050", "00100010"
_PATIENT_ID = "00100020"

decoded: Final = msgspec.json.Decoder(Attributes).decode
"""DICOM JSON bytes to attributes."""
encoded: Final = msgspec.json.Encoder().encode
"""Attributes to DICOM JSON bytes."""


def first_value(attributes: Attributes, tag: str) -> Any:
    """Return the first value of an element, or None."""
    element = attributes.get(tag)
    values = element.get("Value") if element else None
    return values[0] if values else None


def study_order(attributes: Attributes) -> bytes:
    """Return 20 bytes that sort studies newest first; the StudyInstanceUID breaks ties, ascending."""
    return newest_first(first_value(attributes, _STUDY_DATE)) + _time(first_value(attributes, _STUDY_TIME))


def newest_first(date: Any) -> bytes:
    """Return 8 bytes that sort dates newest first; what is no date comes last."""
    found = _DATE.fullmatch(date) if isinstance(date, str) else None
    return "".join(found.groups()).encode().translate(_NINES) if found else _UNKNOWN_DATE


def _time(time: Any) -> bytes:
    found = _TIME.fullmatch(time) if isinstance(time, str) else None
    if not found:
        return _UNKNOWN_TIME
    hour, minute, second, fraction = found.groups(default="")
    return f"{hour:0<2}{minute:0<2}{second:0<2}{fraction:0<6}".encode().translate(_NINES)


def ordinal(order: bytes) -> int:
    """Return the study order, to the second, as a number that is larger for newer, for the search index."""
    digits = order.translate(_NINES)[:14]
    if digits.isdigit():
        return int(digits)
    return int(digits[:8]) * 10**6 if digits[:8].isdigit() else 0


def fitted(text: str) -> bytes:
    """Return a value as it stands in an index key."""
    return plain(text).encode().replace(b"\0", b" ")[:_FIT]


def patient_prefix(PatientID: str, issuer: str | None = None) -> bytes:
    """Return how the keys of a patient's studies begin; without an issuer, of everybody with that id."""
    prefix = BY_PATIENT + fitted(PatientID) + b"\0"
    return prefix if issuer is None else prefix + fitted(issuer) + b"\0"


def plain(text: str) -> str:
    """Return text as the matcher compares it: in NFC, without spaces around it."""
    text = text.strip()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def normal_name(group: str) -> str:
    """Return a component group as the matcher compares it: without case, nor what is not significant."""
    group = unicodedata.normalize("NFC", group.strip(" ").casefold())
    if " ^" in group or "^ " in group:
        group = re.sub(" *\\^ *", "^", group)
    return group.rstrip("^ ")


def names_of(attributes: Attributes) -> Iterator[str]:
    """Yield every component group of the Patient's Name as the matcher compares it."""
    name = first_value(attributes, _NAME)
    if isinstance(name, dict):
        yield from (folded for group in name.values() if (folded := normal_name(str(group))))


def index_keys(uid: str, attributes: Attributes, patient: PatientKey, order: bytes) -> list[bytes]:
    """Return the keys under which a study is found."""
    tail = order + uid.encode()
    id = first_value(attributes, _PATIENT_ID) or patient.PatientID
    keys = [BY_DATE + tail, patient_prefix(str(id), patient.IssuerOfPatientID) + tail]
    if accession := first_value(attributes, _ACCESSION):
        keys.append(BY_ACCESSION + fitted(str(accession)) + b"\0" + tail)
    keys.extend(BY_NAME + fitted(name) + b"\0" + tail for name in names_of(attributes))
    return keys
