"""A device book that the grid publishes: it reaches members and joiners, and a node's own entries win."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.grid import GridNode
from tests.running import until


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[tuple[GridNode, ...]]:
    """Three running nodes, of which alpha and beta are one grid."""
    nodes = tuple(GridNode(tmp_path / name, name) for name in ("alpha", "beta", "gamma"))
    for node in nodes:
        node.start(**node.env)
    nodes[0].admit(nodes[1])
    yield nodes
    for node in nodes:
        node.stop()


def _fates(node: GridNode, code: int = 3) -> dict[str, str]:
    return {each["name"]: each["fate"] for each in node.told("book", "diff", code=code)["differences"]}


def _devices(node: GridNode) -> dict[str, dict[str, Any]]:
    return {row["ae_title"]: row for row in node.told("devices", "list")}


def test_a_published_book_reaches_members_and_joiners_and_own_entries_win(trio: tuple[GridNode, ...]) -> None:
    alpha, beta, gamma = trio
    for title, address in (("CT3", "10.1.7.3"), ("WS1", "10.1.7.9")):
        alpha.say("devices", "add", title, "--address", address, "--port", "104", "--services", "echo,store")
    beta.say("devices", "add", "WS1", "--address", "10.2.2.2", "--services", "find")
    assert "no authority" in beta.say("book", "publish", "WS1", code=2)
    assert "one node trusts" in alpha.say("book", "publish", "*", code=2)
    assert "own business" in alpha.say("book", "publish", "--set", "dicom.port=104", code=2)
    assert "from 0.1 to" in alpha.say("book", "publish", "--set", "dicom.idle_timeout=0", code=2)
    alpha.say("book", "publish", "CT3", "WS1", "--set", "dicom.idle_timeout=120")

    until(lambda: beta.told("book")["version"] == 1)
    assert "See: peerpacs book diff" in beta.say("status")
    said = beta.say("book", "diff", code=3)
    assert "published  ae_title = " in said
    assert "stale_after" not in said, "what any new device has is not told"
    assert "CT3" not in _devices(beta), "nothing counts before a person accepted"
    assert _fates(beta) == {"CT3": "added", "WS1": "kept", "dicom.idle_timeout": "added"}
    assert "version 1" in beta.say("book", "accept", "--version", "7", code=2)
    assert "Settings count from the next start" in beta.say("book", "accept", "--version", "1")
    assert _devices(beta)["CT3"] == _devices(alpha)["CT3"]
    assert _devices(beta)["WS1"]["address"] == "10.2.2.2", "a node's own row wins"
    assert _fates(beta) == {"WS1": "kept"}
    assert "book diff" not in beta.say("status")
    shown = {f"{row['section']}.{row['key']}": row for row in beta.told("config", "show")}
    assert shown["dicom.idle_timeout"]["value"] == 120
    assert shown["dicom.idle_timeout"]["origin"].endswith("published.toml")

    made = alpha.told("invite", "--site", "GAMMA")
    asked = gamma.told("join", made["ticket"], "--no-wait", code=3)
    alpha.say("approve", asked["request"])
    assert "peerpacs book diff" in gamma.say("join"), "whoever joins is given it with its certificate"
    gamma.say("book", "accept")

    beta.say("devices", "edit", "CT3", "--port", "11112")
    alpha.say("devices", "edit", "CT3", "--port", "4242")
    alpha.say("book", "publish", "CT3", "--without", "WS1", "--unset", "dicom.idle_timeout")
    until(lambda: beta.told("book")["version"] == gamma.told("book")["version"] == 2)
    assert _fates(gamma) == {"CT3": "changed", "WS1": "removed", "dicom.idle_timeout": "removed"}
    assert _fates(beta) == {"CT3": "kept", "WS1": "kept", "dicom.idle_timeout": "removed"}
    gamma.say("book", "accept")
    beta.say("book", "accept", "--theirs", "CT3")
    assert _devices(gamma)["CT3"]["port"] == _devices(beta)["CT3"]["port"] == 4242
    assert "WS1" not in _devices(gamma)
    assert _devices(beta)["WS1"]["address"] == "10.2.2.2"
    assert beta.audit("change")[-1]["detail"]["version"] == 2


@pytest.mark.slow
def test_what_peerpacs_toml_says_wins_over_a_published_setting(trio: tuple[GridNode, ...]) -> None:
    alpha, beta, _ = trio
    file = beta.home / "peerpacs.toml"
    file.write_text(file.read_text().replace("idle_timeout = 300.0", "idle_timeout = 77.0"))
    alpha.say("book", "publish", "--set", "dicom.idle_timeout=120", "--set", "senders.unknown_senders=refuse")
    until(lambda: beta.told("book")["version"] == 1)
    assert _fates(beta) == {"dicom.idle_timeout": "kept", "senders.unknown_senders": "added"}
    assert "only a person changes" in beta.say("book", "accept", "--theirs", "dicom.idle_timeout", code=2)
    beta.say("book", "accept")
    beta.stop()
    beta.start(**beta.env)
    shown = {f"{row['section']}.{row['key']}": row["value"] for row in beta.told("config", "show")}
    assert (shown["dicom.idle_timeout"], shown["senders.unknown_senders"]) == (77.0, "refuse")
