"""What the tests of the web share: a browser for each file of them, and passwords that are hashed quickly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from node import passwords

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="package", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Passwords are hashed as always, but quickly; what one costs is shown in `test_cli_accounts.py`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_COST", (10, 8, 1))
        yield


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Yield a browser that was never anywhere."""
    from tests.node.web.browsing import browser

    with browser() as begun:
        yield begun
