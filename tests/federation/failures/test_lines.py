"""Lines between hospitals fail: each goes on with what it has, and in the end both have the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from sim.association import COMMITMENT, Association
from sim.committing import request_of
from sim.links import CALM, SILENT, Weather
from sim.pdu import Address
from tests.grid import LinkedNode
from tests.running import until
from tests.workstation import ask, get, object_of, rows, send

CT = "1.2.840.10008.5.1.4.1.1.2"
ALL = ("catalog", "find_live", "retrieve")
_COMMITTED = 1
_roots = count(1)
Pair = tuple[LinkedNode, LinkedNode]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Alpha and beta, each at the end of a line of its own; each grants the other all."""
    home = tmp_path_factory.mktemp("grid")
    nodes = LinkedNode(home / "alpha", "alpha"), LinkedNode(home / "beta", "beta")
    try:
        for node in nodes:
            node.start(**node.env)
        alpha, beta = nodes
        alpha.admit(beta)
        beta.grant(alpha)
        yield nodes
    finally:
        for node in nodes:
            node.close()


@pytest.fixture
def root(pair: Pair) -> str:
    """Return a UID that no other test uses, below which studies are made; both nodes are connected."""
    for node in pair:
        node.heal()
    until(lambda: pair[0].is_connected(pair[1]) and pair[1].is_connected(pair[0]), 40)
    return f"1.2.{next(_roots)}"


def stored(node: LinkedNode, folder: Path, *uids: str) -> None:
    """Send studies of two series each."""
    folder.mkdir(exist_ok=True)
    send(node, *(object_of(folder, uid, series) for uid in uids for series in ("1", "2")))


def is_committed(node: LinkedNode, uid: str) -> bool:
    """Ask a node to commit to a study that was sent to it, and say whether it did, to all of it."""
    asked = [(CT, f"{uid}.{series}.1") for series in ("1", "2")]
    with Association(Address(node.ae_title, node.port), [COMMITMENT]) as association:
        kind, _ = association.commit(request_of(f"2.25.{time.time_ns()}", asked))
    return kind == _COMMITTED


def found(node: LinkedNode, root: str) -> dict[str, str]:
    """Return study → availability of what a node's grid finds below a root."""
    return {uid: where for uid, where in rows(ask(node)) if uid.startswith(f"{root}.")}


def are_near(pair: Pair, root: str) -> bool:
    """Say whether each has one study itself and can have the other's."""
    return all(sorted(found(node, root).values()) == ["NEARLINE", "ONLINE"] for node in pair)


def seconds_of(node: LinkedNode, root: str) -> tuple[float, dict[str, str]]:
    """Return how long the grid's answer took, and what it was."""
    started = time.monotonic()
    answer = found(node, root)
    return time.monotonic() - started, answer


def are_level(pair: Pair) -> bool:
    """Say whether each knows that it is not behind the other, and that the other is not behind it."""
    told = [(one.peer(other.name), two) for one, two in (pair, pair[::-1]) for other in (two,)]
    return all(lag["behind"] == 0 for peer, _ in told for lag in (*peer["lag"], *peer["their_lag"]))


def told_of(node: LinkedNode, root: str) -> list[tuple[str, ...]]:
    """Return what a node's grid says of the studies below a root, but where they are."""

    def line(row: Dataset) -> tuple[str, ...]:
        words = (row.StudyInstanceUID, row.PatientName, row.StudyDate, row.AccessionNumber)
        return (*map(str, words), str(row.NumberOfStudyRelatedSeries), str(row.NumberOfStudyRelatedInstances))

    asked = dict.fromkeys(
        ("PatientName", "StudyDate", "AccessionNumber", "NumberOfStudyRelatedSeries",
         "NumberOfStudyRelatedInstances"), ""
    )  # fmt: skip
    return sorted(line(row) for row in ask(node, **asked)[0] if row.StudyInstanceUID.startswith(f"{root}."))


def goes_on_alone(node: LinkedNode, folder: Path, root: str, own: str, other: str) -> None:
    """Make sure that a hospital without its line stores, finds, gives and commits to what it has."""
    before = f"{root}.{other}"
    until(lambda: found(node, root).get(before) == "UNAVAILABLE", 25)
    for name in ("8", "9"):
        uid = f"{root}.{own}{name}"
        stored(node, folder, uid)
        took, answer = seconds_of(node, root)
        assert answer[uid] == "ONLINE"
        assert answer[before] == "UNAVAILABLE", "what the other has stays listed"
        assert took < 2, "nobody waits for who cannot be reached"
        assert is_committed(node, uid)
        got, status, _, _ = get(node, uid, "WS")
        assert (len(got), status.Status) == (2, 0)


def test_without_the_wan_both_hospitals_work_and_afterwards_know_the_same(
    pair: Pair, root: str, tmp_path: Path
) -> None:
    """The line is cut: connections are refused, so both know at once."""
    alpha, beta = pair
    stored(alpha, tmp_path / "sent", f"{root}.1")
    stored(beta, tmp_path / "sent", f"{root}.2")
    until(lambda: are_near(pair, root))
    alpha.cut()
    goes_on_alone(alpha, tmp_path / "alpha", root, "1", "2")
    goes_on_alone(beta, tmp_path / "beta", root, "2", "1")
    assert len(found(alpha, root)) == len(found(beta, root)) == 4
    assert ask(alpha)[1].Status == 0, "from copies that are not too old it is a whole answer"
    alpha.heal()
    until(lambda: told_of(alpha, root) == told_of(beta, root) and len(found(alpha, root)) == 6, 40)
    until(lambda: set(found(alpha, root).values()) == {"ONLINE", "NEARLINE"})
    until(lambda: are_level(pair))
    got, status, _, _ = get(alpha, f"{root}.29", "WS")
    assert (len(got), status.Status) == (2, 0)


def test_over_a_slow_line_that_loses_packets_everything_comes_once(
    pair: Pair, root: str, tmp_path: Path
) -> None:
    alpha, beta = pair
    bad = Weather(delay=0.15, rate=1e6, loss=0.05)
    alpha.be(bad, bad)
    stored(alpha, tmp_path / "sent", *(f"{root}.{n}" for n in range(8)))
    stored(beta, tmp_path / "sent", *(f"{root}.{n}" for n in range(8, 16)))
    until(lambda: len(found(alpha, root)) == len(found(beta, root)) == 16)
    assert len(rows(ask(alpha))) == len(set(rows(ask(alpha)))), "no row comes twice"
    until(lambda: are_level(pair))
    took, _ = seconds_of(beta, root)
    assert took < 2, "the catalog that is here answers, whatever the line is like"
    got, status, _, _ = get(beta, f"{root}.3", "WS")
    assert ({data.SOPInstanceUID for data in got}, status.Status) == (
        {f"{root}.3.1.1", f"{root}.3.2.1"}, 0,
    )  # fmt: skip
    assert beta.is_connected(alpha)


def test_the_owner_says_what_a_peer_may_do_and_when_whatever_the_peer_knows(
    pair: Pair, root: str, tmp_path: Path
) -> None:
    """Beta has seen the study and believes that it may fetch it; alpha decides at every call."""
    alpha, beta = pair
    uid = f"{root}.1"
    stored(alpha, tmp_path / "sent", uid)
    until(lambda: found(beta, root) == {uid: "NEARLINE"})
    everything = "beta/everything"
    try:
        alpha.say("grants", "remove", everything)
        alpha.say("grants", "add", "beta", "everything", "catalog", "find_live")
        before = len(_fetches_asked_of(alpha))
        got, status, _, _ = get(beta, uid, "WS")
        assert (got, status.Status, found(beta, root)) == ([], 0xA702, {uid: "NEARLINE"})
        refused = until(lambda: _fetches_asked_of(alpha)[before:])
        assert {each["ae"] for each in refused} == {"WS"}
        later = (time.localtime().tm_hour + 2) % 24
        alpha.say("grants", "remove", everything)
        alpha.say("grants", "add", "beta", "everything", *ALL, "--hours", f"{later}-{(later + 1) % 24}")
        got, status, _, _ = get(beta, uid, "WS")
        assert (got, status.Status) == ([], 0xA702), "not at this hour"
        alpha.say("grants", "remove", everything)
        alpha.say("grants", "add", "beta", "everything", *ALL, "--purpose", "research")
        got, status, _, _ = get(beta, uid, "WS")
        assert (got, status.Status) == ([], 0xA702), "not for treatment"
        alpha.say("grants", "add", "beta", "everything", *ALL, "--purpose", "research", "--role", "user")
        beta.say("devices", "add", "TRIAL", "--services", "find,get", "--purpose", "research")
        got, status, _, _ = get(beta, uid, "TRIAL")
        assert (got, status.Status) == ([], 0xA702), "not for devices"
        alpha.say("grants", "add", "beta", "everything", *ALL, "--purpose", "research", "--role", "ae")
        until(lambda: get(beta, uid, "TRIAL")[1].Status == 0)
        until(lambda: "research" in {each["purpose"] for each in _fetches_asked_of(alpha)})
    finally:
        alpha.say("grants", "remove", everything)
        alpha.grant(beta)
    until(lambda: found(beta, root) == {uid: "NEARLINE"})
    until(lambda: get(beta, uid, "WS")[1].Status == 0)


def _fetches_asked_of(node: LinkedNode) -> list[dict[str, Any]]:
    details = [row["detail"] for row in node.audit("grid")]
    return [each for each in details if "Fetch" in each["call"] and each["direction"] == "in"]


@pytest.mark.slow
def test_a_line_that_falls_silent_is_noticed_within_a_heartbeat_and_forgiven(
    pair: Pair, root: str, tmp_path: Path
) -> None:
    """Nobody is told: neither a refusal nor an end of a connection, as behind a firewall that drops."""
    alpha, beta = pair
    stored(alpha, tmp_path / "sent", f"{root}.1")
    stored(beta, tmp_path / "sent", f"{root}.2")
    until(lambda: are_near(pair, root))
    alpha.fall_silent()
    started = time.monotonic()
    took, answer = seconds_of(alpha, root)
    assert (len(answer), took < 2) == (2, True)
    for node, other in ((alpha, "2"), (beta, "1")):
        until(lambda node=node, other=other: found(node, root)[f"{root}.{other}"] == "UNAVAILABLE", 30)  # type: ignore[misc]
    noticed = time.monotonic() - started
    assert noticed < 20
    goes_on_alone(alpha, tmp_path / "alpha", root, "1", "2")
    goes_on_alone(beta, tmp_path / "beta", root, "2", "1")
    alpha.heal()
    healed = time.monotonic()
    until(lambda: told_of(alpha, root) == told_of(beta, root) and len(found(alpha, root)) == 6, 90)
    print(f"noticed after {noticed:.1f} s; level {time.monotonic() - healed:.1f} s after it was over")
    until(lambda: are_level(pair))


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "got"), [(SILENT, CALM), (CALM, SILENT)], ids=["out", "in"])
def test_a_line_of_one_direction_is_none_and_costs_nobody_time(
    pair: Pair, root: str, tmp_path: Path, sent: Weather, got: Weather
) -> None:
    alpha, beta = pair
    stored(alpha, tmp_path / "sent", f"{root}.1")
    stored(beta, tmp_path / "sent", f"{root}.2")
    until(lambda: are_near(pair, root))
    alpha.be(sent, got)
    for node in pair:
        took, answer = seconds_of(node, root)
        assert (len(answer), took < 2) == (2, True)
    goes_on_alone(alpha, tmp_path / "alpha", root, "1", "2")
    goes_on_alone(beta, tmp_path / "beta", root, "2", "1")
    alpha.heal()
    until(lambda: told_of(alpha, root) == told_of(beta, root) and len(found(alpha, root)) == 6, 90)
    assert len(rows(ask(alpha))) == len(set(rows(ask(alpha))))
    until(lambda: are_level(pair))


@pytest.mark.slow
def test_a_peer_behind_a_very_slow_line_slows_nobody_but_itself(
    pair: Pair, root: str, tmp_path: Path
) -> None:
    """64 kbit/s: a retrieve takes as long as it takes; questions and local work do not wait for it."""
    alpha, beta = pair
    stored(alpha, tmp_path / "sent", f"{root}.1")
    until(lambda: found(beta, root) == {f"{root}.1": "NEARLINE"})
    alpha.be(Weather(rate=8000), Weather(rate=8000))
    stored(beta, tmp_path / "sent", f"{root}.2")
    for _ in range(5):
        took, answer = seconds_of(beta, root)
        assert (len(answer), took < 1) == (2, True)
    got, status, _, took = get(beta, f"{root}.1", "WS")
    assert (len(got), status.Status) == (2, 0)
    assert took > 5, "39 KB twice at 8 KB a second"
    answers, final = ask(beta, KVP="120")
    assert (final.Status in (0, 0xA700), took < 60) == (True, True)
    assert {row.StudyInstanceUID for row in answers} >= {f"{root}.2"}
