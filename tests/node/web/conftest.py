"""What the tests of pages share: one browser for each file of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Yield a browser that was never anywhere."""
    from tests.node.web.browsing import browser

    with browser() as begun:
        yield begun
