"""Phantoms are valid, as large as asked for, and the same for the same seed."""

from __future__ import annotations

import io
import itertools
import subprocess
import tracemalloc
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset

from sim.headers import KINDS
from sim.patients import Patient, visitor
from sim.phantoms import REALISTIC, instances, study
from sim.pictures import EXPLICIT, JPEG_2000, JPEG_LS, RLE
from sim.servers import dcmtk_program


def read(data: bytes) -> FileDataset:
    return dcmread(io.BytesIO(data))


@pytest.mark.parametrize("modality", KINDS)
def test_pydicom_reads_every_element_of_a_phantom(modality: str) -> None:
    ds = read(next(instances(study(1, 1, modality=modality))).part10())
    assert len([element.value for element in ds.iterall()]) > 100
    assert KINDS[modality].Modality == ds.Modality
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    if KINDS[modality].bits:
        assert len(ds.PixelData) == ds.Rows * ds.Columns * ds.SamplesPerPixel * ds.BitsAllocated // 8
    assert ds.private_block(0x0019, "PEERPACS PHANTOM")[0x12].value == 12.5


@pytest.mark.parametrize("modality", KINDS)
def test_dcmdump_reads_a_phantom_without_a_warning(modality: str, tmp_path: Path) -> None:
    file = tmp_path / "phantom.dcm"
    file.write_bytes(next(instances(study(1, 1, modality=modality, size=100_000))).part10())
    done = subprocess.run([dcmtk_program("dcmdump"), file], capture_output=True, text=True, errors="replace")
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize("size", [8192, 202 * 1024, 518 * 1024, 1_000_002])
def test_a_phantom_has_exactly_the_size_asked_for(size: int) -> None:
    [instance] = instances(study(1, 1, size=size))
    assert instance.size == len(instance.part10()) == size


def test_a_ct_of_518_kb_is_512_by_512() -> None:
    ds = read(next(instances(study(1, 1, size=518 * 1024))).part10())
    assert (ds.Rows, ds.Columns) == (512, 512)
    assert len(set(ds.PixelData)) > 50


def test_a_size_that_cannot_be_is_refused_with_one_that_can() -> None:
    with pytest.raises(ValueError, match="at least"):
        next(instances(study(1, 1, size=1000)))


@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        *((kind, EXPLICIT) for kind in KINDS),
        ("US", JPEG_2000),
        ("US", JPEG_LS),
        ("US", RLE),
        ("CT", JPEG_2000),
    ],
)
def test_dciodvfy_finds_no_error_in_a_phantom_of_usual_size(kind: str, syntax: str, tmp_path: Path) -> None:
    frames = 3 if KINDS[kind].is_multiframe else 1
    described = study(1, 3, modality=kind, size=REALISTIC, frames=frames, images=3, TransferSyntaxUID=syntax)
    file = tmp_path / "phantom.dcm"
    file.write_bytes(next(instances(described)).part10())
    done = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True, errors="replace")
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if line.startswith("Error")] == []
    assert [line for line in said if not line.startswith("Warning")] != [], "it did not know the IOD"


@pytest.mark.parametrize("kind", ["CT", "US", "CR", "ENHANCED-MR", "RTDOSE"])
@pytest.mark.parametrize("syntax", [RLE, JPEG_LS, JPEG_2000])
def test_compressed_frames_decode_to_the_native_ones(kind: str, syntax: str, tmp_path: Path) -> None:
    frames = 3 if KINDS[kind].is_multiframe else 1
    described = [
        study(1, 3, modality=kind, size=100_000, frames=frames, TransferSyntaxUID=each)
        for each in (EXPLICIT, syntax)
    ]
    native, packed = (read(next(instances(each)).part10()) for each in described)
    assert packed.file_meta.TransferSyntaxUID == syntax
    assert packed.pixel_array.tobytes() == native.pixel_array.tobytes()
    assert len(packed.PixelData) < 1.02 * len(native.PixelData)


def test_a_person_is_known_to_every_hospital_by_an_id_of_its_own() -> None:
    alpha, beta = (visitor(1, 4, issuer) for issuer in ("ALPHA", "BETA"))
    assert alpha.PatientName == beta.PatientName
    assert (alpha.IssuerOfPatientID, beta.IssuerOfPatientID) == ("ALPHA", "BETA")
    everyone = {visitor(1, number, "ALPHA").PatientID for number in range(2000)}
    assert len(everyone) == 2000
    assert alpha.PatientID != beta.PatientID


def test_a_terabyte_is_streamed_without_being_kept() -> None:
    week = itertools.chain.from_iterable(
        instances(study(1, number, instances=500, size=REALISTIC)) for number in itertools.count()
    )
    tracemalloc.start()
    for _ in itertools.islice(week, 1000):
        pass
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_frames_are_streamed_and_fill_the_object() -> None:
    [cine] = instances(study(1, 1, modality="XA", frames=8, size=(8 << 20) + 8192))
    assert sum(map(len, cine.chunks())) == cine.size == (8 << 20) + 8192
    ds = read(cine.part10())
    assert (ds.NumberOfFrames, ds.Rows) == (8, 1024)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    once, again, other = (
        [instance.part10() for instance in instances(study(seed, 5, series=2, instances=2))]
        for seed in (3, 3, 4)
    )
    assert once == again
    assert not set(once) & set(other)


def test_series_and_instances_hang_together() -> None:
    sets = [read(instance.part10()) for instance in instances(study(1, 1, series=2, instances=3))]
    assert len({ds.StudyInstanceUID for ds in sets}) == 1
    assert len({ds.SeriesInstanceUID for ds in sets}) == 2
    assert len({ds.SOPInstanceUID for ds in sets}) == 6
    assert [(ds.SeriesNumber, ds.InstanceNumber) for ds in sets] == list(itertools.product((1, 2), (1, 2, 3)))


def test_names_in_every_character_set_are_read_back() -> None:
    for number in range(40):
        described = study(1, number)
        ds = read(next(instances(described)).part10())
        assert str(ds.PatientName) == described.patient.PatientName


def test_a_described_patient_is_the_patient() -> None:
    who = Patient(PatientID="4711", PatientName="Doe^Jane", character_set="ISO_IR 100")
    ds = read(next(instances(study(1, 1, patient=who, AccessionNumber="A1"))).part10())
    assert (ds.PatientID, ds.PatientName, ds.AccessionNumber) == ("4711", "Doe^Jane", "A1")
