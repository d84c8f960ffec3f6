"""Data sets for the tests of `catalog`: real, made and damaged ones, without File Meta Information."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import pydicom
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from catalog import MoreNeeded, Unreadable

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

_FOLDERS = (Path(pydicom.__file__).parent / "data", Path(__file__).parents[3] / "shared/data/dicom")


class RealFile(NamedTuple):
    """A Part 10 file of pydicom's test data, or of an optional folder beside the checkout."""

    path: Path
    data_set: bytes
    TransferSyntaxUID: str

    def dataset(self) -> Dataset:
        return pydicom.dcmread(self.path, force=True)


@cache
def real_files() -> tuple[RealFile, ...]:
    """Return every file that has File Meta Information and a transfer syntax."""
    paths = sorted(path for folder in _FOLDERS for path in folder.rglob("*") if path.is_file())
    return tuple(each for each in map(_read, paths) if each)


def real_file(name: str) -> RealFile:
    return next(each for each in real_files() if each.path.name == name)


def written(dataset: Dataset, TransferSyntaxUID: str) -> bytes:
    """Return what pydicom makes of a data set, not deflated."""
    stream = DicomBytesIO()
    stream.is_implicit_VR = TransferSyntaxUID == IMPLICIT
    stream.is_little_endian = TransferSyntaxUID != BIG_ENDIAN
    write_dataset(stream, dataset)
    return stream.getvalue()


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """Return an element in Explicit VR Little Endian, of a VR with the short length."""
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def sequence(group: int, number: int, vr: bytes, inner: bytes) -> bytes:
    """Return a sequence of undefined length, with one item."""
    start = struct.pack("<HH2sHI", group, number, vr, 0, 0xFFFFFFFF)
    return start + ITEM + inner + ITEM_END + SEQUENCE_END


_PIECES = (ITEM, SEQUENCE_END, b"\xff\xff\xff\xff", b"SQ\0\0\xff\xff\xff\xff", b"UN", b"\x1b$B")


def damaged(data: bytes, chance: random.Random) -> memoryview:
    """Return the bytes with some changed, replaced by what begins or ends sequences, or gone."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 10)):
        at = chance.randrange(min(len(changed), 4000) or 1)
        piece = chance.choice((*_PIECES, bytes([chance.randrange(256)])))
        changed[at : at + chance.choice((0, len(piece), len(piece) + 5))] = piece
    return memoryview(bytes(changed))


_T = TypeVar("_T")
_P = ParamSpec("_P")


def outcome(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | Unreadable | MoreNeeded:
    """Return what the call returns, or what it is allowed to raise."""
    try:
        return call(*args, **kwargs)
    except (Unreadable, MoreNeeded) as error:
        return error


def _read(path: Path) -> RealFile | None:
    raw = path.read_bytes()
    if raw[128:132] != b"DICM":
        return None
    meta = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID"]).file_meta
    if "TransferSyntaxUID" not in meta:
        return None
    return RealFile(path, raw[_end_of_meta(raw) :], meta.TransferSyntaxUID)


def _end_of_meta(raw: bytes) -> int:
    offset = 132
    while raw[offset : offset + 2] == b"\2\0":
        is_long = raw[offset + 4 : offset + 6] in (b"OB", b"UN")
        at, form, start = (8, "<I", 12) if is_long else (6, "<H", 8)
        offset += start + int(struct.unpack_from(form, raw, offset + at)[0])
    return offset
