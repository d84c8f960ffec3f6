"""A service manager hears that the node is ready, alive and stopping, over a real datagram socket."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.watching import Heartbeats, Watchdog, notify


@contextmanager
def manager(address: str) -> Iterator[Callable[[], str]]:
    """Yield what reads the next word to the service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address.replace("@", "\0", 1))
        sock.settimeout(60)
        yield lambda: sock.recv(4096).decode()


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_words_reach_the_manager(tmp_path: Path, kind: str) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@{tmp_path}"
    with manager(address) as hear:
        assert notify({"NOTIFY_SOCKET": address}, READY=1, STATUS="up")
        assert hear() == "READY=1\nSTATUS=up"


def test_without_a_manager_or_with_a_dead_one_nothing_happens(tmp_path: Path) -> None:
    assert not notify({}, READY=1)
    assert not notify({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, READY=1)
    assert not notify({"NOTIFY_SOCKET": "vsock:2:1"}, READY=1)


def test_the_watchdog_is_pet_twice_in_its_period_while_everything_turns(tmp_path: Path) -> None:
    now, silent = [0.0], list[str]()
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}
    with manager(environ["NOTIFY_SOCKET"]) as hear:
        dog = Watchdog(lambda: silent, lambda: now[0], environ, process=7)
        for now[0] in (0.0, 10.0, 29.0, 30.0):
            assert dog.step() == []
        assert [hear(), hear()] == ["WATCHDOG=1"] * 2
        now[0], silent[:] = 60.0, ["chores"]
        assert dog.step() == ["chores"]
        assert hear() == "STATUS=Does not turn any more: chores"


def test_a_watchdog_that_is_meant_for_another_process_or_for_none_is_left_alone() -> None:
    for environ in ({}, {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, {"WATCHDOG_USEC": "?"}):
        assert Watchdog(lambda: ["all"], lambda: 1e9, environ, process=7).step() == []


def test_a_loop_that_stops_or_fails_is_silent() -> None:
    now = [0.0]
    hearts = Heartbeats(lambda: now[0], patience=60.0)
    hearts.beat("chores")
    hearts.beat("indexer")
    hearts.ask("catalog", lambda: True)
    assert hearts.silent() == []
    now[0] = 61.0
    hearts.beat("indexer")
    assert hearts.silent() == ["chores"]
    hearts.end("chores")
    hearts.ask("catalog", lambda: bool(1 // 0))
    assert hearts.silent() == ["catalog"]
