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
    encode_identifier,
    scan,
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


class Shelf:
    """Keeps data sets in memory, makes arrivals of them, and reads their headers for the catalog."""

    def __init__(self) -> None:
        self._data: dict[bytes, bytes] = {}
        self.reads = 0

    def arrival(self, keys: Attributes, received: int = 1_700_000_000_000) -> Arrival:
        """Return the arrival of a data set with these attributes."""
        data = encode_identifier(keys, EXPLICIT)
        header = scan(memoryview(data), EXPLICIT, len(data))
        digest = sha256(data).digest()
        self._data[digest] = data
        return Arrival(
            entry=Entry(
                StudyInstanceUID=header.StudyInstanceUID,
                SeriesInstanceUID=header.SeriesInstanceUID,
                SOPInstanceUID=header.SOPInstanceUID,
                SOPClassUID=header.SOPClassUID,
                TransferSyntaxUID=EXPLICIT,
                holding=Holding(digest, b"shelf", len(data)),
                received=received,
                source="TEST",
                InstanceNumber=header.InstanceNumber,
                Rows=header.Rows,
                Columns=header.Columns,
            ),
            patient=PatientKey(header.IssuerOfPatientID or ISSUER, header.PatientID),
            study=header.study,
            series=header.series,
        )

    def read_header(self, entry: Entry, size: int) -> tuple[memoryview, int]:
        """Return the first bytes of a data set and its length."""
        self.reads += 1
        data = self._data[entry.holding.sha256]
        return memoryview(data)[:size], len(data)


def data_set(study: str, series: str, instance: str, **values: Any) -> Attributes:
    """Return the attributes of an instance; keys are keywords of the fixed table or tags with elements."""
    facts: dict[str, Any] = {
        "PatientID": "4711",
        "PatientName": "DOE^JANE",
        "StudyDate": "20240102",
        "StudyTime": "101112",
        "Modality": "CT",
        "SOPClassUID": CT,
        "InstanceNumber": 1,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "SOPInstanceUID": instance,
    }
    facts.update({k: v for k, v in values.items() if k in BY_KEYWORD})
    found = attributes(**facts)
    found.update({k: v for k, v in values.items() if k not in BY_KEYWORD})
    return dict(sorted(found.items()))


def open_catalog(
    home: Path, map_size: int = 1 << 30, clock: Clock | None = None, shelf: Shelf | None = None
) -> LmdbCatalog:
    """Open the catalog of a folder."""
    return LmdbCatalog(
        home / "catalog",
        home / "search",
        clock=clock or Ticking(),
        read_header=shelf.read_header if shelf else nothing_to_read,
        map_size=map_size,
    )


def index_all(catalog: LmdbCatalog, clock: Ticking) -> None:
    """Let the search index catch up."""
    while catalog.index(clock()):
        clock.now += 1
