"""The rows of the catalog, how they become bytes, and the arithmetic of their counts.

Every stored row starts with a version byte: a row of a newer program is refused, never guessed at.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, TypeVar

import msgspec

from .errors import Damaged
from .model import Decision, Entry, PatientKey

VERSION: Final = b"\x01"
_MODULUS: Final = 1 << 256


class Claims(msgspec.Struct, array_like=True):
    """The versions that claim one SOP Instance UID as (sha256, study, series), the preferred one first."""

    versions: list[tuple[bytes, str, str]]
    first: bytes
    """SHA-256 of the version that was received first."""


class InstanceRow(msgspec.Struct, array_like=True):
    """The preferred version of an instance, in the place where it is found."""

    entry: Entry
    is_hidden: bool = False


class StudyRow(msgspec.Struct, array_like=True):
    """What is known of a study; counts are of what a query may see."""

    StudyInstanceUID: str
    attributes: bytes
    """DICOM JSON of the first received instance."""
    patient: PatientKey
    received: int
    first: tuple[str, str]
    """Series and SOP Instance UID of the instance whose patient counts."""
    order: bytes
    effective: bytes = b""
    """The attributes after a person's corrections; empty when there are none."""
    corrected_patient: PatientKey | None = None
    series: int = 0
    instances: int = 0
    modalities: dict[str, int] = {}
    is_decided: bool = False
    conflicts: int = 0
    is_dirty: bool = False
    """Whether the change log has something to say of it."""
    changed: int = 0
    stated: int = 0
    """When the log last said something of it; milliseconds, as `changed`."""
    overlay: bytes = b""
    """See `StudyStatement.overlay`."""

    @property
    def seen_attributes(self) -> bytes:
        """DICOM JSON as it is answered."""
        return self.effective or self.attributes

    @property
    def seen_patient(self) -> PatientKey:
        """The patient it is found under."""
        return self.corrected_patient or self.patient


class SeriesRow(msgspec.Struct, array_like=True):
    """What is known of a series; counts, size and digest are of what a query may see."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    number: int
    """Names the series in the search index."""
    attributes: bytes
    received: int
    effective: bytes = b""
    modality: str = ""
    instances: int = 0
    size: int = 0
    digest: bytes = bytes(32)
    """Sum of the instances' SHA-256 modulo 2^256; one comparison says whether a copy is complete."""
    classes: dict[str, int] = {}
    hidden: int = 0
    conflicts: int = 0
    is_dirty: bool = False
    """Whether the change log has something to say of it."""
    changed: int = 0
    stated: int = 0
    """When the log last said something of it; milliseconds, as `changed`."""

    @property
    def seen_attributes(self) -> bytes:
        """DICOM JSON as it is answered."""
        return self.effective or self.attributes


class OutboxRow(msgspec.Struct, array_like=True):
    """What the search index has to take in of one series; no instances: the series' attributes changed."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    number: int
    instances: list[str] = []
    """New ones."""
    disputed: list[str] = []
    """Those of which another version came, to be compared."""
    is_revised: bool = False
    """Whether a decision changed which instances can be seen."""


class Totals(msgspec.Struct, array_like=True):
    """Counters of the whole catalog, written with every commit that moves them."""

    studies: int = 0
    series: int = 0
    instances: int = 0
    size: int = 0
    arrivals: int = 0
    """Last key used in the outbox."""
    numbers: int = 0
    """Last series number given."""
    decisions: int = 0
    """Decisions ever taken in; the order of two of the same millisecond."""
    open_conflicts: int = 0
    marks: int = 0
    """Last number of a mark for the change log."""
    stored: int = 0
    """Bytes of every version that is kept, hidden ones too."""
    moves: int = 0
    """Decisions ever taken in that move a series to another study."""


class ConflictRow(msgspec.Struct, array_like=True):
    """Two things that claim one UID: versions of an instance, or patients of one study."""

    SOPInstanceUID: str
    at: tuple[str, ...]
    """The study, or the series, whose row carries the flag."""
    differences: list[str]
    since: int
    is_resolved: bool = False
    is_settled: bool = False
    """Whether headers and pixels have been compared; until then the list may grow."""
    first: tuple[str, str, str] | None = None
    """For a study of two patients: the instance whose patient counts, as (study, series, instance)."""
    other: tuple[str, str, str] | None = None
    """For a study of two patients: the first instance of the other one."""


class DecisionRow(msgspec.Struct, array_like=True):
    """A decision and its place in the order of decisions."""

    decision: Decision
    order: int


Row = TypeVar("Row")


class Codec(Generic[Row]):
    """Rows of one type to bytes and back, behind a version byte."""

    def __init__(self, kind: type[Row]) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(kind).decode

    def pack(self, row: Row) -> bytes:
        """Return the bytes to store."""
        return VERSION + self._encode(row)

    def unpack(self, stored: bytes) -> Row:
        """Return the row.

        Raises:
            Damaged: it was written by another program, or is not a row.
        """
        if stored[:1] != VERSION:
            raise Damaged(
                f"A row of the catalog has version {stored[:1].hex()}, not {VERSION.hex()} as here.",
                "Start the program that wrote it, or make the catalog again with `peerpacs rebuild`.",
            )
        try:
            return self._decode(memoryview(stored)[1:])
        except msgspec.DecodeError as error:
            raise Damaged("A row of the catalog cannot be read.", "Run `peerpacs rebuild`.") from error


STUDY_CODEC: Final = Codec(StudyRow)
SERIES_CODEC: Final = Codec(SeriesRow)
INSTANCE_CODEC: Final = Codec(InstanceRow)
ENTRY_CODEC: Final = Codec(Entry)
CLAIMS_CODEC: Final = Codec(Claims)
OUTBOX_CODEC: Final = Codec(OutboxRow)
TOTALS_CODEC: Final = Codec(Totals)
CONFLICT_CODEC: Final = Codec(ConflictRow)
DECISION_CODEC: Final = Codec(DecisionRow)
NAMES_CODEC: Final = Codec(list[str])


def count(totals: Totals, study: StudyRow, series: SeriesRow, entry: Entry, sign: int) -> None:
    """Add an instance to what a query may see of its series and study, or with -1 take it away."""
    was = series.instances
    series.instances = was + sign
    series.size += sign * entry.holding.size
    series.digest = summed(series.digest, (entry.holding.sha256,), sign)
    tally(series.classes, entry.SOPClassUID, sign)
    totals.instances += sign
    totals.size += sign * entry.holding.size
    if not was or not series.instances:
        study.series += sign
        tally(study.modalities, series.modality, sign)
        totals.series += sign
    was = study.instances
    study.instances = was + sign
    if not was or not study.instances:
        totals.studies += sign


def summed(digest: bytes, others: Iterable[bytes], sign: int = 1) -> bytes:
    """Return the sum of SHA-256 values modulo 2^256; with -1, what is left when they are taken away."""
    total = int.from_bytes(digest, "big")
    for other in others:
        total += sign * int.from_bytes(other, "big")
    return (total % _MODULUS).to_bytes(32, "big")


def tally(counts: dict[str, int], name: str, sign: int) -> None:
    """Count a name up or down; what comes to nothing is not in the dictionary."""
    left = counts.get(name, 0) + sign
    if left:
        counts[name] = left
    else:
        del counts[name]
