"""Synthetic studies: valid, realistic in size and header, the same bytes for the same seed, fast to make.

A `Study` describes; `instances` streams what it describes. Everything that does not vary is encoded once
for each modality, so an instance costs the encoding of some thirty short elements, whatever its size, and
nothing is kept: a terabyte needs no disk.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import isqrt, sqrt
from random import Random
from sys import byteorder
from typing import Any, Final, NamedTuple

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import PersonName

from .headers import KINDS, PADDING_TAG, Kind, header

IMPLEMENTATION_CLASS_UID: Final = "2.25.164217218219220221222223224225226227228"
SMALLEST: Final = 0
"""As `Study.size`: no padding, and a matrix of 16 x 16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Who is examined; `character_set` is the Specific Character Set that their name needs."""

    PatientID: str
    PatientName: str
    PatientBirthDate: str = "19700101"
    PatientSex: str = "O"
    IssuerOfPatientID: str = ""
    character_set: str = "ISO_IR 100"


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study to make: `series` series of `instances` instances, each a Part 10 file of `size` bytes."""

    StudyInstanceUID: str
    patient: Patient
    AccessionNumber: str
    StudyDate: str = "20240517"
    StudyTime: str = "101500"
    modality: str = "CT"
    series: int = 1
    instances: int = 1
    frames: int = 1
    size: int = SMALLEST


class Instance(NamedTuple):
    """One SOP Instance: a Part 10 file is `head` and then `frame` so many times."""

    SOPClassUID: str
    SOPInstanceUID: str
    head: bytes
    """Preamble, File Meta Information and data set up to the value of Pixel Data."""
    data_set_offset: int
    frame: bytes
    frames: int

    @property
    def size(self) -> int:
        """Length of the Part 10 file in bytes."""
        return len(self.head) + len(self.frame) * self.frames

    def chunks(self) -> Iterator[bytes]:
        """Yield the Part 10 file in pieces of at most a frame."""
        yield self.head
        for _ in range(self.frames):
            yield self.frame

    def part10(self) -> bytes:
        """Return the Part 10 file."""
        return b"".join(self.chunks())


_NAMES: Final = (
    ("ISO_IR 100", "Müller^Jörg"),
    ("ISO_IR 100", "Nuñez^María^José"),
    ("ISO_IR 192", "Łukasiewicz^Zoë"),
    ("ISO_IR 144", "Иванова^Анна"),
    ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
    ("ISO_IR 100", "Smith^John^^Dr."),
    ("ISO_IR 126", "Παπαδόπουλος^Νίκος"),
)


def patient(seed: int, number: int) -> Patient:
    """Return the seed's patient of that number; names come in five character sets."""
    chance = Random(f"patient {seed} {number}")
    character_set, name = chance.choice(_NAMES)
    return Patient(
        PatientID=f"PP{seed:04d}{number:08d}",
        PatientName=name,
        PatientBirthDate=_date(chance, 1930, 2020),
        PatientSex=chance.choice("FMO"),
        IssuerOfPatientID="PHANTOMS",
        character_set=character_set,
    )


def study(seed: int, number: int, **described: Any) -> Study:
    """Return the seed's study of that number, with a patient of its own unless one is `described`."""
    chance = Random(f"study {seed} {number}")
    return Study(
        **{
            "StudyInstanceUID": _uid(seed, number),
            "patient": described.get("patient") or patient(seed, number),
            "AccessionNumber": f"A{seed:04d}{number:08d}",
            "StudyDate": _date(chance, 2015, 2024),
            "StudyTime": f"{chance.randint(7, 19):02d}{chance.randint(0, 59):02d}00",
            **described,
        }
    )


def _date(chance: Random, first_year: int, last_year: int) -> str:
    year = chance.randint(first_year, last_year)
    return f"{year}{chance.randint(1, 12):02d}{chance.randint(1, 28):02d}"


def instances(study: Study) -> Iterator[Instance]:
    """Yield the study's instances, series by series in order.

    Raises:
        ValueError: `size` is odd, or too small for the modality's header and its smallest matrix.
    """
    kind = KINDS[study.modality]
    matrix = _matrix(kind, study)
    frame = _frame(kind, matrix)
    of_study = _study_values(study) | _matrix_values(kind, matrix)
    for series_number in range(1, study.series + 1):
        of_series = of_study | _series_values(study, series_number)
        for number in range(1, study.instances + 1):
            uid = sop_instance_uid(study, series_number, number)
            meta = _file_meta(kind.SOPClassUID, uid)
            pixels = len(frame) * study.frames
            data_set = _data_set(study, of_series | _instance_values(uid, number), len(meta), pixels)
            yield Instance(kind.SOPClassUID, uid, meta + data_set, len(meta), frame, study.frames)


def sop_instance_uid(study: Study, series_number: int, number: int) -> str:
    """Return the SOP Instance UID of one of the study's instances, counted from 1."""
    return _uid(study.StudyInstanceUID, series_number, number)


def _uid(*name: object) -> str:
    """A UID under 2.25 (PS3.5 B.2) of 44 characters, always the same for the same name."""
    digest = blake2b("/".join(map(str, name)).encode(), digest_size=16).digest()
    return f"2.25.{10**38 + int.from_bytes(digest, 'big') % (2 * 10**38)}"


Values = dict[int, bytes]
_VARYING: Final = """
SpecificCharacterSet InstanceCreationDate InstanceCreationTime SOPInstanceUID StudyDate SeriesDate
AcquisitionDate ContentDate StudyTime SeriesTime AcquisitionTime ContentTime AccessionNumber PatientName
PatientID IssuerOfPatientID PatientBirthDate PatientSex StudyInstanceUID SeriesInstanceUID StudyID
SeriesNumber AcquisitionNumber InstanceNumber Rows Columns BitsAllocated
PerformedProcedureStepStartDate PerformedProcedureStepStartTime
"""


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


@lru_cache
def _template(modality: str) -> tuple[tuple[bytes, int, bytes], ...]:
    """The data set as (fixed bytes, tag of a varying element, its VR), in the order of tags."""
    fixed = header(modality)
    kind = KINDS[modality]
    varying = {_tag(keyword): dictionary_VR(keyword) for keyword in _VARYING.split()}
    varying |= {_tag(keyword): dictionary_VR(keyword) for keyword in kind.varying}
    varying |= {PADDING_TAG: "OB", _tag("PixelData"): "OW" if kind.bits == 16 else "OB"}
    parts, before = [], 0
    for tag in sorted(varying):
        file = DicomBytesIO()
        file.is_little_endian, file.is_implicit_VR = True, False
        write_dataset(file, fixed[before:tag])
        parts.append((file.getvalue(), tag, varying[tag].encode()))
        before = tag + 1
    return tuple(parts)


def _study_values(study: Study) -> Values:
    who = study.patient
    moment = {"Date": study.StudyDate, "Time": study.StudyTime}
    named: dict[str, str] = {
        "SpecificCharacterSet": who.character_set,
        "AccessionNumber": study.AccessionNumber,
        "PatientID": who.PatientID,
        "IssuerOfPatientID": who.IssuerOfPatientID,
        "PatientBirthDate": who.PatientBirthDate,
        "PatientSex": who.PatientSex,
        "StudyInstanceUID": study.StudyInstanceUID,
        "FrameOfReferenceUID": _uid(study.StudyInstanceUID, "frame of reference"),
        "StudyID": "1",
        "AcquisitionNumber": "1",
        "NumberOfFrames": str(study.frames),
    }
    for event in (
        "InstanceCreation",
        "Study",
        "Series",
        "Acquisition",
        "Content",
        "PerformedProcedureStepStart",
    ):
        named |= {event + part: value for part, value in moment.items()}
    values = {_tag(keyword): text.encode("ascii") for keyword, text in named.items()}
    return values | {_tag("PatientName"): _encoded_name(who)}


_EVENTS: Final = (
    "InstanceCreation",
    "Study",
    "Series",
    "Acquisition",
    "Content",
    "PerformedProcedureStepStart",
)


def _encoded_name(who: Patient) -> bytes:
    encodings = [_PYTHON_CODECS[term] for term in who.character_set.split("\\")]
    return bytes(PersonName(who.PatientName).encode(encodings))


_PYTHON_CODECS: Final = {
    "": "iso8859",
    "ISO_IR 100": "latin_1",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 192": "utf8",
    "ISO 2022 IR 87": "iso2022_jp",
}


def _series_values(study: Study, number: int) -> Values:
    uid = _uid(study.StudyInstanceUID, number)
    return {_tag("SeriesInstanceUID"): uid.encode("ascii"), _tag("SeriesNumber"): b"%d" % number}


_INSTANCE_TAGS: Final = tuple(
    _tag(keyword) for keyword in ("SOPInstanceUID", "InstanceNumber", "SliceLocation", "ImagePositionPatient")
)


def _instance_values(uid: str, number: int) -> Values:
    height = f"{-5 * number}.0"
    texts = (uid, str(number), height, f"-180\\-180\\{height}")
    return {tag: text.encode("ascii") for tag, text in zip(_INSTANCE_TAGS, texts, strict=True)}


def _matrix(kind: Kind, study: Study) -> int:
    """The side of a square image that fills most of the size asked for, 16 at least."""
    room = (study.size - _HEADER_ROOM) * 8 // (kind.bits * study.frames)
    return max(16, isqrt(max(0, room)) // 16 * 16)


_HEADER_ROOM: Final = 6144


@lru_cache(4)
def _frame(kind: Kind, matrix: int) -> bytes:
    """A bright ellipse with noise on a dark ground."""
    noise = Random(matrix).randbytes(matrix * matrix)
    scale = 4 if kind.bits == 16 else 1
    half = matrix / 2
    pixels = array("H" if kind.bits == 16 else "B")
    for y in range(matrix):
        width = round(half * 0.8 * sqrt(max(0.0, 1 - ((y - half) / (half * 0.9)) ** 2)))
        for x in range(matrix):
            tissue = 128 if abs(x - half) < width else 0
            pixels.append(scale * (tissue + noise[y * matrix + x] // 4))
    if byteorder == "big":
        pixels.byteswap()
    return pixels.tobytes()


def _matrix_values(kind: Kind, matrix: int) -> Values:
    numbers = {"Rows": matrix, "Columns": matrix, "BitsAllocated": kind.bits}
    return {_tag(keyword): struct.pack("<H", number) for keyword, number in numbers.items()}


def _data_set(study: Study, values: Values, meta_length: int, pixels: int) -> bytes:
    """The data set up to the value of Pixel Data, padded so that the file has the size asked for."""
    parts: list[bytes] = []
    hole = 0
    for fixed, tag, vr in _template(study.modality):
        parts.append(fixed)
        if tag == PADDING_TAG:
            hole = len(parts)
        elif tag == _PIXEL_DATA:
            parts.append(_long_header(tag, vr, pixels))
        else:
            parts.append(_element(tag, vr, values[tag]))
    padding_header = 12
    padding = study.size - meta_length - sum(map(len, parts)) - padding_header - pixels
    if study.size == SMALLEST:
        padding = 0
    if padding < 0 or padding % 2:
        raise ValueError(
            f"A {study.modality} file cannot have exactly {study.size} bytes. "
            f"Ask for an even number, at least {study.size - padding}."
        )
    parts.insert(hole, _element(PADDING_TAG, b"OB", bytes(padding)))
    return b"".join(parts)


_PIXEL_DATA: Final = 0x7FE00010


def _file_meta(sop_class: str, uid: str) -> bytes:
    """Preamble and File Meta Information, PS3.10 Table 7.1-1."""
    body = b"".join(
        (
            _element(0x00020001, b"OB", b"\0\1"),
            _element(0x00020002, b"UI", sop_class.encode()),
            _element(0x00020003, b"UI", uid.encode()),
            _element(0x00020010, b"UI", ExplicitVRLittleEndian.encode()),
            _element(0x00020012, b"UI", IMPLEMENTATION_CLASS_UID.encode()),
        )
    )
    return bytes(128) + b"DICM" + _element(0x00020000, b"UL", struct.pack("<I", len(body))) + body


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    """One element in Explicit VR Little Endian, padded to even length (PS3.5 6.2 and 7.1.2)."""
    if len(value) % 2:
        value += b"\0" if vr in (b"UI", b"OB") else b" "
    if vr == b"OB":
        return _long_header(tag, vr, len(value)) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def _long_header(tag: int, vr: bytes, length: int) -> bytes:
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, length)
