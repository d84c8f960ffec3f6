"""Exports of one node: asked, approved, de-identified, verified, and only then brought to their target."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import pydicom
import pytest

from catalog import BadRequest, Busy, NotPermitted
from node.contracts import Device, Service
from node.dimse import Requestor
from node.research.release import complaints
from tests.homes import Peer, attribute, edited, serving

from .site import PROJECT, Site, picture


def test_a_query_becomes_a_folder_with_a_dicomdir_and_a_signed_manifest(site: Site, tmp_path: Path) -> None:
    sent = site.store(1, 2)
    site.project()
    out = tmp_path / "cohort"
    export = site.export(out)
    assert export["standing"] == "released", export
    assert export["released"] == len(sent)
    assert len(export["subjects"]) == 2
    records = pydicom.dcmread(out / "DICOMDIR").DirectoryRecordSequence
    named = [out.joinpath(*record.ReferencedFileID) for record in records if "ReferencedFileID" in record]
    assert len(named) == len(sent)
    assert all(path.is_file() for path in named)
    assert list(complaints(out)) == []
    names = {str(attribute(one, "PatientID")) for one in sent} | {one.SOPInstanceUID for one in sent}
    content = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert not any(name.encode() in content for name in names)
    site.until(lambda: not (site.node.home / "research" / "exports" / export["id"]).exists())


def test_a_changed_release_is_found_out_without_any_secret(site: Site, tmp_path: Path) -> None:
    site.store(1)
    site.project()
    out = tmp_path / "cohort"
    assert site.export(out)["standing"] == "released"
    manifest = out / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace(PROJECT, "TRIAL-8"))
    assert "The manifest is not what was signed." in list(complaints(out))


def test_one_byte_changed_anywhere_in_a_release_or_a_file_more_is_found_out(
    site: Site, tmp_path: Path
) -> None:
    site.store(1)
    site.project()
    out = tmp_path / "cohort"
    assert site.export(out)["standing"] == "released"
    assert list(complaints(out)) == []
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        content = path.read_bytes()
        times = 100 if path.suffix in (".jsonl", ".json") else 5
        for at in range(0, len(content), max(1, len(content) // times)):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert list(complaints(out)), f"{path.name}, byte {at}"
        path.write_bytes(content[:-1])
        assert list(complaints(out)), f"{path.name}, cut short"
        path.write_bytes(content)
    (out / "IM999").write_bytes(b"more")
    assert list(complaints(out)) == ["IM999 was put in later."]


def test_corrections_are_applied_and_what_was_rejected_is_left_out(site: Site, tmp_path: Path) -> None:
    kept, gone = site.store(1), site.store(2)
    study = str(attribute(kept[0], "StudyInstanceUID"))
    site.ask("correct", target=study, attributes=["PatientSex=O"], reason="typing", who="novak")
    site.ask("reject", target=str(attribute(gone[0], "StudyInstanceUID")), reason="wrong", who="novak")
    site.project()
    out = tmp_path / "cohort"
    assert site.export(out)["released"] == len(kept)
    files = [path for path in out.rglob("*") if path.is_file() and path.name.startswith("IM")]
    assert {pydicom.dcmread(path).PatientSex for path in files} == {"O"}


def test_a_zip_file_holds_the_same(site: Site, tmp_path: Path) -> None:
    sent = site.store(1)
    site.project()
    out = tmp_path / "cohort.zip"
    assert site.export(out)["standing"] == "released"
    with zipfile.ZipFile(out) as archive:
        names = archive.namelist()
        assert {info.date_time[0] for info in archive.infolist()} == {1980}
    assert "DICOMDIR" in names
    assert len([name for name in names if "/IM" in name]) == len(sent)


def test_the_projects_archive_answers_with_the_de_identified_set(site: Site) -> None:
    sent = site.store(1)
    site.project(ae_title="TRIAL7")
    export = site.export("archive:")
    assert export["standing"] == "released", export
    archive = site.node.archive(PROJECT.lower())
    assert archive.catalog.totals().instances == len(sent)
    assert site.export("archive:")["standing"] == "released"
    assert archive.catalog.totals().instances == len(sent)


def test_an_export_waits_for_a_person_whom_the_project_names(site: Site, tmp_path: Path) -> None:
    site.store(1)
    site.project(approvers=["svoboda"], reviewers=["dvorak"])
    out = tmp_path / "cohort"
    export = site.export(out)
    assert export["standing"] == "waits for approval"
    with pytest.raises(NotPermitted):
        site.ask("approve_export", id=export["id"], who="novak")
    site.ask("approve_export", id=export["id"], who="svoboda")
    export = site.over(export["id"])
    assert export["standing"] == "waits for a look before release", export
    assert not out.exists()
    assert (Path(export["release"]) / "manifest.jsonl").exists()
    site.ask("release_export", id=export["id"], who="dvorak")
    assert site.over(export["id"])["standing"] == "released"
    assert list(complaints(out)) == []


def test_what_is_refused_never_goes_out(site: Site, tmp_path: Path) -> None:
    site.store(1)
    site.project(approvers=["svoboda"])
    export = site.export(tmp_path / "cohort")
    refused = site.ask("refuse_export", id=export["id"], who="svoboda", why="no ethics vote")
    assert refused["standing"] == "refused"
    with pytest.raises(BadRequest):
        site.ask("approve_export", id=export["id"], who="svoboda")
    assert not (tmp_path / "cohort").exists()


def test_counts_are_rounded_small_ones_hidden_and_differences_tell_nothing(site: Site) -> None:
    site.store(*range(1, 13))
    site.project()

    def told(*query: str) -> int:
        return int(site.ask("preview_export", project=PROJECT, query=list(query))["sites"][0]["subjects"])

    all_of_them = told("Modality=")
    assert all_of_them in (10, 20), "there are 12"
    name = str(attribute(site.store(40)[0], "PatientID"))
    assert told("Modality=") == all_of_them
    assert told(f"PatientID={name}") == -1
    site.ask("put_project", name=PROJECT, who="novak", is_new=False, questions=2)
    assert told("Modality=") == all_of_them
    with pytest.raises(Busy):
        told("Modality=", "PatientName=A*")


def test_no_log_or_audit_line_names_a_patient(site: Site, tmp_path: Path) -> None:
    sent = site.store(1)
    site.project()
    assert site.export(tmp_path / "cohort")["standing"] == "released"
    site.node.audit.step()
    lines = "".join(path.read_text() for path in (site.node.home / "audit").glob("*.jsonl"))
    assert '"export"' in lines
    assert str(attribute(sent[0], "PatientID")) not in lines
    assert json.loads(lines.splitlines()[-1])


def test_two_sites_with_one_key_agree_and_another_project_shares_nothing(site: Site, tmp_path: Path) -> None:
    sent = site.store(1)
    site.project()
    key = site.node.home / "secrets" / "projects" / f"{PROJECT}.key"
    assert site.export(tmp_path / "here")["standing"] == "released"
    with serving(tmp_path / "elsewhere", node={"ae_title": "BETA"}) as node:
        other = Site(node)
        assert set(Peer(node).store(*sent)) == {0}
        other.project(key_file=str(key))
        assert other.export(tmp_path / "there")["standing"] == "released"
    site.project(name="TRIAL-8")
    assert site.export(tmp_path / "apart", project="TRIAL-8")["standing"] == "released"
    here, there, apart = (rows(tmp_path / name) for name in ("here", "there", "apart"))
    assert here == there
    for column in ("subject", "study", "series", "instance", "sha256"):
        assert not {row[column] for row in here} & {row[column] for row in apart}


def rows(release: Path) -> list[dict[str, str]]:
    """Return what a release lists, whatever its files are called."""
    with (release / "manifest.csv").open() as file:
        return sorted(csv.DictReader(file), key=lambda row: row["sha256"])


def test_what_may_tell_a_name_is_held_and_the_others_go_out(site: Site, tmp_path: Path) -> None:
    good = site.store(1)
    assert Peer(site.node).store(picture()) == [0]
    site.project()
    export = site.export(tmp_path / "cohort")
    assert export["standing"] == "released"
    assert export["released"] == len(good)
    assert sum(export["held"].values()) == 1
    [held] = site.ask("quarantine")
    assert held["export"] == export["id"]
    assert site.ask("quarantined", id=held["id"], who="novak")["attributes"]


def test_a_stopped_export_releases_nothing_and_goes_on_when_it_is_told_to(site: Site, tmp_path: Path) -> None:
    site.store(*range(1, 9))
    site.project()
    out = tmp_path / "cohort"
    asked = {"project": PROJECT, "target": str(out), "who": "novak", "query": ["Modality="]}
    export = site.ask("order_export", **asked)
    site.until(lambda: site.ask("export", id=export["id"])["standing"] == "running")
    site.ask("stop_export", id=export["id"], who="novak")
    assert site.over(export["id"])["standing"] == "stopped"
    assert not out.exists()
    site.ask("retry_export", id=export["id"], who="novak")
    assert site.over(export["id"])["standing"] == "released"
    assert list(complaints(out)) == []


def test_one_id_of_two_issuers_is_two_subjects_by_every_way(site: Site) -> None:
    one = edited(site.store(1)[0], PatientID="4711", IssuerOfPatientID="")
    for number, title in enumerate(("CLINIC", "WARD")):
        services = (Service.ECHO, Service.STORE)
        site.node.devices.put(
            Device(ae_title=title, address="127.0.0.1", services=services, issuer=f"OF-{title}")
        )
        uids = {"StudyInstanceUID": f"1.2.{number}", "SeriesInstanceUID": f"1.2.{number}.1"}
        sent = edited(one, SOPInstanceUID=f"1.2.{number}.1.1", **uids)
        sent.SOPInstanceUID = f"1.2.{number}.1.1"
        assert Peer(site.node, title).store(sent) == [0]
    site.project(ae_title="TRIAL7", senders=["CLINIC"])
    export = site.export("archive:", query=["PatientID=4711"])
    assert len(export["subjects"]) == 2
    kept = site.node.archive(PROJECT.lower()).catalog
    before = kept.totals()
    door = Requestor("CLINIC", "127.0.0.1", site.node.ports["dicom"], "TRIAL7")
    first = edited(one, SOPInstanceUID="1.2.0.1.1", StudyInstanceUID="1.2.0", SeriesInstanceUID="1.2.0.1")
    first.SOPInstanceUID = "1.2.0.1.1"
    assert {answer.status for answer in door.store([first])} == {0}
    assert kept.totals() == before
    with pytest.raises(BadRequest):
        site.ask("withdraw_subject", subject="4711", who="novak", reason="consent")
