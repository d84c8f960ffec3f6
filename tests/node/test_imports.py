"""What a person says with an import: whose it is; and what an import says of the storage of another PACS."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from catalog import BadRequest
from node.app import Node, open_node
from node.contracts import Device, Service
from node.foreign_storage import foreign_storage
from node.importer import ImportJob
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


def test_a_folder_inside_the_storage_of_another_pacs_is_known_too(tmp_path: Path) -> None:
    file = tmp_path / "DATABASE.noindex" / "10000" / "1.dcm"
    file.parent.mkdir(parents=True)
    file.touch()
    assert "Horos" in foreign_storage(tmp_path / "DATABASE.noindex")


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("2024/1/31/0A1B2C3D/00FF00FF/12345678", "dcm4chee"),
        ("2024/1/31/14/0A1B2C3D/00FF00FF/12345678", "dcm4chee"),
        ("DATABASE.noindex/10000/123.dcm", "Horos"),
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


def part10(seed: int) -> bytes:
    """Return a file of a phantom study."""
    [one] = instances(study(seed, 0, instances=1, size=4_000))
    return one.part10()


def test_a_zip_file_may_hold_anything_and_each_of_it_is_told_with_what_to_do(tmp_path: Path) -> None:
    source = tmp_path / "cd.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../escape.dcm", part10(20))
        archive.writestr("colour\x1b[31m\n.txt", b"no image")
        archive.writestr("broken.dcm", part10(21))
        archive.writestr("secret.dcm", part10(22))
        archive.writestr("bomb.dcm", part10(23))
        broken, secret, bomb = (archive.getinfo(f"{name}.dcm") for name in ("broken", "secret", "bomb"))
        secret.flag_bits |= 0x1
        bomb.file_size = 3_000 << 20
    content = bytearray(source.read_bytes())
    content[broken.header_offset + 100 : broken.header_offset + 400] = bytes(300)
    source.write_bytes(content)
    with open_node(new_home(tmp_path / "home")) as node:
        told = imported(node, source)
    assert (told["stored"], told["failure"]) == (1, "")
    assert not list(tmp_path.parent.rglob("escape.dcm"))
    why = {each["name"]: each["why"] for each in told["not_stored"]}
    assert why.keys() == {"colour\\x1b[31m\\x0a.txt", "broken.dcm", "secret.dcm", "bomb.dcm"}
    assert "damaged" in why["broken.dcm"]
    assert "Unpack the zip file with its password" in why["secret.dcm"]
    assert "as no image does" in why["bomb.dcm"]


def test_a_folder_may_hold_anything_and_each_of_it_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "image").write_bytes(part10(24))
    (folder / "cut").write_bytes(part10(25)[:700])
    (folder / "lost").symlink_to(folder / "nowhere")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt")).write_bytes(b"no image")
    os.mkfifo(folder / "pipe")
    with open_node(new_home(tmp_path / "home")) as node:
        told = imported(node, folder)
    fates = {each["name"]: each["fate"] for each in told["not_stored"]}
    assert told["stored"] + told["refused"] == 3
    assert (fates["lost"], fates["caf\\xe9.txt"]) == ("refused", "not DICOM")
    [lost] = [each["why"] for each in told["not_stored"] if each["name"] == "lost"]
    assert lost == "It cannot be read: No such file or directory."


def test_media_beside_each_other_in_a_folder_are_each_looked_through(tmp_path: Path) -> None:
    for name, seed in (("cd1", 26), ("cd2", 27)):
        medium = tmp_path / "in" / name
        medium.mkdir(parents=True)
        (medium / "IM0").write_bytes(part10(seed))
        dcmtk("dcmmkdir", "+id", str(medium), "+D", str(medium / "DICOMDIR"), "IM0")
    (tmp_path / "in" / "cd2" / "IM0").unlink()
    with open_node(new_home(tmp_path / "home")) as node:
        told = imported(node, tmp_path / "in")
    assert [each["name"] for each in told["not_stored"] if each["fate"] == "missing"] == ["cd2/IM0"]


def test_what_is_being_imported_is_not_imported_beside_itself(tmp_path: Path) -> None:
    made = phantoms(28, size=4_000, instances=40)
    folder = written(tmp_path / "in", made)
    with open_node(new_home(tmp_path / "home")) as node:
        verbs = node.desk.verbs()
        names = {verbs["start_import"](source=str(folder), who="novak") for _ in range(3)}
        until(lambda: all(each["is_over"] for each in verbs["imports"]()))
        assert len(names) == 1
        assert verbs["start_import"](source=str(folder), who="novak") not in names
        until(lambda: all(each["is_over"] for each in verbs["imports"]()))
        with pytest.raises(BadRequest, match="does not say where it begins"):
            verbs["start_import"](source="cdrom", who="novak")
        for whose in ({"issuer": "A\\B"}, {"patient": "4\n1"}, {"issuer": "X" * 65}):
            with pytest.raises(BadRequest, match="at most 64 characters, no backslash"):
                verbs["start_import"](source=str(folder), who="novak", **whose)


def test_an_import_that_goes_on_with_another_patient_does_not_pass_over_what_was_done(
    tmp_path: Path,
) -> None:
    folder = written(tmp_path / "in", phantoms(29, size=4_000, instances=2))
    with open_node(new_home(tmp_path / "home")) as node:
        ingest, ledgers = node.main.ingest, tmp_path / "ledgers"
        stopped = ImportJob(folder, ingest, ledgers)
        stopped.step()
        stopped.stop("A person stopped it.")
        stopped.step()
        again, other = (ImportJob(folder, ingest, ledgers, whose=whose) for whose in ("", "HOSP-B\0"))
        while again.step() or other.step():
            pass
    assert (again.skipped, other.skipped) == (1, 0)
