"""Cohort lists: found, not found, ambiguous, refused, all said before anything runs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import openpyxl
import pydicom
import pytest

from catalog import BadRequest
from node.research.lists import read_list
from tests.homes import Peer, attribute, edited

from .site import PROJECT, Site


def told(site: Site, path: Path) -> dict[str, int]:
    """Return how many lines there are of each finding."""
    wanted = msgspec.to_builtins(read_list(path))
    findings: dict[str, int] = site.ask("preview_export", project=PROJECT, wanted=wanted)["findings"]
    return {finding: count for finding, count in findings.items() if count}


def test_each_line_is_found_or_not_or_in_doubt_before_anything_runs(site: Site, tmp_path: Path) -> None:
    one, two = site.store(1)[0], site.store(2)[0]
    name = str(attribute(one, "PatientID"))
    other = edited(
        two,
        PatientID=name,
        IssuerOfPatientID="ELSEWHERE",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.4",
    )
    other.SOPInstanceUID = "1.2.5"
    other = edited(other, SOPInstanceUID="1.2.5")
    assert Peer(site.node).store(other) == [0]
    site.project()
    path = tmp_path / "list.csv"
    accession, study = attribute(one, "AccessionNumber"), attribute(two, "StudyInstanceUID")
    path.write_text(
        "Patient ID;Issuer;Accession;Study UID;Subject ID\n"
        f"{name};PHANTOMS;;;S-001\n"
        f"{name};;;;S-002\n"
        f";;{accession};;\n"
        f";;;{study};S-003\n"
        "*;;;;\n"
        "nobody;;;;\n"
        f"{name};PHANTOMS;;;{name}\n"
        f"{name};PHANTOMS;;;S-009\n"
        f";;;{study};S-001\n",
        encoding="utf-8-sig",
    )
    assert told(site, path) == {"found": 3, "not found": 2, "ambiguous": 1, "refused": 3}


def test_subject_ids_and_time_points_stand_in_the_released_files(site: Site, tmp_path: Path) -> None:
    one = site.store(1)[0]
    site.project()
    wanted = [
        {"line": 2, "study": attribute(one, "StudyInstanceUID"), "subject_id": "S-001", "time_point": "BASE"}
    ]
    out = tmp_path / "cohort"
    export = site.export(out, wanted=wanted)
    assert export["standing"] == "released"
    assert export["held"] == {}
    files = [path for path in out.rglob("IM*") if path.is_file()]
    read = pydicom.dcmread(files[0])
    assert (read.ClinicalTrialSubjectID, read.ClinicalTrialTimePointID) == ("S-001", "BASE")
    assert read.ClinicalTrialProtocolID == PROJECT
    assert read.PatientID.startswith(f"{PROJECT}-")


def test_a_workbook_is_read_as_its_csv_is(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["patient_id", "subject", "visit"])
    sheet.append([4711, "S-001", "V1"])
    sheet.append([None, None, None])
    book.save(tmp_path / "list.xlsx")
    (tmp_path / "list.csv").write_text("patient_id,subject,visit\n4711,S-001,V1\n,,\n")
    assert read_list(tmp_path / "list.xlsx") == read_list(tmp_path / "list.csv")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\0", b"who,what\n1,2\n", b'patient_id\n"open', b"\0\0\0\0", b"PK\3\4junk"]
)
@pytest.mark.parametrize("name", ["list.csv", "list.xlsx"])
def test_what_is_no_list_is_said_to_be_none(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadRequest):
        read_list(path)


def test_years_and_months_are_dates_too(site: Site) -> None:
    site.store(*range(1, 14))
    site.project(smallest=1)

    def subjects(dates: str) -> int:
        told = site.ask("preview_export", project=PROJECT, query=["Modality=", f"StudyDate={dates}"])
        return int(told["sites"][0]["subjects"])

    days = sorted(row["StudyDate"] for row in Peer(site.node).find(StudyDate="", StudyInstanceUID=""))
    first, last = days[0], days[-1]
    wholes = (f"{first[:4]}-", f"{first}-{last}", f"{first[:6]}-{last[:6]}")
    told = {subjects(whole) for whole in wholes}
    assert told in ({10}, {20}), "there are 13, which is told the same each time"
    assert subjects(f"-{int(first[:4]) - 1}") < 0
    assert subjects(f"{int(last[:4]) + 1}") < 0
    with pytest.raises(BadRequest):
        subjects("2024-1-1")
