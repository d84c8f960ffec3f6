"""What is done in the background, as its owners describe it and the node does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

_IDLE_PAUSE: Final = 0.2


def _nothing() -> None:
    """Wake nobody: the step never waits."""


class Chore(NamedTuple):
    """A step to take in the background, again and again."""

    name: str
    every: float
    """Seconds between two steps; 0 = at every round."""
    step: Callable[[], object]


class Loop(NamedTuple):
    """A step for a thread of its own: it says whether there may be more to do at once."""

    name: str
    step: Callable[[], bool]
    busy_pause: float = 0.0
    idle_pause: float = _IDLE_PAUSE
    wake: Callable[[], object] = _nothing
    """Has a step that waits for something return at once; called when the node stops."""
