"""Threads that are stepped take turns as a seed draws them, in virtual time, and whole nodes play on them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent
from typing import Final

import pytest

from sim.plays.script import SCENARIOS, parse, written
from sim.stepping.inventing import complaints, invented

THREADS: Final = """
from sim.stepping import sockets, threads
from sim.stepping.turns import Stepper
stepper = Stepper({seed})
threads.replace(stepper)
sockets.replace(stepper)
import queue, select, socket, threading, time
"""
WORLD: Final = """
from sim.stepping import world
stepper = world.begin({seed})
from sim.plays.script import parse
from sim.plays.stage import Stage
from sim.stepping.actors import Actor
Actor.stepper = stepper
"""


def stepped(code: str, begin: str = THREADS, seed: int = 1) -> str:
    """Run code in a process that steps; return what it printed."""
    text = begin.format(seed=seed) + dedent(code) + "\nimport os, sys\nsys.stdout.flush()\nos._exit(0)\n"
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_hour_of_waiting_takes_no_time_and_passes_for_all_alike() -> None:
    said = stepped("""
        def sleeper(hours):
            time.sleep(3600 * hours)
            print(hours, round(time.monotonic() - began))
        began = time.monotonic()
        threads_ = [threading.Thread(target=sleeper, args=(each,)) for each in (3, 1, 2)]
        [each.start() for each in threads_]
        [each.join() for each in threads_]
    """)
    assert said.split("\n") == ["1 3600", "2 7200", "3 10800", ""]


def test_the_seed_draws_who_goes_on() -> None:
    code = """
        def worker(name):
            for _ in range(4):
                line.append(name)
                time.sleep(0)
        line = []
        workers = [threading.Thread(target=worker, args=(name,)) for name in "abc"]
        [each.start() for each in workers]
        [each.join() for each in workers]
        print("".join(line), stepper.trace)
    """
    runs = [stepped(code, seed=seed) for seed in (1, 1, 2, 3)]
    assert runs[0] == runs[1]
    assert len(set(runs)) == 3


def test_by_hand_one_thread_takes_one_turn() -> None:
    said = stepped("""
        def worker():
            for number in range(3):
                print("works", number)
                time.sleep(0)
        threading.Thread(target=worker, name="worker").start()
        for _ in range(4):
            print("hand:", stepper.step() or "nobody")
        print("hand:", stepper.step() or "nobody")
    """)
    turns = [f"works {number}\nhand: worker" for number in range(3)]
    assert said == "\n".join([*turns, "hand: worker", "hand: nobody", ""])


def test_locks_events_and_queues_wait_and_give_up_as_the_library_says() -> None:
    said = stepped("""
        lock, event, waiting = threading.Lock(), threading.Event(), queue.Queue()
        lock.acquire()
        print(lock.acquire(timeout=2), lock.acquire(blocking=False), event.wait(3))
        threading.Timer(1, lambda: (lock.release(), event.set(), waiting.put("it"))).start()
        print(lock.acquire(timeout=2), event.wait(), waiting.get())
        try:
            waiting.get(timeout=5)
        except queue.Empty:
            print("empty", round(time.monotonic() - 1000))
    """)
    assert said == "False False False\nTrue True it\nempty 11\n"


def test_threads_that_wait_for_each_other_for_ever_are_told_of() -> None:
    said = stepped("""
        from sim.stepping.turns import Stuck
        first, second = threading.Lock(), threading.Lock()
        def worker():
            with second:
                time.sleep(1)
                first.acquire()
        first.acquire()
        threading.Thread(target=worker, name="worker").start()
        time.sleep(0.5)
        try:
            second.acquire()
        except Stuck as error:
            print(error)
    """)
    assert said == "Every thread waits for another one: worker.\n"


def test_connections_carry_bytes_time_out_and_end_as_tcp_does() -> None:
    said = stepped("""
        def serve():
            while True:
                try:
                    connection, where = server.accept()
                except OSError:
                    return print("closed")
                with connection:
                    while data := connection.recv(65536):
                        connection.sendall(data.upper())
        server = socket.create_server(("127.0.0.1", 4242))
        acceptor = threading.Thread(target=serve)
        acceptor.start()
        with socket.create_connection(("localhost", 4242), timeout=2) as client:
            print(client.getpeername(), server.getsockname())
            client.sendall(b"hello")
            poll = select.poll()
            poll.register(client, select.POLLIN)
            print(poll.poll(), client.recv(100), poll.poll(1500))
            try:
                client.recv(1)
            except TimeoutError as error:
                print(error, round(stepper.now - 1000, 1))
        try:
            socket.create_connection(("localhost", 4243))
        except ConnectionRefusedError:
            print("refused")
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        acceptor.join()
    """)
    lines = ["('127.0.0.1', 4242) ('127.0.0.1', 4242)", "hello".upper(), "3.5", "refused", "closed"]
    for line in lines:
        assert line in said


def test_a_killed_machine_does_nothing_more_and_its_connections_break() -> None:
    said = stepped("""
        def serve():
            connection, _ = server.accept()
            while True:
                time.sleep(1)
                connection.sendall(b".")
        with stepper.on("alpha"):
            server = socket.create_server(("127.0.0.1", 4242))
            threading.Thread(target=serve).start()
        client = socket.create_connection(("127.0.0.1", 4242))
        time.sleep(2.5)
        stepper.kill("alpha")
        sockets.crash("alpha")
        time.sleep(10)
        print(client.recv(100), client.recv(100))
        with socket.create_server(("127.0.0.1", 4242)):
            print("free again")
    """)
    assert said == "b'..' b''\nfree again\n"


GRIDS: Final = (
    "hospitals",
    "killed-hospital",
    "full-hospital",
    "wrong-clock",
    "bad-lines",
    "changed-hospitals",
    "set-back-hospital",
    "silent-owner",
)
ALONE: Final = ("one-node", "killed", "full", "cut")


def acted(*words: str) -> str:
    """Act plays as a person would; return what was printed."""
    command = [sys.executable, "-m", "sim.stepping", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(names: Sequence[str]) -> list[str]:
    return [str(SCENARIOS / f"{name}.txt") for name in names]


def test_plays_of_one_node_go_as_they_are_written_in_one_process() -> None:
    assert acted(*files(ALONE)).count("checksum of all turns") == len(ALONE)


@pytest.mark.parametrize("name", GRIDS)
def test_plays_of_a_grid_of_whole_nodes_go_as_they_are_written_in_one_process(name: str) -> None:
    assert "checksum of all turns" in acted(*files([name]))


def test_the_same_number_gives_the_same_run_of_a_grid_turn_by_turn_and_another_one_another() -> None:
    runs = [acted(f"--turns={turns}", *files(["hospitals"])) for turns in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [*GRIDS, "busy-grid"])
def test_plays_go_as_they_are_written_whatever_the_order_of_turns(name: str) -> None:
    for turns in range(100, 103 if name == "busy-grid" else 120):
        acted(f"--turns={turns}", *files([name]))


def test_a_play_that_goes_another_way_is_told_of_with_the_words_to_see_it_again(tmp_path: Path) -> None:
    file = tmp_path / "play.txt"
    file.write_text("node alpha\nsend alpha CT-1x2\n----\nalpha took 1 of 2 of CT-1x2\n")
    command = [sys.executable, "-m", "sim.stepping", "--turns=8", "--runs=2", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "-alpha took 1 of 2 of CT-1x2\n+alpha took 2 of 2 of CT-1x2" in done.stdout
    assert f"To see that again: python -m sim.stepping --turns=9 --seed=1 {file}" in done.stdout
    assert done.stdout.endswith("0 of 2 runs went as they should.\n")


def test_whole_nodes_are_stepped_by_hand() -> None:
    said = stepped(
        """
        grid, send, find = parse("grid alpha beta\\nsend alpha CT-1x2\\nfind BETA_GRID", "play")[0].commands
        with Stage(1, Actor) as stage:
            stage.act(grid)
            print(*stage.act(send))
            while stepper.step():
                pass
            now = stepper.now
            print("nobody goes on:", stepper.step() == "", stepper.now == now)
            stepper.run(5)
            print(*stage.act(find))
        """,
        begin=WORLD,
    )
    assert said.splitlines() == [
        "alpha took 2 of 2 of CT-1x2",
        "nobody goes on: True True",
        "1 study: CT-1x2",
    ]


def test_an_invented_play_ends_well_and_is_the_same_for_the_same_number() -> None:
    runs = [acted("--invent", f"--turns={number}") for number in (4, 4, 8)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_plays_that_nobody_wrote_end_well() -> None:
    assert acted("--invent", "--turns=1000", "--runs=40").endswith("40 of 40 runs went as they should.\n")


def test_an_invented_play_is_readable_and_what_is_not_well_in_its_end_is_told() -> None:
    text = invented(4)
    assert text == invented(4) != invented(5)
    assert written(parse(text, "it")) == text
    assert complaints(["alpha has lost 2 of 5", "each of 3 studies is at 2 sites"]) == [
        "alpha has lost 2 of 5"
    ]
    assert complaints(["alpha and beta do not find the same: alpha 1; beta 2"])
