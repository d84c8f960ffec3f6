"""What is set aside and names what was erased goes, and nothing that has a similar UID does."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from node.rejected import RejectedShelf

UID = "1.2.840.44"
"""Of even length, so that no padding stands between it and what follows."""


@pytest.fixture
def shelf(tmp_path: Path) -> RejectedShelf:
    return RejectedShelf(tmp_path, max_bytes=1 << 30, max_age=1e9, clock=lambda: 1e6)


def encoded(*, is_implicit: bool = False, is_little: bool = True, **values: str) -> bytes:
    """Return a data set in one of the uncompressed transfer syntaxes."""
    dataset, out = Dataset(), DicomBytesIO()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    out.is_implicit_VR, out.is_little_endian = is_implicit, is_little
    write_dataset(out, dataset)
    return out.getvalue()


def set_aside(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "1000-0123456789abcdef.dcm"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("other", [f"{UID}4", f"{UID}44", f"{UID}.1", f"1{UID}", f"2.{UID}", UID[:-1]])
@pytest.mark.parametrize("is_implicit", [True, False])
@pytest.mark.parametrize("is_little", [True, False])
def test_a_file_that_names_a_similar_uid_stays(
    shelf: RejectedShelf, tmp_path: Path, other: str, is_implicit: bool, is_little: bool
) -> None:
    content = encoded(is_implicit=is_implicit, is_little=is_little, StudyInstanceUID=other, StudyID="1")
    path = set_aside(tmp_path, content)
    path.with_suffix(".json").write_text(f'{{"why": "The study {other}. It was refused."}}')
    shelf.erase(UID, ())
    assert path.exists()


@pytest.mark.parametrize("uid", [UID, f"{UID}.1", "2.25." + "1" * 44])
@pytest.mark.parametrize("is_implicit", [True, False])
@pytest.mark.parametrize("is_little", [True, False])
def test_a_file_that_names_the_uid_goes_though_what_stands_beside_it_looks_like_digits(
    shelf: RejectedShelf, tmp_path: Path, uid: str, is_implicit: bool, is_little: bool
) -> None:
    # The tag that follows begins with the byte 0x32, a "2"; a length of 50 is a "2" too.
    content = encoded(
        is_implicit=is_implicit, is_little=is_little, StudyInstanceUID=uid, RequestingPhysician="A"
    )
    path = set_aside(tmp_path, content)
    shelf.erase(uid, ())
    assert not path.exists()


def test_a_file_of_which_only_the_record_names_the_uid_goes(shelf: RejectedShelf, tmp_path: Path) -> None:
    path = set_aside(tmp_path, b"\0" * 128 + b"DICM")
    path.with_suffix(".json").write_text(f'{{"why": "It belongs to the study {UID}."')
    shelf.erase(UID, ())
    assert not list(tmp_path.iterdir())
