"""The pages for people who do not see well or use no mouse: WCAG 2.2 AA, as axe-core judges it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from node.web.pages.serving import PAGES
from sim.ports import free_port
from tests.homes import phantoms
from tests.node.web.asking import Web, path_of, web
from tests.node.web.browsing import Person, person
from tests.running import until

pytestmark = pytest.mark.slow
_RULES: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
_LOOKS: Final = ("light", "dark")

_TOO_WIDE: Final = """() => {
    const room = document.documentElement.clientWidth
    const isMoved = (each) => each.closest('.pan, .places, .rail, .skip, thead, .scroll')
    const told = (each) => `${each.tagName}.${each.className}: ${each.textContent.slice(0, 40)}`
    const wide = [...document.querySelectorAll('body *')].filter((each) => {
        const { width, left, right } = each.getBoundingClientRect()
        return width && !isMoved(each) && (right > room + 1 || left < -1 && right > 0) && !each.closest('h1')
    })
    const cut = [...document.querySelectorAll('main button, .scroll, .choice, td, .badge, .state, dd, label')]
        .filter((each) => each.clientWidth && each.scrollWidth > each.clientWidth + 2)
    const page = document.documentElement.scrollWidth
    return [...(page > room ? [`the page: ${page}`] : []), ...wide.map(told), ...cut.map(told)]
}"""
"""What is beyond the window, and what is wider than its place. Charts and the list of pages may be moved."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Yield a node that has something to show on most of its pages."""
    with web(tmp_path_factory.mktemp("pages") / "alpha") as site:
        site.store(*phantoms(11, instances=3, series=2))
        until(lambda: site.node.catalog.totals().instances == 6)
        told(site, "PUT", "/api/devices/NOBODY", {"address": "127.0.0.1", "port": free_port()})
        told(site, "POST", "/api/transfers", {"target": study_uid(), "destination": "NOBODY"})
        yield site


def told(site: Web, method: str, path: str, value: dict[str, Any]) -> None:
    answer = site.ask(method, path, json.dumps(value).encode(), Content_Type="application/json")
    assert answer.status in (200, 201, 202), answer.body


def study_uid() -> str:
    return path_of(phantoms(11, instances=1)[0], levels=1).removeprefix("/studies/")


def judged(somebody: Person) -> list[str]:
    """Return what axe-core finds wrong with what is shown: the rule, what it means, and where."""
    options: Any = {"runOnly": list(_RULES), "resultTypes": ["violations"]}
    found = Axe().run(somebody.page, options=options).response["violations"]
    return [f"{each['id']}: {each['help']}: {node['html']}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize("look", _LOOKS)
@pytest.mark.parametrize("page", [row.module for row in PAGES])
def test_a_page_meets_wcag_aa_in_light_and_dark(site: Web, chromium: Browser, page: str, look: str) -> None:
    [path] = [row.path for row in PAGES if row.module == page]
    root = site.address
    with person(chromium, root, color_scheme=look) as somebody:
        somebody.go(path.replace("{study}", "1.2.3" if page == "open" else study_uid()))
        assert judged(somebody) == []


@pytest.mark.parametrize("look", _LOOKS)
def test_dialogs_meet_wcag_aa_too(site: Web, chromium: Browser, look: str) -> None:
    with person(chromium, site.address, color_scheme=look) as somebody:
        for path, button in (
            ("/devices", "Add a device"),
            (f"/study/{study_uid()}", "Send"),
            (f"/study/{study_uid()}", "Hide"),
            ("/help", "as API"),
        ):
            somebody.go(path)
            somebody.page.get_by_role("button", name=button, exact=True).click()
            expect(somebody.page.locator("dialog h2")).to_be_visible()
            assert judged(somebody) == [], button


@pytest.mark.parametrize(("width", "language"), [(320, "cs"), (360, "en"), (768, "cs"), (1280, "en")])
def test_no_page_is_wider_than_its_window_and_no_text_of_it_is_cut_off(
    site: Web, chromium: Browser, width: int, language: str
) -> None:
    viewport = {"width": width, "height": 760}
    with person(chromium, site.address, viewport=viewport, locale=language) as somebody:
        for row in PAGES:
            somebody.go(row.path.replace("{study}", "1.2.3" if row.module == "open" else study_uid()))
            somebody.picture(f"{row.module}-{width}-{language}")
            assert somebody.page.evaluate(_TOO_WIDE) == [], row.module
