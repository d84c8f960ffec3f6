"""Every DICOM file at hand goes in as the bytes it is and comes out the same, each into an empty archive."""

from __future__ import annotations

from pathlib import Path

import pydicom.data
import pytest

from catalog import Unreadable
from node.dimse import Requestor
from node.storage import read_meta
from tests.homes import RawInstance, Received, serving

_TEST_FILES = Path(pydicom.data.__file__).parent
_SHARED = Path(__file__).parents[3] / "shared" / "data" / "dicom"
"""Real files beside the checkout where the project is built; a user's clone has none."""


def _reason_to_leave_out(path: Path) -> str:
    """Return why a file cannot be an instance, or an empty text."""
    if path.name.upper().startswith("DICOMDIR"):
        return "a DICOMDIR lists instances and is none"
    try:
        meta = read_meta(path.read_bytes()[:65536])
    except Unreadable:
        return "not a DICOM file"
    if not (meta.SOPClassUID and meta.SOPInstanceUID):
        return "it has no SOP Class or SOP Instance UID"
    dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    missing = [key for key in ("StudyInstanceUID", "SeriesInstanceUID") if not dataset.get(key)]
    return f"it has no {' and no '.join(missing)}" if missing else ""


_PATHS = sorted(
    path
    for folder in (_TEST_FILES, _SHARED)
    if folder.is_dir()
    for path in folder.rglob("*")
    if path.is_file() and path.suffix not in {".py", ".pyc", ".json", ".txt", ".md", ".dump", ".icc", ".gz"}
)
_LEFT_OUT = {path: _reason_to_leave_out(path) for path in _PATHS}
_INSTANCES = [path for path, reason in _LEFT_OUT.items() if not reason]


@pytest.mark.parametrize("path", _INSTANCES, ids=lambda path: path.name)
def test_a_file_comes_out_by_c_get_as_it_went_in(path: Path, tmp_path: Path) -> None:
    instance = RawInstance.read(path)
    pair = (instance.SOPClassUID, instance.TransferSyntaxUID)
    study = pydicom.dcmread(path, force=True, stop_before_pixels=True).StudyInstanceUID
    identifier = {
        "00080052": {"vr": "CS", "Value": ["STUDY"]},
        "0020000D": {"vr": "UI", "Value": [str(study)]},
    }
    received = Received()
    with serving(tmp_path / "home") as node:
        peer = Requestor("PEER", "127.0.0.1", node.ports["dicom"], "ALPHA")
        [stored] = peer.store([instance], expected=[pair])
        assert stored.status in (0x0000, 0xB007), stored
        peer.get(identifier, received, storage=[pair])
    assert received.instances == [instance]


def test_the_files_left_out_are_no_instances() -> None:
    left_out = {path.name: reason for path, reason in _LEFT_OUT.items() if reason}
    print(*(f"{name}: {reason}" for name, reason in left_out.items()), sep="\n")
    assert len(_INSTANCES) >= 130
    assert len(left_out) <= 31, left_out
