"""What comes from a peer is believed to be its word, not to be well made: it is checked before it is read."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from catalog import BY_TAG, Attributes
from catalog.statements import WIRE_VERSION, SeriesStatement, StudyStatement, read_series, read_study

UNREADABLE: Final = (msgspec.DecodeError, ValueError, RecursionError)
"""What msgspec raises for bytes that are no message: text that is not UTF-8 and endless nesting too."""


class _Element(msgspec.Struct):
    vr: str
    Value: list[str | int | float | dict[str, Any] | None] = []


_read: Final = msgspec.json.Decoder(dict[str, _Element]).decode
_decoded: Final = msgspec.json.Decoder(Attributes).decode


def attributes_of(json: bytes) -> Attributes | None:
    """Return DICOM JSON from a peer; None if it is none, or a value is not what its VR holds."""
    try:
        elements = _read(json)
        found: Attributes = _decoded(json)
    except UNREADABLE:
        return None
    return found if all(_is_sound(tag, element) for tag, element in elements.items()) else None


def _is_sound(tag: str, element: _Element) -> bool:
    row = BY_TAG.get(tag)
    if row is not None and row.vr != element.vr:
        return False
    if element.vr == "PN":
        return all(
            value is None
            or (isinstance(value, dict) and all(isinstance(each, str) for each in value.values()))
            for value in element.Value
        )
    return element.vr == "SQ" or not any(isinstance(value, dict) for value in element.Value)


def study_of(row: bytes) -> StudyStatement | None:
    """Return a study's statement; None for a row of another kind, a newer program's, or a broken one."""
    try:
        statement = read_study(row)
    except UNREADABLE:
        return None
    is_whole = statement.version == WIRE_VERSION and attributes_of(statement.attributes) is not None
    return statement if is_whole else None


def series_of(row: bytes) -> SeriesStatement | None:
    """Return a series' statement; None for a row of another kind, a newer program's, or a broken one."""
    try:
        series = read_series(row)
    except UNREADABLE:
        return None
    is_whole = series.version == WIRE_VERSION and series.instances > 0 and len(series.digest) == 32
    return series if is_whole and attributes_of(series.attributes) is not None else None
