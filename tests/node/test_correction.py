"""Corrections change the header that leaves, tell what was there before, and leave the rest alone."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from catalog import Decision, Verb
from node.correction import correct

NAME = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "RIGHT^PERSON"}]}}


def decision(attributes: dict[str, dict[str, object]], id: str = "d1") -> Decision:
    return Decision(
        id=id,
        verb=Verb.CORRECT,
        target=("1.2.3",),
        reason="wrong patient",
        who="admin",
        when=1_700_000_000_000,
        attributes=attributes,
    )


def stored_header(name: str) -> tuple[bytes, str]:
    path = get_testdata_file(name) or get_charset_files(name)[0]
    full = dcmread(path)
    syntax = str(full.file_meta.TransferSyntaxUID)
    data = Path(path).read_bytes()
    start = data.index(b"DICM") + 4 + 12 + full.file_meta.FileMetaInformationGroupLength
    if "PixelData" not in full or syntax == "1.2.840.10008.1.2.1.99":
        return data[start:], syntax
    pixels = bytes.fromhex("e07f1000" if syntax != "1.2.840.10008.1.2.2" else "7fe00010")
    return data[start : data.index(pixels, start)], syntax


def reread(data: bytes, syntax: str) -> Dataset:
    return read_dataset(BytesIO(data), syntax == "1.2.840.10008.1.2", syntax != "1.2.840.10008.1.2.2")


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "rtplan.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "chrH31.dcm"]
)
def test_a_correction_is_applied_and_the_original_value_is_told(name: str) -> None:
    data, syntax = stored_header(name)
    before = reread(data, syntax)
    after = reread(correct(data, syntax, [decision(NAME)], "ALPHA"), syntax)
    assert after.PatientName == "RIGHT^PERSON"
    item = after.OriginalAttributesSequence[-1]
    assert item.ModifiedAttributesSequence[0].PatientName == before.PatientName
    assert (item.ModifyingSystem, item.ReasonForTheAttributeModification) == ("ALPHA", "CORRECT")
    untouched = {element.tag for element in before} - {0x00100010}
    assert all(after[tag] == before[tag] for tag in untouched)


def test_a_name_that_the_stored_character_set_can_carry_leaves_every_other_byte_alone() -> None:
    data, syntax = stored_header("chrGerm.dcm")
    name = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Jürgen^Groß"}]}}
    after = correct(data, syntax, [decision(name)], "ALPHA")
    found = reread(after, syntax)
    assert (found.PatientName, found.SpecificCharacterSet) == ("Jürgen^Groß", "ISO_IR 100")
    before = reread(data, syntax)
    original = found.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0]
    assert original.PatientName == before.PatientName
    start = data.index(b"\x10\x00\x10\x00")
    end = start + 8 + int.from_bytes(data[start + 6 : start + 8], "little")
    assert after.startswith(data[:start])
    assert data[end:] in after


def test_a_name_the_stored_character_set_cannot_carry_makes_the_header_unicode() -> None:
    data, syntax = stored_header("chrH31.dcm")
    before = reread(data, syntax)
    name = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Dvořák^Antonín"}]}}
    after = reread(correct(data, syntax, [decision(name)], "ALPHA"), syntax)
    assert after.PatientName == "Dvořák^Antonín"
    original = after.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0]
    assert original.PatientName == before.PatientName


def test_two_corrections_tell_their_two_originals() -> None:
    data, syntax = stored_header("CT_small.dcm")
    second = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "SECOND^PERSON"}]}}
    after = reread(correct(data, syntax, [decision(NAME), decision(second, "d2")], "ALPHA"), syntax)
    originals = [
        str(item.ModifiedAttributesSequence[0].PatientName) for item in after.OriginalAttributesSequence
    ]
    assert originals == ["CompressedSamples^CT1", "RIGHT^PERSON"]


def test_an_attribute_that_was_absent_is_added_with_its_vr() -> None:
    data, syntax = stored_header("rtplan.dcm")
    issuer = {"00100021": {"vr": "LO", "Value": ["HOSPITAL-A"]}}
    after = reread(correct(data, syntax, [decision(issuer)], "ALPHA"), syntax)
    assert after.IssuerOfPatientID == "HOSPITAL-A"


def test_a_deflated_data_set_is_corrected_as_a_whole() -> None:
    data, syntax = stored_header("image_dfl.dcm")
    corrected = correct(data, syntax, [decision(NAME)], "ALPHA")
    after = reread(zlib.decompress(corrected, wbits=-zlib.MAX_WBITS), "1.2.840.10008.1.2.1")
    assert after.PatientName == "RIGHT^PERSON"
    assert after.PixelData
