"""A set in the format of the MIDI-B challenge: real files with invented patients, and its answer key.

Every injected fact brings the checks that a de-identified set must pass, in the terms of the challenge's
own answer data (tag_retained, text_removed, uid_changed, ...). Nothing here knows the engine.
"""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.charset import encode_string
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

SHARED = Path(__file__).parents[3] / "shared" / "data" / "dicom"
BUNDLED = (
    "CT_small.dcm MR_small.dcm MR_small_RLE.dcm MR_small_jp2klossless.dcm MR_small_bigendian.dcm "
    "MR_small_implicit.dcm MR_small_jpeg_ls_lossless.dcm JPEG2000.dcm JPEG-lossy.dcm SC_rgb_rle.dcm "
    "SC_rgb_rle_2frame.dcm SC_rgb_jpeg_dcmtk.dcm SC_rgb_small_odd.dcm examples_palette.dcm "
    "examples_rgb_color.dcm rtplan.dcm rtstruct.dcm rtdose.dcm rtdose_1frame.dcm waveform_ecg.dcm "
    "examples_overlay.dcm liver_1frame.dcm 693_J2KI.dcm test-SR.dcm reportsi.dcm liver_expb_1frame.dcm"
)
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)

# Invented people: (charset, family name, given name). None is anybody.
PEOPLE = (
    ("ISO_IR 100", "Kowalczyk", "Bartholomew"),
    ("ISO_IR 100", "Østergård", "Søren"),
    ("ISO_IR 144", "Люкceмбypгов", "Аристарх"),
    ("ISO_IR 192", "Nguyễnova", "Thérèsia"),
    ("\\ISO 2022 IR 87", "Yamadaguchi=山田口", "Tarobei=太郎兵衛"),
    ("\\ISO 2022 IR 149", "Hongilsun=洪吉洞", "Gildongja=吉洞子"),
    ("ISO_IR 100", "Müllerschön", "Jürgen"),
    ("ISO_IR 100", "Vandenbroucke", "Annelies"),
)
UNICODE = 3
DESCRIPTIONS = ("CHEST WITH CONTRAST", "BRAIN WITHOUT CONTRAST", "ABDOMEN PELVIS ROUTINE", "SPINE LUMBAR")
RULES = [
    {"match": {"ManufacturerModelName": "BURNER 3000"}, "boxes": [[2, 2, 40, 8]]},
    {"match": {"ManufacturerModelName": "CLEAN 2000"}, "boxes": []},
]
BOX = (2, 2, 40, 8)
_IDENTIFYING = (
    "PatientName PatientID PatientBirthDate PatientAddress AccessionNumber PatientTelephoneNumbers "
    "ReferringPhysicianName OperatorsName InstitutionName"
)
_RETAINED = (
    "Modality Rows Columns PixelSpacing ImagePositionPatient BitsStored PatientSex SliceThickness KVP "
    "RescaleSlope NumberOfFrames PhotometricInterpretation ConvolutionKernel PatientPosition DoseUnits"
)


@dataclass(frozen=True)
class Check:
    """One question to a de-identified instance; `path` is the challenge's own tag path."""

    action: str
    path: str
    value: str
    text: str = ""


@dataclass
class Instance:
    """A file of the set, as it went in, with its checks."""

    path: Path
    dataset: Dataset
    patient: str
    checks: list[Check] = field(default_factory=list)


def base_files() -> Iterator[Path]:
    """The files that the set is made of: pydicom's, and those beside the checkout if they are there."""
    for name in BUNDLED.split():
        found = get_testdata_file(name, download=False)
        if found:
            yield Path(str(found))
    yield from sorted(SHARED.glob("*.dcm")) if SHARED.is_dir() else ()


def make_set(folder: Path, seed: int = 1) -> list[Instance]:
    """Writes the set and returns its instances; the same seed makes the same set."""
    chance = random.Random(seed)
    made = []
    for number, source in enumerate(base_files()):
        dataset = dcmread(source, force=True)
        syntax = dataset.file_meta.get("TransferSyntaxUID", "")
        if not dataset.get("SOPClassUID") or not syntax or syntax.type != "Transfer Syntax":
            continue
        made.append(_Injector(chance, dataset, number, seed).made(folder))
    return made


def answer_database(instances: list[Instance], path: Path) -> None:
    """The answer key as the sqlite database that the challenge's validation script reads."""
    database = sqlite3.connect(path)
    database.execute(
        "CREATE TABLE answer_data ([index] INTEGER, [group] TEXT, Modality TEXT, SOPClassUID TEXT, "
        "PatientID TEXT, StudyInstanceUID TEXT, SeriesInstanceUID TEXT, SOPInstanceUID TEXT, Digest TEXT, "
        "AnswerData TEXT)"
    )
    for index, made in enumerate(instances):
        ds = made.dataset
        rows = {str(i): _answer(check) for i, check in enumerate(made.checks)}
        values = (index, "synthetic", str(ds.get("Modality", "")), ds.SOPClassUID, made.patient)
        uids = (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
        digest = hashlib.md5(made.path.read_bytes()).hexdigest()
        row = (*values, *uids, digest, json.dumps(rows))
        database.execute("INSERT INTO answer_data VALUES (?,?,?,?,?,?,?,?,?,?)", row)
    database.commit()
    database.close()


def tag_path(*parts: int) -> str:
    """(group, element) and item numbers in turn, as the challenge writes them: lower case, items from 0."""
    written = ""
    for place, part in enumerate(parts):
        written += f"<({part >> 16:04x},{part & 0xFFFF:04x})>" if place % 2 == 0 else f"[<{part:04d}>]"
    return written


class _Injector:
    """Gives one file an invented patient and notes what must become of each fact."""

    def __init__(self, chance: random.Random, dataset: Dataset, number: int, seed: int) -> None:
        self.chance = chance
        self.ds = dataset
        self.number = number
        self.seed = seed
        person = (number // 3 + seed) % len(PEOPLE) if str(dataset).isascii() else UNICODE
        self.charset, self.family, self.given = PEOPLE[person]
        self.ds.decode()
        self.ds.pop("IssuerOfPatientID", None)
        self.patient = f"MRN{seed:02d}{number // 3:05d}77"
        self.phone = f"{chance.randint(210, 989)}-555-{chance.randint(1000, 9999)}"
        self.day = f"19{chance.randint(30, 69)}{chance.randint(1, 12):02d}{chance.randint(1, 28):02d}"
        self.checks: list[Check] = []

    def made(self, folder: Path) -> Instance:
        self._uids()
        self._patient()
        self._texts()
        self._sequences()
        self._private()
        self._pixels()
        self._kept()
        path = folder / f"{self.family.split('=')[0]}_{self.number}.dcm"
        self._save(path)
        return Instance(path, self.ds, self.patient, self.checks)

    def _check(self, action: str, keyword: str, value: Any, text: str = "") -> None:
        tag = Dataset()
        setattr(tag, keyword, None)
        path = tag_path(int(next(iter(tag.keys()))))
        self.checks.append(Check(action, path, str(value), text or str(value)))

    def _uids(self) -> None:
        root = f"1.2.826.0.1.3680043.8.498.{self.seed}.{self.number // 3}"
        for keyword, tail in (
            ("StudyInstanceUID", "1"),
            ("SeriesInstanceUID", f"1.{self.number}"),
            ("SOPInstanceUID", f"1.{self.number}.9999"),
        ):
            setattr(self.ds, keyword, f"{root}.{tail}")
            self._check("uid_changed", keyword, f"{root}.{tail}")
            self._check("uid_consistent", keyword, f"{root}.{tail}")
        self.ds.file_meta.MediaStorageSOPInstanceUID = self.ds.SOPInstanceUID
        if "PixelData" in self.ds:
            source = Dataset()
            source.ReferencedSOPClassUID = self.ds.SOPClassUID
            source.ReferencedSOPInstanceUID = f"{root}.1.{self.number}.9999"
            self.ds.SourceImageSequence = Sequence([source])
            path = tag_path(0x00082112, 0, 0x00081155)
            self.checks.append(Check("uid_consistent", path, source.ReferencedSOPInstanceUID))

    def _patient(self) -> None:
        ds = self.ds
        ds.SpecificCharacterSet = self.charset.split("\\") if "\\" in self.charset else self.charset
        parts = [self.family.split("="), self.given.split("=")]
        groups = ["^".join(p[min(i, len(p) - 1)] for p in parts) for i in range(len(parts[0]))]
        ds.PatientName = "=".join(groups)
        ds.PatientID = self.patient
        ds.PatientBirthDate = self.day
        ds.PatientAddress = f"{self.number + 10} Mulberrygrove Lane, Westhampstead"
        ds.PatientTelephoneNumbers = self.phone
        ds.AccessionNumber = f"ACC{self.seed}{self.number:06d}"
        ds.ReferringPhysicianName = "Quillington^Prudence"
        ds.OperatorsName = "Featherstonehaugh^Cuthbert"
        ds.InstitutionName = "Saint Polycarp Infirmary"
        ds.StudyDate = ds.SeriesDate = f"2{self.chance.randint(1, 19):03d}0{self.chance.randint(1, 9)}17"
        ds.PatientSex = "F"
        ds.PatientAge = "046Y"
        for keyword in _IDENTIFYING.split():
            self._check("text_removed", keyword, ds[keyword].value)
        self._check("patid_consistent", "PatientID", self.patient)
        self._check("tag_retained", "PatientName", ds.PatientName)
        self._check("date_shifted", "StudyDate", ds.StudyDate)
        self._check("date_shifted", "SeriesDate", ds.SeriesDate)
        self._check("text_notnull", "StudyDate", ds.StudyDate)
        self._check("text_retained", "PatientAge", "046Y")

    def _name(self) -> str:
        return f"{self.given.split('=')[0]} {self.family.split('=')[0]}"

    def _texts(self) -> None:
        kept = self.chance.choice(DESCRIPTIONS)
        born = f"{self.day[4:6]}/{self.day[6:]}/{self.day[:4]}"
        for keyword, text, gone in (
            ("StudyDescription", f"{kept} for {self._name()}", self._name()),
            ("SeriesDescription", f"{kept} {self.phone}", self.phone),
            ("PatientComments", f"{kept} {self._name()} born {born} call {self.phone}", self._name()),
            ("AdditionalPatientHistory", f"chest pain, seen by Dr. Quillington {born}", "Quillington"),
            ("ImageComments", f"{kept} {self.patient}", self.patient),
        ):
            setattr(self.ds, keyword, text)
            self._check("text_removed", keyword, text, gone)
            if keyword != "AdditionalPatientHistory":
                self._check("text_retained", keyword, text, kept)
        self._check("text_removed", "PatientComments", born, born)
        self._check("text_retained", "AdditionalPatientHistory", "", "chest pain")

    def _sequences(self) -> None:
        request = Dataset()
        request.RequestedProcedureDescription = f"ROUTINE {self._name()}"
        request.ScheduledProcedureStepDescription = f"HEAD {self.phone}"
        request.RequestedProcedureID = self.patient
        self.ds.RequestAttributesSequence = Sequence([request])
        path = tag_path(0x00400275, 0, 0x00400007)
        self.checks.append(Check("text_removed", path, self.phone, self.phone))
        before = Dataset()
        before.PatientName = self.ds.PatientName
        before.PatientID = self.patient
        original = Dataset()
        original.ModifiedAttributesSequence = Sequence([before])
        original.ModifyingSystem = "Saint Polycarp Infirmary"
        self.ds.OriginalAttributesSequence = Sequence([original])
        path = tag_path(0x04000561, 0, 0x04000550, 0, 0x00100010)
        self.checks.append(Check("text_removed", path, self._name(), self._name()))
        self._nested()

    def _nested(self) -> None:
        """The name five sequences deep, where a shallow walk would not look."""
        deepest = Dataset()
        deepest.PersonName = self.ds.PatientName
        deepest.TextString = f"{self._name()} {self.phone}"
        for _ in range(4):
            outer = Dataset()
            outer.PurposeOfReferenceCodeSequence = Sequence([deepest])
            deepest = outer
        self.ds.ReferencedStudySequence = Sequence([deepest])

    def _private(self) -> None:
        unsafe = self.ds.private_block(0x0077, "POLYCARP LOCAL", create=True)
        unsafe.add_new(0x01, "LO", f"{self._name()} {self.patient}")
        safe = self.ds.private_block(0x0019, "GEMS_ACQU_01", create=True)
        safe.add_new(0x23, "DS", "5.000")
        path = '<(0019,"GEMS_ACQU_01",23)>'
        self.checks.append(Check("text_retained", path, "5.000", "5.000"))
        self.checks.append(Check("text_removed", '<(0077,"POLYCARP LOCAL",01)>', self.patient, self.patient))

    def _pixels(self) -> None:
        ds = self.ds
        if "PixelData" not in ds:
            return
        syntax = ds.file_meta.TransferSyntaxUID
        native = not syntax.is_encapsulated and ds.BitsAllocated in (8, 16)
        is_risky = ds.get("Modality", "") not in ("CT", "MR", "RTDOSE")
        is_large = ds.Rows > 20 and ds.Columns > 50 and ds.PhotometricInterpretation != "YBR_FULL_422"
        if native and is_risky and is_large:
            ds.ManufacturerModelName = "BURNER 3000"
            self._burn_in()
            self.checks.append(Check("pixels_hidden", "<PixelData>", "", self._name()))
            return
        ds.ManufacturerModelName = "CLEAN 2000"
        digest = hashlib.md5(ds.PixelData).hexdigest()
        self.checks.append(Check("pixels_retained", tag_path(0x7FE00010), "", digest))

    def _burn_in(self) -> None:
        """Marks the box of every frame with a pattern that stands for the name."""
        ds = self.ds
        data = bytearray(ds.PixelData)
        size = ds.BitsAllocated // 8 * (1 if ds.get("PlanarConfiguration", 0) else ds.SamplesPerPixel)
        plane = ds.Rows * ds.Columns * size
        left, top, width, height = BOX
        for start in range(0, len(data) // plane * plane, plane):
            for row in range(top, top + height):
                at = start + (row * ds.Columns + left) * size
                data[at : at + width * size] = bytes((7 * i + row) % 120 for i in range(width * size))
        ds.PixelData = bytes(data)

    def _kept(self) -> None:
        for keyword in _RETAINED.split():
            if self.ds.get(keyword) not in (None, ""):
                value = self.ds[keyword].value
                text = "\\".join(str(v) for v in value) if hasattr(value, "append") else str(value)
                self._check("text_retained", keyword, text)

    def _save(self, path: Path) -> None:
        ds = self.ds
        path.parent.mkdir(parents=True, exist_ok=True)
        syntax = ds.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
        wanted = self.chance.choice(NATIVE)
        can_change = "PixelData" not in ds and syntax in NATIVE and syntax != ExplicitVRBigEndian
        can_deflate = syntax == ExplicitVRLittleEndian and wanted == DeflatedExplicitVRLittleEndian
        if (can_change and wanted != ExplicitVRBigEndian) or can_deflate:
            ds.file_meta.TransferSyntaxUID = wanted
        if self.chance.random() < 0.3:
            ds.DataSetTrailingPadding = encode_string(self._name(), ["utf8"]) + b"\0"
        ds.preamble = self.patient.encode().ljust(128, b"\0")
        ds.save_as(path, enforce_file_format=True)


def _answer(check: Check) -> dict[str, Any]:
    return {
        "scope": "<Instance>",
        "tag": check.path,
        "tag_ds": check.path,
        "tag_name": "<>",
        "value": f"<{check.value}>",
        "action": f"<{check.action}>",
        "action_text": f"<{check.text}>",
        "answer_category": [],
        "answer_category_v2": {
            "hipaa": {"z": "HIPAA-R", "m": None},
            "dicom": {"p15": None, "iod": None, "safe": None},
            "tcia": {"ptkb": None, "p15": None, "rev": None},
            "prev_cat": [],
        },
    }
