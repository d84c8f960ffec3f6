"""The node's pages in a real browser: they work, offline, for whoever may, in both languages."""

from __future__ import annotations

import ast
import base64
import errno
import json
import os
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy
import pydicom
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect
from pydicom.data import get_testdata_file
from pydicom.pixels.processing import apply_modality_lut, apply_windowing

from node.accounts import Accounts
from node.audit import read
from node.contracts import Device
from node.web.pages.files import FOLDER
from node.web.pages.serving import LOGIN, PAGES
from node.web.pages.shell import CSP
from sim.ports import free_port
from tests.homes import edited, phantoms, serving
from tests.node.web.asking import Web, path_of, web
from tests.node.web.browsing import Person, person
from tests.running import dcmtk, until

ORANGE = "four-plain-orange-words"
_CANVAS = "() => document.querySelector('canvas').toDataURL('image/png')"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("pages") / "alpha") as site:
        site.store(*phantoms(11, instances=3, series=2))
        until(lambda: site.node.catalog.totals().instances == 6)
        yield site


def send(site: Web, path: str | Path) -> pydicom.Dataset:
    """Have DCMTK store a file; return what it holds."""
    dcmtk("storescu", "-aet", "CT1", "-aec", "ALPHA", "127.0.0.1", str(site.node.ports["dicom"]), str(path))
    return pydicom.dcmread(path)


def test_every_page_opens_without_an_error_and_asks_nobody_else(site: Web, chromium: Browser) -> None:
    study = path_of(phantoms(11, instances=1)[0], levels=1).removeprefix("/studies/")
    with person(chromium, site.address) as somebody:
        for row in PAGES:
            # The page that only leads to another one is asked for a study that nobody has.
            somebody.go(row.path.replace("{study}", "1.2.3" if row.module == "open" else study))
            assert "PeerPACS" in somebody.page.title()
            somebody.picture(row.module)
            assert somebody.page.locator(".notice.bad").count() == 0, row.path
            somebody.is_content()
            somebody.page.emulate_media(color_scheme="dark")
            somebody.picture(f"{row.module}-dark")
            somebody.page.emulate_media(color_scheme="light")
        somebody.page.wait_for_load_state("networkidle")


def test_pages_run_nothing_that_is_not_the_nodes_own_file(site: Web) -> None:
    for row in PAGES:
        answer = site.ask("GET", row.path.replace("{study}", "1.2.3"))
        assert answer.status == 200
        assert answer.headers["content-security-policy"] == CSP
        assert "unsafe" not in CSP
        assert answer.headers["cache-control"] == "no-store"
        html = answer.body.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|https?://", html)
    for path in re.findall(r'(?:src|href)="(/pages/[^"]+)"', html):
        file = site.ask("GET", path)
        assert (file.status, "immutable" in file.headers["cache-control"]) == (200, True), path
    assert site.ask("GET", "/pages/0000/nothing.js").status == 404
    assert site.ask("GET", "/pages/0000/..%2Fserving.py").status == 404


def test_a_study_stored_by_dcmtk_appears_and_opens_with_the_pixels_of_a_reference_rendering(
    site: Web, chromium: Browser
) -> None:
    sent = send(site, get_testdata_file("CT_small.dcm"))
    with person(chromium, site.address) as somebody:
        somebody.go(f"/?PatientID={sent.PatientID}")
        somebody.page.get_by_role("link", name="CompressedSamples, CT1").click()
        somebody.page.get_by_role("link", name="Quick look").click()
        somebody.page.wait_for_selector("[data-drawn='1 own']")
        somebody.sees("Not for diagnosis")
        values = apply_modality_lut(sent.pixel_array, sent)
        low, high = values.min(), values.max()
        check_pixels(shown(somebody), (values - low) / (high - low))
        somebody.page.keyboard.press("2")
        somebody.page.wait_for_selector("[data-drawn='1 -600/1500']")
        sent.WindowCenter, sent.WindowWidth = -600, 1500
        check_pixels(shown(somebody), windowed(values, -600, 1500))
        somebody.picture("quick-look-lung")


def windowed(values: Any, centre: float, width: float) -> Any:
    """Return values as pydicom's own windowing has them, from 0 (black) to 1 (white)."""
    described = pydicom.Dataset()
    described.PhotometricInterpretation, described.BitsStored = "MONOCHROME2", 16
    described.PixelRepresentation = 1
    described.WindowCenter, described.WindowWidth = centre, width
    return (apply_windowing(values.astype(numpy.int32), described) + 32768) / 65535


def shown(somebody: Person) -> Any:
    """Return the shades on the canvas of the quick look."""
    picture = base64.b64decode(somebody.page.evaluate(_CANVAS).partition(",")[2])
    return numpy.array(Image.open(BytesIO(picture)).convert("L"), dtype=int)


def check_pixels(shades: Any, shares: Any) -> None:
    """Make sure that these are shown, to the last of 256 shades."""
    assert shades.shape == shares.shape
    assert numpy.abs(shades - numpy.clip(shares, 0, 1) * 255).max() <= 0.51


def test_the_first_person_logs_in_with_the_one_time_password_and_sets_one_of_his_own(
    tmp_path: Path, chromium: Browser
) -> None:
    with serving(
        tmp_path / "alpha", is_trusting=False, web={"port": free_port(), "host": "127.0.0.1"}
    ) as node:
        _, once = Accounts(node.state, node.clock).add("admin", ("admin",))
        with person(chromium, f"https://127.0.0.1:{node.ports['https']}") as somebody:
            page = somebody.page
            somebody.go("/study/1.2.3?sites=all")
            assert page.url.endswith("/login?next=%2Fstudy%2F1.2.3%3Fsites%3Dall")
            somebody.picture("login")
            page.get_by_label("Name").fill("admin")
            page.get_by_label("Password").fill(once)
            page.keyboard.press("Enter")
            page.get_by_label("New password").fill(ORANGE)
            page.get_by_label("Once more").fill(ORANGE)
            somebody.picture("first-password")
            page.keyboard.press("Enter")
            page.wait_for_url("**/study/1.2.3?sites=all")
            somebody.sees("This study is not here.")
            # A link in another system's page brings no cookie along, and works all the same.
            page.goto("data:text/html,<a href='" + somebody.root + "/study/1.2.4'>image</a>")
            page.get_by_role("link").click()
            page.wait_for_url("**/study/1.2.4")
            somebody.sees("This study is not here.")
            page.get_by_role("button", name="Log out").click()
            page.wait_for_url("**/login")
            assert not [row.why for row in node.access.refusals.last()], "whoever looks is no intruder"


@pytest.mark.parametrize("language", ["en", "cs"])
def test_the_first_rows_come_with_the_page_and_are_those_that_its_script_draws(
    site: Web, chromium: Browser, language: str
) -> None:
    send(site, get_testdata_file("CT_small.dcm"))
    for query in ("", "?PatientName=compressed&ModalitiesInStudy=ct", "?StudyDescription=Phan"):
        seen = []
        for has_script in (False, True):
            with person(chromium, site.address, locale=language, java_script_enabled=has_script) as somebody:
                asked: list[str] = []
                somebody.page.on("request", lambda request, asked=asked: asked.append(request.url))
                somebody.go(f"/{query}")
                rows = somebody.page.locator("tbody tr")
                rows.first.wait_for()
                seen.append([" ".join(row.split()) for row in rows.all_inner_texts()])
                assert not [url for url in asked if "/api/" in url], "the script asked again"
                if not has_script:
                    # Chromium tells of what was announced to scripts and is of no use without them.
                    somebody.complaints.clear()
                    somebody.picture(f"studies-before-script-{language}")
        assert seen[0] == seen[1]
        assert seen[0], query


@pytest.mark.slow
def test_what_somebody_types_stays_while_the_page_looks_again(site: Web, chromium: Browser) -> None:
    with person(chromium, site.address) as somebody:
        somebody.go("/devices")
        somebody.page.get_by_role("button", name="Add a device").click()
        somebody.page.get_by_label("Address").fill("10.1.2.3")
        somebody.page.get_by_role("checkbox", name="move").check()
        with somebody.page.expect_response("**/api/devices"):
            pass
        with somebody.page.expect_response("**/api/devices"):
            pass
        assert somebody.page.get_by_label("Address").input_value() == "10.1.2.3"
        assert somebody.page.get_by_role("checkbox", name="move").is_checked()
        somebody.go("/")
        with somebody.page.expect_response("**/api/studies?*"):
            somebody.page.get_by_label("Patient ID").press_sequentially("PP0011", delay=120)
        until(lambda: somebody.page.url.endswith("PatientID=PP0011"))
        assert somebody.page.get_by_label("Patient ID").input_value() == "PP0011"


@pytest.mark.slow
def test_what_arrives_appears_by_itself_but_never_below_the_pointer(site: Web, chromium: Browser) -> None:
    with person(chromium, site.address) as somebody:
        somebody.go("/?PatientName=Arrival")
        somebody.sees("No study matches.")
        site.store(edited(phantoms(21, instances=1)[0], PatientName="Arrival^First"))
        rows = somebody.page.locator("tbody tr")
        expect(rows).to_have_count(1, timeout=60_000)
        rows.first.locator("td").nth(1).hover()
        site.store(edited(phantoms(22, instances=1)[0], PatientName="Arrival^Second"))
        show = somebody.page.get_by_role("button", name="The list has changed: show it")
        show.wait_for(timeout=60_000)
        expect(rows).to_have_count(1)
        show.click()
        expect(rows).to_have_count(2)


@pytest.mark.slow
def test_a_wrong_password_is_told_in_a_sentence(tmp_path: Path, chromium: Browser) -> None:
    with (
        serving(
            tmp_path / "alpha", is_trusting=False, web={"port": free_port(), "host": "127.0.0.1"}
        ) as node,
        person(chromium, f"https://127.0.0.1:{node.ports['https']}") as somebody,
    ):
        somebody.go(LOGIN)
        somebody.page.get_by_label("Name").fill("admin")
        somebody.page.get_by_label("Password").fill("guessed it")
        somebody.page.keyboard.press("Enter")
        somebody.sees("Name and password do not belong together.")
        assert {line.partition(":")[0] for line in somebody.complaints} == {"401", "console"}
        somebody.complaints.clear()


@pytest.mark.slow
def test_the_list_is_searched_while_one_types_and_walked_by_keys(site: Web, chromium: Browser) -> None:
    sent = send(site, get_testdata_file("MR_small.dcm"))
    with person(chromium, site.address) as somebody:
        somebody.go("/")
        page = somebody.page
        page.keyboard.press("/")
        page.keyboard.type("compressedsamples^mr")
        until(lambda: page.locator("tbody tr").count() == 1)
        assert "PatientName=compressedsamples" in page.url
        page.keyboard.press("Tab")
        page.locator("h1").click()
        page.keyboard.press("j")
        page.keyboard.press("o")
        page.wait_for_url(f"**/study/{sent.StudyInstanceUID}")
        page.get_by_text("Attributes").click()
        page.get_by_label("Only with").fill("RepetitionTime")
        somebody.sees("(0018,0080)")
        page.get_by_role("button", name="as API").click()
        somebody.sees("curl -H")
        somebody.picture("as-api")


def test_every_sentence_of_the_pages_has_its_czech(site: Web, chromium: Browser) -> None:
    czech = json.loads((FOLDER / "cs.json").read_text())
    said = set()
    for module in FOLDER.glob("*.js"):
        if module.name != "preact.js":
            said |= set(re.findall(r"\bt\('((?:[^'\\]|\\.)*)'", module.read_text()))
    missing, unused = said - czech.keys(), czech.keys() - said
    assert not missing, sorted(missing)
    assert not unused, sorted(unused)
    for sentence, told in czech.items():
        for form in told.values() if isinstance(told, dict) else (told,):
            assert set(re.findall(r"{\w+}", form)) <= set(re.findall(r"{\w+}", sentence)), sentence
    with person(chromium, site.address, locale="cs-CZ") as somebody:
        somebody.go("/")
        somebody.sees("Jméno pacienta")
        assert somebody.page.locator("html").get_attribute("lang") == "cs"
        somebody.picture("studies-cs")
        somebody.page.locator("tbody a").first.click()
        somebody.sees("První snímek přišel z")
        somebody.sees("Snímky zde: ")


def test_what_the_node_says_most_has_its_czech_and_the_node_still_says_it() -> None:
    czech = json.loads((FOLDER / "said.cs.json").read_text())
    root = FOLDER.parents[3]
    sources = [
        path for floor in ("anonymizer", "federation", "node") for path in (root / floor).rglob("*.py")
    ]
    ours = "\0".join(_literals(path.read_text()) for path in sources)
    of_the_system = {os.strerror(number) for number in errno.errorcode} | {
        "Name or service not known",
        "timed out",
    }
    for pattern, told in czech.items():
        assert set(re.findall(r"{\w+}", told)) <= set(re.findall(r"{\w+}", pattern)), pattern
        # Numbers are put before their nouns by functions of their own.
        for part in re.split(r"{\w+}|\b(?:instance|serie)s?\b", pattern):
            words = part.strip(" .:;,()'\"")
            assert words in ours or pattern in of_the_system, f"{words!r} of {pattern!r} is said no more"


def _literals(code: str) -> str:
    """Return every string of a module, also the parts of those that are put together."""
    constants = (each for each in ast.walk(ast.parse(code)) if isinstance(each, ast.Constant))
    return "\0".join(each.value for each in constants if isinstance(each.value, str))


def test_a_page_that_is_left_open_does_not_fill_the_audit(site: Web) -> None:
    def reads() -> int:
        site.node.audit.step()
        lines = read(site.node.home / "audit", "GET /traffic")
        return sum(line.detail.get("what") == "GET /traffic" for line in lines)

    before = reads()
    for _ in range(5):
        assert site.ask("GET", "/api/traffic?seconds=17").status == 200
    assert reads() == before + 1
    assert site.ask("GET", "/api/traffic?seconds=18").status == 200
    assert reads() == before + 2, "what was not asked before is put on record"


def test_what_arrived_is_told_by_series_with_its_device(site: Web) -> None:
    sent = send(site, get_testdata_file("MR_small.dcm"))
    found: list[dict[str, Any]] = []

    def is_told() -> bool:
        found[:] = [
            each
            for each in site.ask("GET", "/api/traffic").json["series"]
            if each["SeriesInstanceUID"] == sent.SeriesInstanceUID
        ]
        return bool(found)

    until(is_told)
    assert (found[0]["modality"], found[0]["instances"]) == ("MR", 1)
    assert found[0]["device"] == f"{sent.StationName} {sent.ManufacturerModelName}"
    assert site.ask("GET", "/api/traffic?seconds=0.000001").json["series"] == []


@pytest.mark.slow
def test_a_refused_device_is_allowed_and_called_from_its_page(tmp_path: Path, chromium: Browser) -> None:
    with web(tmp_path / "alpha") as site:
        site.node.devices.remove("*")
        site.node.devices.put(Device(ae_title="BOSS", address="127.0.0.1"))
        host = ["127.0.0.1", str(site.node.ports["dicom"])]
        asked = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-aet", "VIEW1", "-aec", "ALPHA", *host]
        dcmtk("findscu", *asked, exit_code=None)
        with person(chromium, site.address) as somebody:
            _become_admin(site, somebody)
            somebody.go("/devices")
            page = somebody.page
            page.get_by_role("button", name="Allow").click()
            page.get_by_label("Port", exact=False).first.fill(str(site.node.ports["dicom"]))
            assert page.get_by_role("checkbox", name="find").is_checked()
            somebody.picture("devices-allow")
            page.get_by_role("button", name="Save").click()
            page.get_by_role("cell", name="VIEW1", exact=True).wait_for()
            dcmtk("findscu", *asked)
            somebody.picture("devices-allowed")


@pytest.mark.slow
def test_what_an_unknown_sender_stored_is_released_by_a_person(tmp_path: Path, chromium: Browser) -> None:
    with web(tmp_path / "alpha") as site:
        site.node.devices.remove("*")
        sent = send(site, get_testdata_file("CT_small.dcm"))
        with person(chromium, site.address) as somebody:
            _become_admin(site, somebody)
            somebody.go("/waiting")
            somebody.picture("waiting-held")
            somebody.page.get_by_role("button", name="Release").click()
            somebody.page.get_by_label("Reason").fill("The new CT in room 4")
            somebody.page.locator("dialog").get_by_role("button", name="Release").click()
            somebody.sees("Nothing waits for a person.")
            somebody.go(f"/study/{sent.StudyInstanceUID}")
            somebody.sees("boss released this study")


def _become_admin(site: Web, somebody: Person) -> None:
    """Log in as a user made for it; Chromium takes loopback for a place where secure cookies may go."""
    accounts = Accounts(site.node.state, site.node.clock)
    accounts.add("boss", ("admin",))
    accounts.set_password("boss", ORANGE)
    somebody.go(LOGIN)
    somebody.page.get_by_label("Name").fill("boss")
    somebody.page.get_by_label("Password").fill(ORANGE)
    somebody.page.keyboard.press("Enter")
    somebody.page.wait_for_selector("nav")
