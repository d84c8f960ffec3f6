"""Two nodes as processes, and what two admins type: invite, join, approve, peers, grants, revoke."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.grid import GridNode


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[GridNode, GridNode]]:
    """Two running nodes in no grid."""
    nodes = GridNode(tmp_path / "alpha", "alpha"), GridNode(tmp_path / "beta", "beta")
    for node in nodes:
        node.start(**node.env)
    yield nodes
    for node in nodes:
        node.stop()


def _until(node: GridNode, name: str, state: str) -> float:
    started = time.monotonic()
    while node.peer(name)["state"] != state:
        assert time.monotonic() - started < 20, node.log()[-2000:]
    return time.monotonic() - started


def test_two_admins_make_a_grid_and_take_it_apart(pair: tuple[GridNode, GridNode]) -> None:
    alpha, beta = pair
    assert "in no grid" in alpha.say("peers", code=1)
    said = alpha.say("invite", "--site", "HOSP-B", "--grid", "CZ-MED")
    assert "founded the grid 'CZ-MED'" in said
    [ticket] = re.findall(r"pp1-\S+", said)

    joining = beta.say("join", ticket, "--no-wait", code=3)
    assert "This is the grid 'CZ-MED' at alpha" in joining
    [words] = re.findall(r"phone:\s+(.*)", joining)
    waiting = alpha.say("approve")
    assert words in waiting
    assert len(words.split()) == 6
    [request] = re.findall(r"approve (\w+)", waiting)
    assert "beta of HOSP-B is in the grid" in alpha.say("approve", request)
    assert "alpha accepted" in beta.say("join")

    _until(alpha, "beta", "connected")
    _until(beta, "alpha", "connected")
    assert alpha.peer("beta")["may"] == [f"{op} on everything" for op in ("catalog", "find_live", "retrieve")]
    assert beta.peer("alpha")["may"] == [], "what alpha grants says nothing about beta"
    beta.say("grants", "share", "mammo", "Modality=MG")
    beta.say("grants", "add", "site:alpha", "mammo", "catalog", "--hours", "18-6")
    assert beta.peer("alpha")["may"] == ["catalog on mammo"]
    assert "mammo" in beta.say("grants")
    assert "in that grid already" in beta.say("join", ticket, code=2)

    alpha.say("revoke", "beta", "--yes")
    _until(beta, "alpha", "disconnected")
    assert alpha.peer("beta")["state"] == "expelled"
    audit = "".join(path.read_text() for path in (alpha.home / "audit").glob("*.jsonl"))
    assert "node expelled from the grid" in audit


@pytest.mark.slow
def test_a_grid_survives_the_restart_of_its_nodes(pair: tuple[GridNode, GridNode]) -> None:
    alpha, beta = pair
    made = alpha.told("invite", "--site", "HOSP-B")
    asked = beta.told("join", made["ticket"], "--no-wait", code=3)
    beta.kill()
    beta.start(**beta.env)
    alpha.say("approve", asked["request"])
    assert beta.told("join")["is_member"]
    _until(alpha, "beta", "connected")
    alpha.kill()
    _until(beta, "alpha", "disconnected")
    alpha.start(**alpha.env)
    _until(beta, "alpha", "connected")


@pytest.mark.slow
def test_a_node_that_joined_by_half_and_only_dials_out_is_told_how_to_go_on(tmp_path: Path) -> None:
    alpha, beta = GridNode(tmp_path / "alpha", "alpha"), GridNode(tmp_path / "beta", "beta")
    beta.env["PEERPACS__GRID__IS_DIAL_ONLY"] = "true"
    try:
        for node in (alpha, beta):
            node.start(**node.env)
        made = alpha.told("invite", "--site", "HOSP-B")
        asked = beta.told("join", made["ticket"], "--no-wait", code=3)
        alpha.say("approve", asked["request"])
        said = beta.say("peers", code=1)
        assert "it asked alpha" in said
        assert "peerpacs join" in said
        assert "asked alpha to join" in beta.say("status")
        assert "There: peerpacs join" in alpha.say("peers", "beta", code=1)
        assert beta.told("join")["is_member"]
        _until(alpha, "beta", "connected")
    finally:
        for node in (alpha, beta):
            node.stop()


def test_commands_say_what_is_wrong_and_what_to_do(pair: tuple[GridNode, GridNode]) -> None:
    alpha, beta = pair
    assert "peerpacs invite" in beta.say("join", "nonsense", code=2)
    assert "Nobody" not in beta.say("approve", code=1)
    ticket = alpha.told("invite", "--site", "B")["ticket"]
    assert "checksum" in beta.say("join", ticket.replace("127.0.0.1", "127.0.0.2"), code=2)
    asked = beta.told("join", ticket, "--no-wait", code=3)
    alpha.say("approve", asked["request"], "--deny", "--reason", "other words")
    assert "other words" in beta.say("join", code=1)
    assert "No request of this node waits" in beta.say("join", code=1)
    assert "Templates are" in alpha.say("invite", "--site", "B", "--template", "admin", code=2)
    assert "needs more" in _granted_too_much(alpha)
    assert "full, exact" in alpha.say("grants", "share", "vault", "--view", "bogus", code=2)
    assert "catalog, find_live" in alpha.say("grants", "add", "site:B", "vault", "bogus", code=2)


def _granted_too_much(alpha: GridNode) -> str:
    alpha.say("grants", "share", "vault", "--view", "minimal")
    return alpha.say("grants", "add", "site:B", "vault", "retrieve", code=2)
