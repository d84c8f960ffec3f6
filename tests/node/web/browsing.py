"""A real browser, Debian's Chromium without a screen, that complains of all that a person would."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Request, Response, expect, sync_playwright

SCREENSHOTS = Path(__file__).parents[3] / ".cache" / "screenshots"
_SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE = 60_000
"""Milliseconds for whatever is to appear, be it clicked or expected: on a busy machine a page takes long."""
expect.set_options(timeout=_PATIENCE)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Yield a browser with a profile of its own."""
    program = shutil.which("chromium")
    assert program, "Chromium is missing: sh tools/programs.sh brings it"
    with sync_playwright() as playwright:
        begun = playwright.chromium.launch(executable_path=program, args=list(_SWITCHES))
        try:
            yield begun
        finally:
            begun.close()


class Person:
    """Somebody in front of a browser; `complaints` are errors, refusals, and requests to other hosts."""

    def __init__(self, browser: Browser, root: str, **options: Any) -> None:
        options = {"viewport": {"width": 1360, "height": 860}, "locale": "en-US", **options}
        self._context = browser.new_context(ignore_https_errors=True, **options)
        self.root = root
        self.complaints: list[str] = []
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(_PATIENCE)
        self.page.on("console", lambda said: self._heard(said.type, said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("request", self._asked)
        self.page.on("response", self._answered)
        self.page.on("requestfailed", self._failed)

    def close(self) -> None:
        """Close the window."""
        self._context.close()

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"console: {text}")

    def _asked(self, request: Request) -> None:
        there = urlsplit(request.url)
        if there.scheme not in ("data", "blob") and there.netloc != urlsplit(self.root).netloc:
            self.complaints.append(f"a request to elsewhere: {request.url}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status}: {response.url}")

    def _failed(self, request: Request) -> None:
        # What a page no longer needs it gives up; everything else is a failure.
        if "ERR_ABORTED" not in (request.failure or ""):
            self.complaints.append(f"failed: {request.url} {request.failure}")

    def go(self, path: str) -> None:
        """Open a page, and wait until it has its heading and nothing on it is still being looked for."""
        self.page.goto(self.root + path)
        self.page.wait_for_selector("h1")
        expect(self.page.locator(".progress")).to_have_count(0)

    def sees(self, text: str) -> None:
        """Wait until something can be seen on the page."""
        self.page.get_by_text(text).first.wait_for()

    def picture(self, name: str) -> None:
        """Leave a screenshot for a person to look at."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{re.sub(r'[^a-z0-9-]', '-', name)}.png")

    def is_content(self) -> None:
        """Fail if there was anything to complain about."""
        assert not self.complaints, self.complaints


@contextlib.contextmanager
def person(browser: Browser, root: str, **options: Any) -> Iterator[Person]:
    """Yield somebody who looks, and make sure that there was nothing to complain about."""
    somebody = Person(browser, root, **options)
    try:
        yield somebody
        somebody.is_content()
    finally:
        somebody.close()
