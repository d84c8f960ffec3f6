"""A filled catalog is one that queries and retrieves cannot tell from a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog import Entry, Holding, Level, LmdbCatalog, Query, Selection
from sim.filling import arrival_of, fill
from sim.phantoms import instances, study


def never_read(entry: Entry, size: int) -> tuple[memoryview, int]:
    raise AssertionError("no object is read")


def opened(archive: Path) -> LmdbCatalog:
    return LmdbCatalog(
        archive / "catalog", archive / "search", clock=lambda: 1_700_000_000.0, read_header=never_read
    )


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive with one study of one instance."""
    catalog = opened(tmp_path)
    shared = Holding(b"s" * 32, b"0/1", 4000)
    catalog.record([arrival_of(next(instances(study(5, 0))), shared)])
    catalog.close()
    return tmp_path


def test_every_instance_is_counted_and_names_the_shared_object(archive: Path) -> None:
    fill(archive, study(5, 0).StudyInstanceUID, 250, seed=6)
    catalog = opened(archive)
    assert catalog.totals().instances == 251
    found = list(catalog.find(Query(level=Level.STUDY, keys={"0020000D": {"vr": "UI"}}, patient_root=False)))
    assert len(found) == 4
    entries = catalog.select(Selection(studies=(study(6, 0).StudyInstanceUID,)))
    assert len(entries) == 100
    assert {entry.holding.where for entry in entries} == {b"0/1"}
    assert len({entry.SeriesInstanceUID for entry in entries}) == 2
    catalog.close()
