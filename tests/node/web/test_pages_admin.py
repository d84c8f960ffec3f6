"""The pages of who runs a node: users and tokens, imports, retention; and what every page has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from pydicom.data import get_testdata_file

from node.web.pages.serving import PAGES
from tests.homes import phantoms
from tests.node.web.asking import Web, path_of, web
from tests.node.web.browsing import person
from tests.running import until

pytestmark = pytest.mark.slow
STUDY = path_of(phantoms(11, instances=1)[0], levels=1).removeprefix("/studies/")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("pages") / "alpha") as site:
        site.store(*phantoms(11, instances=1, series=1))
        until(lambda: site.node.catalog.totals().instances == 1)
        yield site


@pytest.mark.parametrize("row", PAGES, ids=lambda row: row.module)
def test_every_page_says_how_a_program_asks_the_same(
    site: Web, chromium: Browser, row: tuple[str, str, object]
) -> None:
    with person(chromium, site.address) as somebody:
        somebody.go(row[0].replace("{study}", "1.2.3" if row[1] == "open" else STUDY))
        somebody.page.get_by_text("as API", exact=True).click()
        expect(somebody.page.get_by_text("curl").first).to_be_visible()


def test_a_person_is_let_in_and_a_token_is_made_and_taken_back(site: Web, chromium: Browser) -> None:
    with person(chromium, site.address) as somebody:
        page = somebody.page
        somebody.go("/users")
        page.get_by_role("button", name="Let somebody in").click()
        page.get_by_label("Name").fill("viola")
        page.get_by_role("button", name="Let in", exact=True).click()
        somebody.sees("The password of viola")
        assert log_in(site, "viola", page.locator("dialog code").inner_text())["is_one_time"]
        page.keyboard.press("Escape")
        somebody.sees("has not set a password yet")
        page.get_by_role("button", name="Make a token").click()
        page.get_by_label("May").select_option("find and read")
        page.get_by_role("button", name="Make the token").click()
        somebody.sees("It is shown this once and kept nowhere.")
        token = page.locator("dialog code").inner_text()
        somebody.picture("users-token")
        assert status(site, token) == 200
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Take back").click()
        page.locator("dialog").get_by_role("button", name="Take back").click()
        somebody.sees("There is no token.")
        assert status(site, token) == 401
        page.get_by_role("button", name="Keep out").click()
        page.locator("dialog").get_by_role("button", name="Keep out").click()
        somebody.sees("may not come")
        somebody.picture("users")
        page.get_by_role("button", name="Forget").click()
        page.locator("dialog").get_by_role("button", name="Forget").click()
        somebody.sees("Nobody may log in yet.")


def log_in(site: Web, name: str, password: str) -> dict[str, object]:
    body = json.dumps({"name": name, "password": password}).encode()
    answer = site.ask("POST", "/api/session", body, Content_Type="application/json")
    assert answer.status == 200, answer.body
    told: dict[str, object] = answer.json
    return told


def status(site: Web, token: str) -> int:
    return site.ask("GET", "/api/studies", Authorization=f"Bearer {token}").status


def test_a_folder_is_imported_and_what_it_brought_is_counted(
    site: Web, chromium: Browser, tmp_path: Path
) -> None:
    (tmp_path / "disc").mkdir()
    (tmp_path / "disc" / "IM1").write_bytes(Path(str(get_testdata_file("MR_small.dcm"))).read_bytes())
    (tmp_path / "disc" / "readme.txt").write_text("no image")
    with person(chromium, site.address) as somebody:
        somebody.go("/imports")
        somebody.sees("Nothing was imported since the node started.")
        somebody.page.get_by_role("button", name="Import", exact=True).click()
        somebody.page.get_by_label("Path on the machine").fill(str(tmp_path / "disc"))
        somebody.page.get_by_role("button", name="Begin").click()
        somebody.sees("done")
        somebody.sees("1 stored")
        somebody.sees("1 not DICOM")
        somebody.picture("imports")
        somebody.page.locator("summary").click()
        somebody.sees("readme.txt")


def test_a_rule_of_retention_is_made_looked_at_and_activated(site: Web, chromium: Browser) -> None:
    with person(chromium, site.address) as somebody:
        page = somebody.page
        somebody.go("/retention")
        somebody.sees("There is no rule: everything is kept.")
        page.get_by_role("button", name="Make a rule").click()
        page.get_by_label("Name").fill("short")
        page.get_by_label("Which studies").fill("ModalitiesInStudy=CT")
        page.get_by_label("Years to keep them").fill("1")
        page.get_by_role("button", name="Make it").click()
        somebody.sees("not activated")
        somebody.sees("ModalitiesInStudy = CT")
        page.get_by_role("button", name="What would go").click()
        somebody.sees("Nothing is done.")
        page.get_by_role("link", name=STUDY).wait_for()
        somebody.picture("retention")
        page.get_by_role("button", name="Remove").click()
        page.locator("dialog").get_by_role("button", name="Remove").click()
        somebody.sees("There is no rule: everything is kept.")


def test_a_doubted_clock_is_told_on_the_page_and_a_person_says_there_that_it_is_right(
    site: Web, chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.node.main, "peers_skew", lambda: -7200.0)
    with person(chromium, site.address) as somebody:
        page = somebody.page
        somebody.go("/retention")
        somebody.sees("2.0 hours ahead of the peers'")
        page.get_by_role("button", name="The clock is right").click()
        somebody.sees("Compare it with a clock that you trust.")
        somebody.picture("retention-clock")
        page.get_by_role("button", name="It is right").click()
        expect(page.get_by_text("No rule works now:")).to_have_count(0)
    assert not site.node.main.clock_guard.why_not()


def test_the_pages_work_without_a_mouse(site: Web, chromium: Browser) -> None:
    with person(chromium, site.address) as somebody:
        page = somebody.page
        somebody.go("/")
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_label("Patient name")).to_be_focused()
        page.get_by_role("link", name="Devices").focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/devices")
        add = page.get_by_role("button", name="Add a device")
        add.focus()
        page.keyboard.press("Enter")
        expect(page.locator("dialog [name=ae_title]")).to_be_visible()
        for _ in range(30):
            page.keyboard.press("Tab")
            inside = (
                "() => document.activeElement === document.body || !!document.activeElement.closest('dialog')"
            )
            assert page.evaluate(inside), "the focus left the dialog for what is behind it"
        page.keyboard.press("Escape")
        expect(page.locator("dialog")).to_have_count(0)
        expect(add).to_be_focused()
