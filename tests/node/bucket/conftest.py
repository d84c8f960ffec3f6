"""A server of its own for each test that ends it or reaches into its bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.bucket.serving import Server, close_all


@pytest.fixture(autouse=True)
def _what_is_open_is_closed() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "s3")
    yield server
    server.stop()
