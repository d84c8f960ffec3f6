"""The beginning of our files is always the same; the beginning of other people's is understood."""

from __future__ import annotations

import hashlib
import io
import warnings
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from catalog import BadRequest, Unreadable
from node.storage import IMPLEMENTATION_CLASS_UID, Meta, data_set_offset, file_meta, read_meta

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
FILES = sorted(path for path in map(Path, get_testdata_files()) if path.is_file() and path.suffix != ".zip")


def data_set(syntax: str) -> bytes:
    """Return a small data set, encoded."""
    ds = Dataset()
    ds.SpecificCharacterSet, ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientID = (
        "ISO_IR 192",
        CT,
        "1.2.3",
        "4711",
    )
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = syntax != BIG, syntax == IMPLICIT
    write_dataset(buffer, ds)
    encoded = buffer.getvalue()
    if syntax != DEFLATED:
        return encoded
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(encoded) + deflate.flush()


def test_pydicom_reads_exactly_the_elements_we_write() -> None:
    meta = pydicom.dcmread(io.BytesIO(file_meta(CT, "1.2.3.4", EXPLICIT))).file_meta
    assert [element.tag for element in meta] == [0x00020000 + e for e in (0, 1, 2, 3, 0x10, 0x12)]
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, "1.2.3.4")
    assert (meta.TransferSyntaxUID, meta.ImplementationClassUID) == (EXPLICIT, IMPLEMENTATION_CLASS_UID)
    assert meta.FileMetaInformationGroupLength == len(file_meta(CT, "1.2.3.4", EXPLICIT)) - 144


def test_our_meta_never_changes_because_it_is_in_every_hash() -> None:
    digest = hashlib.sha256(file_meta(CT, "1.2.3.4", EXPLICIT)).hexdigest()
    assert digest == "0bd18c21bb123e3a84c9e93f91fceada392dc0ef386ce9987ba4755014a2dd63"


@pytest.mark.parametrize("uid", ["", "1" * 65, "1.2.ü"])
def test_what_is_no_uid_is_refused(uid: str) -> None:
    with pytest.raises(BadRequest):
        file_meta(CT, uid, EXPLICIT)


@given(st.text("0123456789.", min_size=1, max_size=64), st.binary(max_size=50))
def test_the_data_set_begins_where_our_own_meta_ends(uid: str, rest: bytes) -> None:
    meta = file_meta(CT, uid, DEFLATED)
    head = meta + b"\x08\x00" + rest
    assert data_set_offset(memoryview(head)) == len(meta)
    assert read_meta(head) == Meta(CT, uid, DEFLATED, len(meta))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_of_pydicom_is_understood_as_pydicom_does(path: Path) -> None:
    head = path.read_bytes()[:65536]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        except Exception:  # it cannot read these files of its own; we need only not crash
            expected = Dataset()
    try:
        meta = read_meta(head)
    except Unreadable:
        assert "SOPInstanceUID" not in expected
        return
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        known = getattr(expected, "file_meta", {}).get(f"MediaStorage{keyword}") or expected.get(keyword, "")
        assert getattr(meta, keyword) == known
    if syntax := getattr(expected, "file_meta", {}).get("TransferSyntaxUID"):
        assert meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize("before", [b"", b"DICM", bytes(128) + b"DICM"])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_a_file_without_meta_is_taken_for_what_it_looks_like(before: bytes, syntax: str) -> None:
    assert read_meta(before + data_set(syntax)) == Meta(CT, "1.2.3", syntax, len(before))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
def test_uids_that_the_meta_lacks_are_taken_from_the_data_set(syntax: str) -> None:
    element = b"\x02\x00\x10\x00UI" + len(syntax + "\0" * (len(syntax) % 2)).to_bytes(2, "little")
    meta = bytes(128) + b"DICM" + element + syntax.encode() + b"\0" * (len(syntax) % 2)
    assert read_meta(meta + data_set(syntax)) == Meta(CT, "1.2.3", syntax, len(meta))


@pytest.mark.parametrize("head", [b"", b"PK\3\4", b"\xff\xd8\xff\xe0 a picture", b"%PDF-1.7", bytes(500)])
def test_what_is_no_dicom_file_is_said_to_be_none(head: bytes) -> None:
    with pytest.raises(Unreadable, match="not a DICOM file"):
        read_meta(head)
    with pytest.raises(Unreadable):
        data_set_offset(head)


@pytest.mark.parametrize("length", [150, 200, -1])
def test_a_head_that_ends_inside_the_meta_is_said_to_be_cut_off(length: int) -> None:
    with pytest.raises(Unreadable, match="cut off"):
        data_set_offset(file_meta(CT, "1.2.3.4", EXPLICIT)[:length])


@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_do_worse_than_unreadable(data: bytes, has_prefix: bool) -> None:
    head = bytes(128) + b"DICM" + data if has_prefix else data
    try:
        meta = read_meta(head)
    except Unreadable:
        return
    assert 0 <= meta.offset <= len(head)
