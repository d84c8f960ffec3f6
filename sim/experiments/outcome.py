"""What an experiment found out about one target, complete or not, for people, programs and pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ..targets import Target


@dataclass(slots=True)
class Outcome:
    """One experiment with one target; filled as it goes, so what ends early tells what it knows."""

    experiment: str
    target: str
    way: str = ""
    """How it was asked: C-MOVE, C-GET, WADO-RS, C-FIND, QIDO-RS."""
    columns: tuple[str, ...] = ()
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    samples: dict[str, Any] = field(default_factory=dict)
    """What pictures are drawn from: each measured time or size."""
    summary: dict[str, float] = field(default_factory=dict)
    """Figures by name with unit, for comparisons."""
    notes: list[str] = field(default_factory=list)
    done: int = 0
    of: int = 0
    """How many steps of the experiment were done, of how many."""
    unit: str = "steps"
    stopped: str = ""
    """Why it is not complete; empty if it is."""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return everything for programs."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Outcome:
        """Return an outcome as it was told."""
        known = {name: value for name, value in told.items() if name in cls.__slots__}
        known["columns"] = tuple(known.get("columns", ()))
        known["rows"] = [tuple(row) for row in known.get("rows", ())]
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How an experiment is carried out: what chance draws, how much of the paper's size, how patient."""

    seed: int = 1
    share: float = 0.05
    """1 is the paper's size."""
    is_loaded: bool = False
    """The target holds the data of this seed and share already."""
    pause: float = 120.0
    """Seconds between the two passes of fig9."""
    patience: float = 30.0
    scenario: str = ""
    """A file, for the week."""

    def some(self, whole: float, least: int = 1) -> int:
        """Return the share of a number."""
        return max(least, round(whole * self.share))


class Say(Protocol):
    """Takes a line for the person who waits."""

    def __call__(self, line: str) -> None:
        """Show it."""


class Experiment(Protocol):
    """One experiment; `paper` says what the cloud PACS paper found."""

    name: str
    title: str
    paper: str

    def run(self, target: Target, plan: Plan, outcome: Outcome, say: Say) -> None:
        """Carry it out and fill in the outcome. Raises `REFUSALS`, or ValueError for what cannot be."""


PRECISE: Final = "%.4g"


def figure(value: object) -> str:
    """Return a figure as tables show it."""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else PRECISE % value
    return str(value)
