"""The full DICOM JSON: equal to pydicom's where both say something, and complete where pydicom gives up."""

from __future__ import annotations

import random
import struct
from math import isclose
from time import thread_time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from catalog import Attributes, MoreNeeded, Unreadable, describe, scan
from tests.catalog.real_files import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    RealFile,
    damaged,
    element,
    outcome,
    real_file,
    real_files,
    sequence,
    written,
)

DAMAGED = {"MR_truncated.dcm", "rtplan_truncated.dcm", "DICOMDIR-nooffset"}
FILES = [each for each in real_files() if each.path.name not in DAMAGED]


def described(data: bytes, syntax: str = EXPLICIT) -> Attributes:
    return describe(memoryview(data), syntax, len(data))


@pytest.mark.parametrize("file", FILES, ids=[each.path.name for each in FILES])
def test_the_json_is_pydicoms(file: RealFile) -> None:
    known = described(file.data_set, file.TransferSyntaxUID)
    assert msgspec.json.decode(msgspec.json.encode(known)) == known
    assert_same(known, file.dataset())


def assert_same(known: Attributes, dataset: Dataset) -> None:
    attributes = {
        f"{each.tag:08X}": each.tag for each in dataset if each.tag.element and each.tag < 0xFFFC0000
    }
    assert known.keys() == attributes.keys()
    for key, tag in attributes.items():
        content, other = known[key], dataset[tag]
        if content["vr"] == "SQ":
            assert len(content.get("Value", [])) == len(other.value)
            for item, other_item in zip(content.get("Value", []), other.value, strict=True):
                assert_same(item, other_item)
        elif "BulkDataURI" in content:
            assert len(other.value) == int(content["BulkDataURI"].split(",")[1]) or other.tag == 0x7FE00010
        elif key != "00080005" and other.VR not in ("OB or OW", "US or SS"):
            expected = outcome_of_pydicom(other)
            assert expected is None or alike(content, expected)


def outcome_of_pydicom(other: Any) -> dict[str, Any] | None:
    try:
        return dict(other.to_json_dict(None, 1 << 30))
    except (ValueError, TypeError):
        return None


def alike(content: dict[str, Any], expected: dict[str, Any]) -> bool:
    if "InlineBinary" in content:
        return content["vr"] == "OW" or content["InlineBinary"] == expected.get("InlineBinary")
    ours, theirs = content.get("Value", []), expected.get("Value", [])
    return len(ours) == len(theirs) and all(map(same, ours, theirs))


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, (int, float)):
        return isclose(float(ours), theirs)
    return bool((ours or "") == (theirs.strip(" \0") if isinstance(theirs, str) else theirs or ""))


def test_a_sequence_whose_length_lies_is_left_as_bytes_and_spoils_nothing() -> None:
    file = real_file("DICOMDIR-nooffset")
    known = described(file.data_set, file.TransferSyntaxUID)
    assert known["00041220"] == {"vr": "UN", "BulkDataURI": "#66,10696"}
    assert known["00041130"]["Value"] == ["PYDICOM_TEST"]


def test_bulk_data_is_told_by_place_and_length() -> None:
    file = real_file("CT_small.dcm")
    uri = described(file.data_set, file.TransferSyntaxUID)["7FE00010"]["BulkDataURI"]
    offset, length = map(int, uri.removeprefix("#").split(","))
    assert file.data_set[offset : offset + length] == file.dataset().PixelData


def test_encapsulated_pixels_are_told_with_all_their_fragments() -> None:
    file = real_file("MR_small_RLE.dcm")
    uri = described(file.data_set, file.TransferSyntaxUID)["7FE00010"]["BulkDataURI"]
    offset, length = map(int, uri.removeprefix("#").split(","))
    assert file.data_set[offset : offset + 4] == b"\xfe\xff\x00\xe0"
    assert file.data_set[offset + length - 8 : offset + length] == b"\xfe\xff\xdd\xe0\0\0\0\0"


@pytest.mark.parametrize("text", ["0.143", "-7", "512", "0.5"])
def test_a_number_written_as_json_would_is_a_number(text: str) -> None:
    assert described(element(0x0018, 0x0050, b"DS", text.encode()))["00180050"]["Value"] == [float(text)]


@pytest.mark.parametrize("text", ["1.50", "+1", "007", "1E3", "nan", "", "1.5000000000000000000001"])
def test_a_number_written_otherwise_keeps_its_characters(text: str) -> None:
    content = described(element(0x0018, 0x0050, b"DS", text.encode()))["00180050"]
    assert content.get("Value", [""]) == [text]


def test_json_has_no_word_for_infinity_so_it_is_a_text() -> None:
    data = element(0x0018, 0x9306, b"FD", struct.pack("<d", float("inf")))
    assert described(data)["00189306"]["Value"] == ["inf"]


def test_the_sign_of_pixel_values_follows_pixel_representation() -> None:
    dataset = Dataset()
    dataset.PixelRepresentation = 1
    dataset.SmallestImagePixelValue = -3
    assert described(written(dataset, IMPLICIT), IMPLICIT)["00280106"] == {"vr": "SS", "Value": [-3]}


def test_a_private_element_of_a_known_creator_has_its_vr_in_implicit_vr_too() -> None:
    dataset = Dataset()
    dataset.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0x27, "DS", "1.25")
    assert described(written(dataset, IMPLICIT), IMPLICIT)["00191027"] == {"vr": "DS", "Value": [1.25]}


def test_a_private_element_of_an_unknown_creator_is_bytes() -> None:
    dataset = Dataset()
    dataset.private_block(0x0019, "NOBODY", create=True).add_new(0x27, "LO", "x1")
    content = described(written(dataset, IMPLICIT), IMPLICIT)["00191027"]
    assert content == {"vr": "UN", "InlineBinary": "eDE="}


def test_the_json_is_unicode_and_says_so() -> None:
    dataset = Dataset()
    dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 100", "Müller"
    known = described(written(dataset, EXPLICIT))
    assert known["00080005"]["Value"] == ["ISO_IR 192"]
    assert known["00100010"]["Value"] == [{"Alphabetic": "Müller"}]


def test_a_character_set_that_comes_late_still_counts() -> None:
    data = element(0x0008, 0x0080, b"LO", b"K\xf6ln") + element(0x0008, 0x0005, b"CS", b"ISO_IR 144")
    assert described(data)["00080080"]["Value"] == ["Kіln"]


def test_group_lengths_and_padding_are_no_attributes() -> None:
    data = element(0x0008, 0, b"UL", struct.pack("<I", 12)) + element(0x0010, 0x0020, b"LO", b"4711")
    data += struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 4) + bytes(4)
    assert described(data) == {"00100020": {"vr": "LO", "Value": ["4711"]}}


def test_what_is_behind_the_head_is_asked_for_unless_it_is_pixels() -> None:
    file = real_file("CT_small.dcm")
    data, total = memoryview(file.data_set), len(file.data_set)
    complete = describe(data, file.TransferSyntaxUID, total)
    pixels = scan(data, file.TransferSyntaxUID, total).pixels
    assert describe(data[: pixels + 20], file.TransferSyntaxUID, total) == complete
    with pytest.raises(MoreNeeded):
        describe(data[: pixels - 20], file.TransferSyntaxUID, total)


def test_deep_nesting_of_known_length_is_left_as_bytes() -> None:
    inner = b""
    for _ in range(60):
        inner = (
            struct.pack("<HH2sHI", 8, 0x1110, b"SQ", 0, len(inner) + 8)
            + ITEM[:4]
            + struct.pack("<I", len(inner))
            + inner
        )
    assert "00081110" in described(inner)


def test_an_item_may_be_implicit_where_the_rest_is_explicit() -> None:
    data = sequence(0x0008, 0x1110, b"SQ", struct.pack("<HHI", 0x0020, 0x000D, 4) + b"9.9\0")
    assert described(data)["00081110"]["Value"] == [{"0020000D": {"vr": "UI", "Value": ["9.9"]}}]


@settings(max_examples=400, deadline=None)
@given(
    st.binary(max_size=600), st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED]), st.integers(0, 100)
)
def test_any_bytes_end_in_json_or_in_words(data: bytes, syntax: str, missing: int) -> None:
    total = len(data) + missing
    known = outcome(describe, memoryview(data), syntax, total)
    if isinstance(known, MoreNeeded):
        assert len(data) < known.size <= total
    elif isinstance(known, dict):
        assert msgspec.json.decode(msgspec.json.encode(known)) == known


def test_damaged_files_end_in_json_or_in_words_and_soon() -> None:
    chance = random.Random(11)
    light = [each for each in FILES if len(each.data_set) < 20_000]
    for _ in range(3000):
        file = chance.choice(light)
        data = damaged(file.data_set, chance)
        began = thread_time()
        outcome(describe, data, file.TransferSyntaxUID, len(data))
        assert thread_time() - began < 1


def test_endless_elements_are_refused_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catalog.dataset._MOST_ELEMENTS", 1000)
    data = b"".join(element(0x0011, number, b"LO", b"") for number in range(0x1000, 0x1800))
    with pytest.raises(Unreadable, match="more than 1000 elements"):
        described(data)


def test_header_and_json_agree() -> None:
    file = real_file("MR_small.dcm")
    header = scan(memoryview(file.data_set), file.TransferSyntaxUID, len(file.data_set))
    known = described(file.data_set, file.TransferSyntaxUID)
    for tag, content in {**msgspec.json.decode(header.study), **msgspec.json.decode(header.series)}.items():
        assert known[tag] == content
