"""Where frames lie: the short way over a usual header finds what the long way finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pydicom
import pydicom.data
import pytest

from node.transcoding import EXPLICIT_LITTLE
from node.web import pixeldata
from tests.homes import RawInstance, phantoms


def _files() -> list[Path]:
    folder = Path(pydicom.data.__file__).parent
    found = []
    for path in sorted(folder.rglob("*.dcm")):
        dataset = pydicom.dcmread(path, force=True, defer_size=1)
        syntax = dataset.get("file_meta", {}).get("TransferSyntaxUID", "")
        if syntax == EXPLICIT_LITTLE and "PixelData" in dataset and "SOPInstanceUID" in dataset:
            found.append(path)
    return found


def test_the_short_way_finds_what_the_long_way_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    instances = [RawInstance.read(path) for path in _files()] + phantoms(1, instances=2)
    short = [pixeldata.native_index(instance) for instance in instances]
    monkeypatch.setattr(pixeldata, "native_index", lambda outgoing: None)
    for instance, found in zip(instances, short, strict=True):
        assert found is None or found == pixeldata.index_of(instance)
    assert sum(found is not None for found in short) > len(short) // 2


def test_a_header_cut_anywhere_is_left_to_the_long_way() -> None:
    [whole] = phantoms(1, instances=1)
    index = pixeldata.native_index(whole)
    assert index is not None
    for size in (*range(index.start + 9), len(whole.data) - 1):
        assert pixeldata.native_index(replace(whole, data=whole.data[:size])) is None, size
