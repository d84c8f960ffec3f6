"""The pages of a grid: one list over all sites, a study of another one in the quick look, joining."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from playwright.sync_api import Browser
from pydicom.data import get_testdata_file

from sim.ports import free_port
from tests.grid import GridNode
from tests.node.web.browsing import Person, person
from tests.running import dcmtk, until

pytestmark = pytest.mark.slow


class Site(GridNode):
    """A node of a grid with pages."""

    def __init__(self, home: Path, name: str) -> None:
        super().__init__(home, name)
        self.web_port = free_port()
        self.env |= {"PEERPACS__WEB__PLAIN_PORT": str(self.web_port)}

    @property
    def root(self) -> str:
        """Where its pages are."""
        return f"http://127.0.0.1:{self.web_port}"

    def send(self, name: str) -> pydicom.Dataset:
        """Have DCMTK store one of pydicom's files; return what it holds."""
        path = get_testdata_file(name)
        dcmtk("storescu", "-aet", "CT1", "-aec", self.ae_title, "127.0.0.1", str(self.port), str(path))
        return pydicom.dcmread(path)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[tuple[Site, Site]]:
    """Yield two nodes; the second joined by what the first one's page said and asked."""
    home = tmp_path_factory.mktemp("grid")
    alpha, beta = Site(home / "alpha", "alpha"), Site(home / "beta", "beta")
    try:
        for site in (alpha, beta):
            site.start(**site.env)
        _join_by_page(alpha, beta, chromium)
        beta.grant(alpha)
        yield alpha, beta
    finally:
        for site in (alpha, beta):
            site.stop()


def _join_by_page(alpha: Site, beta: Site, chromium: Browser) -> None:
    alpha.told("invite", "--site", "FIRST", "--grid", "PAGES")
    with person(chromium, alpha.root) as admin:
        page = admin.page
        admin.go("/peers")
        page.get_by_role("button", name="Invite a hospital").click()
        page.get_by_label("What the hospital is called").fill("BETA")
        page.get_by_role("button", name="Make the ticket").click()
        command = page.locator("dialog code").inner_text()
        asked = beta.told("join", command.split()[-1], "--no-wait", code=3)
        page.keyboard.press("Escape")
        admin.sees(" ".join(asked["words"]))
        admin.picture("peers-asks")
        page.get_by_role("button", name="Approve").first.click()
        page.get_by_role("button", name="The words are the same: approve").click()
        assert beta.told("join")["is_member"]
        until(lambda: alpha.is_connected(beta) and beta.is_connected(alpha))
        admin.go("/sites")
        page.get_by_text("connected").or_(page.get_by_text("in step")).first.wait_for()
        admin.picture("sites-two")


def test_a_study_of_another_site_is_listed_with_its_badge_and_opens_here(
    sites: tuple[Site, Site], chromium: Browser
) -> None:
    alpha, beta = sites
    sent = beta.send("CT_small.dcm")
    until(lambda: _can_be_had(alpha, sent))
    with person(chromium, alpha.root) as somebody:
        page = somebody.page
        somebody.go("/")
        somebody.sees("2 of 2 sites answered")
        page.locator("tbody .badge.whole", has_text="BETA").first.wait_for()
        somebody.picture("studies-grid")
        somebody.sees("at another site")
        page.get_by_role("button", name="Here", exact=True).click()
        somebody.sees("No studies yet.")
        page.get_by_role("button", name="All sites").click()
        page.get_by_role("link", name="CompressedSamples, CT1").click()
        somebody.sees("can be fetched")
        page.get_by_role("link", name="Quick look").click()
        page.wait_for_selector("[data-drawn='1 own']")
        somebody.picture("quick-look-of-beta")


def test_a_link_of_another_system_finds_fetches_and_shows_a_study(
    sites: tuple[Site, Site], chromium: Browser
) -> None:
    alpha, beta = sites
    sent = beta.send("MR_small.dcm")
    until(lambda: _can_be_had(alpha, sent))
    with person(chromium, alpha.root) as somebody:
        somebody.page.goto(f"{alpha.root}/open/{sent.StudyInstanceUID}")
        somebody.page.wait_for_url(f"**/view/{sent.StudyInstanceUID}?sites=all")
        somebody.page.wait_for_selector("[data-drawn='1 own']")


def test_a_site_that_does_not_answer_is_named(sites: tuple[Site, Site], chromium: Browser) -> None:
    alpha, beta = sites
    sent = beta.send("CT_small.dcm")
    until(lambda: _can_be_had(alpha, sent))
    beta.stop()
    try:
        with person(chromium, alpha.root) as somebody:
            until(lambda: _is_named(somebody))
            somebody.picture("studies-silent-site")
            somebody.go(f"/open/{sent.StudyInstanceUID}")
            somebody.picture("open-away")
    finally:
        beta.start(**beta.env)
        until(lambda: alpha.is_connected(beta))


def _is_named(somebody: Person) -> bool:
    somebody.go("/")
    return somebody.page.get_by_text("BETA did not answer").count() > 0


def _can_be_had(site: Site, sent: pydicom.Dataset) -> bool:
    """Say whether a site knows of a study, and that whoever holds it answers."""
    with urllib.request.urlopen(f"{site.root}/api/grid/studies", timeout=60) as answer:
        studies = json.load(answer)["studies"]
    holders = [each["sites"] for each in studies if each["StudyInstanceUID"] == sent.StudyInstanceUID]
    return bool(holders) and all(site["is_reachable"] and site["instances"] for site in holders[0])
