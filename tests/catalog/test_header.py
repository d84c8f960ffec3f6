"""The header scan: right on every real file, frugal with heads, and deaf to nonsense."""

from __future__ import annotations

import json
import random
import struct
import zlib
from time import thread_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from catalog import FIXED_TABLE, Header, Level, MoreNeeded, Unreadable, scan
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

SYNTAXES = [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED]
CUT_SHORT = {"MR_truncated.dcm", "rtplan_truncated.dcm"}
FILES = [each for each in real_files() if each.path.name not in CUT_SHORT]
IDS = [each.path.name for each in FILES]


def whole(file: RealFile) -> Header:
    return scan(memoryview(file.data_set), file.TransferSyntaxUID, len(file.data_set))


def small() -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.StudyDate = "20240229"
    dataset.PatientName = "Doe^Jane"
    dataset.PatientID = "4711"
    dataset.IssuerOfPatientID = "HOSPITAL"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.1"
    dataset.Modality = "CT"
    dataset.InstanceNumber = 7
    dataset.Rows = 512
    dataset.Columns = 256
    return dataset


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_the_fixed_table_is_what_pydicom_reads(file: RealFile) -> None:
    header, dataset = whole(file), file.dataset()
    known = json.loads(header.study) | json.loads(header.series)
    for row in FIXED_TABLE:
        if row.level is Level.IMAGE:
            expected = dataset.get(row.keyword)
            unknown = "0" if row.vr == "US" else ""
            assert str(getattr(header, row.keyword)) == (unknown if expected is None else str(expected))
        elif row.keyword in dataset:
            assert comparable(known[row.tag]) == comparable(dataset[row.keyword].to_json_dict(None, 0))
        else:
            assert row.tag not in known


def comparable(content: dict[str, Any]) -> list[Any]:
    return [each.strip() if isinstance(each, str) else each for each in content.get("Value", []) if each]


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_a_growing_head_ends_in_the_same_header(file: RealFile) -> None:
    data, total, size = memoryview(file.data_set), len(file.data_set), 200
    header = outcome(scan, data[:size], file.TransferSyntaxUID, total)
    while isinstance(header, MoreNeeded):
        assert size < header.size <= total
        size = header.size
        header = outcome(scan, data[:size], file.TransferSyntaxUID, total)
    assert isinstance(header, Header)
    assert header._replace(pixels=0) == whole(file)._replace(pixels=0)
    assert header.pixels <= whole(file).pixels


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_every_syntax_gives_the_same_header(syntax: str) -> None:
    data = written(small(), syntax)
    header = scan(memoryview(data), syntax, len(data))
    assert (header.SOPInstanceUID, header.SeriesInstanceUID) == ("1.2.3.4", "1.2.3.1")
    assert header.StudyInstanceUID == "1.2.3"
    assert (header.PatientID, header.IssuerOfPatientID) == ("4711", "HOSPITAL")
    assert (header.InstanceNumber, header.Rows, header.Columns) == ("7", 512, 256)
    assert json.loads(header.study)["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]}
    assert header.pixels == len(data)


def test_deflated_data_is_inflated() -> None:
    plain = written(small(), EXPLICIT)
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(plain) + compressor.flush()
    assert scan(memoryview(data), DEFLATED, len(data)) == scan(memoryview(plain), EXPLICIT, len(plain))


def test_a_zip_bomb_is_refused_before_it_fills_the_memory() -> None:
    compressor = zlib.compressobj(9, wbits=-15)
    bomb = compressor.compress(struct.pack("<HH2sHI", 9, 0x1001, b"OB", 0, 1 << 30))
    bomb += b"".join(compressor.compress(bytes(1 << 20)) for _ in range(200)) + compressor.flush()
    with pytest.raises(Unreadable, match="larger than 64 MB"):
        scan(memoryview(bomb), DEFLATED, len(bomb))


def test_the_wrong_vr_form_is_noticed() -> None:
    implicit, explicit = written(small(), IMPLICIT), written(small(), EXPLICIT)
    right = scan(memoryview(explicit), EXPLICIT, len(explicit))._replace(pixels=0)
    assert scan(memoryview(implicit), EXPLICIT, len(implicit))._replace(pixels=0) == right
    assert scan(memoryview(explicit), IMPLICIT, len(explicit))._replace(pixels=0) == right


def test_elements_out_of_order_are_found() -> None:
    parts = [element(0x0020, 0x000D, b"UI", b"1.2.3\0"), element(0x0010, 0x0020, b"LO", b"4711")]
    data = b"".join(parts)
    header = scan(memoryview(data), EXPLICIT, len(data))
    assert (header.StudyInstanceUID, header.PatientID) == ("1.2.3", "4711")


def test_odd_lengths_and_zeros_behind_the_end_are_tolerated() -> None:
    data = element(0x0010, 0x0020, b"LO", b"471") + element(0x0020, 0x000D, b"UI", b"1.2.3") + b"\0\0\0"
    header = scan(memoryview(data), EXPLICIT, len(data))
    assert (header.StudyInstanceUID, header.PatientID) == ("1.2.3", "471")


def test_letters_that_are_no_vr_do_not_stop_the_scan() -> None:
    data = element(0x0008, 0x0005, b"CS", b"") + element(0x0009, 0x1001, b"??", b"ab")
    data += element(0x0020, 0x000D, b"UI", b"1.2.3\0")
    assert scan(memoryview(data), EXPLICIT, len(data)).StudyInstanceUID == "1.2.3"


def test_sequences_of_undefined_length_are_stepped_over() -> None:
    data = sequence(0x0008, 0x1110, b"SQ", element(0x0020, 0x000D, b"UI", b"9.9\0"))
    data += element(0x0020, 0x000D, b"UI", b"1.2.3\0")
    assert scan(memoryview(data), EXPLICIT, len(data)).StudyInstanceUID == "1.2.3"


def test_an_unknown_sequence_is_implicit_inside() -> None:
    data = sequence(0x0009, 0x1001, b"UN", struct.pack("<HHI", 0x0020, 0x000D, 4) + b"9.9\0")
    data += element(0x0020, 0x000D, b"UI", b"1.2.3\0")
    assert scan(memoryview(data), EXPLICIT, len(data)).StudyInstanceUID == "1.2.3"


@pytest.mark.parametrize("name", sorted(CUT_SHORT))
def test_a_file_cut_short_behind_the_fixed_table_is_known_as_such(name: str) -> None:
    assert whole(real_file(name)).is_cut_short


def test_an_element_of_the_fixed_table_that_is_cut_short_is_refused_with_tag_and_offset() -> None:
    data = element(0x0020, 0x000D, b"UI", b"1.2.3\0")[:-2]
    with pytest.raises(Unreadable, match=r"Element \(0020,000D\) at byte 8 says"):
        scan(memoryview(data), EXPLICIT, len(data))


def test_hostile_nesting_is_refused() -> None:
    data = (struct.pack("<HH2sHI", 8, 0x1110, b"SQ", 0, 0xFFFFFFFF) + ITEM) * 100_000
    with pytest.raises(Unreadable, match="nested more than"):
        scan(memoryview(data), EXPLICIT, len(data))


@pytest.mark.parametrize("uid", [b"1.2\\1.3", b"1" * 66, b"1.2 3\0", b"1.\x07\0"])
def test_a_uid_that_cannot_be_one_is_refused_without_being_told(uid: bytes) -> None:
    data = element(0x0020, 0x000D, b"UI", uid)
    with pytest.raises(Unreadable) as refused:
        scan(memoryview(data), EXPLICIT, len(data))
    assert uid.decode() not in str(refused.value)


def test_no_error_tells_a_value() -> None:
    data = memoryview(written(small(), EXPLICIT))
    outcomes = [outcome(scan, data[:end], EXPLICIT, end) for end in range(len(data))]
    told = " ".join(str(each) for each in outcomes if isinstance(each, Unreadable))
    assert told
    assert "4711" not in told
    assert "Doe" not in told


def test_characters_are_part_of_what_is_remembered() -> None:
    dataset = small()
    for terms, name in (("ISO_IR 100", "Müller"), ("ISO_IR 144", "Мюллер"), ("ISO_IR 192", "Müller")):
        dataset.SpecificCharacterSet, dataset.PatientName = terms, name
        data = written(dataset, EXPLICIT)
        study = json.loads(scan(memoryview(data), EXPLICIT, len(data)).study)
        assert study["00100010"]["Value"] == [{"Alphabetic": name}]


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=600), st.sampled_from(SYNTAXES), st.integers(0, 100))
def test_any_bytes_end_in_a_header_or_in_words(data: bytes, syntax: str, missing: int) -> None:
    total = len(data) + missing
    header = outcome(scan, memoryview(data), syntax, total)
    if isinstance(header, MoreNeeded):
        assert len(data) < header.size <= total


def test_damaged_files_end_in_a_header_or_in_words_and_soon() -> None:
    chance = random.Random(7)
    light = [each for each in FILES if len(each.data_set) < 20_000]
    for _ in range(3000):
        file = chance.choice(light)
        data = damaged(file.data_set, chance)
        began = thread_time()
        outcome(scan, data, file.TransferSyntaxUID, len(data))
        assert thread_time() - began < 1
