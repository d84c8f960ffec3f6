"""Statements: what a node says about a study or series it holds, as the bytes that go over the wire.

A statement that says something is gone, a tombstone, is empty or one byte that says why.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from .model import PatientKey, Verb
from .overlays import load
from .rows import SeriesRow, StudyRow
from .truth import DECIDED, Reads

WIRE_VERSION: Final = 1
EVICTED: Final = b""
"""The node does not hold it any more; nothing is said about other copies."""
DELETED: Final = b"D"
"""A person deleted it."""
REJECTED: Final = b"R"
"""A person rejected it."""
LEFT_SHARE: Final = b"L"
"""It is still there, but not in what this reader is granted."""


class StudyStatement(msgspec.Struct, array_like=True, frozen=True):
    """What the node states about a study it holds: the row as it goes over the wire."""

    version: int
    StudyInstanceUID: str
    patient: PatientKey
    attributes: bytes
    """Effective patient and study attributes, DICOM JSON."""
    received: int
    has_conflict: bool
    overlay: bytes = b""
    """Changes with every correction in the study, also of what is not stated here; empty without one."""


class SeriesStatement(msgspec.Struct, array_like=True, frozen=True):
    """What the node states about a series it holds: the row as it goes over the wire."""

    version: int
    StudyInstanceUID: str
    SeriesInstanceUID: str
    attributes: bytes
    """Effective series attributes, DICOM JSON."""
    instances: int
    size: int
    digest: bytes
    """Sum of the instances' SHA-256 modulo 2^256: a copy is complete when its sum is the same."""
    SOPClassUIDs: tuple[str, ...]
    received: int
    is_settled: bool
    has_conflict: bool


wire_form: Final = msgspec.msgpack.Encoder().encode
read_study: Final = msgspec.msgpack.Decoder(StudyStatement).decode
read_series: Final = msgspec.msgpack.Decoder(SeriesStatement).decode


class Stated(NamedTuple):
    """Everything one holder says about a study."""

    study: StudyStatement
    series: list[SeriesStatement]
    is_here: bool = True
    """Whether all of it can be read just now."""


def of_study(row: StudyRow) -> StudyStatement:
    """Return what is stated of a study of which something can be seen."""
    return StudyStatement(
        WIRE_VERSION,
        row.StudyInstanceUID,
        row.seen_patient,
        row.seen_attributes,
        row.received,
        row.conflicts > 0,
        row.overlay,
    )


def of_series(row: SeriesRow, *, is_settled: bool) -> SeriesStatement:
    """Return what is stated of a series of which something can be seen."""
    return SeriesStatement(
        WIRE_VERSION,
        row.StudyInstanceUID,
        row.SeriesInstanceUID,
        row.seen_attributes,
        row.instances,
        row.size,
        row.digest,
        tuple(sorted(row.classes)),
        row.received,
        is_settled,
        row.conflicts > 0,
    )


def is_tombstone(row: bytes) -> bool:
    """Say whether a row says that its key is gone; a statement is never that short."""
    return len(row) < 2


def why_gone(reads: Reads, *target: str) -> bytes:
    """Return the tombstone of a study, or of a series: (study,) or (study, series)."""
    if reads.get(DECIDED + target[0].encode()) is None:
        return EVICTED
    verbs = load(reads, target[0]).hiding(target)
    if verbs & {Verb.DELETE, Verb.ERASE}:
        return DELETED
    return REJECTED if verbs else EVICTED
