"""REST for people who script: what the OpenAPI document says is what happens."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from node.contracts import Device
from node.web.api import TABLE
from node.web.api.router import paths_of
from node.web.application import OPEN
from sim.ports import free_port
from tests.homes import attribute, edited, phantoms
from tests.node.web.asking import Answer, Web, file_of, path_of, web
from tests.running import until

FILE = "application/dicom"
ANY = {"Accept": "*/*"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("rest") / "alpha") as site:
        yield site


def told(site: Web, method: str, path: str, value: Any = None) -> Answer:
    body = None if value is None else json.dumps(value).encode()
    return site.ask(method, path, body, **({"Content_Type": "application/json"} if body else {}))


def test_the_document_lists_every_operation_with_its_right_and_its_structs(site: Web) -> None:
    document = site.ask("GET", "/openapi.json").json
    assert document["openapi"] == "3.1.0"
    told = {(method.upper(), path) for path, ways in document["paths"].items() for method in ways}
    assert told == {(each.method, path) for each in TABLE for path in paths_of(each)}
    for path, ways in document["paths"].items():
        for method, way in ways.items():
            is_open = (method.upper(), path) in OPEN
            assert is_open or way["x-right"] or "session" in path, path
            assert {"401", "403"} <= way["responses"].keys()
    names = [way["operationId"] for ways in document["paths"].values() for way in ways.values()]
    assert len(names) == len(set(names))
    written = json.dumps(document)
    for reference in {part.split('"')[0] for part in written.split('"#/components/schemas/')[1:]}:
        assert reference in document["components"]["schemas"], reference
    assert "next" in document["components"]["schemas"]["Problem"]["required"]


def test_one_file_is_stored_as_it_is_and_found_again(site: Web) -> None:
    [instance] = phantoms(1, instances=1)
    answer = site.ask("POST", "/api/instances", file_of(instance), Content_Type=FILE)
    assert answer.status == 200
    again = site.ask("POST", "/api/instances", file_of(instance))
    assert (again.status, site.node.catalog.totals().instances) == (200, 1)
    [study] = site.ask("GET", "/api/studies").json
    uid = study["StudyInstanceUID"]
    assert site.ask("GET", f"/api/studies?key=PatientID={study['PatientID']}").json == [study]
    assert site.ask("GET", "/api/studies?key=PatientID=nobody").json == []
    whole = site.ask("GET", f"/api/studies/{uid}").json
    assert (whole["instances"], len(whole["series"])) == (1, 1)
    assert whole["dicomweb"].endswith(f"/dicom-web/studies/{uid}")
    assert site.ask("POST", "/api/instances", b"this is no DICOM file").status in (400, 409)
    assert site.ask("POST", "/api/instances", b"").status == 400


def test_a_study_leaves_as_a_zip_file_with_every_byte(site: Web) -> None:
    sent = phantoms(3, size=700_000)
    site.store(*sent)
    uid = path_of(sent[0], levels=1).removeprefix("/studies/")
    answer = site.ask("GET", f"/api/studies/{uid}/zip")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as made:
        assert made.testzip() is None
        kept = {name.split("/")[1].removesuffix(".dcm"): made.read(name) for name in made.namelist()}
    assert kept == {each.SOPInstanceUID: file_of(each) for each in sent}
    assert site.ask("GET", "/api/studies/1.2.3/zip").status == 404


def test_the_life_of_a_study_says_in_words_and_once_a_day_who_looked_at_it(site: Web) -> None:
    sent = phantoms(4)
    site.store(*sent)
    uid = path_of(sent[0], levels=1).removeprefix("/studies/")
    for _ in range(2):
        assert site.ask("GET", f"/dicom-web/studies/{uid}/series", **ANY).status == 200
        assert site.ask("GET", f"/dicom-web/studies/{uid}/metadata", **ANY).status == 200
        assert site.ask("GET", f"/api/studies/{uid}/life").status == 200
    site.node.audit.step()
    said = [each["sentence"] for each in site.ask("GET", f"/api/studies/{uid}/life").json["events"]]
    assert sum(each.endswith(" looked it up.") for each in said) == 1
    assert sum(each.endswith(" read headers of it.") for each in said) == 1
    assert not [each for each in said if "outcome" in each or "access" in each]


def test_changes_are_told_since_a_cursor_and_each_only_once(site: Web) -> None:
    site.store(*phantoms(5, instances=2))
    seen: list[dict[str, Any]] = []
    since = 0

    def has_all() -> bool:
        """Read on by one row at a time; the log follows a moment after the answer to a C-STORE."""
        nonlocal since
        part = site.ask("GET", f"/api/changes?since={since}&limit=1").json
        seen.extend(part["changes"])
        since = part["last"]
        studies = {row["StudyInstanceUID"] for row in site.ask("GET", "/api/studies").json}
        return bool(part["is_done"] and {row["StudyInstanceUID"] for row in seen} == studies)

    until(has_all)
    assert [row["seq"] for row in seen] == sorted({row["seq"] for row in seen})
    known = len(seen)
    site.store(*phantoms(6, instances=1))
    until(lambda: has_all() and len(seen) > known)
    assert not {row["seq"] for row in seen[known:]} & {row["seq"] for row in seen[:known]}


def test_long_work_is_202_with_a_url_that_tells_how_it_is(site: Web) -> None:
    site.node.devices.put(Device(ae_title="AWAY", address="127.0.0.1", port=free_port()))
    site.store(*(sent := phantoms(7, instances=1)))
    order = {"target": sent[0].SOPInstanceUID, "destination": "AWAY", "lane": "bulk"}
    begun = told(site, "POST", "/api/transfers", order)
    assert begun.status == 202
    url = begun.headers["location"]
    assert told(site, "POST", "/api/transfers", order).json["id"] == begun.json["id"]
    assert site.ask("GET", url).json["destination"] == "AWAY"
    assert site.ask("POST", f"{url}/pause").json["standing"] == "paused"
    assert told(site, "POST", f"{url}/raise", {"lane": "now"}).json["lane"] == "now"
    assert site.ask("POST", f"{url}/cancel").json["standing"] == "cancelled"
    assert site.ask("GET", "/api/transfers?over=false").json == []
    assert site.ask("GET", "/api/transfers/nothing").status == 404


def test_devices_are_read_changed_and_forgotten(site: Web) -> None:
    row = {"address": "10.1.7.20", "services": ["echo", "store"]}
    assert told(site, "PUT", "/api/devices/CT9", row).json["services"] == ["echo", "store"]
    assert site.ask("GET", "/api/devices/CT9").json["address"] == "10.1.7.20"
    wrong = told(site, "PUT", "/api/devices/CT9", {"services": ["fly"]})
    assert (wrong.status, wrong.json["next"]) == (400, "See /openapi.json.")
    assert site.ask("DELETE", "/api/devices/CT9").status == 204
    assert site.ask("GET", "/api/devices/CT9").status == 404
    site.node.audit.step()
    lines = site.ask("GET", "/api/audit?event=change&word=CT9").json
    assert [line["outcome"] for line in lines] == ["device changed", "device removed"]


def test_what_waits_for_a_person_is_told_and_judged(site: Web) -> None:
    [first] = phantoms(8, instances=1)
    site.store(first, edited(first, StudyDescription="other"))
    [conflict] = site.ask("GET", "/api/conflicts").json
    path = f"/api/conflicts/{conflict['SOPInstanceUID']}"
    assert "StudyDescription" in site.ask("GET", path).json["values"]
    chosen = {"sha256": conflict["versions"][1]["sha256"], "reason": "the scanner was set right"}
    made = told(site, "POST", f"{path}/prefer", chosen)
    assert made.status == 200, made.body
    assert site.ask("GET", "/api/conflicts").json == []
    assert site.ask("GET", "/api/held").json == []
    nothing = told(site, "POST", "/api/held/release", {"reason": "known", "source": "CT7"})
    assert (nothing.status, nothing.json["detail"]) == (404, "Nothing of that waits for a person.")
    assert told(site, "POST", "/api/held/release", {"source": "CT7"}).status == 400
    assert site.ask("GET", "/api/rejected").status == 200


def test_what_cannot_be_is_told_as_a_problem(site: Web) -> None:
    for method, path, body, status in (
        ("GET", "/api/studies?limit=0", None, 400),
        ("GET", "/api/studies?colour=red", None, 400),
        ("GET", "/api/changes?since=-1", None, 400),
        ("GET", "/api/nothing", None, 404),
        ("PATCH", "/api/studies", None, 405),
        ("POST", "/api/transfers", {"target": "1.2"}, 400),
        ("POST", "/api/transfers", [1], 400),
    ):
        answer = told(site, method, path, body)
        assert answer.status == status, (path, answer.body)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["status"] == status
    assert site.ask("POST", "/api/transfers", b"a=b").status == 415
    large = b'{"target":"' + b"1" * (2 << 20) + b'"}'
    assert site.ask("POST", "/api/transfers", large, Content_Type="application/json").status == 413


def test_status_archives_and_numbers_are_there_too(site: Web) -> None:
    assert site.ask("GET", "/api/status").json["ae_title"] == "ALPHA"
    [archive] = site.ask("GET", "/api/archives").json
    assert archive["name"] == "main"
    assert b"peerpacs_build_info" in site.ask("GET", "/metrics").body
    assert b"[+]storage ok" in site.ask("GET", "/readyz?verbose").body


def test_a_study_is_pinned_to_the_disk_listed_and_let_go(site: Web) -> None:
    study = phantoms(77, 1, instances=1)
    site.store(*study)
    uid = str(attribute(study[0], "StudyInstanceUID"))
    assert site.ask("PUT", f"/api/copies/pins/{uid}").json["where"] == "here"
    assert uid in [row["StudyInstanceUID"] for row in site.ask("GET", "/api/copies/pins").json]
    assert site.ask("DELETE", f"/api/copies/pins/{uid}").status == 204
    assert site.ask("DELETE", f"/api/copies/pins/{uid}").status == 404
    assert site.ask("PUT", "/api/copies/pins/1.2.3").status == 404


def test_a_person_says_over_rest_that_the_clock_is_right_and_that_is_on_record(
    site: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.node.main, "peers_skew", lambda: 7200.0)
    assert "2.0 hours behind" in site.ask("GET", "/api/retention").json["clock"]
    assert told(site, "POST", "/api/retention-clock").status == 204
    assert site.ask("GET", "/api/retention").json["clock"] == ""
    site.node.audit.step()
    [line] = site.ask("GET", "/api/audit?word=clock%20believed").json
    assert line["detail"]["who"]


def test_a_node_whose_id_no_certificate_can_carry_founds_and_joins_no_grid_and_says_why(site: Web) -> None:
    asked = told(site, "POST", "/api/peer-invitations", {"site": "BETA"})
    assert asked.status == 400
    assert "is no UUID" in asked.json["detail"]
    assert "uuidgen" in asked.json["next"]
    assert site.ask("GET", "/api/peers").status == 404, "it is in no grid, and none was begun"
    assert told(site, "POST", "/api/peer-invitations", {"site": "BETA"}).status == 400
