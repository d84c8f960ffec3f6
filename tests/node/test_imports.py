"""What a person says with an import: whose it is; and what an import says of the storage of another PACS."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from node.app import Node, open_node
from node.contracts import Device, Service
from node.foreign_storage import foreign_storage
from node.storage import file_meta
from sim.phantoms import instances, study
from tests.homes import Peer, RawInstance, attribute, edited, new_home, phantoms, serving
from tests.node.oldpacs.servers import orthanc
from tests.running import dcmtk, until


def written(folder: Path, made: list[RawInstance]) -> Path:
    """Write instances as files of a folder."""
    folder.mkdir(parents=True)
    for one in made:
        meta = file_meta(one.SOPClassUID, one.SOPInstanceUID, one.TransferSyntaxUID)
        (folder / f"{one.SOPInstanceUID}.dcm").write_bytes(meta + one.data)
    return folder


def imported(node: Node, folder: Path, **told: str) -> dict[str, Any]:
    """Import a folder; return what is said at its end."""
    verbs = node.desk.verbs()
    name = verbs["start_import"](source=str(folder), who="novak", **told)
    until(lambda: verbs["import_progress"](name=name)["is_over"])
    found: dict[str, Any] = verbs["import_progress"](name=name)
    return found


def found(node: Node, **keys: str) -> list[dict[str, Any]]:
    """Return studies as a device finds them."""
    wanted = {"PatientID": "", "IssuerOfPatientID": "", "PatientName": "", "StudyInstanceUID": ""}
    return Peer(node).find(**{**wanted, **keys})


def test_patient_ids_without_an_issuer_are_those_of_the_one_that_was_named(tmp_path: Path) -> None:
    plain = [edited(one, IssuerOfPatientID=None) for one in phantoms(1, size=4_000, instances=2)]
    told = phantoms(2, size=4_000)
    folder = written(tmp_path / "in", [*plain, *told])
    with serving(tmp_path / "home") as node:
        assert imported(node, folder, issuer="HOSP-B")["stored"] == 3
        by_study = {row["StudyInstanceUID"]: row for row in found(node)}
        assert by_study[str(attribute(plain[0], "StudyInstanceUID"))]["IssuerOfPatientID"] == "HOSP-B"
        assert by_study[str(attribute(told[0], "StudyInstanceUID"))]["IssuerOfPatientID"] == "PHANTOMS"
        [got] = Peer(node).get(str(attribute(plain[0], "StudyInstanceUID")))[:1]
        assert attribute(got, "IssuerOfPatientID") == "HOSP-B"
        assert attribute(got, "OriginalAttributesSequence")


def test_all_of_a_medium_is_of_the_patient_who_was_named_and_undo_gives_it_back(tmp_path: Path) -> None:
    here, brought = phantoms(3, size=4_000), phantoms(4, size=4_000, instances=2)
    patient = str(attribute(here[0], "PatientID"))
    folder = written(tmp_path / "in", brought)
    with serving(tmp_path / "home") as node:
        assert set(Peer(node).store(*here)) == {0}
        imported(node, folder, patient=patient)
        rows = found(node, PatientID=patient)
        assert len(rows) == 2
        name = str(attribute(here[0], "PatientName")).partition("=")[0]
        assert {row["PatientName"] for row in rows} == {name}
        [study] = {str(attribute(one, "StudyInstanceUID")) for one in brought}
        [decision] = node.catalog.decisions(study)
        node.desk.verbs()["undo"](decision=decision.id, reason="wrong", who="novak")
        assert len(found(node, PatientID=patient)) == 1


def test_a_study_that_is_here_from_a_device_stays_whose_it_is(tmp_path: Path) -> None:
    first, second = phantoms(5, size=4_000, instances=2)
    folder = written(tmp_path / "in", [second])
    with serving(tmp_path / "home") as node:
        ward = Device(ae_title="PEER", services=tuple(Service))
        node.devices.put(ward)
        assert Peer(node).store(first) == [0]
        told = imported(node, folder, patient="4711")
        assert "left as it is" in told["odd"][0]["why"]
        assert found(node, PatientID="4711") == []


@pytest.mark.parametrize("kind", ["DICOMDIR", "folder", "zip"])
def test_what_a_dicomdir_names_and_the_medium_lacks_is_told_however_it_is_imported(
    kind: str, tmp_path: Path
) -> None:
    medium = tmp_path / "cd"
    (medium / "DICOM").mkdir(parents=True)
    for number, one in enumerate(instances(study(8, 0, instances=2, size=4_000))):
        (medium / "DICOM" / f"IM{number}").write_bytes(one.part10())
    dcmtk("dcmmkdir", "+id", str(medium), "+D", str(medium / "DICOMDIR"), "DICOM/IM0", "DICOM/IM1")
    lost = medium / "DICOM" / "IM0"
    lost.unlink()
    source = {"DICOMDIR": medium / "DICOMDIR", "folder": medium}.get(kind)
    if source is None:
        source = Path(shutil.make_archive(str(tmp_path / "cd"), "zip", tmp_path, "cd"))
    with open_node(new_home(tmp_path / "home")) as node:
        told = imported(node, source)
    assert (told["stored"], told["missing"]) == (1, 1)
    [named] = [each for each in told["not_stored"] if each["fate"] == "missing"]
    assert named["name"] == str(lost.relative_to(medium))
    assert "another copy of the medium" in named["why"]


def test_an_import_of_orthancs_storage_warns_that_corrections_are_not_in_it(tmp_path: Path) -> None:
    with orthanc(tmp_path / "old") as old:
        old.store(*phantoms(6, size=4_000))
    with serving(tmp_path / "home") as node:
        told = imported(node, tmp_path / "old" / "storage")
        assert told["stored"] == 1
        assert "looks like the storage of Orthanc" in told["warning"]


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("2024/1/31/0A1B2C3D/00FF00FF/12345678", "dcm4chee"),
        ("2024/1/31/14/0A1B2C3D/00FF00FF/12345678", "dcm4chee"),
        ("index.dat", "dcmqrscp"),
        ("DICOM/2024/IM000001", ""),
    ],
)
def test_a_folder_is_known_by_its_names(name: str, whose: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    said = foreign_storage(tmp_path)
    assert whose in said if whose else said == ""
