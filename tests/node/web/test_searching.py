"""QIDO-RS: PS3.18 8.3.4 and 10.6."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydicom.dataset import Dataset

from catalog import BadRequest
from node.web import WebServer
from sim.patients import Patient
from tests.homes import RawInstance, attribute, edited, phantoms
from tests.node.web.asking import Answer, Web, web

DOE = Patient(PatientID="P1", PatientName="DOE^JOHN", character_set="ISO_IR 100")
ROE = Patient(PatientID="P2", PatientName="ROE^JANE", character_set="ISO_IR 100")


@pytest.fixture(scope="module")
def studies() -> list[list[RawInstance]]:
    return [
        phantoms(1, 1, instances=3, modality="CT", patient=DOE, StudyDate="20240101"),
        phantoms(1, 2, instances=2, modality="CT", patient=DOE, StudyDate="20240202"),
        phantoms(1, 3, instances=2, modality="MR", patient=ROE, StudyDate="20240303"),
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, studies: list[list[RawInstance]]) -> Iterator[Web]:
    home = tmp_path_factory.mktemp("search")
    with web(home / "home") as asked:
        for instances in studies:
            asked.store(*instances)
        [first, *_] = studies[0]
        item = {"00400009": {"vr": "SH", "Value": ["STEP7"]}, "00401001": {"vr": "SH", "Value": ["REQ7"]}}
        other = edited(first, RequestAttributesSequence=[Dataset.from_json(item)])
        asked.store(_renamed(other, "1.2.3.4"))
        yield asked


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Web]:
    """A site for who stores what the other tests must not find."""
    with web(tmp_path / "home") as asked:
        yield asked


def _renamed(instance: RawInstance, uid: str) -> RawInstance:
    made = edited(instance, SOPInstanceUID=uid, SeriesInstanceUID="9.8.7")
    made.SOPInstanceUID = uid
    return made


def uid_of(instances: list[RawInstance]) -> str:
    return str(attribute(instances[0], "StudyInstanceUID"))


def first(answer: dict[str, Any], tag: str) -> Any:
    return answer[tag]["Value"][0]


def found(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [first(each, "0020000D") for each in answer.json]


def test_studies_come_newest_first_with_what_the_standard_lists(site: Web, studies: list[Any]) -> None:
    answer = site.get("/studies")
    assert found(answer) == [uid_of(each) for each in reversed(studies)]
    assert answer.headers["content-type"] == "application/dicom+json"
    newest = answer.json[0]
    assert list(newest) == sorted(newest)
    assert first(newest, "00100010") == {"Alphabetic": "ROE^JANE"}
    assert first(newest, "00201208") == 2
    assert first(newest, "00080061") == "MR"
    assert first(newest, "00081190") == f"{site.url}/studies/{uid_of(studies[2])}"
    assert first(newest, "00080056") == "ONLINE"


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("PatientID=P1", [1, 0]),
        ("00100020=P1", [1, 0]),
        ("PatientName=doe*", [1, 0]),
        ("StudyDate=20240102-", [2, 1]),
        ("StudyDate=20240101-20240202", [1, 0]),
        ("ModalitiesInStudy=MR", [2]),
        ("ModalitiesInStudy=CT%5CMR", [2, 1, 0]),
        ("ModalitiesInStudy=CT,MR", [2, 1, 0]),
        ("PatientID=P1,P2&multiplevaluematching=true", [2, 1, 0]),
        ("PatientID=P1&unknownparameter=4", [1, 0]),
        ("RequestAttributesSequence.RequestedProcedureID=REQ7", [0]),
        ("00400275.00401001=REQ7&00400275.00400009=STEP*", [0]),
        ("RequestAttributesSequence.RequestedProcedureID=REQ7&PatientID=P2", []),
        ("limit=1", [2]),
        ("limit=1&offset=1", [1]),
        ("limit=0", []),
        ("offset=9", []),
        ("fuzzymatching=false&limit=101&offset=0&includefield=00081030,00080060", [2, 1, 0]),
    ],
)
def test_a_query_finds_what_it_names(site: Web, studies: list[Any], query: str, places: list[int]) -> None:
    answer = site.get(f"/studies?{query}")
    if places:
        assert found(answer) == [uid_of(studies[place]) for place in places]
    else:
        assert (answer.status, answer.body) == (204, b"")


def test_a_list_of_uids_finds_each(site: Web, studies: list[Any]) -> None:
    for divider in (",", "%5C"):
        uids = divider.join(uid_of(each) for each in studies[:2])
        assert found(site.get(f"/studies?StudyInstanceUID={uids}")) == [uid_of(s) for s in studies[1::-1]]


def test_every_level_answers_below_a_study_and_from_the_top(site: Web, studies: list[Any]) -> None:
    uid = uid_of(studies[0])
    series = site.get(f"/studies/{uid}/series").json
    assert len(series) == 2
    assert "00100010" not in series[0]
    assert len(site.get(f"/studies/{uid}/instances").json) == 4
    one = first(series[0], "0020000E")
    instances = site.get(f"/studies/{uid}/series/{one}/instances").json
    assert first(instances[0], "00280100") == 16
    assert first(instances[0], "00081190").endswith("/instances/" + first(instances[0], "00080018"))
    everywhere = site.get("/series").json
    assert len(everywhere) == 4
    assert first(everywhere[0], "00100010") == {"Alphabetic": "ROE^JANE"}
    assert len(site.get("/instances?Modality=MR").json) == 2


def test_fields_are_included_by_keyword_tag_path_and_all(site: Web, studies: list[Any]) -> None:
    uid = uid_of(studies[0])
    plain = site.get("/studies?PatientID=P1").json[0]
    assert "00080070" not in plain
    more = site.get("/studies?PatientID=P1&includefield=Manufacturer&includefield=00181030").json[0]
    assert {"00080070", "00181030"} <= more.keys()
    inner = site.get(f"/studies/{uid}/series?includefield=00400275.00401001&SeriesInstanceUID=9.8.7").json[0]
    assert first(first(inner, "00400275"), "00401001") == "REQ7"
    series = site.get(f"/studies/{uid}/series?includefield=all").json[0]
    assert {"00100010", "00080070", "00201209"} <= series.keys()
    instance = site.get(f"/studies/{uid}/instances?includefield=all&limit=1").json[0]
    assert {"00280101", "00280030", "00080018"} <= instance.keys()
    assert instance["7FE00010"]["BulkDataURI"].startswith(site.url)


def test_empty_values_are_found_when_asked_for(empty: Web, studies: list[Any]) -> None:
    empty.store(*studies[0])
    assert empty.get("/studies?AccessionNumber=%22%22").status == 204
    assert empty.get("/studies?AccessionNumber=%22%22&emptyvaluematching=true").status == 204
    bare = [edited(each, AccessionNumber="") for each in phantoms(5, 1, instances=1)]
    empty.store(*bare)
    asked = empty.get("/studies?AccessionNumber=%22%22&emptyvaluematching=true")
    assert found(asked) == [uid_of(bare)]
    assert found(empty.get(f"/studies?StudyInstanceUID={uid_of(bare)}")) == [uid_of(bare)]


def test_what_is_not_done_is_said_in_a_warning(site: Web) -> None:
    answer = site.get("/studies?PatientName=doe*&fuzzymatching=true&includefield=Nonsense&foo=1")
    assert answer.status == 200
    warning = answer.headers["warning"]
    assert f'299 {site.url}: "The fuzzymatching parameter is not supported.' in warning
    assert "includefield=Nonsense" in warning
    assert "The parameter foo is not known" in warning


@pytest.mark.parametrize(
    "query",
    [
        "StudyDate=yesterday",
        "StudyTime=99",
        "StudyInstanceUID=1.2*",
        "limit=-1",
        "limit=x",
        "offset=1e3",
        "fuzzymatching=maybe",
        "PatientID=%FF%FE",
        "PatientID=a%00b",
        "PatientID=A&PatientID=B",
        "PatientID=A%5CB",
        "PixelData=x",
        "RequestAttributesSequence=x",
        "&".join(f"a{n}=1" for n in range(1200)),
        "PatientName=" + "x" * 3000,
    ],
)
def test_a_malformed_query_is_a_400_that_says_why(site: Web, query: str) -> None:
    answer = site.get(f"/studies?{query}")
    assert answer.status == 400, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["detail"]
    assert answer.json["title"] == "Bad Request"


def test_pages_of_an_unchanged_archive_neither_skip_nor_repeat(site: Web) -> None:
    whole = [first(each, "00080018") for each in site.get("/instances").json]
    pages = [site.get(f"/instances?limit=2&offset={offset}") for offset in range(0, len(whole), 2)]
    assert [first(each, "00080018") for page in pages for each in page.json] == whole
    assert "warning" not in pages[0].headers


def test_a_count_and_a_table_come_for_the_same_question(site: Web) -> None:
    assert site.get("/studies/count?PatientID=P1", "*/*").json == {"count": 2}
    assert site.get("/instances/count?Modality=MR", "application/json").json == {"count": 2}
    answer = site.get("/studies?PatientID=P1", "text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert [row["PatientID"] for row in rows] == ["P1", "P1"]
    assert answer.headers["content-type"].startswith("text/csv")


def test_names_beyond_ascii_are_found_and_told_in_utf_8(empty: Web) -> None:
    who = Patient(PatientID="P9", PatientName="Łukasiewicz^Jan=山田", character_set="ISO_IR 192")
    empty.store(*phantoms(9, 9, instances=1, patient=who))
    answer = empty.get("/studies?PatientName=" + quote("łukasiewicz*"))
    assert first(answer.json[0], "00100010") == {"Alphabetic": "Łukasiewicz^Jan", "Ideographic": "山田"}


def test_any_json_is_a_json_and_no_other_type_is_given(site: Web) -> None:
    for accept in ("*/*", "application/json", "application/*", "text/html, */*;q=0.1", ""):
        assert site.get("/studies?limit=1", accept).status == 200
    for accept in ("image/png", "application/dicom+xml", "garbage", "application/json;q=0"):
        answer = site.get("/studies?limit=1", accept)
        assert answer.status == 406
        assert answer.json["next"]
    assert site.get("/studies?limit=1&accept=application/dicom%2Bjson", "image/png").status == 200


def test_capabilities_list_every_route(site: Web) -> None:
    answer = site.ask("OPTIONS", "/dicom-web", Accept="application/json")
    paths = {row["path"] for row in answer.json["routes"]}
    assert {"/studies", "/studies/{study}/series/{series}/metadata"} <= paths
    wadl = site.ask("OPTIONS", "/dicom-web/")
    assert wadl.headers["content-type"] == "application/vnd.sun.wadl+xml"
    assert wadl.body.count(b"<resource ") == len(answer.json["routes"])


def test_without_a_login_only_this_machine_under_its_own_name_is_let_in(site: Web, tmp_path: Path) -> None:
    assert site.get("/studies", Host="pacs.example:8080").status == 401
    assert site.get("/studies", Origin="http://evil.example").status == 401
    assert site.get("/studies", Host=f"localhost:{site.port}").status == 200
    node = site.node
    unsafe = WebServer({}, node.audit, node.transcoder, node.transcoder.codecs, node.clock)
    with pytest.raises(BadRequest, match="nobody can log in"):
        unsafe.start("0.0.0.0", 0)
    unsafe.stop(1.0)


def test_what_is_not_there_is_told_as_a_problem(site: Web) -> None:
    for method, path, status in (
        ("GET", "/dicom-web/nothing", 404),
        ("DELETE", "/dicom-web/studies", 405),
        ("GET", "/dicom-web/studies/%2e%2e%2fetc/series", 400),
        ("GET", "/dicom-web/studies/" + "1" * 65 + "/series", 400),
        ("GET", "/nothing", 404),
    ):
        answer = site.ask(method, path, Accept="*/*")
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json["status"] == status
