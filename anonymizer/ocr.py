"""Looks for burned-in text with Tesseract, where it is installed and a policy asks for it.

What it finds is blanked; what it misses it misses. So it is asked only about images that no rule and no
declared regions vouch for, and what leaves on its word alone is counted for a person to look at.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from io import BytesIO

from anonymizer.elements import EXPLICIT_BIG, PIXEL_DATA, Part10, text_value
from anonymizer.pixels import Box, geometry_of, short
from anonymizer.quarantine import Quarantined, Reason

MOST_FRAMES = 64
SCALE, MARGIN = 2, 4
# Tesseract's own confidence, 0 to 100: little is enough to blank, more is needed to hold an image back.
SURE_ENOUGH_TO_BLANK, SURE_ENOUGH_TO_HOLD = 20, 60

_STORED, _PHOTOMETRIC = 0x00280101, 0x00280004
_QUARTER = bytes(value // 4 for value in range(256))
_HALF = bytes(value // 2 for value in range(256))


def text_boxes(file: Part10, data: bytes | memoryview, confidence: int) -> tuple[Box, ...]:
    """Boxes around all text in up to 64 frames; raises Quarantined if nothing here can look."""
    tesseract = shutil.which("tesseract")
    if tesseract is None:
        raise Quarantined(
            Reason.BURNED_IN_RISK, "The policy asks for OCR, and Tesseract is not installed on this node."
        )
    rows, columns = short(file.root, 0x00280010), short(file.root, 0x00280011)
    boxes: set[Box] = set()
    for grey in _greys(file, data):
        boxes |= set(_read(tesseract, grey, rows, columns, confidence))
    return tuple(sorted(boxes))


def _read(tesseract: str, grey: bytes, rows: int, columns: int, confidence: int) -> Iterator[Box]:
    """Boxes of the words in one frame of 8-bit grey."""
    image = b"P5 %d %d 255\n" % (columns * SCALE, rows * SCALE) + _enlarged(grey, columns)
    command = [tesseract, "stdin", "stdout", "--dpi", "150", "--psm", "11", "tsv"]
    told = subprocess.run(command, input=image, capture_output=True, timeout=120, check=True)
    for line in told.stdout.decode("utf-8", "replace").splitlines()[1:]:
        *_, left, top, width, height, sure, word = line.split("\t")
        if float(sure) < confidence or sum(c.isalnum() for c in word) < 2:
            continue
        x, y = int(left) // SCALE - MARGIN, int(top) // SCALE - MARGIN
        wide, high = int(width) // SCALE + 2 * MARGIN, int(height) // SCALE + 2 * MARGIN
        yield Box(max(0, x), max(0, y), wide, high)


def _enlarged(grey: bytes, columns: int) -> bytes:
    wide = bytearray(len(grey) * SCALE)
    for offset in range(SCALE):
        wide[offset::SCALE] = grey
    length = columns * SCALE
    return b"".join(bytes(wide[at : at + length]) * SCALE for at in range(0, len(wide), length))


def _greys(file: Part10, data: bytes | memoryview) -> Iterator[bytes]:
    """Evenly chosen frames as 8-bit grey."""
    if text_value(file.root, _PHOTOMETRIC) == "PALETTE COLOR":
        raise Quarantined(Reason.BURNED_IN_RISK, "Its pixels are palette indices, which OCR cannot read.")
    if file.root[PIXEL_DATA].is_encapsulated:
        yield from _decoded(file.transfer_syntax, data)
        return
    geometry = geometry_of(file.root)
    if geometry.allocated not in (8, 16) or file.transfer_syntax == EXPLICIT_BIG or not geometry.length:
        raise Quarantined(Reason.BURNED_IN_RISK, "Its pixel layout is none that OCR can look at here.")
    pixels = file.root[PIXEL_DATA].data
    size = geometry.length // geometry.frames
    for frame in _chosen(geometry.frames):
        part = pixels[frame * size : (frame + 1) * size]
        if geometry.allocated == 16:
            part = _narrowed(part, short(file.root, _STORED))
        yield _grey(part, geometry.samples, is_planar=geometry.is_planar)


def _decoded(transfer_syntax: str, data: bytes | memoryview) -> Iterator[bytes]:
    try:
        from pydicom import dcmread
        from pydicom.pixels.decoders.base import get_decoder

        dataset = dcmread(BytesIO(data))
        frames = list(get_decoder(transfer_syntax).iter_array(dataset))
    except (ImportError, RuntimeError, NotImplementedError, ValueError, AttributeError) as error:
        raise Quarantined(
            Reason.UNSUPPORTED_TS_FOR_REQUIRED_PIXEL_WORK,
            "Its compressed frames have to be looked at, and no codec for them is installed: "
            "pip install 'peerpacs[pixels]', then run again.",
        ) from error
    for number in _chosen(len(frames)):
        frame, _ = frames[number]
        samples = frame.shape[2] if frame.ndim == 3 else 1
        raw = frame.tobytes() if frame.itemsize == 1 else _narrowed(frame.tobytes(), dataset.BitsStored)
        yield _grey(raw, samples, is_planar=False)


def _chosen(frames: int) -> list[int]:
    count = min(frames, MOST_FRAMES)
    return [number * frames // count for number in range(count)]


def _narrowed(words: bytes, stored: int) -> bytes:
    """The upper 8 of `stored` bits of little endian words."""
    up = bytes((value << (16 - stored)) & 0xFF for value in range(256))
    down = bytes(value >> max(0, stored - 8) if stored < 16 else 0 for value in range(256))
    return _summed(words[1::2].translate(up), words[0::2].translate(down))


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
