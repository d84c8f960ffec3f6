"""Rules on a grid of two: earlier studies are here before anybody asks, and what is for a peer goes there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from sim.patients import Patient
from sim.phantoms import instances, study
from tests.grid import GridNode
from tests.running import dcmtk, until
from tests.workstation import is_seen

pytestmark = pytest.mark.slow
ROUTE = """
[[route]]
name = "to-beta"
match = ["Modality=US"]
to = "peer:beta"
"""
RULES = """
[[prefetch]]
name = "ct"
match = ["Modality=CT"]
most = 2
modalities = ["same"]
years = 10
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GridNode, GridNode]]:
    """Alpha keeps what is old; beta fetches it by its rules."""
    home = tmp_path_factory.mktemp("grid")
    nodes = GridNode(home / "alpha", "alpha"), GridNode(home / "beta", "beta")
    route = home / "alpha" / "peerpacs.toml"
    route.write_text(route.read_text() + ROUTE)
    path = home / "beta" / "peerpacs.toml"
    path.write_text(path.read_text() + RULES)
    for node in nodes:
        node.start(**node.env)
    nodes[0].admit(nodes[1])
    yield nodes
    for node in nodes:
        node.stop()


def stored(
    node: GridNode, folder: Path, seed: int, number: int, patient: Patient, **described: object
) -> str:
    """Store a small study of a patient; return its UID."""
    folder.mkdir(parents=True)
    made = study(seed, number, instances=2, size=4_000, patient=patient, **described)
    for instance in instances(made):
        (folder / instance.SOPInstanceUID).write_bytes(instance.part10())
    paths = sorted(map(str, folder.iterdir()))
    dcmtk("storescu", "-xe", "-aec", node.ae_title, "127.0.0.1", str(node.port), *paths)
    return str(dcmread(paths[0]).StudyInstanceUID)


def copies(node: GridNode) -> int:
    """Return how many copies of peers' objects a node has."""
    return len(list((node.home / "grid" / "cache").glob("*/*/*")))


def test_earlier_studies_come_when_a_new_one_arrives_by_issuer_number_modality_and_age(
    pair: tuple[GridNode, GridNode], tmp_path: Path
) -> None:
    alpha, beta = pair
    person = study(71, 0).patient
    # The same number, given by another hospital.
    stranger = replace(person, IssuerOfPatientID="ELSEWHERE")
    old = {
        year: stored(alpha, tmp_path / str(year), 71, year, person, modality="CT", StudyDate=f"{year}0101")
        for year in (1999, 2019, 2020, 2021)
    }
    other = stored(alpha, tmp_path / "mr", 71, 1, person, modality="MR", StudyDate="20220101")
    foreign = stored(alpha, tmp_path / "foreign", 71, 2, stranger, modality="CT", StudyDate="20220101")
    for uid in (*old.values(), other, foreign):
        until(lambda uid=uid: is_seen(beta, uid))
    stored(beta, tmp_path / "new", 71, 3, person, modality="CT", StudyDate="20230101")
    until(lambda: copies(beta) >= 4)
    until(lambda: {t["standing"] for t in beta.json("transfers", "list", "--all")} == {"done"})
    done = beta.json("transfers", "list", "--all")
    assert {each["StudyInstanceUID"] for each in done} == {old[2021], old[2020]}
    assert {(each["kind"], each["reason"], each["done"]) for each in done} == {("recall", "prefetch ct", 2)}
    assert copies(beta) == 4


def test_a_patient_who_is_expected_is_fetched_by_a_command(
    pair: tuple[GridNode, GridNode], tmp_path: Path
) -> None:
    alpha, beta = pair
    person = study(72, 0).patient
    uid = stored(alpha, tmp_path / "old", 72, 0, person, modality="MR")
    until(lambda: is_seen(beta, uid))
    before = copies(beta)
    assert beta.told("prefetch", person.PatientID) == []
    [fetched] = beta.told("prefetch", person.PatientID, "--issuer", person.IssuerOfPatientID)
    assert fetched["StudyInstanceUID"] == uid
    until(lambda: copies(beta) == before + 2)


def test_what_is_meant_for_a_peer_is_sent_to_its_ae_title(
    pair: tuple[GridNode, GridNode], tmp_path: Path
) -> None:
    alpha, beta = pair
    quick = ("--services", "echo,store", "--complete-after", "1")
    alpha.cli("devices", "add", "STORESCU", *quick)
    uid = stored(alpha, tmp_path / "us", 73, 0, study(73, 0).patient, modality="US")
    waits = until(lambda: [each for each in alpha.told("transfers") if each["why"]], 90)
    assert waits[0]["why"] == "BETA is not in the device book with a port."
    alpha.cli("devices", "add", "BETA", "--address", "127.0.0.1", "--port", str(beta.port))
    alpha.say("transfers", "raise", waits[0]["id"])
    until(lambda: beta.json("find", "-k", f"StudyInstanceUID={uid}"), 30)
    checked = alpha.told("routes", "check", "to-beta", uid)
    assert (checked["asked"], checked["lacking"]) == (True, 0)
