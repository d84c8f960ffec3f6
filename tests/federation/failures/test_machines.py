"""Machines fail hospitals: an old copy is put back, one runs twice, clocks are wrong, one is expelled."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sim.clocks import by_clock
from sim.links import Weather
from sim.ports import free_port
from tests.grid import LinkedNode
from tests.running import until
from tests.workstation import ask, get, kept_at, object_of, rows, send

pytestmark = pytest.mark.slow
DAY = 86_400
Pair = tuple[LinkedNode, LinkedNode]
Make = Callable[..., LinkedNode]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return what makes a node and starts it, by a clock that may be wrong."""
    nodes: list[LinkedNode] = []

    def start(name: str, skew: str = "") -> LinkedNode:
        node = LinkedNode(tmp_path / name, name)
        nodes.append(node)
        node.start(**node.env, **by_clock(skew))
        return node

    yield start
    for node in nodes:
        node.close()


@pytest.fixture
def pair(make: Make) -> Pair:
    """Alpha and beta, each granting the other all."""
    alpha, beta = make("alpha"), make("beta")
    alpha.admit(beta)
    beta.grant(alpha)
    return alpha, beta


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def seen(node: LinkedNode) -> dict[str, str]:
    return dict(rows(ask(node)))


def is_told(node: LinkedNode, *words: str) -> bool:
    return any(all(word in line["detail"]["what"] for word in words) for line in node.audit("alarm"))


def test_a_machine_set_back_to_an_old_copy_is_found_out_even_when_it_wrote_past_it(
    pair: Pair, files: Path, tmp_path: Path
) -> None:
    alpha, beta = pair
    send(beta, object_of(files, "1.2.1"))
    until(lambda: seen(alpha) == {"1.2.1": "NEARLINE"})
    beta.stop()
    shutil.copytree(beta.home, tmp_path / "copy", symlinks=True)
    beta.start(**beta.env)
    send(beta, object_of(files, "1.2.2"), object_of(files, "1.2.3"))
    until(lambda: seen(alpha).keys() == {"1.2.1", "1.2.2", "1.2.3"}, 60)

    beta.stop()
    shutil.rmtree(beta.home)
    (tmp_path / "copy").rename(beta.home)
    beta.cut()
    beta.start(**beta.env)
    send(beta, *(object_of(files, f"1.2.{n}") for n in (4, 5, 6, 7)))
    beta.heal()
    kept = {f"1.2.{n}": "NEARLINE" for n in (1, 4, 5, 6, 7)}
    until(lambda: seen(alpha) == kept, 90)
    until(lambda: is_told(alpha, "beta", "new history"))
    until(lambda: [lag["behind"] for lag in alpha.peer("beta")["lag"]] == [0])
    for uid in kept:
        assert get(alpha, uid, "WS")[1].Status == 0


def test_a_machine_that_runs_twice_is_refused_the_second_time_and_both_sides_are_told(
    pair: Pair, files: Path, tmp_path: Path
) -> None:
    alpha, beta = pair
    send(beta, object_of(files, "1.2.1"))
    until(lambda: seen(alpha) == {"1.2.1": "NEARLINE"})
    beta.stop()
    clone = copy.copy(beta)
    clone.home = tmp_path / "clone"
    shutil.copytree(beta.home, clone.home, symlinks=True)
    beta.start(**beta.env)
    until(lambda: alpha.is_connected(beta))
    clone.port = free_port()
    doors = ("DICOM__PORT", "GRID__PORT", "GRID__JOIN_PORT", "WATCH__PORT")
    clone.env = beta.env | {f"PEERPACS__{door}": str(free_port()) for door in doors}
    clone.env["PEERPACS__DICOM__PORT"] = str(clone.port)
    clone.start(**clone.env)
    try:
        until(lambda: is_told(alpha, "beta", "another machine with the same identity"), 40)
        send(clone, object_of(files, "1.2.66"))
        send(beta, object_of(files, "1.2.2"))
        until(lambda: seen(alpha) == {"1.2.1": "NEARLINE", "1.2.2": "NEARLINE"})
        assert "another machine" in clone.say("peers", code=1)
        assert rows(ask(clone, called="BETA")), "it works on as a hospital without a line"
    finally:
        clone.stop()
    assert alpha.is_connected(beta)
    assert seen(alpha) == {"1.2.1": "NEARLINE", "1.2.2": "NEARLINE"}


@pytest.mark.parametrize("skew", ["+2h", "-40m"])
def test_a_clock_that_is_off_changes_nothing_but_is_told(make: Make, files: Path, skew: str) -> None:
    """Certificates count from an hour before they were made, so that a clock may be that much behind."""
    alpha, beta = make("alpha"), make("beta")
    alpha.admit(beta)
    beta.grant(alpha)
    beta.stop()
    beta.start(**beta.env, **by_clock(skew))
    until(lambda: alpha.is_connected(beta), 60)
    for number, node in enumerate((alpha, beta, alpha, beta)):
        send(node, object_of(files, f"1.2.{number}"))
    for node in (alpha, beta):
        until(lambda node=node: len(seen(node)) == 4, 60)  # type: ignore[misc]
        until(lambda node=node: set(seen(node).values()) == {"ONLINE", "NEARLINE"})  # type: ignore[misc]
        assert ask(node)[1].Status == 0, "how old a copy is, is counted by one's own clock alone"
        assert is_told(node, "clock", "ahead of" if (skew[0] == "+") == (node is alpha) else "behind")
    assert get(alpha, "1.2.1", "WS")[1].Status == 0


def test_a_certificate_that_ended_closes_the_grid_to_its_node_which_works_on_alone(
    make: Make, files: Path
) -> None:
    """The node was off, or its clock is wrong, by forty days: certificates count thirty."""
    alpha, beta = make("alpha"), make("beta")
    alpha.admit(beta)
    send(alpha, object_of(files, "1.2.1"))
    until(lambda: seen(beta) == {"1.2.1": "NEARLINE"})
    beta.stop()
    beta.start(**beta.env, **by_clock("+40d"))
    send(beta, object_of(files, "1.2.2"))
    assert rows(ask(beta, called="BETA")) == [("1.2.2", "ONLINE")]
    started = time.monotonic()
    answers = ask(beta)
    assert time.monotonic() - started < 3
    assert {row.StudyInstanceUID for row in answers[0]} == {"1.2.1", "1.2.2"}
    assert answers[1].Status == 0xA700, "a copy that is forty days old is no answer to whoever was not asked"
    assert seen(beta)["1.2.1"] == "UNAVAILABLE"
    assert not alpha.is_connected(beta)
    said = beta.say("peers", code=1)
    assert "certificate" in said.lower(), said
    beta.stop()
    beta.start(**beta.env)
    until(lambda: seen(beta) == {"1.2.1": "NEARLINE", "1.2.2": "ONLINE"}, 60)


def test_who_is_expelled_in_the_middle_of_a_retrieve_gets_no_more_within_five_seconds(
    pair: Pair, tmp_path: Path
) -> None:
    """The line is slow, so that the stream is alive for half a minute; what is on it passes in a second."""
    alpha, beta = pair
    uid, paths = kept_at(alpha, tmp_path / "sent", 31, 180, 500_000)
    until(lambda: uid in seen(beta))
    until(lambda: seen(beta)[uid] == "NEARLINE")
    beta.be(got=Weather(rate=3e6))
    ended: list[float] = []

    def expel(count: int) -> None:
        if count == 3:
            alpha.say("revoke", "beta", "--yes")
            ended.append(time.monotonic())

    got, status, _, _ = get(beta, uid, "WS", on_object=expel)
    took = time.monotonic() - ended[0]
    assert status.Status in (0xB000, 0xA702)
    assert len(got) < len(paths)
    assert took < 6, "five seconds, and the answer"
    print(f"cut {took:.2f} s after the word, {len(got)} of {len(paths)} were through")
    until(lambda: uid not in seen(beta) or seen(beta)[uid] == "UNAVAILABLE", 20)
