"""Pixels of phantoms: a bright ellipse with noise on dark ground, native or compressed once for all.

Compression is by the extra `pixels`; where that is not installed, phantoms are uncompressed.
"""

from __future__ import annotations

import importlib
import struct
import tempfile
from array import array
from functools import lru_cache
from math import sqrt
from pathlib import Path
from random import Random
from sys import byteorder
from typing import Any, Final

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_fragments
from pydicom.uid import UID

from .headers import Kind

EXPLICIT: Final = "1.2.840.10008.1.2.1"
RLE: Final = "1.2.840.10008.1.2.5"
JPEG_LS: Final = "1.2.840.10008.1.2.4.80"
JPEG_2000: Final = "1.2.840.10008.1.2.4.90"
SYNTAXES: Final = {"explicit": EXPLICIT, "rle": RLE, "jpeg-ls": JPEG_LS, "jpeg-2000": JPEG_2000}
"""Words of scenarios → TransferSyntaxUID."""
_PERIOD: Final = 4096


@lru_cache(8)
def native(kind: Kind, rows: int, columns: int) -> bytes:
    """Return one frame, little endian."""
    if kind.bits == 1:
        return _mask(rows, columns)
    chance = Random(f"{rows} {columns}")
    noise = chance.randbytes(_PERIOD + columns)
    scale = 4 if kind.bits == 16 else 1
    letter = "H" if kind.bits == 16 else "B"
    dark = array(letter, [scale * (value // 4) for value in noise for _ in range(kind.samples)])
    bright = array(letter, [scale * (128 + value // 4) for value in noise for _ in range(kind.samples)])
    pixels = array(letter)
    for y in range(rows):
        left, right = _tissue(y, rows, columns)
        start, width = chance.randrange(_PERIOD), kind.samples
        pixels += dark[start * width : (start + left) * width]
        pixels += bright[(start + left) * width : (start + right) * width]
        pixels += dark[(start + right) * width : (start + columns) * width]
    if byteorder == "big":
        pixels.byteswap()
    return pixels.tobytes()


def _tissue(y: int, rows: int, columns: int) -> tuple[int, int]:
    """Where the ellipse begins and ends in a row."""
    half = rows / 2
    width = round(columns * 0.4 * sqrt(max(0.0, 1 - ((y - half) / (half * 0.9)) ** 2)))
    return columns // 2 - width, columns // 2 + width


def _mask(rows: int, columns: int) -> bytes:
    """The ellipse as one bit for each pixel, the first pixel in the lowest bit (PS3.5 Annex D)."""
    packed = bytearray()
    for y in range(rows):
        left, right = _tissue(y, rows, columns)
        packed += (((1 << (right - left)) - 1) << left).to_bytes(columns // 8, "little")
    return bytes(packed)


def can_compress() -> bool:
    """Say whether the codecs are installed."""
    try:
        importlib.import_module("gdcm")
        importlib.import_module("openjpeg")
    except ImportError:
        return False
    return True


@lru_cache(16)
def compressed(kind: Kind, rows: int, columns: int, TransferSyntaxUID: str) -> bytes:
    """Return one frame, compressed without loss.

    Raises:
        ImportError: the extra `pixels` is not installed.
    """
    frame = native(kind, rows, columns)
    described: dict[str, Any] = {
        "rows": rows,
        "columns": columns,
        "samples_per_pixel": kind.samples,
        "bits_allocated": kind.bits,
        "bits_stored": stored_bits(kind),
        "pixel_representation": 0,
        "photometric_interpretation": photometric_interpretation(kind, TransferSyntaxUID),
        "planar_configuration": 0,
        "number_of_frames": 1,
    }
    if TransferSyntaxUID == JPEG_LS:
        return _jpeg_ls(frame, described)
    encoders = importlib.import_module("pydicom.pixels.encoders")
    encoder = encoders.RLELosslessEncoder if TransferSyntaxUID == RLE else encoders.JPEG2000LosslessEncoder
    return bytes(encoder.encode(frame, index=0, **described))


def photometric_interpretation(kind: Kind, TransferSyntaxUID: str) -> str:
    """Return how colours are written: JPEG 2000 takes RGB apart into YBR without loss (PS3.5 8.2.4)."""
    if kind.samples < 3:
        return "MONOCHROME2"
    return "YBR_RCT" if TransferSyntaxUID == JPEG_2000 else "RGB"


def stored_bits(kind: Kind) -> int:
    """Return Bits Stored as the tables of the kind say it; all that are allocated if there is no table."""
    lines = (line.split() for table in kind.tables for line in table.splitlines())
    return next((int(line[1]) for line in lines if line[:1] == ["BitsStored"]), kind.bits)


def _jpeg_ls(frame: bytes, described: dict[str, Any]) -> bytes:
    """By way of files, because gdcm's Python images do not outlive what made them."""
    gdcm: Any = importlib.import_module("gdcm")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "native.dcm", Path(folder) / "compressed.dcm"
        _write_secondary_capture(source, frame, described)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLSLossless))
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        if not reader.Read():
            raise ValueError("gdcm could not read a frame.")
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise ValueError("gdcm could not write JPEG-LS.")
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise ValueError("gdcm could not write JPEG-LS.")
        return next(generate_fragments(dcmread(target).PixelData[8:]))


def _write_secondary_capture(path: Path, frame: bytes, described: dict[str, Any]) -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "2.25.1"
    for name, value in described.items():
        keyword = name.title().replace("_", "")
        if keyword != "PlanarConfiguration" or described["samples_per_pixel"] > 1:
            setattr(ds, keyword, value)
    ds.HighBit = described["bits_stored"] - 1
    ds.add_new("PixelData", "OW", frame)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    ds.save_as(path, enforce_file_format=True)


def as_us(number: int) -> bytes:
    """Return a value of VR US."""
    return struct.pack("<H", number)
