"""Arrivals made from a few words, for tests of the catalog."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from catalog import (
    BY_KEYWORD,
    Arrival,
    Attributes,
    Clock,
    Entry,
    Holding,
    Level,
    LmdbCatalog,
    Matching,
    PatientKey,
    Query,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
ISSUER = "ALPHA"


class Ticking:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def element(keyword: str, value: Any) -> dict[str, Any]:
    """Return one element of the fixed table as DICOM JSON."""
    vr = BY_KEYWORD[keyword].vr
    if value in ("", None):
        return {"vr": vr}
    values = value if isinstance(value, list) else [value]
    return {"vr": vr, "Value": [{"Alphabetic": each} if vr == "PN" else each for each in values]}


def attributes(**values: Any) -> Attributes:
    """Return DICOM JSON by keyword; a list is several values."""
    return {BY_KEYWORD[keyword].tag: element(keyword, value) for keyword, value in values.items()}


def arrival(study: str, series: str, instance: str, *, content: str = "", **values: Any) -> Arrival:
    """Return an arrival of the instance; `content` makes another version, `received` another time."""
    facts: dict[str, Any] = {
        "PatientID": "4711",
        "PatientName": "DOE^JANE",
        "PatientBirthDate": "19700101",
        "PatientSex": "F",
        "StudyDate": "20240102",
        "StudyTime": "101112",
        "AccessionNumber": "A1",
        "StudyDescription": "CHEST",
        "Modality": "CT",
        "SeriesNumber": 1,
        "SOPClassUID": CT,
        "InstanceNumber": "1",
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
    }
    received = values.pop("received", 1_700_000_000_000)
    issuer = values.pop("issuer", ISSUER)
    size = values.pop("size", 1000)
    facts.update(values)
    digest = sha256(f"{study}/{series}/{instance}/{content}".encode()).digest()
    rows = {keyword: BY_KEYWORD[keyword] for keyword in facts}
    above = {k: v for k, v in facts.items() if rows[k].level in (Level.PATIENT, Level.STUDY)}
    of_series = {k: v for k, v in facts.items() if rows[k].level is Level.SERIES}
    patient = str(facts["PatientID"] or "")
    return Arrival(
        entry=Entry(
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            SOPInstanceUID=instance,
            SOPClassUID=facts["SOPClassUID"],
            TransferSyntaxUID=EXPLICIT,
            holding=Holding(digest, b"0:0", size),
            received=received,
            source="TEST",
            InstanceNumber=str(facts["InstanceNumber"]),
        ),
        patient=PatientKey(issuer, patient) if patient else PatientKey("", "", study),
        study=msgspec.json.encode(attributes(**above)),
        series=msgspec.json.encode(attributes(**of_series)),
    )


def query(level: Level, *, matching: Matching = Matching.PLAIN, limit: int = 0, **values: Any) -> Query:
    """Return a question by keyword; an empty text is a return key."""
    keys = attributes(**{k: v for k, v in values.items() if k in BY_KEYWORD})
    keys.update({k: v for k, v in values.items() if k not in BY_KEYWORD})
    return Query(level=level, keys=keys, matching=matching, limit=limit)


def nothing_to_read(entry: Entry, size: int) -> tuple[memoryview, int]:
    """Be the header reader of a catalog whose instances are not stored anywhere."""
    return memoryview(b""), 0


def open_catalog(home: Path, map_size: int = 1 << 30, clock: Clock | None = None) -> LmdbCatalog:
    """Open the catalog of a folder."""
    return LmdbCatalog(
        home / "catalog",
        home / "search",
        clock=clock or Ticking(),
        read_header=nothing_to_read,
        map_size=map_size,
    )
