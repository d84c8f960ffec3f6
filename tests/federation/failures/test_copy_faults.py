"""Owner or keeper of copies ends at the worst moment: afterwards everything is there and known to both."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.grid import GridNode
from tests.node.copies import is_done, is_well, keeping_pair, sent
from tests.running import until

pytestmark = pytest.mark.slow

FAULTS = Path(__file__).parents[2] / "faults"
_seeds = count(100)
Pair = tuple[GridNode, GridNode]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Alpha, and beta that keeps copies of all its studies."""
    yield from keeping_pair(tmp_path_factory.mktemp("grid"), PEERPACS__LIFE__UNDO_DAYS="0")


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
