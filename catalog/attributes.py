"""The fixed table: the attributes every node decodes at ingest, answers without lag and synchronises.

Everything else a data set carries is searchable too, from the header packs, a few seconds later.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Level(StrEnum):
    """Query/Retrieve Level (0008,0052), PS3.4 C.3."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


class Attribute(NamedTuple):
    """One row of the fixed table; `tag` is eight hexadecimal digits, as in DICOM JSON."""

    tag: str
    keyword: str
    vr: str
    level: Level


_ROWS: Final = """
PATIENT 00100010 PN PatientName
PATIENT 00100020 LO PatientID
PATIENT 00100021 LO IssuerOfPatientID
PATIENT 00100030 DA PatientBirthDate
PATIENT 00100032 TM PatientBirthTime
PATIENT 00100040 CS PatientSex
STUDY   0020000D UI StudyInstanceUID
STUDY   00080020 DA StudyDate
STUDY   00080030 TM StudyTime
STUDY   00080050 SH AccessionNumber
STUDY   00080090 PN ReferringPhysicianName
STUDY   00080201 SH TimezoneOffsetFromUTC
STUDY   00081030 LO StudyDescription
STUDY   00101010 AS PatientAge
STUDY   00200010 SH StudyID
SERIES  0020000E UI SeriesInstanceUID
SERIES  00080060 CS Modality
SERIES  00080021 DA SeriesDate
SERIES  00080031 TM SeriesTime
SERIES  00080070 LO Manufacturer
SERIES  00080080 LO InstitutionName
SERIES  00081010 SH StationName
SERIES  0008103E LO SeriesDescription
SERIES  00081050 PN PerformingPhysicianName
SERIES  00081090 LO ManufacturerModelName
SERIES  00180015 CS BodyPartExamined
SERIES  00181030 LO ProtocolName
SERIES  00200011 IS SeriesNumber
SERIES  00200060 CS Laterality
SERIES  00400244 DA PerformedProcedureStepStartDate
SERIES  00400245 TM PerformedProcedureStepStartTime
IMAGE   00080018 UI SOPInstanceUID
IMAGE   00080016 UI SOPClassUID
IMAGE   00200013 IS InstanceNumber
IMAGE   00280008 IS NumberOfFrames
IMAGE   00280010 US Rows
IMAGE   00280011 US Columns
"""


def _read(line: str) -> Attribute:
    level, tag, vr, keyword = line.split()
    return Attribute(tag, keyword, vr, Level(level))


FIXED_TABLE: Final[tuple[Attribute, ...]] = tuple(_read(line) for line in _ROWS.split("\n") if line)
BY_TAG: Final[dict[str, Attribute]] = {row.tag: row for row in FIXED_TABLE}
BY_KEYWORD: Final[dict[str, Attribute]] = {row.keyword: row for row in FIXED_TABLE}
UNIQUE_KEY: Final[dict[Level, str]] = {
    Level.PATIENT: "00100020",
    Level.STUDY: "0020000D",
    Level.SERIES: "0020000E",
    Level.IMAGE: "00080018",
}
"""The unique key of each level, PS3.4 C.6.1.1 and C.6.2.1."""
