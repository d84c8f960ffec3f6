"""The Study page in a real browser: what a person decides there holds, is shown, and is taken back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.homes import attribute, phantoms
from tests.node.web.asking import Web, web
from tests.node.web.browsing import Person, browser, person
from tests.running import until


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as begun:
        yield begun


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("study") / "alpha") as site:
        for number in range(3):
            site.store(*phantoms(31, number, instances=2, series=2))
        until(lambda: site.node.catalog.totals().instances == 12)
        yield site


def uid(number: int) -> str:
    return str(attribute(phantoms(31, number)[0], "StudyInstanceUID"))


def decide(somebody: Person, button: str, verb: str, **fields: str) -> None:
    """Press a button of the page, fill in what its dialog asks, and have it done."""
    page = somebody.page
    page.get_by_role("button", name=button, exact=True).first.click()
    for name, text in {**fields, "reason": "the wrong patient"}.items():
        page.locator(f"dialog [name={name}]").fill(text)
    somebody.picture(f"study-{verb}")
    page.locator("dialog").get_by_role("button", name=verb, exact=True).click()
    page.locator("dialog").wait_for(state="detached")


def test_a_study_is_corrected_and_the_correction_taken_back(site: Web, chromium: Browser) -> None:
    before = str(attribute(phantoms(31, 0)[0], "PatientID"))
    with person(chromium, site.address) as somebody:
        somebody.go(f"/study/{uid(0)}")
        somebody.sees("Nobody decided anything about this study.")
        decide(somebody, "Correct", "Correct", PatientName="RIGHT^PATIENT", PatientID="RIGHT-1")
        somebody.page.get_by_role("heading", name="RIGHT, PATIENT").wait_for()
        somebody.sees("corrected")
        somebody.picture("study-corrected")
        [made] = [each for each in site.node.catalog.decisions(uid(0)) if each.verb == "correct"]
        assert set(made.attributes) == {"00100010", "00100020"}, "only what was changed is corrected"
        decide(somebody, "Take back", "Take back")
        somebody.page.get_by_text(before).first.wait_for()
        somebody.page.locator(".state", has_text="taken back").wait_for()
        assert somebody.page.get_by_role("button", name="Take back").count() == 0


def test_series_are_moved_studies_joined_and_what_is_hidden_comes_back(site: Web, chromium: Browser) -> None:
    catalog = site.node.catalog
    with person(chromium, site.address) as somebody:
        somebody.go(f"/study/{uid(1)}")
        decide(somebody, "Move a series", "Move the series", to=uid(2))
        somebody.sees("into another study")
        assert len({each.SeriesInstanceUID for each in catalog.versions((uid(2),))}) == 3
        decide(somebody, "Join with another study", "Join", into=uid(2))
        somebody.page.wait_for_url(f"**/study/{uid(2)}")
        somebody.page.get_by_text("into this study").first.wait_for()
        assert len({each.SeriesInstanceUID for each in catalog.versions((uid(2),))}) == 4
        decide(somebody, "Hide", "Hide")
        somebody.go(f"/study/{uid(2)}")
        somebody.sees("This study is not here.")
        somebody.sees("hidden")
        somebody.picture("study-hidden")
        decide(somebody, "Take back", "Take back")
        somebody.page.get_by_role("button", name="Join with another study").wait_for()
