"""Disks of nodes with copies are damaged or emptied, or a keeper lies: what was acknowledged stays."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from node.control import ask
from tests.federation.failures.test_copy_faults import FAULTS
from tests.grid import GridNode
from tests.node.copies import damage, is_done, is_well, keeping_pair, kept, sent
from tests.running import dcmtk, until

pytestmark = pytest.mark.slow

_seeds = count(300)
Pair = tuple[GridNode, GridNode]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Alpha, and beta that keeps copies of all its studies."""
    yield from keeping_pair(tmp_path_factory.mktemp("grid"))


def corrected(alpha: GridNode, folder: Path) -> str:
    """Store a study that a person corrects; wait for its copies, and return its UID."""
    uid, _ = sent(alpha, folder, next(_seeds), 4, 200_000)
    alpha.say("correct", uid, "PatientName=MENDED^ANNA", "--reason", "test")
    until(lambda: is_done(alpha), 60)
    return uid


def name_of(alpha: GridNode, uid: str) -> str:
    """Return what a node answers when it is asked for the patient of a study."""
    asked = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid}", "-k", "PatientName")
    return dcmtk("findscu", "-S", "-aec", "ALPHA", *asked, "127.0.0.1", str(alpha.port))


def test_damaged_databases_of_copies_are_made_again_at_both_ends(pair: Pair, tmp_path: Path) -> None:
    alpha, beta = pair
    corrected(alpha, tmp_path / "sent")
    had = kept(beta)
    for node, name in ((alpha, "ledger"), (beta, "rows")):
        node.kill()
        damage(node.home / "copies" / name)
        node.start(**node.env)
        assert f"{name}.damaged-" in node.log()
    assert kept(beta) == had
    is_well(alpha, beta, tmp_path / "copies")


def test_a_damaged_catalog_is_not_opened_and_made_again_and_no_copy_goes(pair: Pair, tmp_path: Path) -> None:
    alpha, beta = pair
    uid = corrected(alpha, tmp_path / "sent")
    had = kept(beta)
    alpha.kill()
    damage(alpha.home / "archives" / "main" / "catalog")
    with pytest.raises(AssertionError, match="peerpacs rebuild"):
        alpha.start(**alpha.env)
    alpha.kill()
    alpha.cli("rebuild", "--yes")
    alpha.start(**alpha.env)
    assert "MENDED" in name_of(alpha, uid)
    is_well(alpha, beta, tmp_path / "copies")
    assert kept(beta) == had


def test_a_node_that_has_nothing_left_but_identity_and_state_gets_its_studies_back(
    pair: Pair, tmp_path: Path
) -> None:
    alpha, beta = pair
    uid = corrected(alpha, tmp_path / "sent")
    had = ask(alpha.home, "status")["archive"]
    assert alpha.stop() == 0
    for folder in ("archives", "copies", "grid", "rejected", "transfers"):
        shutil.rmtree(alpha.home / folder)
    alpha.start(**alpha.env)
    until(lambda: ask(alpha.home, "status")["archive"] == had, 90)
    assert "MENDED" in name_of(alpha, uid)
    is_well(alpha, beta, tmp_path / "copies")


def test_a_keeper_that_says_it_kept_what_it_did_not_is_found_out(pair: Pair, tmp_path: Path) -> None:
    alpha, beta = pair
    beta.stop()
    beta.start(**beta.env, PEERPACS_FAULT="a keeper lies", PYTHONPATH=str(FAULTS))
    sent(alpha, tmp_path / "sent", next(_seeds), 4, 200_000)
    until(lambda: is_done(alpha), 60)
    assert kept(beta) < ask(alpha.home, "status")["archive"]["instances"], "it is believed for now"
    beta.stop()
    beta.start(**beta.env)
    until(lambda: kept(beta) == ask(alpha.home, "status")["archive"]["instances"], 60)
    is_well(alpha, beta, tmp_path / "copies")


def test_a_node_that_has_nothing_left_but_its_identity_gets_its_studies_back(tmp_path: Path) -> None:
    with contextmanager(keeping_pair)(tmp_path / "grid") as (alpha, beta):
        uid = corrected(alpha, tmp_path / "sent")
        had = ask(alpha.home, "status")["archive"]
        member = beta.node_id.encode()
        until(lambda: member in (alpha.home / "identity" / "grid.rows").read_bytes())
        assert alpha.stop() == 0
        left = {alpha.home / name for name in ("identity", "peerpacs.toml", "log.txt")}
        for path in set(alpha.home.iterdir()) - left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        alpha.start(**alpha.env)
        until(lambda: alpha.is_connected(beta))
        until(lambda: ask(alpha.home, "status")["archive"] == had)
        # Who may ask it was a row of the state, so the node asks itself.
        found = alpha.cli("find", "-k", f"StudyInstanceUID={uid}", "-k", "PatientName", "--json")
        assert "MENDED" in found
        assert kept(beta) == had["instances"]
        # How many copies there are to be was one too; until a person says it, none goes.
        alpha.say("copies", "add", "all", "--copies", "2")
        is_well(alpha, beta, tmp_path / "copies")


def test_a_node_whose_state_is_gone_works_on_alone_and_says_how_it_joins_again(tmp_path: Path) -> None:
    node = GridNode(tmp_path / "solo", "solo")
    node.start(**node.env)
    try:
        node.told("invite", "--site", "OTHER", "--template", "replica-peer")
        keepsake = node.home / "identity" / "grid.rows"
        until(keepsake.exists)
        node.stop()
        keepsake.unlink()
        shutil.rmtree(node.home / "state")
        node.start(**node.env)
        assert "peerpacs join" in node.log()
    finally:
        node.stop()
