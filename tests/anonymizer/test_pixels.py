"""Burned-in text: blanked where a rule or declared regions say, held back where nothing does."""

from __future__ import annotations

import importlib.util
import io
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from anonymizer import PRESETS, Engine, Policy, ProjectKey, Quarantined, policy_from
from anonymizer.elements import fragments_of, read_part10
from anonymizer.leaks import Needles
from anonymizer.promises import Expected
from anonymizer.verifier import verify
from tests.anonymizer.conftest import SECRET, deidentified, sample, stored, written

US_MULTIFRAME = "1.2.840.10008.5.1.4.1.1.3.1"
BOX = (4, 2, 20, 6)
needs_codecs = pytest.mark.skipif(
    importlib.util.find_spec("numpy") is None or importlib.util.find_spec("gdcm") is None,
    reason="the optional extra `pixels` is not installed",
)


def ruled(*boxes: tuple[int, ...]) -> Policy:
    """The research policy with one rule for every machine of these tests."""
    rule = {"match": {"ManufacturerModelName": "BURNER"}, "boxes": [list(box) for box in boxes]}
    return policy_from("ruled", {**PRESETS["research"], "pixel": {"rules": [rule]}})


def cine(frames: int = 3, rows: int = 32, columns: int = 64, samples: int = 3, **changes: Any) -> Dataset:
    """A native ultrasound cine with a texture that has no two equal neighbours."""
    dataset = sample("CT_small.dcm", SOPClassUID=US_MULTIFRAME, Modality="US", Rows=rows, Columns=columns)
    dataset.file_meta.MediaStorageSOPClassUID = US_MULTIFRAME
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.NumberOfFrames = frames
    dataset.SamplesPerPixel = samples
    dataset.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.ManufacturerModelName = "BURNER"
    del dataset.PixelPaddingValue
    size = frames * rows * columns * samples
    dataset.PixelData = (bytes(range(1, 252)) * (size // 251 + 1))[:size]
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def region(left: int, top: int, right: int, bottom: int) -> Dataset:
    item = Dataset()
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    return item


def pixels(dataset: Dataset) -> Iterator[tuple[int, int, bytes]]:
    """Column, row and bytes of every pixel of every frame, pixels stored together."""
    size = dataset.BitsAllocated // 8 * dataset.SamplesPerPixel
    for index in range(len(dataset.PixelData) // size):
        row, column = divmod(index % (dataset.Rows * dataset.Columns), dataset.Columns)
        yield column, row, dataset.PixelData[index * size : (index + 1) * size]


def is_inside(column: int, row: int, box: tuple[int, int, int, int]) -> bool:
    return box[0] <= column < box[0] + box[2] and box[1] <= row < box[1] + box[3]


def verified(source: Dataset, policy: Policy) -> Dataset:
    """The output after the verifier has agreed to it."""
    data = stored(source)
    result = Engine(policy, ProjectKey("TRIAL", SECRET)).deidentify(data)
    boxes = tuple(tuple(box) for box in result.boxes)
    expected = Expected(frozenset(policy.document["options"]), boxes=boxes, given=frozenset([result.subject]))  # type: ignore[arg-type]
    assert verify(data, written(result), expected, Needles()) == []
    return dcmread(io.BytesIO(written(result)))


def test_a_rule_blanks_its_box_in_every_frame_and_nothing_else() -> None:
    source = cine()
    out = verified(source, ruled(BOX))
    for (column, row, before), (_, _, after) in zip(pixels(source), pixels(out), strict=True):
        assert after == (bytes(3) if is_inside(column, row, BOX) else before)
    assert out.BurnedInAnnotation == "NO"
    assert "113101" in [c.CodeValue for c in out.DeidentificationMethodCodeSequence]
    assert out.ImageType[0] == "DERIVED"
    assert out.file_meta.TransferSyntaxUID == source.file_meta.TransferSyntaxUID


@pytest.mark.parametrize(
    ("photometric", "signed", "fill"),
    [("MONOCHROME2", 0, 0), ("MONOCHROME1", 0, 4095), ("MONOCHROME2", 1, -2048), ("MONOCHROME1", 1, 2047)],
)
def test_black_is_what_the_photometric_interpretation_says(photometric: str, signed: int, fill: int) -> None:
    source = cine(samples=1, PhotometricInterpretation=photometric, BitsAllocated=16, BitsStored=12)
    source.PixelRepresentation, source.HighBit = signed, 11
    source.PixelData = struct.pack("<H", 77) * (len(source.PixelData))
    out = verified(source, ruled(BOX))
    wanted = struct.pack("<h", fill)
    assert all(value == wanted for column, row, value in pixels(out) if is_inside(column, row, BOX))


def test_planes_are_blanked_each() -> None:
    source = cine(PlanarConfiguration=1)
    out = verified(source, ruled(BOX))
    assert out.PixelData.count(0) == 3 * 3 * BOX[2] * BOX[3]


def test_a_palette_is_blanked_with_its_darkest_entry() -> None:
    source = sample("examples_palette.dcm", ManufacturerModelName="BURNER")
    out = verified(source, ruled(BOX))
    tables = [source[f"{colour}PaletteColorLookupTableData"].value for colour in ("Red", "Green", "Blue")]
    shades = [sum(values) for values in zip(*(struct.unpack("<256H", t) for t in tables), strict=True)]
    (index,) = {value[0] for column, row, value in pixels(out) if is_inside(column, row, BOX)}
    assert shades[index] == min(shades)


def test_only_declared_ultrasound_regions_stay() -> None:
    source = cine(ManufacturerModelName="OTHER")
    source.SequenceOfUltrasoundRegions = Sequence([region(10, 8, 39, 19), region(42, 8, 60, 30)])
    out = verified(source, policy_from("research", PRESETS["research"]))
    kept = [(10, 8, 30, 12), (42, 8, 19, 23)]
    for (column, row, before), (_, _, after) in zip(pixels(source), pixels(out), strict=True):
        assert after == (before if any(is_inside(column, row, box) for box in kept) else bytes(3))


def test_without_rule_or_regions_or_with_a_region_that_covers_all_it_is_held() -> None:
    source = cine(ManufacturerModelName="OTHER")
    for regions in ([], [region(0, 0, 63, 31)]):
        if regions:
            source.SequenceOfUltrasoundRegions = Sequence(regions)
        with pytest.raises(Quarantined, match="BURNED_IN_RISK"):
            deidentified(source)


def test_a_rule_does_nothing_without_the_option() -> None:
    rule = {"match": {"ManufacturerModelName": "BURNER"}, "boxes": []}
    policy = policy_from("basic", {"pixel": {"rules": [rule]}})
    with pytest.raises(Quarantined, match="BURNED_IN_RISK"):
        deidentified(cine(), policy)


def test_an_image_that_needs_no_blanking_keeps_its_code_stream_bit_for_bit() -> None:
    source = sample("MR_small_jp2klossless.dcm", ImageType=["ORIGINAL", "PRIMARY"])
    assert deidentified(source).PixelData == source.PixelData


def test_a_cine_of_60_frames_of_640_by_480_is_blanked_in_two_seconds() -> None:
    source = stored(cine(60, 480, 640))
    engine = Engine(ruled((0, 0, 640, 40)), ProjectKey("TRIAL", SECRET))
    start = time.process_time()
    out = written(engine.deidentify(source))
    assert time.process_time() - start <= 2
    assert len(out) > 60 * 480 * 640 * 3


WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None  # As where the extra is not installed: importing it fails.
import pytest
from anonymizer import Quarantined
from tests.anonymizer.test_pixels import BOX, deidentified, ruled, sample
source = sample("SC_rgb_rle_2frame.dcm", ManufacturerModelName="BURNER", PatientID="1")
with pytest.raises(Quarantined, match=r"pip install 'peerpacs\\[pixels\\]'"):
    deidentified(source, ruled(BOX))
"""


def test_without_codecs_a_compressed_image_that_needs_blanking_is_held_with_advice() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", WITHOUT_NUMPY], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_codecs
@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_rle_2frame.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "JPEG2000.dcm",
        "examples_ybr_color.dcm",
    ],
)
def test_compressed_frames_are_blanked_without_loss_elsewhere(name: str) -> None:
    source = sample(name, ManufacturerModelName="BURNER", PatientID="1", PatientName="Doe^John")
    out = verified(source, ruled(BOX))
    before, after = source.pixel_array, out.pixel_array
    if source.PhotometricInterpretation.startswith("YBR"):
        assert out.PhotometricInterpretation == "RGB"
        return
    left, top, width, height = BOX
    frames = after.reshape(-1, source.Rows, source.Columns, source.SamplesPerPixel)
    originals = before.reshape(frames.shape).copy()
    inside = frames[:, top : top + height, left : left + width]
    assert (inside == inside[0, 0, 0]).all()
    originals[:, top : top + height, left : left + width] = inside
    assert (frames == originals).all()
    assert out.file_meta.TransferSyntaxUID.is_compressed
    assert len(fragments_of(read_part10(stored(out)).root[0x7FE00010].data)) == frames.shape[0] + 1


@needs_codecs
def test_a_compressed_cine_of_60_frames_is_blanked_in_two_seconds() -> None:
    source = cine(60, 480, 640, samples=1)
    source.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    data = stored(source)
    engine = Engine(ruled((0, 0, 640, 40)), ProjectKey("TRIAL", SECRET))
    start = time.process_time()
    engine.deidentify(data)
    assert time.process_time() - start <= 2


def known(is_trusted: bool = True) -> Policy:
    """The research policy that trusts the catalogue of scanners, or does not."""
    return policy_from("known", {**PRESETS["research"], "pixel": {"catalogue": is_trusted}})


def test_a_scanner_of_the_catalogue_has_its_strip_blanked_if_the_policy_trusts_it() -> None:
    maker = {"Manufacturer": "Philips Medical Systems", "ManufacturerModelName": "iU22"}
    dataset = cine(frames=2, rows=480, columns=640, **maker)
    engine = Engine(known(), ProjectKey("T", SECRET))
    result = engine.deidentify(stored(dataset))
    assert result.boxes == ((0, 0, 640, 47),)
    with pytest.raises(Quarantined):
        Engine(known(False), ProjectKey("T", SECRET)).deidentify(stored(dataset))
    with pytest.raises(Quarantined):
        engine.deidentify(stored(cine(rows=481, columns=640, **maker)))
    with pytest.raises(Quarantined):
        engine.deidentify(stored(cine(rows=480, columns=640, **{**maker, "ManufacturerModelName": "iU23"})))
