"""The database by itself: other processes read it, and its search index survives a full disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tantivy

from catalog import Level, LmdbCatalog, OutOfSpace
from tests.catalog.samples import Ticking, arrival, index_all, open_catalog, query

READER = """
import sys
from pathlib import Path
from catalog.truth import CLAIM, Environment, scan
environment = Environment(Path(sys.argv[1]), is_read_only=True)
with environment.reading() as reading:
    print(len(list(scan(reading, CLAIM))))
environment.close()
"""


def test_another_process_reads_what_this_one_has_committed(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path)
    for n in range(3):
        catalog.record([arrival("1", "1.1", f"1.1.{n}")])
        command = [sys.executable, "-c", READER, str(tmp_path / "catalog")]
        seen = subprocess.run(command, capture_output=True, text=True, check=True)
        assert seen.stdout.strip() == str(n + 1)
    assert catalog.tidy() == 0
    catalog.close()


class FullDisk:
    """A writer whose disk is full, as Tantivy reports it."""

    def __init__(self, writer: tantivy.IndexWriter) -> None:
        self._writer = writer

    def commit(self) -> None:
        raise ValueError("An error occurred in a thread: No space left on device")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


def test_an_index_that_could_not_be_written_catches_up_by_itself(tmp_path: Path) -> None:
    clock = Ticking()
    catalog = open_catalog(tmp_path, clock=clock)
    index_all(catalog, clock)
    catalog.record([arrival("1", "1.1", "1.1.1")])
    break_disk(catalog)
    clock.now += 1
    with pytest.raises(OutOfSpace):
        catalog.index(clock())
    assert len(list(catalog.find(query(Level.STUDY, StudyDescription="*HES*")))) == 1
    clock.now += 1
    index_all(catalog, clock)
    assert len(list(catalog.find(query(Level.STUDY, StudyDescription="*HES*")))) == 1
    catalog.close()


def break_disk(catalog: LmdbCatalog) -> None:
    search = catalog._indexer.search
    assert search._writer is not None
    search._writer = FullDisk(search._writer)  # type: ignore[assignment]
