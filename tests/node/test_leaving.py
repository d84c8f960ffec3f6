"""A hospital leaves the grid: all of its own stays with it, the others drop theirs and sign for it."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.copies.ledger import Ledger
from tests.grid import GridNode
from tests.node.copies import KEEPS, hospitals, kept, sent, wait_until_met
from tests.running import PEERPACS, until
from tests.workstation import ask, get, is_seen, rows

pytestmark = pytest.mark.slow

DIES = """
import os, sys
from node.app.departing import Departing
Departing._end = lambda self, grid, told: os._exit(9)
from node.cli import main
main(sys.argv[1:])
"""
"""A node that is killed when the others, its authority too, have let it go."""


@pytest.fixture
def four(tmp_path: Path) -> Iterator[list[GridNode]]:
    """Alpha, the authority, and three others."""
    nodes = hospitals(tmp_path / "grid", "alpha", "beta", "gamma", "delta")
    yield nodes
    for node in nodes:
        if node.process is not None:
            node.stop()


def test_who_leaves_keeps_its_own_and_is_given_receipts_for_what_the_others_drop(
    four: list[GridNode], tmp_path: Path
) -> None:
    alpha, beta, gamma, delta = four
    for other in (alpha, gamma, delta):
        beta.grant(other, *KEEPS)
    beta.say("copies", "add", "all", "--copies", "3", "--must", "alpha", "--must", "GAMMA")
    uid, _ = sent(beta, tmp_path / "a", 31, 4)
    wait_until_met(beta, 1)
    until(lambda: kept(alpha) == 4)
    until(lambda: is_seen(delta, uid))
    got, final, _, _ = get(delta, uid, as_ae="WS")
    assert (final.Status, len(got)) == (0, 4)
    gamma.kill()
    until(lambda: not beta.is_connected(gamma))
    assert "No other authority" in alpha.say("leave", "--yes", code=2)
    beta.say("correct", uid, "StudyDescription=LATE", "--reason", "gamma is to hear it")
    until(lambda: beta.told("transfers", "list"))

    told = beta.told("leave", "--yes", code=3)
    receipts = {each["name"]: each for each in told["receipts"]}
    assert (receipts["alpha"]["studies"], receipts["alpha"]["copies"]) == (1, 4)
    assert receipts["delta"]["cached"] == 4
    assert [each["name"] for each in told["owing"]] == ["gamma"]
    assert json.loads(Path(told["file"]).read_text())["receipts"] == told["receipts"]
    assert kept(alpha) == 0
    for node in (alpha, delta):
        until(lambda node=node: node.peer("beta")["state"] == "left")  # type: ignore[misc]
        until(lambda node=node: not ask(node)[0])  # type: ignore[misc]
    assert "in no grid" in beta.say("peers", code=1)
    until(lambda: not beta.told("transfers", "list"), 120)
    assert rows(ask(beta, called="BETA")) == [(uid, "ONLINE")], "its own studies are all there"
    assert len(get(beta, uid, as_ae="WS", called="BETA")[0]) == 4

    gamma.start(**gamma.env)
    until(lambda: gamma.peer("beta")["state"] == "left", 40)
    until(lambda: kept(gamma) == 0)
    assert not ask(gamma)[0], "who was away carries it out when it is back"

    alpha.admit(beta, "replica-peer")
    beta.grant(alpha)
    until(lambda: is_seen(alpha, uid))


def test_a_hospital_that_closes_has_all_its_studies_and_the_others_drop_theirs_and_sign(
    tmp_path: Path,
) -> None:
    alpha, beta, gamma = nodes = hospitals(tmp_path / "grid", "alpha", "beta", "gamma")
    try:
        for other in (alpha, gamma):
            beta.grant(other, *KEEPS)
        beta.say("copies", "add", "all", "--copies", "3", "--must", "alpha", "--must", "GAMMA")
        alpha.say("copies", "add", "all", "--copies", "2", "--must", "BETA")
        beta.stop()
        beta.env |= {"PEERPACS__COPIES__NEARLINE_ABOVE_MB": "2", "PEERPACS__COPIES__NEARLINE_AFTER_DAYS": "0"}
        beta.start(**beta.env)
        own = [sent(beta, tmp_path / str(number), 91 + number, 10, 500_000) for number in range(2)]
        foreign, files = sent(alpha, tmp_path / "foreign", 95, 3)
        until(lambda: "NEARLINE" in {each for _, each in rows(ask(beta, called="BETA"))}, 120)
        until(lambda: (kept(alpha), kept(gamma), kept(beta)) == (20, 20, 3), 60)

        told = beta.told("retire", str(tmp_path / "lists"), "--yes")
        left = told["left"]
        assert {each["name"]: each["copies"] for each in left["receipts"]} == {"alpha": 20, "gamma": 20}
        assert (left["owing"], left["came_home"] > 0) == ([], True)
        assert left["dropped_here"]["copies"] == 3
        assert told["archives"]["main"]["read"]["is_good"]
        with (tmp_path / "lists" / "main.csv").open(newline="") as listed:
            named = {row["SOPInstanceUID"] for row in csv.DictReader(listed)}
        assert named == {path.stem for _, paths in own for path in paths}
        assert kept(alpha) == 0
        until(lambda: kept(gamma) == 3, 60)  # what beta kept for alpha has its second site again
        for node in (alpha, gamma):
            until(lambda node=node: [uid for uid, _ in rows(ask(node))] == [foreign])  # type: ignore[misc]
        assert {each for _, each in rows(ask(beta, called="BETA"))} == {"ONLINE"}
        for uid, paths in own:
            assert len(get(beta, uid, as_ae="WS", called="BETA")[0]) == len(paths)
        assert len(get(alpha, foreign, as_ae="WS")[0]) == len(files), "what it kept of others is with them"
        sent(beta, tmp_path / "late", 99, 1, exit_code=None)
        assert {uid for uid, _ in rows(ask(beta, called="BETA"))} == {uid for uid, _ in own}
    finally:
        for node in nodes:
            if node.process is not None:
                node.stop()


def test_what_lies_at_other_sites_alone_comes_home_before_its_hospital_leaves(tmp_path: Path) -> None:
    alpha, beta = nodes = hospitals(tmp_path / "grid", "alpha", "beta")
    try:
        beta.grant(alpha, *KEEPS)
        beta.say("copies", "add", "all", "--copies", "2", "--must", "alpha")
        beta.stop()
        beta.env |= {"PEERPACS__COPIES__NEARLINE_ABOVE_MB": "2", "PEERPACS__COPIES__NEARLINE_AFTER_DAYS": "0"}
        beta.start(**beta.env)
        found = [sent(beta, tmp_path / str(number), 71 + number, 10, 500_000) for number in range(3)]
        until(lambda: "NEARLINE" in {each for _, each in rows(ask(beta, called="BETA"))}, 120)
        alpha.kill()
        until(lambda: not beta.is_connected(alpha))
        assert "peerpacs peers" in beta.say("leave", "--yes", code=1), "whoever has them is not there"
        alpha.start(**alpha.env)
        until(lambda: beta.is_connected(alpha))

        told = beta.told("leave", "--yes")
        assert told["came_home"] > 0
        assert kept(alpha) == 0
        assert {each for _, each in rows(ask(beta, called="BETA"))} == {"ONLINE"}
        for uid, _ in found:
            assert len(get(beta, uid, as_ae="WS", called="BETA")[0]) == 10
        assert beta.told("verify")["is_good"]
        beta.stop()
        ledger = Ledger(beta.home / "copies" / "ledger", time.time)
        assert [ledger.keepers(uid) for uid, _ in found] == [{}, {}, {}], "nothing rests on copies that went"
        ledger.close()
    finally:
        for node in nodes:
            if node.process is not None:
                node.stop()


def test_a_node_that_is_killed_while_it_leaves_goes_on_with_it_and_has_all_receipts(tmp_path: Path) -> None:
    alpha, beta = nodes = hospitals(tmp_path / "grid", "alpha", "beta")
    try:
        beta.grant(alpha, *KEEPS)
        beta.say("copies", "add", "all", "--copies", "2", "--must", "alpha")
        uid, _ = sent(beta, tmp_path / "a", 33, 2)
        wait_until_met(beta, 1)
        beta.stop()
        beta.program = (sys.executable, "-c", DIES)
        beta.start(**beta.env)
        until(lambda: beta.is_connected(alpha))
        assert "ended before it answered" in beta.say("leave", "--yes", code=1)
        beta.kill()
        until(lambda: alpha.peer("beta")["state"] == "left")
        beta.program = (PEERPACS,)
        beta.start(**beta.env)
        told = beta.told("leave", "--yes")
        assert [(each["name"], each["copies"]) for each in told["receipts"]] == [("alpha", 2)]
        assert (told["owing"], told["is_known"]) == ([], True)
        assert "in no grid" in beta.say("peers", code=1)
        assert rows(ask(beta, called="BETA")) == [(uid, "ONLINE")]
        alpha.admit(beta)
    finally:
        for node in nodes:
            if node.process is not None:
                node.stop()


def test_who_was_expelled_or_hears_of_no_authority_leaves_by_force(tmp_path: Path) -> None:
    alpha, beta = nodes = hospitals(tmp_path / "grid", "alpha", "beta")
    try:
        alpha.say("revoke", "beta", "--yes")
        until(lambda: not beta.is_connected(alpha))
        assert "peerpacs leave --force" in beta.say("retire", str(tmp_path / "lists"), "--yes", code=1)
        told = beta.told("leave", "--yes", "--force", code=3)
        assert ([each["name"] for each in told["owing"]], told["is_known"]) == (["alpha"], False)
        assert beta.told("retire", str(tmp_path / "lists"), "--yes")["retired"]
        assert "in no grid" in beta.say("peers", code=1)
    finally:
        for node in nodes:
            if node.process is not None:
                node.stop()


def test_an_authority_leaves_once_there_is_another_and_the_grid_goes_on(tmp_path: Path) -> None:
    alpha, beta, gamma = nodes = hospitals(tmp_path / "grid", "alpha", "beta", "gamma")
    root = tmp_path / "safe" / "root.pem"
    root.parent.mkdir()
    (alpha.home / "identity" / "root.pem").rename(root)
    try:
        key = beta.told("authority", "ask")["key"]
        assert "peerpacs authority ask" in alpha.say("leave", "--yes", code=2)
        alpha.say("authority", "add", key, "--name", "beta", "--root", str(root), "--yes")
        until(lambda: beta.told("authority")[-1]["is_own"])
        for node in (alpha, gamma):
            until(lambda node=node: node.peer("beta")["is_authority"] and node.is_connected(beta))  # type: ignore[misc]
        told = alpha.told("leave", "--yes")
        assert {each["name"] for each in told["receipts"]} == {"beta", "gamma"}
        assert not list(alpha.home.glob("identity.left-*/authority.pem"))
        for node in (beta, gamma):
            until(lambda node=node: node.peer("alpha")["state"] == "left")  # type: ignore[misc]
            node.say("authority", "renew")
        beta.say("authority", "remove", told["authority"], "--root", str(root), "--yes")
        until(lambda: len(gamma.told("authority")) == 1)
        until(lambda: gamma.is_connected(beta) and beta.is_connected(gamma))
        beta.admit(alpha)
    finally:
        for node in nodes:
            if node.process is not None:
                node.stop()


def test_who_keeps_the_only_copy_of_anothers_study_gives_it_back_before_it_leaves(
    four: list[GridNode], tmp_path: Path
) -> None:
    _, beta, gamma, _ = four
    beta.grant(gamma, *KEEPS)
    beta.say("copies", "add", "all", "--copies", "2", "--must", "GAMMA")
    beta.stop()
    mark = {"PEERPACS__COPIES__NEARLINE_ABOVE_MB": "2", "PEERPACS__COPIES__NEARLINE_AFTER_DAYS": "0"}
    beta.start(**beta.env, **mark)
    found = [sent(beta, tmp_path / str(number), 81 + number, 10, 500_000) for number in range(2)]
    until(lambda: "NEARLINE" in {each for _, each in rows(ask(beta, called="BETA"))}, 120)
    beta.kill()
    until(lambda: not gamma.is_connected(beta))
    assert "the only ones" in gamma.say("leave", "--yes", code=1)
    assert kept(gamma) == 20
    # Without the mark: all that comes home would go again at once.
    beta.start(**beta.env)
    until(lambda: gamma.is_connected(beta))

    told = gamma.told("leave", "--yes")
    assert told["dropped_here"]["copies"] == 20
    assert {each for _, each in rows(ask(beta, called="BETA"))} == {"ONLINE"}
    for uid, _ in found:
        assert len(get(beta, uid, as_ae="WS", called="BETA")[0]) == 10
    assert beta.told("verify")["is_good"]
