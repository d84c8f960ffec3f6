"""The threads of a node end with it, and what they use is let go then."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from node.app.background import Background
from node.app.chores import Chore


def test_what_threads_use_is_let_go_when_the_last_has_ended_however_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a slow disk would leave sockets of the node's own workers open for ever."""
    monkeypatch.setattr("node.app.background._PATIENCE", 0.05)
    background, go_on, is_let_go = Background(time.time), threading.Event(), threading.Event()

    def late() -> None:
        go_on.wait(60)

    background.run("late", late)
    background.run("in time", lambda: None)
    background.end()
    background.afterwards(is_let_go.set)
    assert not is_let_go.is_set()
    go_on.set()
    assert is_let_go.wait(60)


def test_no_chore_is_looked_for_when_the_node_has_stopped_in_the_middle_of_one() -> None:
    """What the next one stands on may be closed by then."""
    background, looked_for = Background(time.time), list[str]()

    def due() -> Iterator[Chore]:
        looked_for.append("first")
        yield Chore("first", 0.0, background.stopping.set)
        looked_for.append("second")

    background.take_chores(due, lambda: None)
    assert looked_for == ["first"]
