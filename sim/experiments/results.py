"""What a run of experiments leaves in its folder, and what a later run reads of it to compare."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from ..traffic import records
from ..traffic.records import Burst
from .catalogue import EXPERIMENTS
from .comparison import page
from .figures import draw
from .outcome import Outcome, Plan

FORMAT: Final = 1
"""Of results.json: another number means that programs which read it must be looked at."""


def write(out: Path, outcomes: Sequence[Outcome], facts: dict[str, object]) -> None:
    """Write results.json, report.html, the pictures, and the traffic of a week as CSV."""
    out.mkdir(parents=True, exist_ok=True)
    told = {"format": FORMAT, "facts": facts, "outcomes": [each.as_json() for each in outcomes]}
    (out / "results.json").write_text(json.dumps(told, indent=1))
    (out / "report.html").write_text(page(outcomes, facts), encoding="utf-8")
    for name, svg in draw(outcomes).items():
        (out / f"{_as_file(name)}.svg").write_text(svg, encoding="utf-8")
    for each in outcomes:
        if bursts := each.samples.get("bursts"):
            records.write(out / f"{_as_file(f'traffic-{each.target}')}.csv", [Burst(*row) for row in bursts])


def unlike(paths: Sequence[Path], plan: Plan) -> dict[str, object]:
    """Return, as a fact, which earlier runs were of another size or seed; nothing if none was.

    Raises:
        UsageError: a file is not what a run wrote.
    """
    told = []
    for path in paths:
        facts = _read(path)[0]
        here = {"share": plan.share, "seed": plan.seed}
        other = {name: facts[name] for name in here if facts.get(name, here[name]) != here[name]}
        if other:
            words = " and ".join(f"{name} {value}, not {here[name]}" for name, value in other.items())
            told.append(f"the run of {facts['date']} had {words}")
    return {"not alike": "; ".join(told)} if told else {}


def _as_file(name: str) -> str:
    """Return a name that may have any letters as that of a file."""
    return re.sub(r"[^\w.-]+", "_", name)


def earlier(paths: Sequence[Path], names: Iterable[str]) -> list[Outcome]:
    """Return the outcomes of earlier runs; who is called as another one gets the date of the run behind it.

    Raises:
        UsageError: a file is not what a run wrote.
    """
    found, taken = list[Outcome](), set(names)
    for path in paths:
        facts, outcomes = _read(path)
        date = str(facts["date"])
        called: dict[str, str] = {}
        for name in dict.fromkeys(each.target for each in outcomes):
            dated = [name, f"{name}, {date}", *(f"{name}, {date} ({n})" for n in range(2, len(taken) + 3))]
            called[name] = next(each for each in dated if each not in taken)
        taken.update(called.values())
        found += [replace(each, target=called[each.target]) for each in outcomes]
    return found


def _read(path: Path) -> tuple[dict[str, object], list[Outcome]]:
    try:
        told = json.loads(path.read_text())
        outcomes = [Outcome.from_json(each) for each in told["outcomes"]]
        facts = dict(told["facts"], date=str(told["facts"]["date"]))
    except (ValueError, TypeError, LookupError, AttributeError):
        raise click.UsageError(
            f"{path} is not the results.json of an earlier run. Name the one in that run's folder."
        ) from None
    unknown = {each.experiment for each in outcomes} - set(EXPERIMENTS)
    if unknown or told.get("format", FORMAT) != FORMAT:
        raise click.UsageError(f"{path} was written by another version of this program. Compare it there.")
    return facts, outcomes
