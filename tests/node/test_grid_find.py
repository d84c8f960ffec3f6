"""Hospitals as processes, one grid: what is sent to one is found at the others, and stays findable."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import Dataset

from tests.grid import GridNode
from tests.running import dcmtk, until
from tests.workstation import ask, get, object_of, rows, seen, send

Make = Callable[..., GridNode]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return what makes and starts a node."""
    nodes: list[GridNode] = []

    def start(name: str) -> GridNode:
        node = GridNode(tmp_path / name, name)
        nodes.append(node)
        node.start(**node.env)
        return node

    yield start
    for node in nodes:
        if node.process is not None:
            node.stop()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def test_what_is_sent_to_alpha_is_found_at_beta_and_outlives_alphas_absence(make: Make, files: Path) -> None:
    alpha, beta = make("alpha"), make("beta")
    alpha.admit(beta)
    send(alpha, object_of(files, "1.2.1"), object_of(files, "1.2.1", "2"))
    took = seen(beta, [("1.2.1", "NEARLINE")], PatientID="alpha/4711")
    assert took < 10
    text = dcmtk(
        "findscu", "-v", "-S", "-aec", "BETA_GRID", "-k", "QueryRetrieveLevel=STUDY",
        "-k", "StudyInstanceUID", "-k", "NumberOfStudyRelatedSeries", "-k", "AccessionNumber=A1",
        "127.0.0.1", str(beta.port),
    )  # fmt: skip
    assert "1.2.1" in text
    assert "BETA_GRID" in text
    asked = {"AccessionNumber": "A1", "NumberOfStudyRelatedSeries": ""}
    until(lambda: [each.NumberOfStudyRelatedSeries for each in ask(beta, **asked)[0]] == [2])
    (row,), status = ask(beta, **asked)
    assert row.RetrieveAETitle == "BETA_GRID"
    assert (status.Status, "ErrorComment" in status) == (0, False)
    assert rows(ask(alpha)) == [("1.2.1", "ONLINE")]
    assert ask(beta, called="BETA")[0] == [], "its own archive has nothing"


def test_a_node_that_stops_keeps_its_rows_one_that_comes_back_catches_up_one_expelled_loses_them(
    make: Make, files: Path
) -> None:
    alpha, beta = make("alpha"), make("beta")
    alpha.admit(beta)
    beta.grant(alpha)
    send(beta, object_of(files, "1.2.1"))
    seen(alpha, [("1.2.1", "NEARLINE")])
    beta.kill()
    assert seen(alpha, [("1.2.1", "UNAVAILABLE")]) < 15
    started = time.monotonic()
    assert ask(alpha)[1].Status == 0
    assert time.monotonic() - started < 1, "nobody waits for who is down"
    alpha.kill()
    alpha.start(**alpha.env)
    assert rows(ask(alpha)) == [("1.2.1", "UNAVAILABLE")], "the mirror outlives kill -9"
    beta.start(**beta.env)
    send(beta, object_of(files, "1.2.2"))
    seen(alpha, [("1.2.1", "NEARLINE"), ("1.2.2", "NEARLINE")])
    until(lambda: [lag["behind"] for lag in alpha.peer("beta")["lag"]] == [0])
    until(lambda: [lag["behind"] for lag in beta.peer("alpha")["their_lag"]] == [0])
    assert (alpha.metric("peer_up"), alpha.metric("peer_changes_behind")) == ([1.0], [0.0])
    assert alpha.metric("peer_lag_seconds")[0] < 15
    # The two since its start may have been all so far.
    ask(alpha)
    assert sum(alpha.metric("grid_answers_total")) > 2
    alpha.say("revoke", "beta", "--yes")
    assert seen(alpha, []) < 5
    assert alpha.peer("beta")["state"] == "expelled"


def test_what_is_not_granted_is_not_seen_and_what_is_taken_back_is_seen_no_more(
    make: Make, files: Path
) -> None:
    alpha, beta = make("alpha"), make("beta")
    alpha.admit(beta, "none")
    alpha.say("grants", "share", "mammo", "Modality=MG")
    alpha.say("grants", "add", "beta", "mammo", "catalog", "find_live")
    send(
        alpha,
        object_of(files, "1.2.1"),
        object_of(files, "1.2.2", "1", Modality="MG"),
        object_of(files, "1.2.2", "2"),
    )
    seen(beta, [("1.2.2", "NEARLINE")])
    (row,), _ = ask(beta, NumberOfStudyRelatedSeries="")
    assert row.NumberOfStudyRelatedSeries == 1, "the series that is not granted is as if it were not there"
    (row,), _ = ask(beta, NumberOfStudyRelatedSeries="", ProtocolName="")
    assert row.NumberOfStudyRelatedSeries == 1
    alpha.say("grants", "remove", f"{beta.node_id}/mammo")
    seen(beta, [])


@pytest.mark.slow
def test_an_archive_of_its_own_is_shared_by_its_name(make: Make, files: Path) -> None:
    alpha, beta = make("alpha"), make("beta")
    alpha.admit(beta, "none")
    alpha.say("archives", "add", "ward", "--ae", "WARD")
    assert "no archive 'nowhere'" in alpha.say("grants", "share", "x", "--archive", "nowhere", code=1)
    assert "in the archive ward" in alpha.say("grants", "share", "ward", "--archive", "ward")
    alpha.say("grants", "add", "beta", "ward", "catalog", "find_live", "retrieve")
    send(alpha, object_of(files, "1.2.1"))
    dcmtk("storescu", "-aec", "WARD", "127.0.0.1", str(alpha.port), object_of(files, "1.2.2"))
    seen(beta, [("1.2.2", "NEARLINE")])
    got, final, _, _ = get(beta, "1.2.2", as_ae="WS")
    assert (final.Status, [data.StudyInstanceUID for data in got]) == (0, ["1.2.2"])
    until(lambda: rows(ask(beta, KVP="120")) == [("1.2.2", "NEARLINE")])


def test_a_question_outside_the_fixed_table_goes_to_the_owner_and_both_audits_tell_of_it(
    make: Make, files: Path
) -> None:
    alpha, beta = make("alpha"), make("beta")
    alpha.admit(beta)
    send(alpha, object_of(files, "1.2.1", KVP="100"), object_of(files, "1.2.2", KVP="120"))
    seen(beta, [("1.2.1", "NEARLINE"), ("1.2.2", "NEARLINE")])
    until(lambda: rows(ask(beta, KVP="100")) == [("1.2.1", "NEARLINE")])
    asked = until(
        lambda: [
            line["detail"] for line in beta.audit("find") if line["detail"].get("sites") == {"alpha": "live"}
        ]
    )[-1]
    calls = until(
        lambda: [
            line["detail"] for line in alpha.audit("grid") if line["detail"]["request"] == asked["request"]
        ]
    )
    assert [(call["call"], call["ae"], call["direction"]) for call in calls] == [
        ("/peerpacs.v1.Query/Find", "WS", "in")
    ]
    beta.cli("devices", "add", "WS", "--services", "find", "--on-incomplete", "warn")
    alpha.kill()
    until(lambda: not beta.is_connected(alpha))
    _, final = ask(beta, KVP="100")
    assert (final.Status, final.ErrorComment) == (0xB001, "none: alpha")
    _, final = ask(beta, as_ae="OTHER", KVP="100")
    assert final.Status == 0xA700
    assert ask(beta, as_ae="OTHER")[1].Status == 0


def _block(row: Dataset) -> dict[int, list[str]]:
    """Return the values of the private block by its elements; a workstation knows no VR of them."""
    found = row.private_block(0x0077, "PEERPACS 1.0")
    values = {element: found[element].value for element in range(1, 8) if element in found}
    told = {
        element: value.decode() if isinstance(value, bytes) else value for element, value in values.items()
    }
    return {
        element: [text.strip() for text in value.split("\\")] if isinstance(value, str) else value
        for element, value in told.items()
    }


def test_who_asks_for_the_private_block_is_told_who_holds_a_study_and_who_did_not_answer(
    make: Make, files: Path
) -> None:
    alpha, beta = make("alpha"), make("beta")
    alpha.admit(beta)
    send(alpha, object_of(files, "1.2.1"))
    seen(beta, [("1.2.1", "NEARLINE")])
    send(beta, object_of(files, "1.2.2"))
    private = Dataset()
    for element in range(1, 8):
        private.private_block(0x0077, "PEERPACS 1.0", create=True).add_new(element, "LO", "")
    (row,), final = ask(beta, private=private, StudyInstanceUID="1.2.1")
    told = _block(row)
    assert final.Status == 0
    assert (told[1], told[2], told[4]) == (["alpha"], ["alpha"], ["NO"])
    assert not told[5], "no site is missing"
    assert int(told[3][0]) < 15, "seconds since alpha's catalog was known to be right"
    (row,), _ = ask(beta, private=private, StudyInstanceUID="1.2.2")
    assert (_block(row)[2], _block(row)[3]) == (["BETA"], ["0"])
    assert (0x0077, 0x0010) not in ask(beta, StudyInstanceUID="1.2.1")[0][0], "nobody gets it unasked"

    beta.cli("devices", "add", "WS", "--services", "find", "--grid-details", "--stale-after", "0.5")
    alpha.kill()
    until(lambda: _block(ask(beta, StudyInstanceUID="1.2.1")[0][0])[5] == ["alpha"])
    assert ask(beta)[1].Status == 0xA700
    assert [value for value in beta.metric("grid_answers_incomplete_total") if value]


def test_two_hospitals_share_a_study_but_never_a_patient(make: Make, files: Path) -> None:
    alpha, beta = make("alpha"), make("beta")
    alpha.admit(beta)
    beta.grant(alpha)
    alpha.say("link", "alpha", "S", "BETA", "S")
    beta.say("link", "alpha", "S", "BETA", "S")
    send(alpha, *(object_of(files, "1.1", series, PatientID="S") for series in ("1", "2")))
    send(beta, *(object_of(files, "1.1", series, PatientID="S") for series in ("2", "3")))
    until(
        lambda: (
            [row.NumberOfStudyRelatedSeries for row in ask(alpha, NumberOfStudyRelatedSeries="")[0]] == [3]
        )
    )
    send(alpha, object_of(files, "1.2.1"))
    send(beta, object_of(files, "1.2.2"))
    seen(alpha, [("1.2.1", "ONLINE")], PatientID="4711")
    until(lambda: ("1.2.2", "NEARLINE") in rows(ask(alpha)))
    assert [row.StudyInstanceUID for row in ask(alpha, PatientID="4711")[0]] == ["1.2.1"]
    assert [row.PatientID for row in ask(alpha, StudyInstanceUID="1.2.2")[0]] == ["BETA/4711"]
    alpha.say("link", "alpha", "4711", "BETA", "4711")
    assert len(ask(alpha, PatientID="4711")[0]) == 2
    alpha.say("unlink", "alpha", "4711", "BETA", "4711")
    assert len(ask(alpha, PatientID="4711")[0]) == 1

    send(alpha, object_of(files, "1.3", PatientID="ONE"))
    send(beta, object_of(files, "1.3", "2", PatientID="TWO"))
    for node, other, id in ((alpha, "beta", "ONE"), (beta, "alpha", "TWO")):
        until(lambda node=node: node.told("peers")["conflicts"])  # type: ignore[misc]
        (row,), _ = ask(node, StudyInstanceUID="1.3", NumberOfStudyRelatedSeries="")
        assert (row.PatientID, row.NumberOfStudyRelatedSeries) == (id, 1)
        assert f"stated under this UID by {other}" in node.say("peers")
        until(lambda node=node: any("1.3" in line["detail"]["what"] for line in node.audit("alarm")))  # type: ignore[misc]


@pytest.mark.slow
def test_a_site_that_falls_silent_costs_no_more_than_the_deadline_and_only_who_must_ask_it(
    make: Make, files: Path
) -> None:
    alpha, beta = make("alpha"), make("beta")
    alpha.admit(beta)
    send(alpha, object_of(files, "1.2.1"))
    seen(beta, [("1.2.1", "NEARLINE")])
    assert alpha.process is not None
    alpha.process.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        answers, final = ask(beta, KVP="100")
        assert (answers, final.Status, final.ErrorComment) == ([], 0xA700, "none: alpha")
        assert time.monotonic() - started < 2.5
        started = time.monotonic()
        assert (len(ask(beta)[0]), ask(beta)[1].Status) == (1, 0)
        assert time.monotonic() - started < 1
        assert seen(beta, [("1.2.1", "UNAVAILABLE")], 20) < 16
    finally:
        alpha.process.send_signal(signal.SIGCONT)
    seen(beta, [("1.2.1", "NEARLINE")])


@pytest.mark.slow
def test_a_peer_with_hashes_finds_what_it_can_name_and_nothing_else(make: Make, files: Path) -> None:
    alpha, beta = make("alpha"), make("beta")
    alpha.admit(beta, "none")
    alpha.say("grants", "share", "hashed", "--view", "exact")
    alpha.say("grants", "add", "beta", "hashed", "catalog", "find_live")
    send(alpha, object_of(files, "1.2.1"))
    for key, value in (("AccessionNumber", "A1"), ("PatientID", "alpha/4711"), ("StudyInstanceUID", "1.2.1")):
        seen(beta, [("1.2.1", "NEARLINE")], **{key: value})
    before = len(alpha.audit("grid"))
    found, final = ask(beta, AccessionNumber="A2")
    assert (found, final.Status, len(alpha.audit("grid"))) == ([], 0, before), (
        "the hashes say no by themselves"
    )
    found, final = ask(beta, PatientName="NOV*")
    assert (found, final.Status, final.ErrorComment) == ([], 0xA700, "none: alpha")
    mirror = b"".join(path.read_bytes() for path in (beta.home / "grid").rglob("data.mdb"))
    assert b"NOVAK" not in mirror
