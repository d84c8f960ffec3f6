"""What is answered at each level: the attributes of a match, computed ones included.

Of what lies below the level asked for, a match carries the distinct values: a study answers StationName
with those of its series. Counts and lists are of what a query may see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from .attributes import BY_TAG, Level
from .model import Attributes, Availability, Entry
from .order import decoded, patient_prefix
from .rows import INSTANCE_CODEC, SERIES_CODEC, STUDY_CODEC, InstanceRow, SeriesRow, StudyRow
from .truth import INSTANCE, STUDY, Reading, joined, scan, scan_keys, series_at

RANK: Final = {Level.PATIENT: 0, Level.STUDY: 1, Level.SERIES: 2, Level.IMAGE: 3}
NOT_MATCHED: Final = frozenset({"00080005", "00080052", "00080054", "00081190"})
"""They describe the exchange, not the match (PS3.4 C.2.2.2, C.4.1.1.3)."""
TIMEZONE: Final = "00080201"

# PS3.4 Tables C.6-1 to C.6-4 and C.3.4.
COMPUTED: Final = {
    "00201200": Level.PATIENT,  # NumberOfPatientRelatedStudies
    "00201202": Level.PATIENT,  # NumberOfPatientRelatedSeries
    "00201204": Level.PATIENT,  # NumberOfPatientRelatedInstances
    "00080061": Level.STUDY,  # ModalitiesInStudy
    "00080062": Level.STUDY,  # SOPClassesInStudy
    "00201206": Level.STUDY,  # NumberOfStudyRelatedSeries
    "00201208": Level.STUDY,  # NumberOfStudyRelatedInstances
    "00201209": Level.SERIES,  # NumberOfSeriesRelatedInstances
    "00080056": Level.PATIENT,  # InstanceAvailability
}
"""Attributes no object carries, with the highest level at which they are answered."""

_PATIENT_COUNTS: Final = ("00201200", "00201202", "00201204")


def level_of(tag: str) -> Level | None:
    """Return the level a tag belongs to; None for one outside the fixed table."""
    if tag in COMPUTED:
        return COMPUTED[tag]
    row = BY_TAG.get(tag)
    return row.level if row else None


def number(value: int) -> dict[str, Any]:
    """Return an element of VR IS."""
    return {"vr": "IS", "Value": [value]}


def listed(vr: str, values: Iterable[str]) -> dict[str, Any]:
    """Return an element with the values in order, without an empty one."""
    present = sorted(value for value in values if value)
    return {"vr": vr, "Value": present} if present else {"vr": vr}


def seen_attributes(row: StudyRow) -> Attributes:
    """Return the patient and study attributes, with the issuer the patient is known by."""
    attributes: Attributes = decoded(row.seen_attributes)
    issuer = row.seen_patient.IssuerOfPatientID
    if issuer and not attributes.get("00100021", {}).get("Value"):
        attributes["00100021"] = {"vr": "LO", "Value": [issuer]}
    return attributes


def study_attributes(reading: Reading, row: StudyRow, wanted: frozenset[str]) -> Attributes:
    """Return the patient and study attributes, with the computed ones that are wanted."""
    attributes = seen_attributes(row)
    for tag in wanted & COMPUTED.keys():
        if compute := _OF_A_STUDY.get(tag):
            attributes[tag] = compute(reading, row)
    if not wanted.isdisjoint(_PATIENT_COUNTS):
        attributes.update(_patient_counts(reading, row))
    return attributes


def _classes(reading: Reading, row: StudyRow) -> dict[str, Any]:
    classes: set[str] = set()
    for _, series in visible_series(reading, row.StudyInstanceUID):
        classes.update(series.classes)
    return listed("UI", classes)


_OF_A_STUDY: Final[dict[str, Callable[[Reading, StudyRow], dict[str, Any]]]] = {
    "00080061": lambda _, row: listed("CS", row.modalities),
    "00080062": _classes,
    "00201206": lambda _, row: number(row.series),
    "00201208": lambda _, row: number(row.instances),
    "00080056": lambda _, row: {"vr": "CS", "Value": [Availability.ONLINE.value]},
}


def _patient_counts(reading: Reading, row: StudyRow) -> Attributes:
    studies = [row] if row.seen_patient.anonymous_study else list(studies_of_patient(reading, row))
    return {
        "00201200": number(len(studies)),
        "00201202": number(sum(study.series for study in studies)),
        "00201204": number(sum(study.instances for study in studies)),
    }


def studies_of_patient(reading: Reading, row: StudyRow) -> Iterable[StudyRow]:
    """Yield the visible studies of the patient of a study."""
    patient = row.seen_patient
    prefix = patient_prefix(patient.PatientID, patient.IssuerOfPatientID)
    for key in scan_keys(reading, prefix):
        stored = reading.get(STUDY + key[len(prefix) + 20 :])
        study = STUDY_CODEC.unpack(stored) if stored else None
        if study and study.instances and study.seen_patient == patient:
            yield study


def visible_series(reading: Reading, StudyInstanceUID: str) -> Iterable[tuple[bytes, SeriesRow]]:
    """Return (key, row) of the series of a study that have something to see."""
    return (found for found in all_series(reading, StudyInstanceUID) if found[1].instances)


def all_series(reading: Reading, StudyInstanceUID: str) -> Iterable[tuple[bytes, SeriesRow]]:
    """Yield (key, row) of every series of a study, those with nothing to see too."""
    for _, stored in scan(reading, series_at(joined(StudyInstanceUID, ""))):
        row = SERIES_CODEC.unpack(stored)
        yield joined(StudyInstanceUID, row.SeriesInstanceUID), row


def visible_instances(reading: Reading, series_key: bytes) -> Iterable[Entry]:
    """Yield the preferred versions of a series that nobody hid."""
    for _, stored in scan(reading, INSTANCE + series_key + b"\0"):
        row: InstanceRow = INSTANCE_CODEC.unpack(stored)
        if not row.is_hidden:
            yield row.entry


def series_attributes(study: Attributes, row: SeriesRow) -> Attributes:
    """Return the attributes of a series with those of its study."""
    return {
        **study,
        **decoded(row.seen_attributes),
        "00201209": number(row.instances),
    }


def instance_attributes(series: Attributes, entry: Entry) -> Attributes:
    """Return the attributes of an instance with those of its series and study."""
    attributes = {
        **series,
        "00080018": {"vr": "UI", "Value": [entry.SOPInstanceUID]},
        "00080016": {"vr": "UI", "Value": [entry.SOPClassUID]},
    }
    if entry.InstanceNumber:
        attributes["00200013"] = {"vr": "IS", "Value": [entry.InstanceNumber]}
    if entry.NumberOfFrames:
        attributes["00280008"] = {"vr": "IS", "Value": [entry.NumberOfFrames]}
    if entry.Rows:
        attributes["00280010"] = {"vr": "US", "Value": [entry.Rows]}
    if entry.Columns:
        attributes["00280011"] = {"vr": "US", "Value": [entry.Columns]}
    return attributes


def united(parts: Iterable[Attributes], tags: Iterable[str]) -> Attributes:
    """Return the tags with the distinct values of all parts, in the order in which they come."""
    result: Attributes = {}
    wanted = set(tags)
    for part in parts:
        for tag in wanted & part.keys():
            element = result.setdefault(tag, {"vr": part[tag]["vr"]})
            values = element.setdefault("Value", [])
            values.extend(value for value in part[tag].get("Value", ()) if value not in values)
    for element in result.values():
        if not element["Value"]:
            del element["Value"]
    return result


def series_rank(row: SeriesRow) -> tuple[float, str]:
    """Return what series are sorted by: SeriesNumber, then UID."""
    return _numeric(decoded(row.seen_attributes).get("00200011", {}).get("Value")), row.SeriesInstanceUID


def instance_rank(entry: Entry) -> tuple[float, str]:
    """Return what instances are sorted by: InstanceNumber, then UID."""
    return _numeric([entry.InstanceNumber]), entry.SOPInstanceUID


def _numeric(values: list[Any] | None) -> float:
    try:
        return float(values[0]) if values else float("inf")
    except (TypeError, ValueError):
        return float("inf")
