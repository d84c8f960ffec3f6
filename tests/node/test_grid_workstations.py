"""DCMTK and Orthanc as workstations of a grid: what its AE title lists, it moves, or says at once why not."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from sim.ports import free_port
from tests.grid import GridNode
from tests.node.test_orthanc import OrthancPeer
from tests.running import dcmtk, until
from tests.workstation import ask, listening, object_of, rows, send

pytestmark = pytest.mark.slow
OWN, FOREIGN, SPLIT, UNTOUCHED = "1.8.1", "1.8.2", "1.8.3", "1.8.4"
LEVELS = {
    "STUDY": ("StudyInstanceUID",),
    "SERIES": ("StudyInstanceUID", "SeriesInstanceUID"),
    "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GridNode, GridNode]]:
    """Alpha and beta of one issuer: a study at each, and one of which each has a part."""
    home = tmp_path_factory.mktemp("grid")
    nodes = alpha, beta = GridNode(home / "alpha", "alpha"), GridNode(home / "beta", "beta")
    files = home / "files"
    files.mkdir()
    try:
        for node in nodes:
            node.start(**node.env, PEERPACS__NODE__ISSUER="REGION")
        alpha.admit(beta)
        beta.grant(alpha)
        send(alpha, *(object_of(files, uid, "1", n) for uid in (FOREIGN, SPLIT) for n in (1, 2)))
        send(beta, *(object_of(files, uid, "2", n) for uid in (OWN, SPLIT) for n in (1, 2)))
        expected = {(OWN, "ONLINE"), (FOREIGN, "NEARLINE"), (SPLIT, "NEARLINE")}
        until(lambda: set(rows(ask(beta))) == expected)
        until(lambda: len(ask(beta, "", "SERIES", StudyInstanceUID=SPLIT, SeriesInstanceUID="")[0]) == 2)
        yield nodes
    finally:
        for node in nodes:
            if node.process is not None:
                node.stop()


def listed(node: GridNode, patient: str = "4711") -> list[tuple[str, str, dict[str, str]]]:
    """Return level, Retrieve AE Title and unique keys of every row of a patient at all levels."""
    found: list[tuple[str, str, dict[str, str]]] = []
    above: list[dict[str, str]] = [{"PatientID": patient}]
    for level, keywords in LEVELS.items():
        keys = [
            (str(row.RetrieveAETitle), {keyword: str(row[keyword].value) for keyword in keywords})
            for each in above
            for row in ask(node, "", level, **{keywords[-1]: "", **each})[0]
        ]
        found += [(level, title, uids) for title, uids in keys]
        above = [uids for _, uids in keys]
    return found


def move(
    node: GridNode, title: str, level: str, uids: dict[str, str], to: str = "WS", exit_code: int | None = 0
) -> str:
    """Have DCMTK move something to a workstation; return what it said."""
    keys = [word for keyword, uid in uids.items() for word in ("-k", f"{keyword}={uid}")]
    return dcmtk("movescu", "-d", "-S", "-aet", to, "-aem", to, "-aec", title,
                 "-k", f"QueryRetrieveLevel={level}", *keys,
                 "127.0.0.1", str(node.port), exit_code=exit_code)  # fmt: skip


def test_dcmtk_moves_every_row_from_the_ae_title_that_it_names(
    pair: tuple[GridNode, GridNode], tmp_path: Path
) -> None:
    _, beta = pair
    port = free_port()
    beta.cli("devices", "add", "WS", "--address", "127.0.0.1", "--port", str(port))
    found = listed(beta)
    assert Counter(level for level, _, _ in found) == {"STUDY": 3, "SERIES": 4, "IMAGE": 8}
    assert {title for _, title, _ in found} == {"BETA_GRID"}
    for number, (level, title, uids) in enumerate(found):
        came = tmp_path / str(number)
        with listening(came, port):
            said = move(beta, title, level, uids)
        assert "Success" in said
        moved = [dcmread(path, stop_before_pixels=True) for path in came.iterdir()]
        expected = [each for kind, _, each in found if kind == "IMAGE" and uids.items() <= each.items()]
        assert sorted(str(data.SOPInstanceUID) for data in moved) == sorted(
            each["SOPInstanceUID"] for each in expected
        )


def test_orthanc_finds_and_retrieves_the_whole_grid(pair: tuple[GridNode, GridNode], tmp_path: Path) -> None:
    _, beta = pair
    orthanc = OrthancPeer(tmp_path / "orthanc", beta)
    try:
        until(orthanc.is_up)
        beta.cli("devices", "add", "ORTHANC", "--address", "127.0.0.1", "--port", str(orthanc.port),
                 "--services", "echo,store,find,move,get")  # fmt: skip
        known(orthanc, "grid", "BETA_GRID", beta.port)
        query = {"Level": "Study", "Query": {"PatientID": "4711", "StudyInstanceUID": ""}}
        asked = orthanc.rest("/modalities/grid/query", query)["ID"]
        answers = orthanc.rest(f"/queries/{asked}/answers?expand&simplify")
        assert {each["StudyInstanceUID"] for each in answers} == {OWN, FOREIGN, SPLIT}
        orthanc.rest(f"/queries/{asked}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
        assert len(until(lambda: orthanc.rest("/instances"))) == 8
    finally:
        orthanc.close()


def test_moving_what_nobody_reachable_has_fails_at_once_with_its_list_and_the_site(
    pair: tuple[GridNode, GridNode], tmp_path: Path
) -> None:
    """What instances a series has is known from when they were listed."""
    alpha, beta = pair
    port = free_port()
    beta.cli("devices", "add", "WS2", "--address", "127.0.0.1", "--port", str(port))
    (tmp_path / "files").mkdir()
    send(alpha, object_of(tmp_path / "files", UNTOUCHED, PatientID="4712"))
    until(lambda: len(listed(beta, "4712")) == 3)
    alpha.kill()
    try:
        # Availability is true as of the last heartbeat.
        until(lambda: (UNTOUCHED, "UNAVAILABLE") in rows(ask(beta)), 15)
        assert (OWN, "ONLINE") in rows(ask(beta))
        with listening(tmp_path / "came", port):
            started = time.monotonic()
            said = move(beta, "BETA_GRID", "STUDY", {"StudyInstanceUID": UNTOUCHED}, "WS2", exit_code=None)
            assert time.monotonic() - started < 1
        assert "0xa702" in said.lower(), said[-3000:]
        assert "by alpha," in said, "the Error Comment names the site"
        assert f"{UNTOUCHED}.1.1" in said, said[-3000:]
    finally:
        alpha.start(**alpha.env, PEERPACS__NODE__ISSUER="REGION")
    until(lambda: (UNTOUCHED, "NEARLINE") in rows(ask(beta)))


def test_each_device_is_told_of_an_old_copy_as_was_agreed_with_it(pair: tuple[GridNode, GridNode]) -> None:
    alpha, beta = pair
    told = {"complete": (0, ""), "comment": (0, "stale: alpha"), "warn": (0xB001, "stale: alpha"),
            "fail": (0xA700, "stale: alpha")}  # fmt: skip
    for manner in told:
        beta.cli("devices", "add", f"WS{manner}", "--services", "find", "--on-partial", manner)
    alpha.kill()
    try:
        # A copy counts as up to date for as long as heartbeats may take.
        until(lambda: ask(beta, as_ae="WSfail")[1].Status == 0xA700, 40)
        for manner, (status, comment) in told.items():
            found, final = ask(beta, as_ae=f"WS{manner}")
            assert {row.StudyInstanceUID for row in found} >= {OWN, FOREIGN, SPLIT}
            assert final.Status == status
            assert str(final.get("ErrorComment", "")).startswith(comment)
            assert ("ErrorComment" in final) is bool(comment)
    finally:
        alpha.start(**alpha.env, PEERPACS__NODE__ISSUER="REGION")
    until(lambda: ask(beta, as_ae="WSfail")[1].Status == 0)


def known(orthanc: OrthancPeer, name: str, title: str, port: int) -> None:
    """Tell Orthanc of a node's other AE title."""
    body = json.dumps([title, "127.0.0.1", port]).encode()
    url = f"http://127.0.0.1:{orthanc.http}/modalities/{name}"
    urllib.request.urlopen(urllib.request.Request(url, data=body, method="PUT"), timeout=30).close()
