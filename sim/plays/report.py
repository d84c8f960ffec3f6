"""The report of a play's traffic: what was taken when, with Figures 6 and 7, as of the week's experiment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ..experiments.comparison import page
from ..experiments.figures import draw
from ..experiments.outcome import Outcome
from ..experiments.week import tell
from .traffic import Traffic


def write(folder: Path, traffic: Traffic, transcript: Sequence[str], why: str = "") -> None:
    """Write report.html, and each picture as SVG, into a folder; the transcript is among the notes.

    `why` the play did not come to its end stands above them.
    """
    scenario, run = traffic.scenario, traffic.run
    outcome = Outcome("week", scenario.title, "C-STORE", unit="series", done=len(run.sent), of=run.planned)
    tell(run, outcome)
    outcome.notes += transcript
    outcome.stopped = " ".join(filter(None, (why, outcome.stopped)))
    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in draw([outcome]).items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    facts = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "seed": scenario.seed,
        "share of the bytes": scenario.share,
        "times faster": scenario.faster,
        "minutes": f"{run.seconds / 60:.1f}",
    }
    (folder / "report.html").write_text(page([outcome], facts), encoding="utf-8")
