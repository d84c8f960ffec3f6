"""The experiments by name, and how one is carried out so that a target's failure is an answer, not an end."""

from __future__ import annotations

import time
from typing import Final

from ..targets import Target, reason
from .curve import Curve
from .elsewhere import Replicate, Sync
from .outcome import Experiment, Outcome, Plan, Say
from .questions import Figure8, Find
from .retrieving import Figure9, Figure10, Table4
from .transfers import Get, Move, Store, Stow, Wado
from .week import Week

EXPERIMENTS: Final[dict[str, Experiment]] = {
    experiment.name: experiment
    for experiment in (
        Figure8(), Figure9(), Figure10(), Table4(), Week(), Store(), Find(), Move(), Get(), Stow(), Wado(),
        Sync(), Replicate(), Curve(),
    )
}  # fmt: skip


def carry_out(
    what: str | Experiment, target: Target, plan: Plan, say: Say, outcome: Outcome | None = None
) -> Outcome:
    """Run one experiment, by its name or itself; its outcome tells what the target refuses or breaks off.

    Who hands over the outcome has it also when the person who waits ends it (KeyboardInterrupt).
    """
    experiment = EXPERIMENTS[what] if isinstance(what, str) else what
    outcome = outcome or Outcome(experiment.name, target.name)
    began = time.perf_counter()
    try:
        experiment.run(target, plan, outcome, say)
    except KeyboardInterrupt:
        outcome.stopped = "You ended it."
        raise
    except Exception as error:  # whatever it is, what was measured before it is told, and others go on
        outcome.stopped = reason(error)
        if not outcome.done and outcome.samples.get("loaded"):
            outcome.stopped += f" {outcome.samples['loaded']} instances had been loaded."
    outcome.seconds = time.perf_counter() - began
    return outcome
