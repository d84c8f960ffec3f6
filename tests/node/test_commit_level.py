"""Storage Commitment waits for as many sites as a rule asks for, and for no longer than the rule says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import Entry, Holding
from catalog.selecting import Claim
from federation.placement import CopyRule, Rules
from node.commitment import Judge, Safe
from node.contracts import Reference
from node.copies.commit_level import CommitLevel
from node.copies.ledger import Ledger

CT = "1.2.840.10008.5.1.4.1.1.2"
SITES = {"b": "BETA", "b2": "BETA", "c": "GAMMA", "h": "HOME"}
DAY = 86400.0


def _entry(number: int) -> Entry:
    return Entry(
        StudyInstanceUID="1",
        SeriesInstanceUID="1.1",
        SOPInstanceUID=f"1.1.{number}",
        SOPClassUID=CT,
        TransferSyntaxUID="1.2.840.10008.1.2.1",
        holding=Holding(bytes([number]) * 32, b"", 1000),
        received=0,
        source="CT1",
    )


ENTRIES = [_entry(number) for number in (1, 2)]


class World:
    """Two instances, who has them, and a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = 1e9
        self.rule = CopyRule(name="all", copies=3, commit_sites=2, commit_timeout=DAY)
        self.ledger = Ledger(folder, lambda: self.now)
        self.looked: list[Holding] = []
        self.placed: list[str] = []
        self.safe = Safe.YES
        level = CommitLevel(
            self.ledger,
            lambda: Rules([self.rule]),
            lambda uid: _stated(),
            lambda node_id: SITES.get(node_id, ""),
            lambda: "HOME",
            lambda: self.now,
            self.placed.append,
        )
        claims = {each.SOPInstanceUID: [Claim(each, False, False)] for each in ENTRIES}
        self.judge = Judge(lambda uids: claims, self, is_storage=lambda uid: True, elsewhere=level.of)

    def look(self, holding: Holding) -> Safe:
        self.looked.append(holding)
        return self.safe

    def has(self, node_id: str, *numbers: int) -> None:
        self.ledger.received("1", node_id, [bytes([number]) * 32 for number in numbers])

    def reasons(self, asked: float = 1e9) -> list[int]:
        return self.judge.judge([Reference(CT, each.SOPInstanceUID) for each in ENTRIES], asked)


def _stated() -> object:
    from catalog import PatientKey
    from catalog.statements import SeriesStatement, Stated, StudyStatement

    study = StudyStatement(1, "1", PatientKey("", "P"), b"{}", 0, False)
    series = SeriesStatement(1, "1", "1.1", b"{}", 2, 2000, b"", (CT,), 0, True, False)
    return Stated(study, [series])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.ledger.close()


def test_one_site_is_enough_unless_a_rule_says_otherwise(world: World) -> None:
    world.rule = CopyRule(name="all")
    assert world.reasons() == [0, 0]


def test_each_instance_is_committed_once_two_sites_have_it(world: World) -> None:
    assert world.reasons() == [-2, -2]
    assert world.looked == []
    assert world.placed == ["1"]
    world.has("h", 1, 2)
    assert world.reasons() == [-2, -2]
    world.has("b", 1)
    world.has("b2", 1)
    assert world.reasons() == [0, -2]
    world.has("c", 2)
    assert world.reasons() == [0, 0]
    world.safe = Safe.DAMAGED
    assert world.reasons() == [0x0110, 0x0110]


def test_three_sites_are_three_and_a_node_that_is_lost_counts_for_none(world: World) -> None:
    world.rule = CopyRule(name="all", copies=3, commit_sites=3)
    world.has("b", 1, 2)
    world.has("b2", 1, 2)
    world.has("gone", 1, 2)
    assert world.reasons() == [-2, -2]
    world.has("c", 1, 2)
    assert world.reasons() == [0, 0]


def test_what_is_missing_at_the_rules_time_is_0110_and_a_new_request_is_judged_afresh(world: World) -> None:
    world.has("b", 1)
    world.now += DAY
    assert world.reasons() == [0, 0x0110]
    assert world.reasons(asked=world.now) == [0, -2]
    world.has("b", 2)
    assert world.reasons() == [0, 0]
