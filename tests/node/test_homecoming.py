"""What lies at other sites alone comes home: nothing goes meanwhile, and what is away is always known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from catalog import Move, Moved, OutOfSpace
from node.copies.homecoming import Homecoming
from node.copies.ledger import Placed
from tests.homes import serving
from tests.node.slimmed import KEEPER, Hospital


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    with serving(tmp_path / "node") as node:
        found = Hospital(node, tmp_path / "ledger")
        yield found
        found.ledger.close()


def test_nothing_goes_in_the_moment_in_which_nothing_was_found_away(hospital: Hospital) -> None:
    found: list[int] = []
    hospital.at_proof = lambda: found.append(hospital.homecoming.begin())
    assert not hospital.slimming().step()
    assert found == [0]
    assert hospital.are_away() == {False}
    hospital.at_proof = lambda: None
    hospital.homecoming.end()
    assert hospital.slimming().step()
    assert hospital.are_away() == {True}
    assert hospital.homecoming.begin() > 0


class Ending:
    """A catalog whose node ends as soon as its rows name another place."""

    def __init__(self, catalog: Any) -> None:
        self._catalog = catalog

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def relocate(self, moves: Sequence[Move]) -> list[Moved]:
        self._catalog.relocate(moves)
        raise KeyboardInterrupt


def test_what_went_is_known_to_be_away_though_the_node_ended_at_once(hospital: Hospital) -> None:
    with pytest.raises(KeyboardInterrupt):
        hospital.slimming(Ending(hospital.archive.catalog)).step()
    assert hospital.are_away() == {True}
    assert hospital.ledger.lying_away() == [hospital.uid]
    assert hospital.homecoming.begin() > 0


def test_things_go_again_when_nobody_asks_any_more_to_have_all_at_home(hospital: Hospital) -> None:
    hospital.slimming().step()
    assert hospital.homecoming.begin() > 0
    assert not hospital.homecoming.lets_go()
    hospital.now += 50
    assert hospital.homecoming.begin() > 0, "whoever waits asks again and again"
    hospital.now += 50
    assert not hospital.homecoming.lets_go()
    hospital.now += 50
    assert hospital.homecoming.lets_go()
    assert not hospital.homecoming.step()


def test_who_leaves_is_not_counted_on_once_nothing_lies_there_alone(hospital: Hospital) -> None:
    others = hospital.others
    assert hospital.slimming().step()
    others.discard(KEEPER)
    assert hospital.homecoming.without(KEEPER) > 0
    assert not hospital.homecoming.lets_go()
    digests = [each.holding.sha256 for each in hospital.entries()]
    hospital.ledger.received(hospital.uid, "gamma", digests)
    assert hospital.homecoming.without(KEEPER) > 0, "gamma is no member"
    others.add("gamma")
    assert hospital.homecoming.without(KEEPER) == 0
    assert [*hospital.ledger.keepers(hospital.uid)] == ["gamma"]
    placed = hospital.ledger.placed(hospital.uid)
    assert placed is not None
    assert not placed.is_met


def test_what_is_in_the_way_of_what_comes_home_is_told(hospital: Hospital) -> None:
    assert hospital.slimming().step()
    homecoming = Homecoming(
        hospital.ledger, Full(), lambda: [KEEPER], str, lambda: {KEEPER}, lambda: hospital.now
    )
    assert homecoming.begin() > 0
    assert homecoming.why == ""
    assert not homecoming.step()
    assert homecoming.why == "The disk is full. Make room."


class Full:
    """A hospital without room for what comes home."""

    def fetch_back(self, study: str) -> int:
        raise OutOfSpace("The disk is full.", "Make room.")


def test_what_no_rule_has_kept_elsewhere_any_more_comes_home(hospital: Hospital) -> None:
    assert hospital.slimming().step()
    hospital.homecoming.step()
    assert hospital.asked == []
    hospital.ledger.place(hospital.uid, Placed(archive="main", rule="all", nodes=()))
    hospital.now += 61
    hospital.homecoming.step()
    hospital.homecoming.step()
    assert hospital.asked == [hospital.uid], "what does not come is not asked for again at once"
    hospital.now += 61
    hospital.homecoming.step()
    assert hospital.asked == [hospital.uid] * 2
    assert not hospital.slimming().step(), "and goes nowhere"
