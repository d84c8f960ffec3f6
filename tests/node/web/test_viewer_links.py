"""A viewer without a cookie, as Weasis, reads the one study that its link opens, and nothing else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_plus, urlsplit

import pytest
from msgspec.structs import replace

from node.accounts import Accounts
from node.audit import read
from node.rights import Right
from sim.ports import free_port
from tests.homes import phantoms, serving
from tests.node.web.asking import Answer, Web, file_of, path_of

KEPT, OTHER = phantoms(41, instances=2), phantoms(42, instances=1)
STUDY = path_of(KEPT[0], levels=1)
UID = STUDY.removeprefix("/studies/")


@dataclass
class Viewer:
    """What Weasis does with the URL that it is started with."""

    web: Web
    root: str

    def get(self, path: str, accept: str = "application/dicom+json") -> Answer:
        return self.web.ask("GET", self.root + path, Accept=accept)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    home = tmp_path_factory.mktemp("links") / "alpha"
    with serving(home, is_trusting=False, web={"plain_port": free_port()}) as node:
        web = Web(node, node.ports["web"])
        accounts = Accounts(node.state, node.clock)
        accounts.add("sam", ("sender", "viewer"))
        for instance in (*KEPT, *OTHER):
            answer = web.ask(
                "POST", "/api/instances", file_of(instance), Content_Type="application/dicom",
                Authorization=f"Bearer {accounts.make_token('sam', (Right.STORE,), ('main',), 1)[1]}",
            )  # fmt: skip
            assert answer.status == 200
        yield web


@pytest.fixture
def viewer(web: Web) -> Viewer:
    token = Accounts(web.node.state, web.node.clock).make_token("sam", (Right.RETRIEVE,), ("main",), 1)[1]
    answer = web.ask(
        "POST", f"/api{STUDY}/viewer-link", b"{}", Content_Type="application/json",
        Authorization=f"Bearer {token}",
    )  # fmt: skip
    assert answer.status == 200, answer.body
    scheme, _, query = answer.json["weasis"].partition("://?")
    words = shlex.split(unquote_plus(query))
    assert (scheme, words[0], words[3:]) == ("weasis", "$dicom:rs", ["-r", f"studyUID={UID}"])
    url = urlsplit(words[words.index("--url") + 1])
    assert url.netloc == f"127.0.0.1:{web.port}"
    return Viewer(web, url.path)


def test_a_viewer_reads_the_study_that_its_link_opens(viewer: Viewer) -> None:
    [study] = viewer.get(f"/studies?StudyInstanceUID={UID}&includefield=all").json
    assert study["0020000D"]["Value"] == [UID]
    assert study["00081190"]["Value"][0].endswith(f"{viewer.root}{STUDY}"), "it goes on below its link"
    assert len(viewer.get(f"{STUDY}/series").json) == 1
    assert len(viewer.get(f"{STUDY}/instances").json) == 2
    whole = viewer.get(path_of(KEPT[0]), 'multipart/related; type="application/dicom"; transfer-syntax=*')
    assert [content for _, content in whole.parts()] == [file_of(KEPT[0])]
    assert viewer.get(f"{STUDY}/metadata").status == 200


def test_a_link_opens_nothing_else_and_changes_nothing(web: Web, viewer: Viewer) -> None:
    other = path_of(OTHER[0], levels=1)
    for path in (
        "/studies",
        "/studies?PatientName=*",
        f"/studies?StudyInstanceUID={UID},{other.removeprefix('/studies/')}",
        f"/studies?StudyInstanceUID={UID}&0020000D={other.removeprefix('/studies/')}",
        "/studies/count",
        "/instances",
        other,
        f"{other}/series",
        path_of(OTHER[0]),
    ):
        assert viewer.get(path).status == 403, path
    by_uri = f"{viewer.root.removesuffix('/dicom-web')}/wado?requestType=WADO&studyUID={other[9:]}"
    assert web.ask("GET", by_uri).status == 403
    kind = 'multipart/related; type="application/dicom"; boundary=x'
    assert web.ask("POST", f"{viewer.root}/studies", b"--x--", Content_Type=kind).status == 403
    assert web.ask("GET", viewer.root.replace("/dicom-web", "/api/studies")).status == 404


def test_a_link_ends_and_is_none_without_its_person(web: Web, viewer: Viewer) -> None:
    links = web.node._web._gate.links  # type: ignore[union-attr]
    accounts = Accounts(web.node.state, web.node.clock)
    accounts.put(replace(accounts.find("sam"), is_disabled=True))
    assert viewer.get(f"{STUDY}/series").status == 401
    accounts.put(replace(accounts.find("sam"), is_disabled=False, grants=("sender@main",)))
    assert viewer.get(f"{STUDY}/series").status == 403
    accounts.put(replace(accounts.find("sam"), grants=("sender@main", "viewer@main")))
    assert viewer.get(f"{STUDY}/series").status == 200
    for key, link in list(links._links.scan()):
        links._links.put(key, replace(link, ends=web.node.clock() - 1))
    ended = viewer.get(f"{STUDY}/series")
    assert (ended.status, ended.json["title"]) == (401, "Unauthorized")
    assert "has ended" in ended.json["detail"]
    assert web.ask("GET", "/t/guessed/dicom-web/studies").status == 401


def test_who_made_a_link_and_what_was_read_with_it_is_on_record(
    web: Web, viewer: Viewer, tmp_path: Path
) -> None:
    assert viewer.get(path_of(KEPT[0]), "*/*").status == 200
    web.node.audit.step()
    lines = list(read(web.node.home / "audit", UID))
    assert any("viewer-link" in json.dumps(line.detail) and line.user.startswith("sam") for line in lines)
    assert any(line.event == "retrieve" and line.user == "sam (viewer)" for line in lines)
    secret = viewer.root.split("/")[2]
    assert not any(secret in json.dumps(line.detail) for line in lines), "the audit opens no study"
