"""Instances in another uncompressed syntax: the same attributes, the very same pixels, little memory."""

from __future__ import annotations

import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.data.data_manager import DATA_ROOT
from pydicom.filereader import read_dataset

from catalog import Unavailable
from node.contracts import Outgoing
from node.dimse import Part10File
from node.dimse.reencode import reencode
from tests.node.dimse.archive import CT_IMAGE, Stored, instances
from tests.node.dimse.wire import EXPLICIT, IMPLICIT

TEST_FILES = Path(DATA_ROOT) / "test_files"
DEFLATED = "1.2.840.10008.1.2.1.99"


def whole(outgoing: Outgoing) -> bytes:
    """Read it in odd pieces."""
    data = bytearray(outgoing.size)
    done = 0
    while done < len(data):
        step = outgoing.read_into(memoryview(data)[done : done + 977], done)
        assert step
        done += step
    return bytes(data)


def parsed(data: bytes, syntax: str) -> pydicom.Dataset:
    return read_dataset(BytesIO(data), syntax == IMPLICIT, True)


@pytest.mark.parametrize("target", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize(
    "name",
    ["MR_small_implicit", "MR_small", "CT_small", "rtplan", "image_dfl", "liver_1frame", "reportsi",
     "waveform_ecg", "test-SR"],
)  # fmt: skip
def test_attributes_and_pixels_stay_what_they_are(name: str, target: str) -> None:
    file = Part10File(TEST_FILES / f"{name}.dcm")
    assert file.TransferSyntaxUID in (EXPLICIT, IMPLICIT, DEFLATED), "this file has changed"
    again = reencode(file, [target])
    assert again is not None
    assert again.TransferSyntaxUID == target
    dataset, original = parsed(whole(again), target), pydicom.dcmread(TEST_FILES / f"{name}.dcm")
    assert [element.tag for element in dataset] == [
        element.tag for element in original if element.tag.group > 2
    ]
    for element in original:
        if not element.tag.is_private and element.VR not in ("SQ", "OB", "OW", "UN", "OB or OW"):
            assert dataset[element.tag].value == element.value
    if "PixelData" in original:
        assert dataset.PixelData == original.PixelData
    again.close()
    file.close()


def test_a_large_multi_frame_is_converted_in_little_memory() -> None:
    (stored,) = instances(1, 64 << 20)
    tracemalloc.start()
    again = reencode(stored, [IMPLICIT])
    assert again is not None
    buffer = memoryview(bytearray(1 << 20))
    offset = 0
    while offset < again.size:
        offset += again.read_into(buffer, offset)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20
    assert again.size == stored.size - 4, "OW has a longer header in an explicit syntax"


def test_what_comes_after_pixel_data_comes_along() -> None:
    (stored,) = instances(1, 1000)
    padding = b"\xfc\xff\xfc\xffOB\0\0" + (8).to_bytes(4, "little") + bytes(8)
    again = reencode(Stored(CT_IMAGE, stored.SOPInstanceUID, EXPLICIT, stored.data + padding), [IMPLICIT])
    assert again is not None
    assert whole(again).endswith(b"\xfc\xff\xfc\xff" + (8).to_bytes(4, "little") + bytes(8))


def test_compressed_ones_and_unwanted_targets_are_left_alone() -> None:
    (jpeg,) = instances(1, 1000, syntax="1.2.840.10008.1.2.4.50")
    assert reencode(jpeg, [EXPLICIT]) is None
    (plain,) = instances(1, 1000)
    assert reencode(plain, ["1.2.840.10008.1.2.4.50"]) is None


@pytest.mark.parametrize("data", [b"\x08\0", b"\xe0\x7f\x10\0OW\0\0\xff\xff\xff\x7fab", b"\xff" * 50])
def test_what_cannot_be_read_is_said_to_be_so(data: bytes) -> None:
    with pytest.raises(Unavailable):
        whole(reencode(Stored(CT_IMAGE, "1.2", EXPLICIT, data), [IMPLICIT]) or Stored("", "", "", b""))


def test_a_bomb_of_zeros_is_not_inflated_without_end() -> None:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = b"".join(deflate.compress(bytes(1 << 20)) for _ in range(200)) + deflate.flush()
    with pytest.raises(Unavailable, match="too large"):
        reencode(Stored(CT_IMAGE, "1.2", DEFLATED, bomb), [EXPLICIT])
