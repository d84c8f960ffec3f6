"""Whatever a target or a node does in the middle, the report says how far it came and why not further."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from sim.experiments import command
from sim.experiments.catalogue import EXPERIMENTS, carry_out
from sim.experiments.comparison import page
from sim.experiments.loading import load
from sim.experiments.outcome import Outcome, Plan
from sim.links import Link
from sim.pdu import Address
from sim.phantoms import Instance, study
from sim.plays.__main__ import act, main
from sim.plays.stage import Stage
from sim.ports import free_port
from sim.servers import ServerError
from sim.targets import Stored, Target
from tests.homes import serving

from .listening import listening

PLAN: Final = Plan(share=0.003, pause=0.01, patience=0.3)
ACCEPTED: Final = bytes.fromhex("0200000000480001") + bytes(70)
"""An A-ASSOCIATE-AC whose items are missing."""


def quiet(line: str) -> None:
    """Say nothing."""


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Listen at a port and answer whatever comes with the same bytes, or with none and silence."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        if answer:
            connection.recv(65536)
            connection.sendall(answer)
        else:
            over.wait()

    with listening(serve) as port:
        try:
            yield port
        finally:
            over.set()


def reported(ports: tuple[int, int], out: Path) -> str:
    """Run every experiment against a target as a person does; return the report."""
    words = [f"--target=BAD=BAD@{ports[0]}", f"--dicomweb=BAD=http://127.0.0.1:{ports[1]}/dicom-web"]
    words += [f"--elsewhere=BAD@{ports[0]}", f"--destination=SINK@{free_port()}"]
    words += ["--share=0.003", "--timeout=0.2", "--patience=0.2", "--pause=0", f"--out={out}"]
    result = CliRunner().invoke(command.main, [*EXPERIMENTS, *words])
    assert result.exit_code == 3, result.output
    return (out / "report.html").read_text()


def test_a_target_that_refuses_is_told_of_for_every_experiment(tmp_path: Path) -> None:
    html = reported((free_port(), free_port()), tmp_path)
    for name in EXPERIMENTS:
        assert f"BAD, {name}: not complete" in html
    assert html.count("nobody listens there") >= len(EXPERIMENTS)
    assert f"{len(EXPERIMENTS)} of {len(EXPERIMENTS)} measurements are not complete" in html


def test_a_target_that_hangs_is_told_of_for_every_experiment(tmp_path: Path) -> None:
    with answering(b"") as port:
        html = reported((port, port), tmp_path)
    for name in EXPERIMENTS:
        assert f"BAD, {name}: not complete" in html
    assert html.count("did not answer in time") >= len(EXPERIMENTS)


@pytest.mark.parametrize(
    ("dicom", "web"),
    [
        pytest.param(ACCEPTED, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", id="empty"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", id="another server"),
        pytest.param(ACCEPTED, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n[1, {}]", id="other JSON"),
    ],
)
def test_a_target_that_is_no_pacs_is_told_of_for_every_experiment(
    dicom: bytes, web: bytes, tmp_path: Path
) -> None:
    with answering(dicom) as one, answering(web) as other:
        html = reported((one, other), tmp_path)
    for name in EXPERIMENTS:
        assert f"BAD, {name}: not complete" in html


@contextmanager
def mortal(folder: Path, bytes_of_life: int) -> Iterator[Target]:
    """Our node behind links that are cut for good when so many bytes have come to it."""
    with serving(folder / "home", web={"plain_port": free_port()}) as node:
        links = [Link(node.ports[door], keeps=True) for door in ("dicom", "web")]
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(0.002):
                if sum(len(each.crossed) for each in links) > bytes_of_life:
                    for each in links:
                        each.cut()
                    return

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            there = Address("ALPHA", links[0].port)
            web = f"http://127.0.0.1:{links[1].port}/dicom-web"
            yield Target(name="mortal", address=there, web=web, elsewhere=there, timeout=30.0)
        finally:
            is_over.set()
            watching.join()
            for each in links:
                each.close()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_target_that_dies_in_the_middle_is_told_of(name: str, tmp_path: Path) -> None:
    lives = {"find": 150_000, "fig8": 150_000, "sync": 150_000, "stow": 7_000_000}
    with mortal(tmp_path, lives.get(name, 3_000_000)) as target:
        target = replace(target, destination=Address("SINK", free_port()))
        outcome = carry_out(name, target, PLAN, quiet)
    assert outcome.stopped
    assert outcome.done or outcome.samples.get("loaded"), "it died before anything was done"
    assert f"mortal, {name}: not complete" in page([outcome], {})


@pytest.mark.parametrize("ends_with", ["Ctrl-C", "SIGTERM"])
def test_who_interrupts_a_benchmark_has_what_was_measured(
    ends_with: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        name, title, paper = "find", "C-FIND", ""

        def run(self, target: Target, plan: Plan, outcome: Outcome, say: Callable[[str], None]) -> None:
            outcome.done, outcome.of = 3, 10
            if ends_with == "SIGTERM":
                signal.raise_signal(signal.SIGTERM)
            raise KeyboardInterrupt

    monkeypatch.setitem(EXPERIMENTS, "find", Interrupted())
    words = ["find", "get", f"--target=GONE@{free_port()}", f"--out={tmp_path}"]
    result = CliRunner().invoke(command.main, words)
    assert result.exit_code == 3
    html = (tmp_path / "report.html").read_text()
    assert "GONE, find: not complete, 3 of 10 steps done. You ended it." in html
    assert "Not begun: GONE: get." in html


TINY: Final = """
seed = 3
days = 1
faster = 86400
share = 1e-6
sites = ["alpha"]
[devices]
CT = 2
"""


def test_a_play_whose_node_fails_leaves_a_report_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Stage, name: str) -> list[str]:
        raise ServerError("alpha was not ready in 120 s")

    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.setattr("sim.plays.script.SCENARIOS", tmp_path)
    monkeypatch.setattr("sim.plays.stage.SCENARIOS", tmp_path)
    monkeypatch.setattr(Stage, "_crash", fail)
    play = "node alpha\ntraffic tiny\nday 2\ncrash alpha\nover\n----\n"
    (tmp_path / "play.txt").write_text(play)
    words = [str(tmp_path / "play.txt"), f"--report={tmp_path / 'report'}"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    html = (tmp_path / "report" / "report.html").read_text()
    assert "line 4, crash: alpha was not ready in 120 s" in html
    assert (tmp_path / "report" / "figure6.svg").exists()
    assert (tmp_path / "report" / "figure7.svg").exists()


@pytest.mark.parametrize("error", [TimeoutError("timed out"), ValueError("no JSON"), KeyboardInterrupt()])
def test_whatever_ends_a_play_its_line_is_in_the_report(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Stage, name: str) -> list[str]:
        raise error

    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.setattr("sim.plays.script.SCENARIOS", tmp_path)
    monkeypatch.setattr("sim.plays.stage.SCENARIOS", tmp_path)
    monkeypatch.setattr(Stage, "_stop", fail)
    began = time.monotonic()
    with pytest.raises((ServerError, KeyboardInterrupt)):
        act("node alpha\ntraffic tiny\nstop alpha\n", "play.txt", report=tmp_path / "report")
    assert time.monotonic() - began < 30
    assert "line 3, stop: " in (tmp_path / "report" / "report.html").read_text()


def test_who_waits_for_a_slow_target_is_told_how_much_it_took() -> None:
    class Slow(Target):
        def store(self, instances: Sequence[Instance], calling: str = "") -> Iterator[Stored]:
            for each in instances:
                time.sleep(0.3)
                yield Stored(each.SOPInstanceUID, each.size, 0.3)

    lines: list[str] = []
    load(Slow(name="slow"), [study(1, 1, instances=5)], Outcome("get", "slow"), lines.append, 1)
    assert lines
    assert re.fullmatch(r"get: slow has \d instances", lines[0])
