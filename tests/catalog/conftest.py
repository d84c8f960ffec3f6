"""A catalog of its own for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import LmdbCatalog
from tests.catalog.samples import open_catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[LmdbCatalog]:
    opened = open_catalog(tmp_path)
    yield opened
    opened.close()
