"""The header of an instance, once per instance received: the fixed table, and where the pixels begin.

This is the hot path of the whole product, so it walks the bytes with `struct`, copies only what the fixed
table names and decodes that only when it is new: within a series nearly all instances carry the same bytes
for the patient, study and series, and then the JSON made for the first one is used again.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from .attributes import FIXED_TABLE, Attribute, Level
from .characters import repertoire
from .elements import (
    CHARACTER_SET,
    ITEM,
    PIXEL_DATA,
    UNDEFINED,
    Coding,
    MoreNeeded,
    actual_coding,
    end_of_sequence,
    ends_early,
    is_padding,
    misplaced,
    nested,
    overrun,
    read_inflated,
    syntax,
)
from .errors import Unreadable
from .model import Attributes
from .values import element

_STUDY: Final = tuple(sorted(row for row in FIXED_TABLE if row.level in (Level.PATIENT, Level.STUDY)))
_SERIES: Final = tuple(sorted(row for row in FIXED_TABLE if row.level is Level.SERIES))
_INSTANCE: Final = tuple(sorted(row for row in FIXED_TABLE if row.level is Level.IMAGE))
_ROWS: Final = _STUDY + _SERIES + _INSTANCE
_SLOT: Final = {int(row.tag, 16): slot for slot, row in enumerate(_ROWS)} | {CHARACTER_SET: len(_ROWS)}
_LAST: Final = max(_SLOT)
_SERIES_SLOT: Final = len(_STUDY)
_INSTANCE_SLOT: Final = _SERIES_SLOT + len(_SERIES)
_SOP_INSTANCE_SLOT: Final = _SLOT[0x00080018]
_STUDY_UID_SLOT: Final = _SLOT[0x0020000D]
_SERIES_UID_SLOT: Final = _SLOT[0x0020000E] - _SERIES_SLOT
_CACHED_AT_MOST: Final = 4096
"""Longer values are decoded each time, so that nobody can fill the memory with them."""

# PS3.5 9.1 has digits and dots only, but GUIDs and other names are in use and harm nobody.
_UID: Final = re.compile(r"[0-9A-Za-z._-]{0,64}")

_Raw = tuple[bytes | None, ...]


class Header(NamedTuple):
    """What one instance says about itself; a text is empty where the element is absent or empty."""

    SOPClassUID: str
    SOPInstanceUID: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    PatientID: str
    IssuerOfPatientID: str
    study: bytes
    """DICOM JSON of the fixed table's patient and study rows."""
    series: bytes
    """DICOM JSON of its series rows."""
    InstanceNumber: str
    NumberOfFrames: str
    Rows: int
    Columns: int
    pixels: int
    """Offset in bytes of Pixel Data, else of the end of the header (if deflated: once inflated)."""
    is_cut_short: bool = False
    """An element behind the fixed table runs past the end: all is known that the catalog needs."""


def scan(data: memoryview, TransferSyntaxUID: str, total: int) -> Header:
    """Return the header of a data set without File Meta Information.

    `data` is the data set or its first bytes, `total` its whole length in bytes.

    Raises:
        Unreadable: it cannot be parsed, an element of the fixed table runs past `total`, or a UID is none.
        MoreNeeded: `data` ends before the fixed table does; call again with more.
    """
    data = memoryview(data)
    coding, is_deflated = syntax(TransferSyntaxUID)
    if is_deflated:
        return read_inflated(data, total, lambda plain, size: _scan(plain, coding, size))
    return _scan(data, coding, total)


def _scan(data: memoryview, promised: Coding, total: int) -> Header:
    coding = actual_coding(data, 0, promised, total)
    found: list[bytes | None] = [None] * (len(_ROWS) + 1)
    pixels, is_cut_short = _collect(data, coding, total, found)
    characters = found[-1]
    study = _study((*found[:_SERIES_SLOT], characters))
    series = _series((*found[_SERIES_SLOT:_INSTANCE_SLOT], characters))
    sop_class, sop_instance, instance_number, frames, rows, columns = found[_INSTANCE_SLOT:-1]
    return Header(
        _uid(sop_class, "SOP Class UID"),
        _uid(sop_instance, "SOP Instance UID"),
        study.StudyInstanceUID,
        series.SeriesInstanceUID,
        study.PatientID,
        study.IssuerOfPatientID,
        study.json,
        series.json,
        _text(instance_number),
        _text(frames),
        _short(rows, coding.order),
        _short(columns, coding.order),
        pixels,
        is_cut_short,
    )


def _collect(data: memoryview, coding: Coding, total: int, found: list[bytes | None]) -> tuple[int, bool]:
    """Copy the fixed table's values into `found`; return where the pixels are, and if it is cut short."""
    header, slots, here = coding.header, _SLOT, len(data)
    offset = 0
    try:
        while offset < total:
            start = offset
            tag, vr, offset, length = header(data, offset)
            if length == UNDEFINED:
                if tag in PIXEL_DATA:
                    return start, False
                if tag == ITEM:
                    raise misplaced(tag, start)
                offset = end_of_sequence(data, offset, nested(coding, vr), total)
                continue
            stop = offset + length
            if stop > total:
                if tag > _LAST and found[_SOP_INSTANCE_SLOT]:
                    return start, True
                raise overrun(tag, offset, length, total)
            if tag in slots:
                if stop > here:
                    raise MoreNeeded(min(total, stop + 256))
                found[slots[tag]] = data[offset:stop].tobytes()
            elif tag in PIXEL_DATA or (stop > here and tag > _LAST and found[_SOP_INSTANCE_SLOT]):
                return start, False
            offset = stop
    except struct.error as error:
        return _at_the_end(data, offset, total, error), False
    return total, False


def _at_the_end(data: memoryview, offset: int, total: int, error: struct.error) -> int:
    if len(data) < total:
        raise MoreNeeded(min(total, max(offset, 2 * len(data)) + 256)) from None
    if not is_padding(data, offset):
        raise ends_early(data, offset) from error
    return offset


class _Study(NamedTuple):
    json: bytes
    StudyInstanceUID: str
    PatientID: str
    IssuerOfPatientID: str


class _Series(NamedTuple):
    json: bytes
    SeriesInstanceUID: str


def _study_of(raws: _Raw) -> _Study:
    attributes = _decoded(_STUDY, raws)
    return _Study(
        msgspec.json.encode(attributes),
        _uid(raws[_STUDY_UID_SLOT], "Study Instance UID"),
        _first(attributes, "00100020"),
        _first(attributes, "00100021"),
    )


def _series_of(raws: _Raw) -> _Series:
    attributes = _decoded(_SERIES, raws)
    return _Series(msgspec.json.encode(attributes), _uid(raws[_SERIES_UID_SLOT], "Series Instance UID"))


_remembered_study: Final = lru_cache(maxsize=1024)(_study_of)
_remembered_series: Final = lru_cache(maxsize=2048)(_series_of)


def _study(raws: _Raw) -> _Study:
    return _remembered_study(raws) if _is_short(raws) else _study_of(raws)


def _series(raws: _Raw) -> _Series:
    return _remembered_series(raws) if _is_short(raws) else _series_of(raws)


def _is_short(raws: _Raw) -> bool:
    return sum(map(len, filter(None, raws))) <= _CACHED_AT_MOST


def _decoded(rows: Sequence[Attribute], raws: _Raw) -> Attributes:
    characters = repertoire(raws[-1] or b"")
    return {
        row.tag: element(row.vr, raw, characters, "<")
        for row, raw in zip(rows, raws, strict=False)
        if raw is not None
    }


def _first(attributes: Attributes, tag: str) -> str:
    values = attributes.get(tag, {}).get("Value")
    return str(values[0] or "") if values else ""


def _uid(raw: bytes | None, name: str) -> str:
    text = _text(raw)
    if not _UID.fullmatch(text):
        raise Unreadable(
            f"The {name} has {len(text)} characters or some that no UID may have.",
            "Without it the object cannot be kept apart from others; repair it at its source.",
        )
    return text


def _text(raw: bytes | None) -> str:
    return raw.decode("latin_1").strip(" \0") if raw else ""


def _short(raw: bytes | None, order: str) -> int:
    return int.from_bytes(raw[:2], "big" if order == ">" else "little") if raw else 0
