"""The seven days of the paper's 117 devices, compressed in time: Figures 6 and 7, stalls, losses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Final

from ..targets import Target
from ..traffic import scenario
from ..traffic.replay import Replay, Run
from ..traffic.scenario import Scenario
from .outcome import Outcome, Plan, Say

_STALL: Final = 5.0
"""Seconds for the answer to one C-STORE that count as a stall."""
_SECONDS: Final = 120.0
"""How long the week takes without a scenario file."""


class Week:
    """Replay of a week, or of any scenario."""

    name = "week"
    title = "A week of traffic (Figures 6 and 7)"
    paper = "accepted without stalls and interruptions, 1.3 TB"

    def run(self, target: Target, plan: Plan, outcome: Outcome, say: Say) -> None:
        """Send the traffic to one target."""
        played = scenario.read(Path(plan.scenario)) if plan.scenario else usual(plan)
        replay(played, dict.fromkeys(played.sites, target), plan, outcome, say)


def usual(plan: Plan) -> Scenario:
    """Return the paper's week at the plan's share, in two minutes."""
    return Scenario(
        seed=plan.seed,
        faster=7 * 86_400 / _SECONDS,
        share=plan.share,
        readers=scenario.Readers(workstations=2, questions_an_hour=2.0),
    )


def replay(played: Scenario, targets: Mapping[str, Target], plan: Plan, outcome: Outcome, say: Say) -> None:
    """Play a scenario against one target for each site and fill in the outcome."""
    outcome.unit = "series"
    outcome.way = "C-STORE" if any(each.address for each in targets.values()) else "STOW-RS"
    last = 0.0

    def show(run: Run) -> None:
        nonlocal last
        outcome.done, outcome.of = len(run.sent), run.planned
        if time.monotonic() - last > 2:
            last = time.monotonic()
            say(f"week: {len(run.sent)} of {run.planned} series, {len(run.failures)} refusals")

    replaying = Replay(played, targets, plan.patience, show)
    try:
        replaying.play()
    finally:
        # Also who ends it by hand is told of what was sent until then.
        show(replaying.run)
        tell(replaying.run, outcome)


def tell(run: Run, outcome: Outcome) -> None:
    """Write down what became of the traffic."""
    size = sum(each.size for each in run.sent)
    slowest = max((each.slowest for each in run.sent), default=0.0)
    stalls = sum(each.slowest > _STALL for each in run.sent)
    outcome.columns = ("device", "series", "MB", "slowest answer s", "furthest behind s")
    by_device: dict[str, list[int]] = {}
    for number, each in enumerate(run.sent):
        by_device.setdefault(each.burst.device, []).append(number)
    for device, numbers in sorted(by_device.items()):
        of_device = [run.sent[number] for number in numbers]
        megabytes = sum(each.size for each in of_device) / 1e6
        worst = (max(each.slowest for each in of_device), max(each.late for each in of_device))
        outcome.rows.append((device, len(of_device), megabytes, *worst))
    outcome.samples["bursts"] = [
        list(each.burst._replace(size=each.size)) for each in sorted(run.sent, key=lambda each: each.burst)
    ]
    outcome.samples["seconds"] = run.seconds
    outcome.summary = {
        "devices": len(by_device),
        "series stored": len(run.sent),
        "MB stored": size / 1e6,
        "MB/s": size / 1e6 / run.seconds if run.seconds else 0.0,
        "slowest answer, s": slowest,
        f"answers over {_STALL:g} s": stalls,
        "furthest behind its time, s": max((each.late for each in run.sent), default=0.0),
        "refusals on the way": len(run.failures),
        "acknowledged and not found": len(run.missing),
    }
    _tell_of_readers(run, outcome)
    outcome.notes += run.failures[:10]
    outcome.notes += [f"Acknowledged and not found: {each}." for each in run.missing[:10]]
    outcome.stopped = run.stopped
    if run.missing and not outcome.stopped:
        outcome.stopped = f"{len(run.missing)} studies were acknowledged and not found whole in the end."


def _tell_of_readers(run: Run, outcome: Outcome) -> None:
    for what in dict.fromkeys(each.what for each in run.asked):
        asked = [each for each in run.asked if each.what == what]
        good = [each.seconds for each in asked if not each.error]
        if good:
            outcome.summary[f"{what}, median ms"] = 1000 * median(good)
        bad = [each.error for each in asked if each.error]
        if bad:
            outcome.notes.append(f"{len(bad)} of {len(asked)} times no answer to {what}: {bad[0]}")
