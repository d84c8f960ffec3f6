"""Hospitals as processes, one grid: what lies at one is retrieved at another, or fails with a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from pydicom import dcmread

from sim.ports import free_port
from tests.grid import GridNode
from tests.running import until
from tests.workstation import get, is_seen, kept_at


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GridNode, GridNode]]:
    """Alpha and beta, connected."""
    home = tmp_path_factory.mktemp("grid")
    nodes = GridNode(home / "alpha", "alpha"), GridNode(home / "beta", "beta")
    for node in nodes:
        node.start(**node.env)
    nodes[0].admit(nodes[1])
    nodes[1].cli("devices", "add", "ALPHAWS", "--services", "echo,find,move,get", "--called", "BETA_GRID",
                 "--issuer", "PHANTOMS", "--port", str(free_port()), "--address", "127.0.0.1")  # fmt: skip
    yield nodes
    for node in nodes:
        if node.process is not None:
            node.stop()


def requests(node: GridNode, uid: str = "") -> set[str]:
    """Return the ids of the requests that a node's audit tells of, or of those for objects of a study."""
    found = set()
    for path in (node.home / "audit").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if not uid or (row["event"] == "objects" and uid in row["detail"]["StudyInstanceUID"]):
                found.add(row["detail"].get("request", ""))
    return found


def test_a_study_at_alpha_is_got_at_beta_with_the_same_bytes_and_again_without_alpha(
    pair: tuple[GridNode, GridNode], tmp_path: Path
) -> None:
    alpha, beta = pair
    uid, paths = kept_at(alpha, tmp_path / "sent", 21, 5)
    other, _ = kept_at(alpha, tmp_path / "other", 22, 3)
    until(lambda: is_seen(beta, uid) and is_seen(beta, other))
    got, status, _, _ = get(beta, uid)
    assert status.Status == 0
    at_alpha = {sha256(data.as_sent).digest() for data in get(alpha, uid, "WS", "ALPHA")[0]}
    assert len(at_alpha) == 5
    sent = {path.stem: dcmread(path) for path in paths}
    assert {sha256(data.as_sent).digest() for data in got} == at_alpha
    foreign = get(beta, uid, "WS")[0][0]
    assert foreign.PatientID == f"PHANTOMS/{next(iter(sent.values())).PatientID}"
    assert foreign.IssuerOfPatientID == "PHANTOMS"
    assert foreign.PixelData == sent[foreign.SOPInstanceUID].PixelData
    until(lambda: requests(alpha, uid) and requests(alpha, uid) <= requests(beta))

    alpha.kill()
    until(lambda: is_seen(beta, other, "UNAVAILABLE"))
    again, status, _, _ = get(beta, uid)
    assert (len(again), status.Status) == (5, 0), "the copies serve"
    got, status, identifier, took = get(beta, other)
    assert (got, status.Status, took < 1) == ([], 0xA702, True)
    assert status.NumberOfFailedSuboperations == 3
    assert status.ErrorComment == "Held by alpha, unreachable; UIDs were not listed here."
    assert not identifier.FailedSOPInstanceUIDList
    alpha.start(**alpha.env)
    until(lambda: is_seen(beta, other))


def test_an_owner_that_dies_in_the_middle_leaves_a_list_of_what_failed(
    pair: tuple[GridNode, GridNode], tmp_path: Path
) -> None:
    alpha, beta = pair
    uid, paths = kept_at(alpha, tmp_path / "sent", 23, 120, 400_000)
    # Else all of it may be at beta before the workstation has taken five.
    alpha.say("grants", "add", "beta", "everything", "catalog", "find_live", "retrieve", "--rate", "8000000")
    until(lambda: is_seen(beta, uid))

    def kill(count: int) -> None:
        if count == 5:
            alpha.kill()

    got, status, identifier, took = get(beta, uid, on_object=kill)
    assert status.Status == 0xB000
    assert identifier is not None
    failed = set(identifier.FailedSOPInstanceUIDList)
    assert failed | {data.SOPInstanceUID for data in got} == {path.stem for path in paths}
    assert failed
    assert took < 15
    alpha.start(**alpha.env)
    alpha.grant(beta)
    until(lambda: is_seen(beta, uid))
    assert get(beta, uid)[1].Status == 0


def test_what_alpha_erases_is_erased_at_beta_too_and_receipted(
    pair: tuple[GridNode, GridNode], tmp_path: Path
) -> None:
    alpha, beta = pair
    uid, _ = kept_at(alpha, tmp_path / "sent", 27, 3)
    until(lambda: is_seen(beta, uid))
    assert get(beta, uid)[1].Status == 0
    made = alpha.json("erase", uid, "--reason", "a test", "--yes")

    def receipts() -> list[str]:
        rows = {row["decision"]: row for row in alpha.json("deletions")["orders"]}
        found = rows[made["decision"]].get("receipts", [])
        return [row["node"] for row in found if row["done"]]

    until(lambda: receipts() == ["beta"])
    assert not is_seen(beta, uid)
    assert get(beta, uid)[0] == []
    until(lambda: [line["detail"]["StudyInstanceUID"] for line in beta.audit("erasure")] == [uid])


def test_an_expelled_peers_copies_go(pair: tuple[GridNode, GridNode], tmp_path: Path) -> None:
    alpha, beta = pair
    uid, _ = kept_at(beta, tmp_path / "sent", 24, 4)
    beta.say("grants", "add", "alpha", "everything", "catalog", "retrieve")
    until(lambda: is_seen(alpha, uid))
    assert get(alpha, uid, "WS")[1].Status == 0
    copies = alpha.home / "grid" / "cache"
    until(lambda: len([path for path in copies.glob("*/*/*") if path.is_file()]) == 4)
    alpha.say("revoke", "beta", "--yes")
    until(lambda: not [path for path in copies.glob("*/*/*") if path.is_file()])
