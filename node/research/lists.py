"""Cohort lists: CSV, and XLSX where openpyxl is installed, as rows of named cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from catalog import BadRequest

_MOST_BYTES: Final = 32 << 20
_MOST_ROWS: Final = 100_000
_NAMES: Final = {
    "patient": ("patient", "patientid", "id", "mrn"),
    "issuer": ("issuer", "issuerofpatientid", "assigningauthority"),
    "accession": ("accession", "accessionnumber"),
    "study": ("study", "studyuid", "studyinstanceuid", "uid"),
    "subject_id": ("subject", "subjectid", "clinicaltrialsubjectid"),
    "time_point": ("timepoint", "timepointid", "visit", "clinicaltrialtimepointid"),
}
"""How a column may be called, without regard to case, blanks, hyphens and underscores."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a list: a patient, an accession number or a study, and what the trial calls it."""

    line: int
    patient: str = ""
    issuer: str = ""
    accession: str = ""
    study: str = ""
    subject_id: str = ""
    time_point: str = ""


def read_list(path: Path) -> list[Wanted]:
    """Return the lines of a list.

    Raises:
        BadRequest: it is no list, has no known column, or is too long.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BadRequest(f"{path.name} is larger than 32 MB.", "Divide it into several exports.")
        rows = _sheet(path) if path.suffix.lower() == ".xlsx" else _text(path.read_bytes(), path.name)
    except OSError as error:
        raise BadRequest(f"{path.name} cannot be read: {error.strerror}.", "Check the path.") from None
    return _wanted(rows, path.name)


def _text(content: bytes, name: str) -> list[list[str]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest(f"{name} is not UTF-8.", "Save it as CSV UTF-8.") from None
    if "\0" in text:
        raise BadRequest(f"{name} is not a text file.", "Save it as CSV UTF-8, or as .xlsx.")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise BadRequest(f"{name} is not CSV: {error}.", "Save it as CSV UTF-8.") from None


def _sheet(path: Path) -> list[list[str]]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        remedy = "Install peerpacs[research], or save the list as CSV."
        raise BadRequest("Lists in XLSX need the library openpyxl, which is not installed.", remedy) from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except Exception as error:
        what = f"{path.name} cannot be read as XLSX ({type(error).__name__})."
        raise BadRequest(what, "Save it again, or as CSV.") from None
    try:
        return [[_cell(value) for value in row] for row in book.worksheets[0].iter_rows(values_only=True)]
    except Exception as error:
        what = f"{path.name} cannot be read as XLSX ({type(error).__name__})."
        raise BadRequest(what, "Save it again, or as CSV.") from None
    finally:
        book.close()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _wanted(rows: Sequence[Sequence[str]], name: str) -> list[Wanted]:
    if not rows:
        raise BadRequest(f"{name} is empty.", "Its first line names the columns.")
    places = _places(rows[0], name)
    if len(rows) > _MOST_ROWS:
        raise BadRequest(f"{name} has more than {_MOST_ROWS} lines.", "Divide it into several exports.")
    wanted = []
    for number, row in enumerate(rows[1:], 2):
        cells = {key: row[at].strip() for key, at in places.items() if at < len(row)}
        if any(cells.values()):
            wanted.append(Wanted(line=number, **cells))
    return wanted


def _places(titles: Iterable[str], name: str) -> dict[str, int]:
    places: dict[str, int] = {}
    for at, title in enumerate(titles):
        plain = "".join(c for c in title.casefold() if c.isalnum())
        for key, names in _NAMES.items():
            if plain in names and key not in places:
                places[key] = at
    if not {"patient", "accession", "study"} & places.keys():
        what = f"The first line of {name} names no column that says who is wanted."
        remedy = "Call columns patient_id, issuer, accession or study_uid; and subject_id, time_point."
        raise BadRequest(what, remedy)
    return places
