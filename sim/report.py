"""Figures into claims: medians, ratios, goals met or not, as a table for people and JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table


class Goal(NamedTuple):
    """What a row must reach: a ratio against the reference, or a limit of its own; NaN where not set."""

    at_least: float = float("nan")
    """Times better than the reference."""
    at_most: float = float("nan")
    """In the row's unit, for the first contestant."""

    def __str__(self) -> str:
        return f"≥ {self.at_least:g}x" if self.at_least == self.at_least else f"< {self.at_most:g}"

    def is_met(self, ratio: float | None, figure: float) -> bool:
        """Say whether the goal is reached by this ratio or this figure."""
        if self.at_least == self.at_least:
            return ratio is not None and ratio >= self.at_least
        return figure < self.at_most


class Row(NamedTuple):
    """One figure of a case."""

    name: str
    unit: str
    more_is_better: bool
    goal: Goal | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """A row with every run's figure: contestant → figures, the first contestant against the second."""

    case: str
    row: Row
    figures: Mapping[str, Sequence[float]]

    @property
    def medians(self) -> dict[str, float]:
        """The median over the runs, for each contestant that has one."""
        return {name: median(runs) for name, runs in self.figures.items() if runs}

    @property
    def ratio(self) -> float | None:
        """How many times better the first contestant is than the second; None without a second."""
        ours, theirs = [*map(self.medians.get, self.figures), None, None][:2]
        if not ours or not theirs:
            return None
        return ours / theirs if self.row.more_is_better else theirs / ours

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is reached; None without a goal or without figures."""
        first = self.medians.get(next(iter(self.figures)))
        if not self.row.goal or first is None or (self.ratio is None and len(self.figures) > 1):
            return None
        return self.row.goal.is_met(self.ratio, first)

    def as_json(self) -> dict[str, Any]:
        """Return everything, raw runs included."""
        return {
            "case": self.case,
            "row": self.row.name,
            "unit": self.row.unit,
            "runs": {name: list(runs) for name, runs in self.figures.items()},
            "medians": self.medians,
            "ratio": self.ratio,
            "goal": str(self.row.goal) if self.row.goal else None,
            "is_met": self.is_met,
        }


@dataclass(slots=True)
class Report:
    """All that one benchmark found out; `facts` are the machine, the versions and the configurations."""

    facts: dict[str, Any]
    measured: list[Measured] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Cases that could not be measured, each with the reason."""

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        rows = [row.as_json() for row in self.measured]
        return {**self.facts, "failures": self.failures, "results": rows}

    def print(self, console: Console) -> None:
        """Write the tables, the configurations and the failures."""
        for case in dict.fromkeys(row.case for row in self.measured):
            console.print(_table(case, [row for row in self.measured if row.case == case]))
        for name, value in self.facts.items():
            console.print(f"[bold]{name}[/]: {_in_lines(value)}", highlight=False)
        for failure in self.failures:
            console.print(f"[red]not measured[/]: {failure}", highlight=False)


_WORDS: Final = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}


def _table(case: str, rows: Sequence[Measured]) -> Table:
    contestants = list(rows[0].figures)
    table = Table(title=case, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("", min_width=26)
    for name in [*contestants, "ratio", "goal", ""]:
        table.add_column(name, justify="left" if name == "" else "right")
    for row in rows:
        medians = row.medians
        figures = [_figure(medians.get(name), row.row.unit) for name in contestants]
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
        table.add_row(row.row.name, *figures, ratio, str(row.row.goal or ""), _WORDS[row.is_met])
    return table


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}"


def _in_lines(value: object) -> str:
    if isinstance(value, Mapping):
        return "".join(f"\n  {name}: {_in_lines(inner)}" for name, inner in value.items())
    return str(value).strip().replace("\n", "\n    ")


def median_of_ratios(case: str, rows: Iterable[Measured], goal: Goal) -> Measured:
    """Return a row that says how many times better the first contestant is in the median of the rows."""
    ratios = [row.ratio for row in rows if row.ratio is not None]
    row = Row("median of the ratios", "x", more_is_better=True, goal=goal)
    return Measured(case, row, {"PeerPACS": [median(ratios)] if ratios else [], "Orthanc": [1.0]})
