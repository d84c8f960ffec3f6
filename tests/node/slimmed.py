"""A hospital whose studies may go from its disk, since another one has proved that it keeps them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from catalog import Entry
from node.app import Node
from node.copies.homecoming import Homecoming
from node.copies.ledger import Ledger, Placed
from node.copies.slimming import Mark, Slimming
from node.storage.elsewhere import is_elsewhere
from tests.homes import Peer, phantoms

KEEPER = "keeper"


class Hospital:
    """A serving node with studies that a keeper has proved to have; `at_proof` happens as it is asked."""

    def __init__(self, node: Node, folder: Path, studies: int = 1) -> None:
        self.node = node
        self.archive = node.archive("main")
        for number in range(studies):
            assert set(Peer(node).store(*phantoms(1, number, instances=3))) == {0}
        self.uids = sorted({entry.StudyInstanceUID for _, entry in self.archive.care.inspector.entries()})
        self.uid = self.uids[0]
        self.ledger = Ledger(folder, time.time)
        for uid in self.uids:
            self.ledger.received(uid, KEEPER, [each.holding.sha256 for each in self.entries(uid)])
            self.ledger.place(uid, Placed(archive="main", rule="all", nodes=(KEEPER,), is_met=True))
        self.is_proved = True
        self.at_proof: Callable[[], object] = lambda: None
        self.now = time.monotonic()
        self.others = {KEEPER}
        self.asked: list[str] = []
        self.pins = node.neighbourhood.copying.pins
        self.homecoming = Homecoming(
            self.ledger,
            self,
            lambda: [KEEPER],
            str,
            lambda: self.others,
            lambda: self.now,
            self.belongs_here,
        )

    def entries(self, uid: str = "") -> list[Entry]:
        """Return the objects of a study, the first one if none is named."""
        return self.archive.catalog.versions((uid or self.uid,))

    def are_away(self, uid: str = "") -> set[bool]:
        """Say of a study's objects whether they lie elsewhere."""
        return {is_elsewhere(each.holding) for each in self.entries(uid)}

    def have_all(self, archive: str, uid: str, nodes: Sequence[str]) -> bool:
        """Stand in for the keeper's proof."""
        self.at_proof()
        return self.is_proved

    def fetch_back(self, study: str) -> int:
        """Note what is asked for; nothing comes, as the keeper is none."""
        self.asked.append(study)
        return 0

    def belongs_here(self, study: str) -> bool:
        """Say whether a study is pinned, or no node is to have it."""
        placed = self.ledger.placed(study)
        return self.pins.has(study) or (placed is not None and not placed.nodes)

    def slimming(
        self,
        catalog: Any = None,
        used: Callable[[str], float] = lambda uid: 0.0,
        bytes_over: Callable[[int], int] = lambda here: here,
        keep_for: float = 0.0,
    ) -> Slimming:
        """Return what lets studies go, a minute from now; by default all of them."""
        return Slimming(
            "main",
            catalog or self.archive.catalog,
            self.archive.store.remove,
            lambda: self.archive.catalog.totals().stored,
            self.ledger,
            self,
            Mark(bytes_over, keep_for),
            used,
            lambda: time.time() + 60,
            self.homecoming.lets_go,
            self.pins.has,
        )
