"""A node is lost for good: once an admin says so, nobody waits for it any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.grid import GridNode
from tests.node.copies import KEEPS, hospitals, kept, sent, wait_until_met
from tests.running import until

pytestmark = pytest.mark.slow


def test_who_is_revoked_as_lost_is_replaced_at_once_and_owes_nothing(tmp_path: Path) -> None:
    nodes = hospitals(tmp_path / "grid", "alpha", "beta", "gamma", "delta")
    alpha, beta, gamma, delta = nodes
    try:
        for other in (gamma, delta):
            beta.grant(other, *KEEPS)
        beta.say("copies", "add", "all", "--copies", "2", "--prefer", "GAMMA")
        erased, _ = sent(beta, tmp_path / "a", 41, 3)
        sent(beta, tmp_path / "b", 42, 4)
        wait_until_met(beta, 2)
        assert (kept(gamma), kept(delta)) == (7, 0)
        gamma.kill()
        until(lambda: not beta.is_connected(gamma))
        beta.told("erase", erased, "--reason", "a test", "--yes")
        until(lambda: owing(beta) == {"gamma"})
        assert kept(delta) == 0, "it may come back, for hours"
        alpha.say("revoke", "gamma", "--yes")
        until(lambda: beta.peer("gamma")["state"] == delta.peer("gamma")["state"] == "expelled")
        until(lambda: kept(delta) == 4)
        wait_until_met(beta, 1)
        assert owing(beta) == set()
        assert "gamma: it gave no receipt" in beta.say("deletions")
    finally:
        for node in nodes:
            if node.process is not None:
                node.stop()


def owing(node: GridNode) -> set[str]:
    """Return who owes a receipt for what was erased last."""
    return set(node.told("deletions")["orders"][-1]["owing"])
