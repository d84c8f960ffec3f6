"""Owner or keeper of copies ends at the worst moment: afterwards everything is there and known to both."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from catalog.log_reading import LogReading
from catalog.truth import Environment
from federation.mirror import Mirror
from federation.owners import Owner
from node.control import ask
from node.copies.store import CopyStore
from node.storage import Kept
from node.storage.replay import items
from tests.federation.grids import known
from tests.grid import GridNode
from tests.node.copies import hospitals, is_done, kept, sent
from tests.node.keepers import SMALL
from tests.running import until

pytestmark = pytest.mark.slow

FAULTS = Path(__file__).parents[2] / "faults"
_seeds = count(100)
Pair = tuple[GridNode, GridNode]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Alpha, and beta that keeps copies of all its studies."""
    home = tmp_path_factory.mktemp("grid")
    alpha, beta = nodes = hospitals(home, "alpha", "beta", PEERPACS__LIFE__UNDO_DAYS="0")
    alpha.say("copies", "add", "all", "--copies", "2")
    yield alpha, beta
    for node in nodes:
        if node.process is not None:
            node.stop()


def will_end(node: GridNode, place: str) -> None:
    """Start a node anew that ends by SIGKILL as soon as it comes to a place of its code."""
    node.stop()
    node.start(**node.env, PEERPACS_FAULT=place, PYTHONPATH=str(FAULTS))


def has_ended(node: GridNode) -> None:
    """Wait until it did, and start it as it was."""
    process = node.process
    assert process is not None
    until(lambda: process.poll() is not None, 60)
    assert process.returncode == -signal.SIGKILL, node.log()[-2000:]
    node.kill()
    node.start(**node.env)


def held(node: GridNode) -> set[bytes]:
    """Return the SHA-256 of everything whole that lies in a node's own archive."""
    paths = (node.home / "archives" / "main" / "objects").glob("??/*.tar")
    found = (item for path in paths for item in items(path, 0))
    return {item.holding.sha256 for item in found if isinstance(item, Kept)}


def proved(node: GridNode, owner: GridNode, folder: Path) -> set[bytes]:
    """Return the SHA-256 of everything whole that a node keeps for another one."""
    shutil.copytree(node.home / "copies", folder)
    store, name = CopyStore(folder, time.time, SMALL), Owner(owner.node_id, "main").name
    rows = [(study, row.holding.sha256) for study, rows in store.listing(name) for row in rows]
    whole = {sha256 for study, sha256 in rows if store.prove(name, study, sha256, b"")}
    store.close()
    return whole


def are_equal(owner: GridNode, reader: GridNode) -> bool:
    """Say whether a reader has exactly the rows of the owner's catalog, by the digests of both."""
    mirror = Mirror(reader.home / "grid" / "mirror", clock=time.time, is_read_only=True)
    catalog = Environment(owner.home / "archives" / "main" / "catalog", is_read_only=True)
    name = Owner(owner.node_id, "main").name
    try:
        [(number, share)] = [(number, at[1]) for number, at in mirror.sources().items() if at[0] == name]
        with LogReading(catalog.reading, share) as log:
            return known(mirror.digests(number)) == known(log.digests())
    finally:
        mirror.close()
        catalog.close()


def is_well(alpha: GridNode, beta: GridNode, folder: Path) -> None:
    """Make sure that every copy is there and whole, and that both know the same."""
    until(lambda: is_done(alpha), 90)
    until(lambda: kept(beta) == ask(alpha.home, "status")["archive"]["instances"], 30)
    until(lambda: are_equal(alpha, beta), 30)
    assert proved(beta, alpha, folder) == held(alpha)
    alpha.cli("verify")


@pytest.mark.parametrize(
    "place",
    [
        "half of an object is written",
        "half of an object is written:2",
        "an object is written, not synced:2",
        "objects are on the disk without rows",
        "rows are there and nobody was told",
        "a piece of a large object came:3",
        "what was said of a study is kept",
    ],
)
def test_a_keeper_that_ends_anywhere_has_every_copy_in_the_end(
    pair: Pair, tmp_path: Path, place: str
) -> None:
    alpha, beta = pair
    will_end(beta, place)
    sent(alpha, tmp_path / "sent", next(_seeds), 4, 1_500_000)
    has_ended(beta)
    is_well(alpha, beta, tmp_path / "copies")


@pytest.mark.parametrize(
    "place",
    [
        "it is decided who is to have a study",
        "a receipt came and is not written",
        "a receipt is written",
    ],
)
def test_an_owner_that_ends_anywhere_has_every_copy_made_in_the_end(
    pair: Pair, tmp_path: Path, place: str
) -> None:
    alpha, beta = pair
    seed = next(_seeds)
    will_end(alpha, place)
    sent(alpha, tmp_path / "sent", seed, 3, 200_000, exit_code=None)
    has_ended(alpha)
    # What was not acknowledged is sent again, as every device does.
    sent(alpha, tmp_path / "again", seed, 3, 200_000)
    is_well(alpha, beta, tmp_path / "copies")


@pytest.mark.parametrize(
    ("is_owner", "place"),
    [(True, "receipts are taken back before copies go"), (False, "bytes of copies go before their rows")],
)
def test_copies_of_what_is_deleted_go_though_one_of_both_ends_meanwhile(
    pair: Pair, tmp_path: Path, is_owner: bool, place: str
) -> None:
    alpha, beta = pair
    uid, _ = sent(alpha, tmp_path / "sent", next(_seeds), 3, 200_000)
    until(lambda: is_done(alpha), 60)
    ends = alpha if is_owner else beta
    will_end(ends, place)
    until(lambda: alpha.is_connected(beta), 60)
    alpha.say("delete", uid, "--reason", "test", "--yes")
    has_ended(ends)
    is_well(alpha, beta, tmp_path / "copies")
