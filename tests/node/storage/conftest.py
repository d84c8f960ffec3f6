"""Every store that a test opened gives its files back when the test ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.node.storage.filling import close_all


@pytest.fixture(autouse=True)
def _what_is_open_is_closed() -> Iterator[None]:
    yield
    close_all()
