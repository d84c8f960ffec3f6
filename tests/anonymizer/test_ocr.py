"""Text that Tesseract can read is blanked in images nothing else vouches for, or they are held back."""

from __future__ import annotations

import shutil

import pytest
from pydicom.dataset import Dataset

from anonymizer import PRESETS, Engine, ProjectKey, Quarantined, policy_from
from anonymizer.elements import read_part10
from anonymizer.ocr import SURE_ENOUGH_TO_HOLD, text_boxes
from tests.anonymizer.conftest import SECRET, deidentified, stored, written
from tests.anonymizer.test_pixels import cine

needs_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason="Tesseract is not installed")
READS = policy_from("reads", {**PRESETS["research"], "pixel": {"ocr": True}})

# Five columns of seven rows for each letter, a bit a pixel.
GLYPHS = {
    "C": "01110 10001 10000 10000 10000 10001 01110",
    "U": "10001 10001 10001 10001 10001 10001 01110",
    "T": "11111 00100 00100 00100 00100 00100 00100",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "B": "11110 10001 10001 11110 10001 10001 11110",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "R": "11110 10001 10001 11110 10100 10010 10001",
}


def burned(text: str, frames: int = 1, samples: int = 1) -> Dataset:
    """An image with `text` in white on grey, each dot of a letter four pixels wide."""
    dot, left, top, columns, rows = 4, 40, 60, 320, 240
    plane = bytearray(b"\x30" * (rows * columns))
    for place, letter in enumerate(text):
        for y, line in enumerate(GLYPHS[letter].split()):
            for x, bit in enumerate(line):
                for row in range(dot) if bit == "1" else ():
                    at = (top + y * dot + row) * columns + left + (place * 6 + x) * dot
                    plane[at : at + dot] = b"\xf0" * dot
    source = cine(frames, rows, columns, samples, ManufacturerModelName="UNHEARD OF")
    source.PixelData = b"".join(bytes([value]) * samples for value in plane) * frames
    return source


@needs_tesseract
@pytest.mark.parametrize(("frames", "samples"), [(1, 1), (2, 3)])
def test_a_burned_in_name_is_found_blanked_and_counted_for_a_person(frames: int, samples: int) -> None:
    source = stored(burned("CUTHBERT", frames, samples))
    assert text_boxes(read_part10(source), source, SURE_ENOUGH_TO_HOLD)
    result = Engine(READS, ProjectKey("TRIAL", SECRET)).deidentify(source)
    out = written(result)
    assert result.is_by_ocr
    assert b"\xf0" not in read_part10(out).root[0x7FE00010].data
    assert text_boxes(read_part10(out), out, SURE_ENOUGH_TO_HOLD) == ()


@needs_tesseract
def test_an_image_in_which_nothing_is_read_is_not_changed() -> None:
    source = burned("")
    assert deidentified(source, READS).PixelData == source.PixelData


def test_without_tesseract_an_image_that_needs_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Quarantined, match="BURNED_IN_RISK: The policy asks for OCR"):
        deidentified(burned("CUTHBERT"), READS)


def test_ocr_is_not_asked_unless_the_policy_says_so() -> None:
    with pytest.raises(Quarantined, match="neither a rule nor declared regions"):
        deidentified(burned("CUTHBERT"))
