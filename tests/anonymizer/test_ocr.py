"""Text that Tesseract can read is blanked in images nothing else vouches for, or they are held back."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from anonymizer import PRESETS, Batch, Engine, ProjectKey, Quarantined, policy_from, read_key, run
from anonymizer.arrivals import Arrivals
from anonymizer.elements import read_part10
from anonymizer.ocr import SURE_ENOUGH_TO_HOLD, names_subject, text_boxes
from anonymizer.worker import Worker
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


def slice_with(text: str, number: int = 1) -> Dataset:
    """A CT slice of signed 12-bit words with `text` burned in, of a patient called Cuthbert."""
    source = burned(text)
    grey = source.PixelData
    source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = CTImageStorage
    source.Modality, source.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    source.PatientName, source.SOPInstanceUID = "Cuthbert^Ada", f"1.2.3.4.{number}"
    source.file_meta.MediaStorageSOPInstanceUID = source.SOPInstanceUID
    source.BitsAllocated, source.BitsStored, source.HighBit, source.PixelRepresentation = 16, 12, 11, 1
    source.PixelData = b"".join(struct.pack("<h", value * 12 - 1000) for value in grey)
    del source.NumberOfFrames
    return source


@needs_tesseract
def test_a_series_whose_sample_names_the_subject_is_read_image_by_image(
    tmp_path: Path, key_file: Path
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        (tmp_path / "in" / f"{number}.dcm").write_bytes(stored(slice_with("CUTHBERT", number)))
    report = run(Batch(tmp_path / "in", tmp_path / "out", READS, key_file))
    assert (report.released, report.by_ocr, report.quarantined) == (2, 2, {})
    for path in (tmp_path / "out").rglob("*.dcm"):
        assert names_nobody(path.read_bytes())


def names_nobody(data: bytes) -> bool:
    """Whether OCR reads nothing in a file."""
    return text_boxes(read_part10(data), data, SURE_ENOUGH_TO_HOLD) == ()


@needs_tesseract
def test_one_image_of_a_series_is_read_and_what_names_nobody_stays(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    monkeypatch.setattr(
        "anonymizer.ocr.names_subject", lambda *given: looked.append(1) or names_subject(*given)
    )
    arrivals = Arrivals(Worker(READS, read_key(key_file), tmp_path))
    for number in range(3):
        source = slice_with("BUTCHER", number)
        outcome, file = arrivals.take(stored(source))
        assert (outcome.reason, outcome.is_by_ocr) == ("", False)
        assert read_part10(file).root[0x7FE00010].data == source.PixelData
    assert looked == [1]
    named = slice_with("CUTHBERT")
    named.SeriesInstanceUID = "1.2.3.5"
    outcome, file = arrivals.take(stored(named))
    assert outcome.is_by_ocr
    assert names_nobody(file)


def test_a_series_that_cannot_be_sampled_is_held(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    arrivals = Arrivals(Worker(READS, read_key(key_file), tmp_path))
    outcome, file = arrivals.take(stored(slice_with("")))
    assert (outcome.reason, file) == ("BURNED_IN_RISK", b"")
    with pytest.raises(Quarantined, match="BURNED_IN_RISK: The policy asks for OCR"):
        deidentified(slice_with(""), READS)
    assert deidentified(slice_with(""), "research").PixelData == slice_with("").PixelData
