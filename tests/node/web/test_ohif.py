"""OHIF from its npm package: checked, offline, with this node's studies, its notice left on."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from pydicom.data import get_testdata_file

from catalog import BadRequest, NotFound
from node.viewer import URL, VERSION, install, remove
from tests.node.web.asking import Web, web
from tests.node.web.browsing import person
from tests.running import dcmtk

PACKAGE = Path(os.environ.get("PEERPACS_CACHE", ".cache")) / f"ohif-app-{VERSION}.tgz"


def test_another_file_is_not_taken_for_the_viewer(tmp_path: Path) -> None:
    fake = tmp_path / "ohif.tgz"
    fake.write_bytes(b"something else")
    with pytest.raises(BadRequest, match="SHA-512"):
        install(tmp_path, fake)
    with pytest.raises(NotFound, match="no file"):
        install(tmp_path, tmp_path / "nothing.tgz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ohif.tgz"]
    assert not remove(tmp_path)


def test_without_the_viewer_its_address_says_how_it_is_installed(tmp_path: Path) -> None:
    with web(tmp_path / "alpha") as site:
        answer = site.ask("GET", "/ohif/viewer")
        assert (answer.status, answer.json["next"]) == (404, "peerpacs viewer install")


@pytest.fixture(scope="module")
def package() -> Path:
    """Return the package; it is fetched once."""
    if not PACKAGE.exists():
        PACKAGE.parent.mkdir(exist_ok=True)
        urllib.request.urlretrieve(URL, PACKAGE)
    return PACKAGE


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("ohif") / "alpha") as site:
        install(site.node.home, package)
        yield site


@pytest.mark.slow
def test_a_study_stored_by_dcmtk_opens_in_ohif_which_asks_nobody_else(site: Web, chromium: Browser) -> None:
    path = get_testdata_file("CT_small.dcm")
    dcmtk("storescu", "-aec", "ALPHA", "127.0.0.1", str(site.node.ports["dicom"]), str(path))
    with person(chromium, site.address) as somebody:
        page = somebody.page
        somebody.go("/")
        page.get_by_role("link", name="CompressedSamples, CT1").click()
        asked: list[str] = []
        page.on("response", lambda answer: asked.append(answer.url))
        page.get_by_role("link", name="OHIF").click()
        page.locator("canvas").first.wait_for()
        somebody.sees("investigational")
        deadline = time.monotonic() + 60
        while not any("/frames/" in url for url in asked) and time.monotonic() < deadline:
            page.wait_for_timeout(100)
        assert any("/frames/" in url for url in asked), "OHIF asked for no pixels"
        page.wait_for_load_state("networkidle")
        somebody.picture("ohif")
        priors = [url for url in asked if "00100020=" in url or "PatientID=" in url]
        assert not priors, "two hospitals give one Patient ID to different people"
        # Warnings of the program itself are its own affair; errors, refusals and foreign hosts are not.
        somebody.complaints[:] = [each for each in somebody.complaints if not each.startswith("console:")]
