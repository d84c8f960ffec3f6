"""A grid for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.federation.members import Grid, make_grid


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[Grid]:
    """A grid with one authority and no members."""
    made = make_grid(tmp_path / "grid")
    yield made
    made.close()
