"""What is decided here is kept by peers that cannot read it; who was set back hears of it first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from catalog import Decision, Head, Unavailable, Verb
from federation.entrusting import AT_ONCE, LARGEST, Seal, Word, portions
from node.app import open_node
from node.entrusted import Entrusting, Outbox, Safe
from node.erasures import Site
from node.hearing import PATIENCE, Ear, Hearing
from node.state import State
from tests.homes import new_home, phantoms
from tests.node.test_deleted import send, uid

KEY = b"k" * 32


class Peer:
    """A peer as the owner a reaches it."""

    def __init__(self, state: State) -> None:
        self.safe = Safe(state)

    def entrust(self, archive: str, words: Sequence[Word]) -> str:
        return self.safe.keep("a", archive, words)

    def recall(self, archive: str) -> Iterator[Word]:
        return self.safe.recall("a", archive)


@pytest.fixture
def states(tmp_path: Path) -> Iterator[tuple[State, State]]:
    with State(tmp_path / "a") as a, State(tmp_path / "b") as b:
        yield a, b


def entrusting(state: State, peer: Peer, key: bytes = KEY) -> Entrusting:
    return Entrusting("main", state, Seal(key, "main"), lambda node_id: peer)


def keep(state: State, id: str, when: int) -> Decision:
    made = Decision(id=id, verb=Verb.CORRECT, target=("1.2",), reason="SECRET", who="ann", when=when)
    Outbox(state).keep(id, msgspec.json.encode(made))
    return made


def tell(owner: Entrusting) -> None:
    owner.take_on()
    while owner.tell("b"):
        pass


def test_what_is_entrusted_comes_back_in_its_order_and_the_peer_cannot_read_it(
    states: tuple[State, State], tmp_path: Path
) -> None:
    mine, theirs = states
    owner = entrusting(mine, Peer(theirs))
    made = [keep(mine, f"d{n}", 1000 - n) for n in range(3)]
    tell(owner)
    keep(mine, "d9", 2000)
    tell(owner)
    assert [each.id for each in owner.recalled("b")] == ["d2", "d1", "d0", "d9"]
    assert owner.recalled("b")[0] == made[2]
    assert b"SECRET" not in (tmp_path / "b" / "data.mdb").read_bytes()
    stranger = entrusting(mine, Peer(theirs), b"x" * 32)
    assert stranger.recalled("b") == [], "what another key sealed is left out"


def test_what_is_forgotten_here_is_forgotten_there(states: tuple[State, State]) -> None:
    owner = entrusting(states[0], Peer(states[1]))
    keep(states[0], "d1", 1)
    keep(states[0], "d2", 2)
    tell(owner)
    Outbox(states[0]).forget(["d1"])
    tell(owner)
    assert [each.id for each in owner.recalled("b")] == ["d2"]
    assert not list(Outbox(states[0]).waiting())


def test_what_an_older_version_decided_is_entrusted_once(tmp_path: Path) -> None:
    home, who = new_home(tmp_path / "home"), {"reason": "a test", "who": "ann"}
    with open_node(home) as node:
        sent = phantoms(500, 0, instances=2)
        send(node, *sent)
        verbs, study = node.desk.verbs(), uid(sent[0])
        made = [
            verbs["correct"](target=study, attributes=["PatientID=7"], **who),
            verbs["hold"](target=study, **who),
        ]
        made.append(verbs["undo"](decision=made[1]["decision"], **who))
        verbs["put_retention"](name="ten years", keys=[], years=10, who="ann")
        verbs["put_retention"](name="gone", keys=[], years=10, who="ann")
        verbs["remove_retention"](name="gone", who="ann")
        outbox = Outbox(node.state)
        for id, text in list(outbox.waiting()):
            outbox.done(id, text)  # an older version kept none
        assert node.neighbourhood.remembering
        backlog = node.neighbourhood.remembering.backlog(node.main)
        while backlog.step():
            pass
        found = [msgspec.json.decode(text, type=Decision) for _, text in outbox.waiting()]
        notes = {each.detail.partition("\0")[2]: each for each in found if each.verb is Verb.NOTE}
        assert {each.id for each in found} == {each["decision"] for each in made} | {
            note.id for note in notes.values()
        }
        assert notes[b"gone".hex()].attributes == {}, "nor does what was removed come back"
        assert notes[b"ten years".hex()].attributes["row"]["is"]["years"] == 10
        assert all(node.journal.knows(note) for note in notes.values())
    with open_node(home) as node:
        assert node.neighbourhood.remembering
        backlog = node.neighbourhood.remembering.backlog(node.main)
        while backlog.step():
            pass
        assert len(list(Outbox(node.state).waiting())) == len(found)


def test_a_peer_that_lost_what_it_kept_is_told_all_of_it_again(
    states: tuple[State, State], tmp_path: Path
) -> None:
    keep(states[0], "d1", 1)
    tell(entrusting(states[0], Peer(states[1])))
    with State(tmp_path / "new") as fresh:
        owner = entrusting(states[0], Peer(fresh))
        tell(owner)
        assert [each.id for each in owner.recalled("b")] == ["d1"]
        keep(states[0], "d2", 2)
        tell(owner)
        assert [each.id for each in owner.recalled("b")] == ["d1", "d2"]
        Peer(fresh).safe.forget("a")
        assert owner.recalled("b") == []


def test_words_go_in_messages_of_bounded_size() -> None:
    many = [Word(str(n), b"") for n in range(AT_ONCE + 1)]
    assert [len(each) for each in portions(many)] == [AT_ONCE, 1]
    large = [Word(str(n), bytes(LARGEST - 1)) for n in range(3)]
    assert [len(each) for each in portions(large)] == [1, 1, 1]


class Archive:
    """A catalog, as much as an ear needs."""

    epoch = 5
    marks: tuple[int, int] | None = None

    def head(self, share: int = 0) -> Head:
        return Head(self.epoch, 0, b"")

    def waiting(self) -> tuple[int, int] | None:
        return self.marks


class Grid:
    """Two members, of which one may be away, and a clock."""

    def __init__(self) -> None:
        self.now, self.archive = 0.0, Archive()
        self.here = {"b": True, "c": True}
        self.asked: list[str] = []

    def ear(self, state: State, *restored: str) -> Ear:
        def members() -> list[Site]:
            return [Site(each, each, each, is_here) for each, is_here in self.here.items()]

        def ask(archive: str, site: Site) -> None:
            self.asked.append(site.node_id)

        around = Hearing(lambda: {"main": self.archive}, members, ask, lambda: self.now)
        return Ear(state, around, lambda: restored)


def test_an_archive_that_was_set_back_is_told_of_when_all_were_asked_and_the_log_states_what_they_said(
    states: tuple[State, State],
) -> None:
    grid = Grid()
    ear = grid.ear(states[0])
    assert ear.may_state("main"), "who was never set back waits for nobody"
    ear.step()
    assert grid.asked == ["b", "c"]
    grid.archive.epoch = 6
    assert not ear.may_state("main")
    with pytest.raises(Unavailable, match="set back"):
        ear.check("main")
    grid.here["c"], grid.archive.marks = False, (3, 7)
    ear.step()
    assert ear.is_heard("main", "b")
    assert not ear.is_heard("main", "c")
    assert not ear.may_state("main")
    grid.here["c"] = True
    ear.step()
    assert not ear.awaited()
    assert not ear.may_state("main"), "what was said is still to be stated"
    grid.archive.marks = (8, 9)
    ear.step()
    assert ear.may_state("main"), "what came later need not be waited for"
    assert grid.ear(states[0]).may_state("main"), "nor is anybody after the next start"


def test_who_cannot_be_asked_is_waited_for_a_while_and_asked_when_it_returns(
    states: tuple[State, State],
) -> None:
    grid = Grid()
    grid.here["c"] = False
    ear = grid.ear(states[0], "main")
    ear.step()
    assert ear.awaited() == ["c"]
    grid.now = PATIENCE + 1
    assert not ear.awaited()
    ear.step()
    assert ear.may_state("main")
    assert not ear.is_heard("main", "c"), "it may know better, so it is told nothing"
    grid.here["c"] = True
    ear.step()
    assert ear.is_heard("main", "c")
    assert grid.asked == ["b", "c"]
