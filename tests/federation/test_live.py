"""Owners are asked themselves: in time, or what is known of them stands in for them and that is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from threading import Timer
from time import monotonic

import msgspec
import pytest

from catalog import Change, Decision, Head, Level, Query, Verb
from federation.asking import answer
from federation.fanout import BUDGET, Breaker, Round
from federation.identities import Asker
from federation.live import Done, LiveGrid, Mode
from federation.messages import SnapshotBegin, SnapshotEnd, SnapshotPart
from federation.mirror_rows import HashedStudy
from federation.outcomes import Ending, Manners, Part, decide
from federation.serving import LogOwner
from tests.catalog.samples import Shelf, Ticking, arrival, data_set, open_catalog, query
from tests.federation.grids import MAP_SIZE, Node
from tests.federation.test_union import values
from tests.federation.unions import ANYBODY, Seen


def breakers(*sources: int) -> dict[int, Breaker]:
    return {source: Breaker(Random(source)) for source in sources}


def test_a_round_is_over_when_all_have_answered() -> None:
    round = Round((1, 2), breakers(1, 2), has_copy=frozenset(), now=0.0)
    assert round.asked() == {1: BUDGET, 2: BUDGET}
    round.answered(1, [], False, 0.1)
    assert round.until(0.1) == BUDGET
    round.answered(2, [], False, 0.2)
    assert round.until(0.2) is None
    assert all(reply.is_answered for reply in round.replies.values())


def test_who_has_a_copy_here_is_waited_for_half_the_deadline_only_but_wins_before() -> None:
    known = breakers(1, 2)
    round = Round((1, 2), known, has_copy=frozenset((1,)), now=0.0, deadline=2.0)
    assert round.until(0.0) == BUDGET, "the other has none"
    round.answered(1, [], False, 1.2)
    round.answered(2, [], False, 1.3)
    assert round.until(1.3) is None
    round = Round((1, 2), known, has_copy=frozenset((1, 2)), now=10.0, deadline=2.0)
    assert round.until(10.0) == 11.0
    assert round.until(11.0) is None
    assert [reply.error for reply in round.replies.values()] == ["it did not answer in time"] * 2


def test_what_comes_too_late_is_as_if_it_had_not() -> None:
    round = Round((1,), breakers(1), has_copy=frozenset(), now=0.0)
    assert round.until(1.6) is None
    round.answered(1, [], False, 1.7)
    assert not round.replies[1].is_answered


def test_a_breaker_opens_after_three_failures_and_probes_ever_more_rarely() -> None:
    breaker = Breaker(Random(1))
    for now in (0.0, 1.0, 2.0):
        assert breaker.admits(now)
        breaker.failed(now)
    assert not breaker.admits(2.7)
    now, probes = 2.0, []
    while len(probes) < 9:
        now += 0.1
        if breaker.admits(now):
            probes.append(now)
            breaker.failed(now)
    gaps = [later - sooner for sooner, later in zip([2.0, *probes], probes, strict=False)]
    assert 0.8 <= gaps[0] <= 1.5
    assert 48 <= gaps[-1] <= 84.2
    breaker.succeeded(0.1)
    assert breaker.admits(now)


def test_the_budget_of_one_who_is_always_fast_is_short() -> None:
    breaker = Breaker(Random(1))
    assert breaker.budget == BUDGET
    for _ in range(50):
        breaker.succeeded(0.2)
    assert breaker.budget == pytest.approx(0.6)
    breaker.succeeded(5.0)
    assert breaker.budget == BUDGET


class Reach:
    """Asks the nodes of a grid in this process; some are silent, or slow."""

    def __init__(self, grid: Seen) -> None:
        self._grid = grid
        self.silent: set[bytes] = set()
        self.slow: dict[bytes, float] = {}
        self.asked: list[bytes] = []
        self.now = 0.0
        self._breakers: dict[int, Breaker] = {}

    def breaker(self, source: int) -> Breaker:
        return self._breakers.setdefault(source, Breaker(Random(source)))

    def ask(
        self, source: int, query: Query, limit: int, seconds: float, done: Callable[[Done], None]
    ) -> None:
        name = self._grid.here.mirror.sources()[source][0]
        self.asked.append(name)
        if name in self.silent:
            return
        matches = list(answer(self._grid.peers[name].catalog, 0, query, limit))
        reply = Done(source, matches[:limit], len(matches) > limit)
        if name in self.slow:
            Timer(self.slow[name], done, (reply,)).start()
        else:
            done(reply)


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[Seen]:
    clock = Ticking()
    nodes = [Node(tmp_path / name, clock) for name in ("alpha", "beta", "gamma")]
    seen = Seen(*nodes)
    yield seen
    seen.close()


@pytest.fixture
def reach(grid: Seen) -> Reach:
    return Reach(grid)


@pytest.fixture
def live(grid: Seen, reach: Reach) -> LiveGrid:
    return LiveGrid(grid.grid, reach.ask, reach.breaker, monotonic)


def state_all(grid: Seen) -> None:
    for node in (grid.here, *grid.peers.values()):
        node.clock.now += 3
        node.publish()


def ask(
    live: LiveGrid, question: Query, mode: Mode, deadline: float = 2.0
) -> tuple[list[object], list[Part]]:
    answers, outcomes = live.ask(question, ANYBODY, mode, deadline)
    return values(list(answers), "0020000D"), [each.part for each in outcomes]


def test_live_sees_what_no_mirror_has_yet_and_forgets_what_is_gone(grid: Seen, live: LiveGrid) -> None:
    beta, gamma = grid.peers.values()
    beta.catalog.record([arrival("1", "1.1", "1.1.1"), arrival("2", "2.1", "2.1.1")])
    grid.sync()
    beta.catalog.decide(Decision(id="r", verb=Verb.REJECT, target=("1",), reason="", who="", when=1))
    gamma.catalog.record([arrival("3", "3.1", "3.1.1"), arrival("2", "2.2", "2.2.1")])
    state_all(grid)
    question = query(Level.STUDY, PatientID="4711", **{"00201206": {"vr": "IS"}})
    assert ask(live, question, Mode.SYNCED) == (["1", "2"], [Part.MIRROR, Part.MIRROR])
    assert ask(live, question, Mode.LIVE) == (["2", "3"], [Part.LIVE, Part.LIVE])
    answers, _ = live.ask(question, ANYBODY, Mode.LIVE)
    assert values(list(answers), "00201206") == [2, 1]


def test_hybrid_asks_only_those_whose_copies_are_old(grid: Seen, reach: Reach, live: LiveGrid) -> None:
    beta, gamma = grid.peers.values()
    beta.catalog.record([arrival("1", "1.1", "1.1.1")])
    grid.sync()
    gamma.catalog.record([arrival("2", "2.1", "2.1.1")])
    state_all(grid)
    grid.ages[b"gamma"] = 60.0
    question = query(Level.STUDY, PatientID="4711")
    assert ask(live, question, Mode.HYBRID) == (["1", "2"], [Part.MIRROR, Part.LIVE])
    assert reach.asked == [b"gamma"]


def test_a_silent_site_costs_half_the_deadline_and_its_copy_stands_in(
    grid: Seen, reach: Reach, live: LiveGrid
) -> None:
    beta, gamma = grid.peers.values()
    for node, uid in ((beta, "1"), (gamma, "2")):
        node.catalog.record([arrival(uid, f"{uid}.1", f"{uid}.1.1")])
    grid.sync()
    reach.silent = {b"gamma"}
    question = query(Level.STUDY, PatientID="4711")
    start = monotonic()
    assert ask(live, question, Mode.LIVE, 1.2) == (["1", "2"], [Part.LIVE, Part.FALLBACK])
    assert 0.45 < monotonic() - start < 1.2
    grid.ages[b"gamma"] = None
    start = monotonic()
    answers, outcomes = live.ask(question, ANYBODY, Mode.LIVE, 1.2)
    assert (outcomes[1].part, outcomes[1].error) == (Part.NONE, "it did not answer in time")
    assert 1.05 < monotonic() - start < 2.4
    assert "1" in values(list(answers), "0020000D")


def test_who_is_known_to_be_down_is_not_waited_for(grid: Seen, reach: Reach, live: LiveGrid) -> None:
    grid.sync()
    grid.down = {b"beta"}
    assert ask(live, query(Level.STUDY), Mode.LIVE) == ([], [Part.FALLBACK, Part.LIVE])
    assert reach.asked == [b"gamma"]


def test_keys_outside_the_fixed_table_are_judged_by_who_holds_the_instances(tmp_path: Path) -> None:
    clock, shelf = Ticking(), Shelf()
    alpha, beta = Node(tmp_path / "alpha", clock), Node(tmp_path / "beta", clock)
    beta.catalog.close()
    beta.catalog = open_catalog(beta.home, map_size=MAP_SIZE, clock=clock, shelf=shelf)
    kvp = "00180060"
    for n in range(3):
        keys = data_set(f"{n}", f"{n}.1", f"{n}.1.1", **{kvp: {"vr": "DS", "Value": [f"{80 + 20 * n}"]}})
        beta.catalog.record([shelf.arrival(keys)])
    beta.owner = LogOwner(beta.catalog)
    grid = Seen(alpha, beta)
    grid.sync()
    reach = Reach(grid)
    live = LiveGrid(grid.grid, reach.ask, reach.breaker, monotonic)
    for level, above in (
        (Level.STUDY, {}),
        (Level.SERIES, {"StudyInstanceUID": "1"}),
        (Level.IMAGE, {"StudyInstanceUID": "1", "SeriesInstanceUID": "1.1"}),
    ):
        question = query(level, **above, **{kvp: {"vr": "DS", "Value": ["100"]}})
        assert ask(live, question, Mode.SYNCED)[0] == []
        answers, outcomes = live.ask(question, ANYBODY, Mode.LIVE)
        found = list(answers)
        assert values(found, "0020000D") == ["1"]
        assert values(found, kvp) in ([100], [100.0], ["100"])
        assert [each.part for each in outcomes] == [Part.LIVE]
    grid.close()


def test_who_has_more_matches_than_it_tells_is_missing_where_its_copy_cannot_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.live.MOST_MATCHES", 3)
    clock, shelf = Ticking(), Shelf()
    alpha, beta = Node(tmp_path / "alpha", clock), Node(tmp_path / "beta", clock)
    beta.catalog.close()
    beta.catalog = open_catalog(beta.home, map_size=MAP_SIZE, clock=clock, shelf=shelf)
    for n in range(5):
        keys = data_set(f"{n}", f"{n}.1", f"{n}.1.1", **{"00180060": {"vr": "DS", "Value": ["100"]}})
        beta.catalog.record([shelf.arrival(keys)])
    beta.owner = LogOwner(beta.catalog)
    grid = Seen(alpha, beta)
    grid.sync()
    reach = Reach(grid)
    live = LiveGrid(grid.grid, reach.ask, reach.breaker, monotonic)
    answers, outcomes = live.ask(query(Level.STUDY, PatientID="4711"), ANYBODY, Mode.LIVE)
    assert len(list(answers)) == 5, "the copy knows the rest"
    assert decide(outcomes, Manners()).ending is Ending.COMPLETE
    question = query(Level.STUDY, **{"00180060": {"vr": "DS", "Value": ["100"]}})
    answers, outcomes = live.ask(question, ANYBODY, Mode.LIVE)
    assert len(list(answers)) == 3
    assert decide(outcomes, Manners()) == (Ending.FAIL, "none: site beta")
    grid.close()


class _Hashes:
    """Keyed hashes as an owner makes them."""

    def study(self, StudyInstanceUID: str) -> bytes:
        return b"study " + StudyInstanceUID.encode()

    def patient(self, IssuerOfPatientID: str, PatientID: str) -> bytes:
        return f"patient {IssuerOfPatientID} {PatientID}".encode()

    def accession(self, AccessionNumber: str) -> bytes:
        return b"accession " + AccessionNumber.encode()


def test_a_peer_that_grants_only_hashes_is_asked_when_one_is_meant_and_left_alone_when_none_is(
    grid: Seen, reach: Reach, live: LiveGrid
) -> None:
    beta = grid.peers[b"beta"]
    beta.catalog.record([arrival("1", "1.1", "1.1.1", AccessionNumber="A7", issuer="BETA")])
    state_all(grid)
    source = grid.here.mirror.source(b"beta", 0)
    hashes = _Hashes()
    row = HashedStudy(1, hashes.study("1"), hashes.patient("BETA", "4711"), hashes.accession("A7"))
    at = Head(1, 1, bytes(8))
    grid.here.mirror.begin(source, SnapshotBegin(at))
    part = SnapshotPart(at, at, b"", b"hash", [Change(1, b"hash", msgspec.msgpack.encode(row))])
    grid.here.mirror.extend(source, part)
    grid.here.mirror.finish(source, SnapshotEnd(at, b"hash"))
    del grid.peers[b"gamma"]
    grid.hashes[b"beta"] = hashes
    for keys in ({"AccessionNumber": "A7"}, {"StudyInstanceUID": "1"}, {"PatientName": "DOE*"}):
        assert ask(live, query(Level.STUDY, **keys), Mode.SYNCED) == (["1"], [Part.LIVE])
    reach.asked.clear()
    for keys in ({"AccessionNumber": "A8"}, {"StudyInstanceUID": "2"}, {"PatientID": "4711"}):
        answers, outcomes = live.ask(query(Level.STUDY, **keys), Asker("ALPHA"), Mode.SYNCED)
        assert (list(answers), [each.part for each in outcomes]) == ([], [Part.MIRROR])
    assert reach.asked == []
    answers, _ = live.ask(query(Level.STUDY, PatientID="BETA/4711"), Asker("ALPHA"), Mode.SYNCED)
    assert values(list(answers), "00100020") == ["BETA/4711"]
    reach.silent = {b"beta"}
    answers, outcomes = live.ask(query(Level.STUDY, AccessionNumber="A7"), ANYBODY, Mode.SYNCED, 0.1)
    assert list(answers) == []
    assert not outcomes[0].can_judge
