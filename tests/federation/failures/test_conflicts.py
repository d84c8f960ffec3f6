"""Hospitals that contradict each other: equal AE titles, one UID with two contents, a split study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.grid import GridNode
from tests.running import dcmtk, until
from tests.workstation import ask, get, listening, object_of, rows, send

Three = tuple[GridNode, GridNode, GridNode]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    """Alpha, beta and gamma, whose archives all have the AE title PACS; each grants the others all."""
    home = tmp_path_factory.mktemp("grid")
    alpha, beta, gamma = nodes = tuple(GridNode(home / n, n, "PACS") for n in ("alpha", "beta", "gamma"))
    try:
        for node in nodes:
            node.start(**node.env, PEERPACS__NODE__ISSUER="REGION")
        alpha.admit(beta)
        alpha.admit(gamma)
        until(lambda: beta.is_connected(gamma) and gamma.is_connected(beta))
        for one, *others in ((beta, alpha, gamma), (gamma, alpha, beta)):
            for other in others:
                one.grant(other)
        yield alpha, beta, gamma
    finally:
        for node in nodes:
            if node.process is not None:
                node.stop()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def where(node: GridNode, uid: str) -> list[str]:
    """Return the availability of a study, if the node's grid finds it."""
    return [availability for found, availability in rows(ask(node, StudyInstanceUID=uid)) if found == uid]


def test_equal_ae_titles_are_told_apart_by_who_is_asked(three: Three, files: Path, tmp_path: Path) -> None:
    """An AE title means something at one site: its archive, and the workstation in its device book."""
    alpha, beta, _ = three
    send(alpha, object_of(files, "1.5.1"))
    send(beta, object_of(files, "1.5.2"))
    until(lambda: where(alpha, "1.5.2") == ["NEARLINE"] and where(beta, "1.5.1") == ["NEARLINE"])
    [row] = [row for row in ask(beta)[0] if row.StudyInstanceUID == "1.5.1"]
    assert row.RetrieveAETitle == "PACS_GRID"
    for node, foreign, own in ((alpha, "1.5.2", "1.5.1"), (beta, "1.5.1", "1.5.2")):
        came = tmp_path / f"at {node.name}"
        with listening(came) as port:
            node.cli("devices", "add", "WS", "--address", "127.0.0.1", "--port", str(port))
            for uid in (foreign, own):
                dcmtk("movescu", "-S", "-aet", "WS", "-aem", "WS", "-aec", "PACS_GRID",
                      "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid}",
                      "127.0.0.1", str(node.port))  # fmt: skip
        assert len(list(came.iterdir())) == 2, "WS is each site's own, whatever the other calls so"
        assert rows(ask(node, called="PACS", StudyInstanceUID=foreign)) == []


def test_one_sop_instance_uid_with_two_contents_stays_two_and_everybody_is_told(
    three: Three, files: Path
) -> None:
    alpha, beta, gamma = three
    send(alpha, object_of(files, "1.6.1", WindowCenter="40"))
    until(lambda: where(beta, "1.6.1") == ["NEARLINE"])
    send(beta, object_of(files, "1.6.1", WindowCenter="400"))
    for node, others in ((alpha, ("beta",)), (beta, ("alpha",)), (gamma, ("alpha", "beta"))):
        until(lambda node=node: node.told("peers")["conflicts"], 30)  # type: ignore[misc]
        told = node.say("peers")
        assert "1.6.1" in told
        assert any(f"other bytes are kept by {other}" in told for other in others), told
        until(lambda node=node: any("1.6.1" in row["detail"]["what"] for row in node.audit("alarm")))  # type: ignore[misc]
    centers = {}
    for node in three:
        (row,), _ = ask(node, StudyInstanceUID="1.6.1", NumberOfStudyRelatedInstances="")
        assert row.NumberOfStudyRelatedInstances == 1, "it is one instance to whoever asks"
        (data,), status, _, _ = get(node, "1.6.1", "WS")
        assert status.Status == 0
        centers[node.name] = int(data.WindowCenter)
    assert centers == {"alpha": 40, "beta": 400, "gamma": 40}, "its own, or else who had it first"


def test_a_study_in_three_places_is_one_and_lacks_what_is_with_who_is_gone(three: Three, files: Path) -> None:
    alpha, beta, gamma = three
    for node, series in ((alpha, ("1", "2")), (beta, ("2", "3")), (gamma, ("4",))):
        send(node, *(object_of(files, "1.7.1", each, number) for each in series for number in (1, 2)))

    def counted(node: GridNode) -> list[tuple[int, int]]:
        asked = {"NumberOfStudyRelatedSeries": "", "NumberOfStudyRelatedInstances": ""}
        found = ask(node, StudyInstanceUID="1.7.1", **asked)[0]
        return [(row.NumberOfStudyRelatedSeries, row.NumberOfStudyRelatedInstances) for row in found]

    for node in three:
        until(lambda node=node: counted(node) == [(4, 8)])  # type: ignore[misc]
    whole, status, _, _ = get(alpha, "1.7.1", "WS")
    assert (len({data.SOPInstanceUID for data in whole}), len(whole), status.Status) == (8, 8, 0)
    gamma.kill()
    try:
        until(lambda: where(alpha, "1.7.1") == ["UNAVAILABLE"], 30)
        assert counted(alpha) == [(4, 8)], "what is gone for now is still told of"
        got, status, _, took = get(beta, "1.7.1", "WS")
        assert {data.SeriesInstanceUID for data in got} == {f"1.7.1.{n}" for n in (1, 2, 3)}
        assert (status.Status, status.NumberOfFailedSuboperations) == (0xB000, 2)
        assert took < 5
        lost = {"StudyInstanceUID": "1.7.1", "SeriesInstanceUID": "1.7.1.4"}
        images, final = ask(beta, level="IMAGE", **lost)
        assert (images, final.Status, final.ErrorComment) == ([], 0xA700, "none: GAMMA"), (
            "it cannot be judged"
        )
        assert len(ask(beta, level="IMAGE", StudyInstanceUID="1.7.1", SeriesInstanceUID="1.7.1.1")[0]) == 2
    finally:
        gamma.start(**gamma.env, PEERPACS__NODE__ISSUER="REGION")
    until(lambda: where(beta, "1.7.1") == ["NEARLINE"], 40)
    assert len(get(beta, "1.7.1", "WS")[0]) == 8
