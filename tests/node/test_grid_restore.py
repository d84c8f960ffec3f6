"""Three hospitals, of which one loses its catalog, or all but its objects, or all that it had."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from tests.grid import GridNode
from tests.node.copies import KEEPS, end, hospitals, sent, state, wait_until_met
from tests.privacy import files_with
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
    return [f"{node.name}: {path}" for node in nodes for path, _ in files_with([word], node.home)]


class Story:
    """Three hospitals; beta made a backup, decided this and that, and knows what is seen since."""

    def __init__(self, folder: Path) -> None:
        self.backup = folder / "backup"
        self.nodes = hospitals(folder / "grid", "alpha", "beta", "gamma")
        try:
            self._live(folder)
        except BaseException:
            end(self.nodes)
            raise

    @property
    def beta(self) -> GridNode:
        return self.nodes[1]

    def _live(self, folder: Path) -> None:
        alpha, beta, gamma = self.nodes
        for other in (alpha, gamma):
            beta.grant(other, *KEEPS)
        beta.say("copies", "add", "all", "--copies", "2", "--must", "alpha")
        names = ("plain", "corrected", "rejected", "held", "erased", "deleted", "moved", "target")
        made = {name: sent(beta, folder / name, 950 + at, 2) for at, name in enumerate(names)}
        self.uid = uid = {name: study for name, (study, _) in made.items()}
        self.secret = str(dcmread(made["erased"][1][0]).PatientID).encode()
        wait_until_met(beta, len(names))
        beta.cli("backup", str(self.backup), "--objects")

        beta.cli("correct", uid["corrected"], "PatientID=RIGHT-1", *WHY)
        beta.cli("reject", uid["rejected"], *WHY)
        beta.cli("hold", uid["held"], *WHY)
        beta.cli("delete", uid["deleted"], *WHY, "--yes")
        series = str(dcmread(made["moved"][1][0]).SeriesInstanceUID)
        beta.cli("move-series", series, "--to", uid["target"], *WHY)
        beta.cli("link", "BETA", "RIGHT-1", "ALPHA", "7")
        beta.cli("erase", uid["erased"], *WHY, "--yes")
        until(lambda: order(beta)["outcome"] == "erased" and order(beta)["owing"] == [])
        self.later, _ = sent(beta, folder / "later", 970, 2)
        self.seen = {uid[name] for name in ("plain", "corrected", "held", "target")} | {self.later}
        until(lambda: all({study for study, _ in told(node)} == self.seen for node in self.nodes))
        hidden = {uid[name] for name in ("rejected", "deleted", "moved")}
        wait_until_met(beta, len(self.seen | hidden))  # what can be taken back keeps its copies
        self.before = [told(node) for node in self.nodes]
        assert all(dict(each)[uid["corrected"]].endswith("RIGHT-1") for each in self.before)
        assert secrets(self.nodes, self.secret) == []

    def goes_on(self) -> None:
        """Make sure that no decision is lost, and nothing came back, at any site."""
        beta = self.beta
        until(lambda: [told(node) for node in self.nodes] == self.before)
        until(lambda: order(beta)["outcome"] == "erased" and order(beta)["owing"] == [])
        assert secrets(self.nodes, self.secret) == []
        until(lambda: have_copies(beta, len(self.seen)))
        assert [told(node) for node in self.nodes] == self.before, "nothing comes back later either"
        assert secrets(self.nodes, self.secret) == []
        assert "hold" in beta.say("delete", self.uid["held"], *WHY, "--yes", code=1)
        assert [link["one"] for link in beta.told("link")] == [["ALPHA", "7"]]


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    made = Story(tmp_path)
    yield made
    end(made.nodes)


def test_none_of_the_decisions_since_an_old_backup_is_lost_and_nothing_comes_back(story: Story) -> None:
    beta = story.beta
    beta.stop()
    bring_back(beta, story.backup)
    beta.start(**beta.env)
    story.goes_on()


def test_a_catalog_that_is_rebuilt_loses_no_decision_and_brings_nothing_back(story: Story) -> None:
    beta = story.beta
    beta.stop()
    beta.cli("rebuild", "--yes")
    beta.start(**beta.env)
    story.goes_on()


def test_where_all_was_lost_the_peers_know_what_was_decided_since_an_old_backup(story: Story) -> None:
    """And no site is told anything of the backup's old rows, not even for a moment."""
    beta, others = story.beta, [story.nodes[0], story.nodes[2]]
    beta.stop()
    shutil.rmtree(beta.home)
    beta.cli("restore", str(story.backup))
    beta.start(**beta.env)
    assert secrets(others, story.secret) == []
    was = set(story.before[1])
    assert {each for each in was if each[0] != story.later} <= set(told(beta)) <= was, (
        "from the first answer on"
    )
    story.goes_on()


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
