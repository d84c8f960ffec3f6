"""The wall between two archives of one node: each service is tried across it, beside test_archives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.dimse import Requestor
from tests.homes import Peer, RawInstance, attribute, edited, phantoms, serving
from tests.node.commandline import CommandLine
from tests.node.committing import Results, action, asking, pairs
from tests.node.web.asking import JSON, Web, file_of, path_of, web

LAB = {"ae_titles": ["LAB"], "who": "tester", "is_new": True, "s3": []}
DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
PIXELS = 'multipart/related; type="application/octet-stream"'
LAB_ROOT = "/archives/lab/dicom-web"
NOT_HERE = 0x0112
"""No such object instance, PS3.3 C.14.1.1."""


def at(site: Web, called: str) -> Peer:
    """Return a device that calls one AE title of the node."""
    peer = Peer(site.node)
    peer.requestor = Requestor("PEER", "127.0.0.1", site.node.ports["dicom"], called)
    return peer


def ours() -> list[RawInstance]:
    """What only the default archive has."""
    return phantoms(1, instances=2)


def theirs() -> list[RawInstance]:
    """What only the other one has."""
    return phantoms(2, instances=2)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("wall") / "home") as site:
        site.node.desk.verbs()["put_archive"](name="lab", **LAB)
        assert set(at(site, "ALPHA").store(*ours())) == {0} == set(at(site, "LAB").store(*theirs()))
        yield site


def test_an_archive_commits_to_nothing_of_another(site: Web) -> None:
    for called, here, there in (("ALPHA", ours(), theirs()), ("LAB", theirs(), ours())):
        results = Results()
        with asking(site.node.ports["dicom"], results, called=called) as scu:
            assert scu.ask(action(pairs(*here, *there))) == 0
            _, committed, failed = results.only()
        assert committed == {one.SOPInstanceUID for one in here}
        assert failed == dict.fromkeys((one.SOPInstanceUID for one in there), NOT_HERE)
        assert results.taken[0][1].RetrieveAETitle == called


def everything_of(one: RawInstance) -> list[tuple[str, str]]:
    """Return every resource of an instance, and what is accepted of it."""
    study, series, instance = (path_of(one, levels=levels) for levels in (1, 2, 3))
    found = [(path, DICOM) for path in (study, series, instance)]
    found += [(f"{path}/metadata", JSON) for path in (study, series, instance)]
    found += [(f"{path}/rendered", "image/png") for path in (study, series, instance)]
    found += [(f"{path}/thumbnail", "image/png") for path in (study, series, instance)]
    found += [(f"{instance}/frames/1", PIXELS), (f"{instance}/frames/1/rendered", "image/png")]
    return found


def test_no_resource_of_the_web_opens_what_lies_in_another_archive(site: Web) -> None:
    roots = (("/dicom-web", ours()[0], theirs()[0]), (LAB_ROOT, theirs()[0], ours()[0]))
    for root, here, there in roots:
        for path, accept in everything_of(here):
            assert site.ask("GET", root + path, Accept=accept).status == 200, f"{root}{path}"
        for path, accept in everything_of(there):
            assert site.ask("GET", root + path, Accept=accept).status == 404, f"{root}{path}"


def test_bulk_data_of_another_archive_is_not_given(site: Web) -> None:
    uris = []
    for root, here in (("/dicom-web", ours()[0]), (LAB_ROOT, theirs()[0])):
        [told] = site.ask("GET", f"{root}{path_of(here)}/metadata", Accept=JSON).json
        uris.append("/" + told["7FE00010"]["BulkDataURI"].split("/", 3)[3])
    mine, lab = uris
    swapped = [mine.replace("/dicom-web", LAB_ROOT), lab.replace(LAB_ROOT, "/dicom-web")]
    assert [site.ask("GET", uri, Accept="*/*").status for uri in (*uris, *swapped)] == [200, 200, 404, 404]


def test_no_search_of_the_web_finds_what_lies_in_another_archive(site: Web) -> None:
    for root, here, there in (("/dicom-web", ours(), theirs()), (LAB_ROOT, theirs(), ours())):
        for level, tag in (("studies", "0020000D"), ("series", "0020000E"), ("instances", "00080018")):
            found = site.ask("GET", f"{root}/{level}", Accept=JSON).json
            keyword = {"studies": "StudyInstanceUID", "series": "SeriesInstanceUID"}.get(
                level, "SOPInstanceUID"
            )
            assert {row[tag]["Value"][0] for row in found} == {str(attribute(one, keyword)) for one in here}
        study = path_of(there[0], levels=1)
        for path in (f"{study}/series", f"{study}/instances", f"{path_of(there[0], levels=2)}/instances"):
            answer = site.ask("GET", root + path, Accept=JSON)
            assert answer.status in (204, 404), f"{root}{path}"
            assert not answer.body or answer.status == 404


def test_the_uri_service_gives_nothing_of_another_archive(site: Web) -> None:
    def query(one: RawInstance) -> str:
        uids = {
            "studyUID": "StudyInstanceUID",
            "seriesUID": "SeriesInstanceUID",
            "objectUID": "SOPInstanceUID",
        }
        named = "&".join(f"{name}={attribute(one, keyword)}" for name, keyword in uids.items())
        return f"requestType=WADO&{named}&contentType=application/dicom"

    for root, here, there in (("/dicom-web", ours()[0], theirs()[0]), (LAB_ROOT, theirs()[0], ours()[0])):
        uri = root.removesuffix("dicom-web") + "wado"
        assert site.ask("GET", f"{uri}?{query(here)}").status == 200
        assert site.ask("GET", f"{uri}?{query(there)}").status == 404


def test_what_is_stored_over_the_web_lies_in_one_archive(site: Web) -> None:
    [one] = phantoms(3, instances=1)
    mine, lab = edited(one, PatientName="ONE^OURS"), edited(one, PatientName="TWO^THEIRS")
    for root, sent in (("/dicom-web", mine), (LAB_ROOT, lab)):
        body = b"--B\r\nContent-Type: application/dicom\r\n\r\n" + file_of(sent) + b"\r\n--B--\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary=B'
        answer = site.ask("POST", f"{root}/studies", body, Content_Type=kind, Accept=JSON)
        assert answer.status == 200, answer.body
    uid = str(attribute(one, "StudyInstanceUID"))
    for called, name in (("ALPHA", "ONE^OURS"), ("LAB", "TWO^THEIRS")):
        [row] = at(site, called).find(StudyInstanceUID=uid, PatientName="")
        assert row["PatientName"] == name
    assert not site.node.desk.verbs()["conflicts"]()
    assert not site.node.desk.verbs()["lab/conflicts"]()


def test_a_backup_gives_each_archive_back_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PEERPACS_HOME", raising=False)
    home = tmp_path / "home"
    with web(home) as site:
        site.node.desk.verbs()["put_archive"](name="lab", **LAB)
        assert set(at(site, "ALPHA").store(*ours())) == {0} == set(at(site, "LAB").store(*theirs()))
    CommandLine(home, capsys)("backup", str(tmp_path / "backup"), "--objects")
    new = tmp_path / "new"
    CommandLine(new, capsys)("restore", str(tmp_path / "backup"))
    with serving(new) as node:
        for called, there in (("ALPHA", ours()), ("LAB", theirs())):
            peer = Peer(node)
            peer.requestor = Requestor("PEER", "127.0.0.1", node.ports["dicom"], called)
            [row] = peer.find(StudyInstanceUID="")
            assert row["StudyInstanceUID"] == str(attribute(there[0], "StudyInstanceUID"))
            got = {one.SOPInstanceUID: one.data for one in peer.get(row["StudyInstanceUID"])}
            assert got == {one.SOPInstanceUID: one.data for one in there}
