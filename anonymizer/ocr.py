"""Looks for burned-in text with Tesseract, where it is installed and a policy asks for it.

What it finds is blanked; what it misses it misses. So it is asked only about images that no rule and no
declared regions vouch for, and what leaves on its word alone is counted for a person to look at. Of a series
that seldom has burned-in text one image is read, and only what names the subject counts.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from array import array
from collections.abc import Iterator
from difflib import get_close_matches
from io import BytesIO

from anonymizer.elements import EXPLICIT_BIG, PIXEL_DATA, Part10, text_value
from anonymizer.pixels import Box, geometry_of, short
from anonymizer.quarantine import Quarantined, Reason
from anonymizer.text import Identifiers, spans_of

MOST_FRAMES = 64
SAMPLED_FRAMES = 3
SCALE, MARGIN = 2, 4
# Tesseract's own confidence, 0 to 100: little is enough to blank, more is needed to hold an image back.
SURE_ENOUGH_TO_BLANK, SURE_ENOUGH_TO_HOLD = 20, 60

# What names somebody has three characters at least; a letter in five may have been misread.
_LEAST, _ALIKE = 3, 0.8

_STORED, _SIGNED, _PHOTOMETRIC = 0x00280101, 0x00280103, 0x00280004
_QUARTER = bytes(value // 4 for value in range(256))
_HALF = bytes(value // 2 for value in range(256))


def text_boxes(file: Part10, data: bytes | memoryview, confidence: int) -> tuple[Box, ...]:
    """Boxes around all text in up to 64 frames; raises Quarantined if nothing here can look."""
    return tuple(sorted({box for _, box in _words(file, data, confidence, MOST_FRAMES)}))


def names_subject(file: Part10, data: bytes | memoryview, identifiers: Identifiers) -> bool:
    """Whether words in up to three frames are nearly the subject's; raises Quarantined as `text_boxes`."""
    found = [word for word, _ in _words(file, data, SURE_ENOUGH_TO_BLANK, SAMPLED_FRAMES)]
    read = [word for word in found if sum(c.isalnum() for c in word) >= _LEAST]
    known = [word for word in (*identifiers.words, *identifiers.numbers) if len(word) > _LEAST]
    return bool(spans_of(" ".join(read), identifiers)) or any(
        get_close_matches(word.casefold(), known, 1, _ALIKE) for word in read if len(word) > _LEAST
    )


def _words(file: Part10, data: bytes | memoryview, confidence: int, most: int) -> Iterator[tuple[str, Box]]:
    """The words in up to `most` frames, and where they stand."""
    tesseract = shutil.which("tesseract")
    if tesseract is None:
        raise Quarantined(
            Reason.BURNED_IN_RISK, "The policy asks for OCR, and Tesseract is not installed on this node."
        )
    rows, columns = short(file.root, 0x00280010), short(file.root, 0x00280011)
    for grey in _greys(file, data, most):
        yield from _read(tesseract, grey, rows, columns, confidence)


def _read(tesseract: str, grey: bytes, rows: int, columns: int, confidence: int) -> Iterator[tuple[str, Box]]:
    """The words in one frame of 8-bit grey."""
    image = b"P5 %d %d 255\n" % (columns * SCALE, rows * SCALE) + _enlarged(grey, columns)
    command = [tesseract, "stdin", "stdout", "--dpi", "150", "--psm", "11", "tsv"]
    told = subprocess.run(command, input=image, capture_output=True, timeout=120, check=True)
    for line in told.stdout.decode("utf-8", "replace").splitlines()[1:]:
        *_, left, top, width, height, sure, word = line.split("\t")
        if float(sure) < confidence or sum(c.isalnum() for c in word) < 2:
            continue
        x, y = int(left) // SCALE - MARGIN, int(top) // SCALE - MARGIN
        wide, high = int(width) // SCALE + 2 * MARGIN, int(height) // SCALE + 2 * MARGIN
        yield word, Box(max(0, x), max(0, y), wide, high)


def _enlarged(grey: bytes, columns: int) -> bytes:
    wide = bytearray(len(grey) * SCALE)
    for offset in range(SCALE):
        wide[offset::SCALE] = grey
    length = columns * SCALE
    return b"".join(bytes(wide[at : at + length]) * SCALE for at in range(0, len(wide), length))


def _greys(file: Part10, data: bytes | memoryview, most: int) -> Iterator[bytes]:
    """Evenly chosen frames, `most` at most, as 8-bit grey."""
    if text_value(file.root, _PHOTOMETRIC) == "PALETTE COLOR":
        raise Quarantined(Reason.BURNED_IN_RISK, "Its pixels are palette indices, which OCR cannot read.")
    if file.root[PIXEL_DATA].is_encapsulated:
        yield from _decoded(file, data, most)
        return
    geometry = geometry_of(file.root)
    if geometry.allocated not in (8, 16) or file.transfer_syntax == EXPLICIT_BIG or not geometry.length:
        raise Quarantined(Reason.BURNED_IN_RISK, "Its pixel layout is none that OCR can look at here.")
    pixels = file.root[PIXEL_DATA].data
    size = geometry.length // geometry.frames
    for frame in _chosen(geometry.frames, most):
        part = pixels[frame * size : (frame + 1) * size]
        if geometry.allocated == 16:
            part = _narrowed(part, file)
        yield _grey(part, geometry.samples, is_planar=geometry.is_planar)


def _decoded(file: Part10, data: bytes | memoryview, most: int) -> Iterator[bytes]:
    try:
        from pydicom import dcmread
        from pydicom.pixels.decoders.base import get_decoder

        dataset = dcmread(BytesIO(data))
        frames = list(get_decoder(file.transfer_syntax).iter_array(dataset))
    except (ImportError, RuntimeError, NotImplementedError, ValueError, AttributeError) as error:
        raise Quarantined(
            Reason.UNSUPPORTED_TS_FOR_REQUIRED_PIXEL_WORK,
            "Its compressed frames have to be looked at, and no codec for them is installed: "
            "pip install 'peerpacs[pixels]', then run again.",
        ) from error
    for number in _chosen(len(frames), most):
        frame, _ = frames[number]
        samples = frame.shape[2] if frame.ndim == 3 else 1
        if frame.itemsize > 2:
            raise Quarantined(Reason.BURNED_IN_RISK, "Its pixel layout is none that OCR can look at here.")
        raw = frame.tobytes() if frame.itemsize == 1 else _narrowed(frame.tobytes(), file)
        yield _grey(raw, samples, is_planar=False)


def _chosen(frames: int, most: int) -> list[int]:
    count = min(frames, most)
    return [number * frames // count for number in range(count)]


def _narrowed(words: bytes, file: Part10) -> bytes:
    """Little endian words as 8-bit grey, from black for the least of them to white for the greatest."""
    stored, root = short(file.root, _STORED), file.root
    is_signed = _SIGNED in root and struct.unpack("<H", root[_SIGNED].data[:2]) == (1,)
    values = array("H", words)
    if sys.byteorder == "big":
        values.byteswap()
    mask, sign = (1 << stored) - 1, 1 << (stored - 1) if is_signed else 0
    shades = {value: value & mask ^ sign for value in set(values)}
    least, most = min(shades.values()), max(shades.values())
    grey = {value: (shade - least) * 255 // max(1, most - least) for value, shade in shades.items()}
    return bytes(map(grey.__getitem__, values))


def _grey(raw: bytes, samples: int, *, is_planar: bool) -> bytes:
    if samples == 1:
        return raw
    third = len(raw) // 3
    red, green, blue = ((raw[n * third : (n + 1) * third] if is_planar else raw[n::3]) for n in range(3))
    return _summed(_summed(red.translate(_QUARTER), green.translate(_HALF)), blue.translate(_QUARTER))


def _summed(one: bytes, other: bytes) -> bytes:
    """Byte by byte; no sum may exceed 255."""
    total = int.from_bytes(one, "big") + int.from_bytes(other, "big")
    return total.to_bytes(len(one), "big")
