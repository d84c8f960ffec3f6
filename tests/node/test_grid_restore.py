"""Three hospitals, of which one loses all but its objects and has a backup from before all decisions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from tests.grid import GridNode
from tests.node.copies import KEEPS, hospitals, sent, state, wait_until_met
from tests.running import until
from tests.workstation import ask

pytestmark = pytest.mark.slow
WHY = ("--reason", "a drill")


def told(node: GridNode) -> list[tuple[str, str]]:
    """Return the studies that a node's grid answers with as ones that can be had, and whose they are."""
    answers, _ = ask(node)
    return sorted((each.StudyInstanceUID, each.PatientID) for each in answers)


def secrets(nodes: list[GridNode], word: bytes) -> list[str]:
    """Return which files of the nodes' homes hold a word."""
    return [
        f"{node.name}: {path.relative_to(node.home)}"
        for node in nodes
        for path in node.home.rglob("*")
        if path.is_file() and not path.is_socket() and word in path.read_bytes()
    ]


def test_none_of_the_decisions_since_an_old_backup_is_lost_and_nothing_comes_back(tmp_path: Path) -> None:
    nodes = hospitals(tmp_path / "grid", "alpha", "beta", "gamma")
    alpha, beta, gamma = nodes
    try:
        for other in (alpha, gamma):
            beta.grant(other, *KEEPS)
        beta.say("copies", "add", "all", "--copies", "2", "--must", "alpha")
        names = ("plain", "corrected", "rejected", "held", "erased", "deleted", "moved", "target")
        made = {name: sent(beta, tmp_path / name, 950 + at, 2) for at, name in enumerate(names)}
        uid = {name: study for name, (study, _) in made.items()}
        secret = str(dcmread(made["erased"][1][0]).PatientID).encode()
        wait_until_met(beta, len(names))
        beta.cli("backup", str(tmp_path / "backup"), "--objects")

        beta.cli("correct", uid["corrected"], "PatientID=RIGHT-1", *WHY)
        beta.cli("reject", uid["rejected"], *WHY)
        beta.cli("hold", uid["held"], *WHY)
        beta.cli("delete", uid["deleted"], *WHY, "--yes")
        series = str(dcmread(made["moved"][1][0]).SeriesInstanceUID)
        beta.cli("move-series", series, "--to", uid["target"], *WHY)
        beta.cli("link", "BETA", "RIGHT-1", "ALPHA", "7")
        beta.cli("erase", uid["erased"], *WHY, "--yes")
        until(lambda: order(beta)["outcome"] == "erased" and order(beta)["owing"] == [])
        later, _ = sent(beta, tmp_path / "later", 970, 2)
        seen = {uid[name] for name in ("plain", "corrected", "held", "target")} | {later}
        until(lambda: all({study for study, _ in told(node)} == seen for node in nodes))
        hidden = {uid[name] for name in ("rejected", "deleted", "moved")}
        wait_until_met(beta, len(seen | hidden))  # what can be taken back keeps its copies
        before = [told(node) for node in nodes]
        assert all(dict(each)[uid["corrected"]].endswith("RIGHT-1") for each in before)
        assert secrets(nodes, secret) == []

        beta.stop()
        bring_back(beta, tmp_path / "backup")
        beta.start(**beta.env)
        until(lambda: [told(node) for node in nodes] == before)
        until(lambda: order(beta)["outcome"] == "erased" and order(beta)["owing"] == [])
        assert secrets(nodes, secret) == []
        until(lambda: have_copies(beta, len(seen)))
        assert [told(node) for node in nodes] == before, "nothing comes back later either"
        assert "hold" in beta.say("delete", uid["held"], *WHY, "--yes", code=1)
        assert [link["one"] for link in beta.told("link")] == [["ALPHA", "7"]]
    finally:
        for node in nodes:
            if node.process is not None:
                node.stop()


def have_copies(node: GridNode, studies: int) -> bool:
    """Say whether no study lacks copies, and at least so many have them; what is hidden may be among them."""
    row = state(node)["studies"].get("all", {"met": 0, "lacking": 0})
    return bool(row["met"] >= studies and row["lacking"] == 0)


def order(node: GridNode) -> Any:
    """Return how its last erasure stands."""
    [found] = [each for each in node.told("deletions")["orders"] if each["verb"] == "erase"]
    return found


def bring_back(node: GridNode, backup: Path) -> None:
    """Lose all but the objects and what is kept for others, and go back to a backup as an admin would."""
    for part in ("state", "archives/main/catalog", "archives/main/search"):
        shutil.rmtree(node.home / part, ignore_errors=True)
    node.cli("restore", str(backup), "--replace")
