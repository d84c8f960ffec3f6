"""Nodes that come back: on a new machine under the old id, and after weeks without power."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.clocks import by_clock
from tests.grid import GridNode
from tests.running import until

DAY = 86400.0


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[list[GridNode]]:
    """Alpha and beta, one grid; whoever is put into the list is stopped in the end."""
    nodes = [GridNode(tmp_path / name, name) for name in ("alpha", "beta")]
    for node in nodes:
        node.start(**node.env)
    nodes[0].admit(nodes[1])
    nodes[1].grant(nodes[0])
    yield nodes
    for node in nodes:
        if node.process is not None:
            node.stop()


def test_a_rebuilt_machine_takes_its_old_identity_and_the_old_certificate_counts_no_more(
    grid: list[GridNode], tmp_path: Path
) -> None:
    alpha, old = grid
    node_id = old.node_id
    alpha.say("grants", "add", "beta", "everything", "catalog")
    old.kill()
    new = GridNode(tmp_path / "new", "beta", "BETA", "--node-id", node_id)
    new.start(**new.env)
    grid.append(new)
    stranger = GridNode(tmp_path / "other", "other")

    ticket = alpha.told("invite", "--site", "BETA")["ticket"]
    assert f"invite --replace {node_id}" in new.say("join", ticket, code=1)
    ticket = alpha.told("invite", "--site", "BETA", "--replace", node_id)["ticket"]
    assert "init --node-id" in stranger.say("join", ticket, code=1)
    asked = new.told("join", ticket, "--no-wait", code=3)
    waiting = alpha.say("approve")
    assert "takes the place of an old node" in waiting
    assert " ".join(asked["words"]) in waiting
    alpha.say("approve", asked["request"])
    assert new.told("join")["is_member"]
    until(lambda: new.is_connected(alpha) and alpha.is_connected(new))
    assert new.node_id == node_id
    assert alpha.peer("beta")["may"] == ["catalog on everything"], "what was granted goes on to count"

    old.start(**old.env)
    until(lambda: "expelled" in old.answer("peers", "alpha")[1])
    assert alpha.is_connected(new)


@pytest.mark.slow
@pytest.mark.parametrize("days", [40, 50])
def test_a_node_that_was_off_for_weeks_returns_by_a_persons_word(grid: list[GridNode], days: int) -> None:
    """Its certificate of 30 days ended 10 days ago: it may ask; 20 days ago: only with a ticket."""
    alpha, beta = grid
    node_id = beta.node_id
    for node in grid:
        node.stop()
    then = by_clock(f"+{days}d")
    alpha.start(**alpha.env, **then)
    beta.start(**beta.env, **then)
    until(lambda: "certificate" in beta.say("status"))
    assert "peerpacs join" in beta.say("status")
    if days == 50:
        assert f"invite --replace {node_id}" in beta.say("join", code=1)
        ticket = alpha.told("invite", "--site", "BETA", "--replace", node_id)["ticket"]
        asked = beta.told("join", ticket, "--no-wait", code=3)
    else:
        asked = beta.told("join", "--no-wait", code=3)
        assert "comes back" in alpha.say("approve")
    alpha.say("approve", asked["request"])
    assert beta.told("join")["is_member"]
    until(lambda: beta.is_connected(alpha) and alpha.is_connected(beta), 60)
    assert beta.node_id == node_id
    assert alpha.peer("beta")["certificate_ends"] > time.time() + (days + 29) * DAY
    assert alpha.peer("beta")["may"]
