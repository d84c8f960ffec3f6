"""Receipts for erasures; an owner that lost its disk learns again what it had erased, and nothing else."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from catalog import Decision, Verb
from federation.erasing import Erasure, mark
from federation.mirror_writing import is_among
from node.contracts import Caller
from node.disposal import ErasedUIDs, Orders
from node.erasures import Obedience, Receipts, Site
from node.state import State


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        self.now += 3.0
        return self.now


class Heard:
    """Keeps what the audit is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def record(self, event: str, caller: Caller | None, outcome: str, detail: Mapping[str, Any]) -> None:
        self.told.append((event, outcome))


class Kept:
    """What a peer keeps of others, as a test sets it."""

    def __init__(self) -> None:
        self.stated: set[str] = set()
        self.copies: list[tuple[str, str]] = []
        self.own_studies: set[str] = set()
        self.forgotten: list[tuple[str, tuple[bytes, ...]]] = []

    def still(self, owner: tuple[str, str], target: tuple[str, ...]) -> str:
        return "stated" if target[0] in self.stated else ""

    def drop_copies(self, owner: tuple[str, str], target: tuple[str, ...]) -> int:
        before = len(self.copies)
        self.copies = [copy for copy in self.copies if copy != (owner[0], target[0])]
        return before - len(self.copies)

    def forget_patients(self, decision: str, patients: Collection[bytes]) -> None:
        self.forgotten.append((decision, tuple(patients)))

    def own(self, target: tuple[str, ...]) -> int:
        return 5 if target[0] in self.own_studies else 0

    def scour(self) -> bool:
        return True


class Peer:
    """Beta, called by the owner whose id TLS says."""

    def __init__(self, obedience: Obedience, caller: str) -> None:
        self._obedience, self._caller = obedience, caller

    def erase(self, archive: str, erasures: Any) -> Any:
        return self._obedience.erase(self._caller, archive, erasures)

    def remembered(self, archive: str) -> list[Erasure]:
        return self._obedience.remembered(self._caller, archive)


@pytest.fixture
def states(tmp_path: Path) -> Iterator[tuple[State, State, State]]:
    with State(tmp_path / "a") as a, State(tmp_path / "b") as b, State(tmp_path / "c") as c:
        yield a, b, c


def owner(
    state: State,
    peer: Peer,
    key: bytes,
    taken: list[Decision],
    heard: Heard,
    sites: Sequence[Site] = (Site("b", "beta", "BETA", True),),
) -> Receipts:
    parts = (lambda: sites, lambda node_id: peer, taken.append, lambda: key, heard, Clock())
    return Receipts("main", state, Orders(state, state.table("lasting", ErasedUIDs)), *parts)


def order(state: State, id: str, study: str) -> None:
    """Have an erasure ordered, and carried out here."""
    orders = Orders(state, state.table("lasting", ErasedUIDs))
    orders.put(Decision(id=id, verb=Verb.ERASE, target=(study,), reason="", who="ann", when=7))
    [(_, row)] = [each for each in orders.waiting() if each[0] == id]
    marks = (mark(id, "A", "4711"),)
    orders.change(id, type(row)(row.verb, row.target, row.who, row.when, 8, "erased", True, marks))


def test_a_site_owes_a_receipt_until_nothing_is_left_there(states: tuple[State, State, State]) -> None:
    kept, heard = Kept(), Heard()
    obedience = Obedience(states[1], kept, heard, Clock())
    receipts = owner(states[0], Peer(obedience, "a"), b"k" * 32, [], heard)
    order(states[0], "e1", "1.2")
    kept.stated.add("1.2")
    kept.copies = [("a", "1.2"), ("c", "1.2")]
    receipts.step()
    [row] = receipts.of("e1")
    assert not row["done"]
    assert not kept.forgotten, "while it is stated, its patient has something"
    kept.stated.clear()
    receipts.step()
    [row] = receipts.of("e1")
    assert row["done"]
    assert kept.copies == [("c", "1.2")], "another owner's copies are not this one's to erase"
    assert ("receipt", "erased") in heard.told
    assert kept.forgotten == [("e1", (mark("e1", "A", "4711"),))]


def test_every_member_owes_from_the_order_on_also_before_anybody_was_asked(
    states: tuple[State, State, State],
) -> None:
    heard, sites = Heard(), [Site("b", "beta", "BETA", True), Site("c", "gamma", "GAMMA", False)]
    peer = Peer(Obedience(states[1], Kept(), heard, Clock()), "a")
    receipts = owner(states[0], peer, b"k" * 32, [], heard, sites)
    order(states[0], "e1", "1.2")
    assert [(row["node"], row["is_owed"]) for row in receipts.of("e1")] == [("beta", True), ("gamma", True)]
    receipts.step()
    assert [(row["node"], row["is_owed"]) for row in receipts.of("e1")] == [("beta", False), ("gamma", True)]


def test_who_is_no_member_any_more_is_not_waited_for(states: tuple[State, State, State]) -> None:
    heard, sites = Heard(), [Site("b", "beta", "BETA", False)]
    peer = Peer(Obedience(states[1], Kept(), heard, Clock()), "a")
    receipts = owner(states[0], peer, b"k" * 32, [], heard, sites)
    order(states[0], "e1", "1.2")
    receipts.note()
    assert [row["is_owed"] for row in receipts.of("e1")] == [True]
    sites.clear()
    [row] = receipts.of("e1")
    assert (row["is_owed"], row["done"]) == (False, 0)
    assert "no member" in str(row["what"])


def test_why_a_peer_cannot_erase_is_told_to_the_owner_and_tried_again(
    states: tuple[State, State, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, heard = Kept(), Heard()
    receipts = owner(states[0], Peer(Obedience(states[1], kept, heard, Clock()), "a"), b"k" * 32, [], heard)
    order(states[0], "e1", "1.2")
    with monkeypatch.context() as broken:

        def refuse(owner: tuple[str, str], target: tuple[str, ...]) -> int:
            raise OSError(errno.EIO, "Input/output error")

        broken.setattr(kept, "drop_copies", refuse)
        receipts.step()
        [row] = receipts.of("e1")
        assert (row["is_owed"], row["what"]) == (True, "its disk refuses: Input/output error")
    receipts.step()
    assert [row["is_owed"] for row in receipts.of("e1")] == [False]


def test_what_a_peer_holds_as_its_own_stays_and_is_told(states: tuple[State, State, State]) -> None:
    kept, heard = Kept(), Heard()
    kept.own_studies.add("1.2")
    obedience = Obedience(states[1], kept, heard, Clock())
    receipts = owner(states[0], Peer(obedience, "a"), b"k" * 32, [], heard)
    order(states[0], "e1", "1.2")
    receipts.step()
    [row] = receipts.of("e1")
    assert "as its own" in str(row["what"])
    assert ("erasure", "own copy stays") in heard.told


def test_an_owner_that_lost_its_disk_erases_again_what_a_peer_remembers_and_believes_nothing_else(
    states: tuple[State, State, State],
) -> None:
    kept, heard, taken = Kept(), Heard(), list[Decision]()
    obedience = Obedience(states[1], kept, heard, Clock())
    before = owner(states[0], Peer(obedience, "a"), b"k" * 32, [], heard)
    order(states[0], "e1", "1.2")
    before.step()
    # A peer that says so of a study the owner never erased.
    obedience.erase("a", "main", [Erasure("e2", ("9.9",), 7).sealed(b"another key".ljust(32), "main")])
    again = owner(states[2], Peer(obedience, "a"), b"k" * 32, taken, heard)
    again.step()
    assert [(each.id, each.verb, each.target) for each in taken] == [("e1", Verb.ERASE, ("1.2",))]
    assert obedience.remembered("c", "main") == []


def test_a_peer_that_was_set_back_to_a_time_before_an_erasure_owes_it_again(
    states: tuple[State, State, State],
) -> None:
    heard, sites, kept = Heard(), [Site("b", "beta", "BETA", True)], Kept()
    peers = [Peer(Obedience(state, kept, heard, Clock()), "a") for state in states[1:]]
    parts = (
        lambda: sites,
        lambda node_id: peers[0],
        lambda decision: None,
        lambda: b"k" * 32,
        heard,
        Clock(),
    )
    orders = Orders(states[0], states[0].table("lasting", ErasedUIDs))
    receipts = Receipts("main", states[0], orders, *parts)
    order(states[0], "e1", "1.2")
    receipts.step()
    assert [row["is_owed"] for row in receipts.of("e1")] == [False]
    # It comes back from an old backup, with what it kept then.
    sites[0] = sites[0]._replace(is_connected=False)
    receipts.step()
    peers.pop(0)
    kept.copies, kept.stated = [("a", "1.2")], {"1.2"}
    sites[0] = sites[0]._replace(is_connected=True)
    receipts.step()
    assert [row["is_owed"] for row in receipts.of("e1")] == [True]
    assert kept.copies == []
    kept.stated.clear()
    receipts.step()
    assert [row["is_owed"] for row in receipts.of("e1")] == [False]


def test_nothing_of_what_an_owner_had_erased_is_taken_in_again_from_that_owner(
    states: tuple[State, State, State],
) -> None:
    obedience = Obedience(states[1], Kept(), Heard(), Clock())
    assert not obedience.erased(b"a/main")
    obedience.erase("a", "main", [Erasure("e1", ("1.2",), 7), Erasure("e2", ("1.3", "1.3.1"), 7)])
    for knows in (obedience, Obedience(states[1], Kept(), Heard(), Clock())):
        erased = knows.erased(b"a/main")
        assert all(is_among(key, erased) for key in (b"1.2", b"1.2\x001.2.1", b"1.3\x001.3.1"))
        assert not is_among(b"1.3", erased), "of that study a series was erased"
        assert not knows.erased(b"c/main"), "another owner may have the study"
