"""Which parts of the small indexes hold everything that a key can match: PS3.4 C.2.2.2 as ranges of keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from .levels import TIMEZONE
from .model import Attributes
from .order import BY_ACCESSION, BY_DATE, BY_NAME, BY_PATIENT, fitted, newest_first, normal_name
from .truth import Reading, end_of
from .values import texts

_FIT: Final = 120
_PATIENT_ID, _ACCESSION, _NAME, _DATE = "00100020", "00080050", "00100010", "00080020"


def walk(reading: Reading, start: bytes, end: bytes) -> Iterator[bytes]:
    """Yield the keys from `start` up to in front of `end`."""
    cursor = reading.cursor()
    if cursor.set_range(start):
        for key in cursor.iternext(keys=True, values=False):
            if key >= end:
                return
            yield key


Spans = list[tuple[bytes, bytes]]
"""Ranges of index keys as (first, behind the last)."""


def _spans(index: bytes, values: Iterable[str]) -> Spans:
    """Return the key ranges that hold every value a wildcard key can match; none if it can match any."""
    spans = []
    for value in values:
        head, star, _ = value.partition("*")
        head, mark, _ = head.partition("?")
        prefix = index + fitted(head)
        if not (star or mark) and len(fitted(head)) < _FIT:
            prefix += b"\0"
        elif not head:
            return []
        spans.append((prefix, end_of(prefix)))
    return spans


def _patient_spans(keys: Attributes) -> Spans:
    return _spans(BY_PATIENT, texts(keys[_PATIENT_ID]))


def _accession_spans(keys: Attributes) -> Spans:
    return _spans(BY_ACCESSION, texts(keys[_ACCESSION]))


def _name_spans(keys: Attributes) -> Spans:
    heads = []
    for text in texts(keys[_NAME]):
        groups = [group for group in text.split("=") if group.strip(" *^")]
        head = normal_name(groups[0]) if groups else "*"
        stop = min((head.find(mark) for mark in "*?" if mark in head), default=-1)
        heads.append(head if stop < 0 else head[:stop].rstrip("^ ") + "*")
    return _spans(BY_NAME, heads)


def _date_spans(keys: Attributes) -> Spans:
    span = date_span(keys)
    return [span] if span else []


def date_span(keys: Attributes) -> tuple[bytes, bytes] | None:
    """Return the part of the date index that a key on StudyDate leaves."""
    values = texts(keys[_DATE]) if _DATE in keys and TIMEZONE not in keys else []
    if len(values) != 1:
        return None
    low, dash, high = (part.strip() for part in values[0].partition("-"))
    if not dash:
        high = low
    start, end = BY_DATE, end_of(BY_DATE)
    # The matcher takes 31 February for the end of February, wherever it stands.
    if high:
        start = BY_DATE + newest_first(high if high[-2:] < "28" else high[:-2] + "31")
    if low:
        end = end_of(BY_DATE + newest_first(low if low[-2:] < "28" else low[:-2] + "28"))
    return start, end


INDEXES: Final[dict[str, Callable[[Attributes], Spans]]] = {
    _ACCESSION: _accession_spans,
    _PATIENT_ID: _patient_spans,
    _NAME: _name_spans,
    _DATE: _date_spans,
}
"""By tag: the ranges that hold what the key can match, none if it can match anything; cheapest first."""
