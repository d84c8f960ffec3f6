"""Synthetic studies: valid, realistic in size and header, the same bytes for the same seed, fast to make.

A `Study` describes; `instances` streams what it describes. Everything that does not vary is encoded once
for each kind of instance, so an instance costs the encoding of some thirty short elements, whatever its size,
and nothing is kept: a terabyte needs no disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import isqrt
from random import Random
from typing import Any, Final, NamedTuple

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from .documents import Context, add_content, derivation
from .encoding import (
    PIXEL_DATA,
    SEQUENCE_END,
    UNDEFINED,
    Template,
    Values,
    element,
    file_meta,
    item,
    long_header,
    sequence,
    tag_of,
    template,
)
from .headers import KINDS, PADDING_TAG, Kind, header
from .patients import Patient, encoded_name, patient, some_date
from .pictures import EXPLICIT, as_us, compressed, native, photometric_interpretation

SMALLEST: Final = 0
"""As `Study.size`: no padding, and a matrix of 16 x 16."""
REALISTIC: Final = -1
"""As `Study.size`: no padding, and the matrix that the kind usually has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study to make: `series` series of `instances` instances, each a Part 10 file of `size` bytes.

    `modality` is a word of `KINDS`; compressed pixels need the extra `pixels`.
    """

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
    first_series: int = 1
    """Number of the first series: an examination of several modalities is several of these with one UID."""
    TransferSyntaxUID: str = EXPLICIT
    images: int = 1
    """How many images series 1 has, for documents that speak of them."""
    image_modality: str = "CT"

    @property
    def total_size(self) -> int:
        """Bytes of all its files."""
        return self.series * self.instances * self.size


class Instance(NamedTuple):
    """One SOP Instance: a Part 10 file is `head`, `frame` so many times, and `tail`."""

    SOPClassUID: str
    SOPInstanceUID: str
    head: bytes
    """Preamble, File Meta Information and data set up to the value of Pixel Data, or to the end without."""
    data_set_offset: int
    frame: bytes
    frames: int
    tail: bytes = b""
    TransferSyntaxUID: str = EXPLICIT

    @property
    def size(self) -> int:
        """Length of the Part 10 file in bytes."""
        return len(self.head) + len(self.frame) * self.frames + len(self.tail)

    def chunks(self) -> Iterator[bytes]:
        """Yield the Part 10 file in pieces of at most a frame."""
        yield self.head
        for _ in range(self.frames):
            yield self.frame
        if self.tail:
            yield self.tail

    def data_set(self) -> list[memoryview]:
        """Return the data set in pieces, none of them empty."""
        pieces = [memoryview(piece) for piece in self.chunks()]
        return [pieces[0][self.data_set_offset :], *pieces[1:]]

    def part10(self) -> bytes:
        """Return the Part 10 file."""
        return b"".join(self.chunks())


def study(seed: int, number: int, **described: Any) -> Study:
    """Return the seed's study of that number, with a patient of its own unless one is `described`."""
    chance = Random(f"study {seed} {number}")
    return Study(
        **{
            "StudyInstanceUID": _uid(seed, number),
            "patient": described.get("patient") or patient(seed, number),
            "AccessionNumber": f"A{seed:04d}{number:08d}",
            "StudyDate": some_date(chance, 2015, 2024),
            "StudyTime": f"{chance.randint(7, 19):02d}{chance.randint(0, 59):02d}00",
            **described,
        }
    )


def instances(study: Study) -> Iterator[Instance]:
    """Yield the study's instances, series by series in order.

    Raises:
        ValueError: `size` is odd, or too small for the kind's header and its smallest matrix.
        ImportError: a compressed syntax without the extra `pixels`.
    """
    kind = KINDS[study.modality]
    rows, columns = _matrix(kind, study)
    pixels = _pixels(kind, study, rows, columns)
    frames = study.frames if pixels.frame else 0
    of_study = _study_values(study) | _matrix_values(kind, rows, columns)
    photometric = photometric_interpretation(kind, study.TransferSyntaxUID)
    of_study[tag_of("PhotometricInterpretation")] = photometric.encode("ascii")
    if kind.is_multiframe:
        of_study |= _frame_values(study)
    for series_number in range(study.first_series, study.first_series + study.series):
        of_series = of_study | _series_values(study, series_number)
        for number in range(1, study.instances + 1):
            uid = sop_instance_uid(study, series_number, number)
            meta = file_meta(kind.SOPClassUID, uid, study.TransferSyntaxUID)
            around = len(meta) + len(pixels.frame) * frames + len(pixels.tail)
            values = of_series | _instance_values(uid, number)
            head = meta + _data_set(study, values, pixels.head, around)
            yield Instance(
                kind.SOPClassUID, uid, head, len(meta), pixels.frame, frames, pixels.tail,
                study.TransferSyntaxUID if pixels.frame else EXPLICIT,
            )  # fmt: skip


class _Pixels(NamedTuple):
    """Pixel Data: what stands before the first frame, each frame, what stands behind the last."""

    head: bytes = b""
    frame: bytes = b""
    tail: bytes = b""


def _pixels(kind: Kind, study: Study, rows: int, columns: int) -> _Pixels:
    if not kind.bits:
        return _Pixels()
    if study.TransferSyntaxUID == EXPLICIT:
        frame = native(kind, rows, columns)
        vr = b"OW" if kind.bits == 16 else b"OB"
        return _Pixels(long_header(PIXEL_DATA, vr, len(frame) * study.frames), frame)
    frame = compressed(kind, rows, columns, study.TransferSyntaxUID)
    # An empty Basic Offset Table: one fragment is one frame, which PS3.5 A.4 allows to find by counting.
    return _Pixels(long_header(PIXEL_DATA, b"OB", UNDEFINED) + item(b""), item(frame), SEQUENCE_END)


def sop_instance_uid(study: Study, series_number: int, number: int) -> str:
    """Return the SOP Instance UID of one of the study's instances, counted from 1."""
    return _uid(study.StudyInstanceUID, series_number, number)


def series_instance_uid(study: Study, series_number: int) -> str:
    """Return the Series Instance UID of one of the study's series."""
    return _uid(study.StudyInstanceUID, series_number)


def _uid(*name: object) -> str:
    """A UID under 2.25 (PS3.5 B.2) of 44 characters, always the same for the same name."""
    digest = blake2b("/".join(map(str, name)).encode(), digest_size=16).digest()
    return f"2.25.{10**38 + int.from_bytes(digest, 'big') % (2 * 10**38)}"


_VARYING: Final = """
SpecificCharacterSet InstanceCreationDate InstanceCreationTime SOPInstanceUID StudyDate SeriesDate
AcquisitionDate ContentDate StudyTime SeriesTime AcquisitionTime ContentTime AccessionNumber PatientName
PatientID IssuerOfPatientID PatientBirthDate PatientSex StudyInstanceUID SeriesInstanceUID StudyID
SeriesNumber AcquisitionNumber InstanceNumber
PerformedProcedureStepStartDate PerformedProcedureStepStartTime
"""
_OF_PIXELS: Final = ("Rows", "Columns", "BitsAllocated")


@lru_cache
def _template(modality: str, context: Context | None = None) -> Template:
    kind, ds = KINDS[modality], header(modality)
    if context:
        add_content(modality, ds, context)
    keywords = [*_VARYING.split(), *kind.varying, *(_OF_PIXELS if kind.bits else ())]
    return template(ds, keywords, {PADDING_TAG: "OB"})


@lru_cache(2)
def _context(StudyInstanceUID: str, images: int, image_modality: str) -> Context:
    return Context(StudyInstanceUID, _uid, images, image_modality)


def _context_of(study: Study) -> Context:
    return _context(study.StudyInstanceUID, study.images, study.image_modality)


_DOCUMENTS: Final = ("SR", "SEG", "RTSTRUCT", "RTPLAN", "RTDOSE")


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
        "AcquisitionDateTime": study.StudyDate + study.StudyTime,
    }
    for event in _EVENTS:
        named |= {event + part: value for part, value in moment.items()}
    values = {tag_of(keyword): text.encode("ascii") for keyword, text in named.items()}
    values[tag_of("NumberOfSlices")] = as_us(study.instances)
    return values | {tag_of("PatientName"): encoded_name(who)}


def _frame_values(study: Study) -> Values:
    heights = [f"{-5.0 * number:.1f}" for number in range(1, study.frames + 1)]
    offsets = "\\".join(f"{2.5 * number:.1f}" for number in range(study.frames))
    groups = Sequence(_frame_group(study, number, height) for number, height in enumerate(heights, start=1))
    return {
        tag_of("GridFrameOffsetVector"): offsets.encode("ascii"),
        tag_of("PerFrameFunctionalGroupsSequence"): sequence(groups),
    }


def _frame_group(study: Study, number: int, height: str) -> Dataset:
    """Per-frame functional groups (PS3.3 C.7.6.16): where the frame is, and of which image."""
    group, content, plane = Dataset(), Dataset(), Dataset()
    if study.modality != "SEG":
        content.StackID, content.InStackPositionNumber = "1", number
        content.FrameAcquisitionNumber = 1
        content.FrameReferenceDateTime = content.FrameAcquisitionDateTime = study.StudyDate + study.StudyTime
        content.FrameAcquisitionDuration = 1.0
    content.DimensionIndexValues = [number]
    plane.ImagePositionPatient = ["-180", "-180", height]
    if study.modality == "SEG":
        group.DerivationImageSequence = derivation(_context_of(study), number)
    group.FrameContentSequence, group.PlanePositionSequence = Sequence([content]), Sequence([plane])
    return group


_EVENTS: Final = (
    "InstanceCreation",
    "Study",
    "Series",
    "Acquisition",
    "Content",
    "PerformedProcedureStepStart",
)


def _series_values(study: Study, number: int) -> Values:
    uid = _uid(study.StudyInstanceUID, number)
    return {tag_of("SeriesInstanceUID"): uid.encode("ascii"), tag_of("SeriesNumber"): b"%d" % number}


_INSTANCE_TAGS: Final = tuple(
    tag_of(keyword)
    for keyword in ("SOPInstanceUID", "InstanceNumber", "SliceLocation", "ImagePositionPatient")
)


def _instance_values(uid: str, number: int) -> Values:
    height = f"{-5 * number}.0"
    texts = (uid, str(number), height, f"-180\\-180\\{height}")
    values = {tag: text.encode("ascii") for tag, text in zip(_INSTANCE_TAGS, texts, strict=True)}
    return values | {tag_of("ImageIndex"): as_us(number)}


def _matrix(kind: Kind, study: Study) -> tuple[int, int]:
    """Rows and columns: the usual ones, or a square that fills most of the size asked for, 16 at least."""
    if study.size == REALISTIC:
        return kind.matrix
    room = (study.size - _HEADER_ROOM) * 8 // (max(kind.pixel_bits, 1) * study.frames)
    # JPEG 2000 with its usual six resolutions needs a matrix of more than 32.
    least = 16 if study.TransferSyntaxUID == EXPLICIT else 64
    side = max(least, isqrt(max(0, room)) // 16 * 16)
    return side, side


_HEADER_ROOM: Final = 6144


def _matrix_values(kind: Kind, rows: int, columns: int) -> Values:
    numbers = {"Rows": rows, "Columns": columns, "BitsAllocated": kind.bits}
    return {tag_of(keyword): as_us(number) for keyword, number in numbers.items()}


def _data_set(study: Study, values: Values, pixels: bytes, around: int) -> bytes:
    """The data set up to the value of Pixel Data, padded so that the file has the size asked for.

    `around` is the length of what stands before and behind.
    """
    made = _template(study.modality, _context_of(study) if study.modality in _DOCUMENTS else None)
    parts: list[bytes] = []
    hole = 0
    for fixed, tag, vr in made.places:
        parts.append(fixed)
        if tag == PADDING_TAG:
            hole = len(parts)
        else:
            parts.append(element(tag, vr, values[tag]))
    parts += (made.end, pixels)
    padding_header = 12
    padding = study.size - around - sum(map(len, parts)) - padding_header
    if study.size in (SMALLEST, REALISTIC):
        padding = 0
    if padding < 0 or padding % 2:
        raise ValueError(
            f"A {study.modality} file cannot have exactly {study.size} bytes. "
            f"Ask for an even number, at least {study.size - padding}."
        )
    parts.insert(hole, element(PADDING_TAG, b"OB", bytes(padding)))
    return b"".join(parts)
