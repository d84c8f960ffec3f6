"""A chapter of a page in Markdown that a session of measurements writes, and writes anew each time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .catalogue import EXPERIMENTS
from .comparison import partial as not_complete
from .figures import draw
from .findings import said
from .outcome import Outcome, figure


class Chapter(NamedTuple):
    """What stands at its beginning, and the folder beside the page for its pictures."""

    folder: str
    command: str
    head: str


PAPER: Final = Chapter(
    "benchmark-paper",
    "make bench-paper",
    """## The cloud PACS paper's experiments

Made by `make bench-paper`: the experiments of sections 4.1 to 4.3 at a size for two cores, on this
node, on Orthanc and on DCMTK's dcmqrscp, in one session on one machine, each with fresh storage.
Figures are medians; runs: {runs}. Pictures are of the last run. The paper's own figures, of a cluster
in a cloud, are beside: they say what is to be compared, not who is faster. Clients and servers share
the cores.
""",
)
CURVE: Final = Chapter(
    "benchmark-curve",
    "make bench-curve",
    """## Query time by the size of the archive

Made by `make bench-curve`: seven questions by C-FIND, each with as many matches at any size, asked
fifteen times while the archive grows. Studies have five series of one small instance. Orthanc stores
all of it; our node's catalog is filled with rows that share the bytes of one object, and is searched
as if they had come one by one. One run; medians.
""",
)

PAPERS_OWN: Final[dict[str, dict[str, str]]] = {
    "fig8": {"mean, s": "0.099", "standard deviation, s": "0.02", "slowest, s": "about 0.2"},
    "fig9": {"second pass is shorter by, %": "15"},
    "fig10": {"all instances of a series, mean s": "0.105 (Dcm4chee: 0.104)"},
    "table4": {
        "4 threads, median Mbps": "87-126",
        "4 threads, largest to smallest": "1.2",
        "8 threads, median Mbps": "181-293",
        "8 threads, largest to smallest": "0.8",
        "16 threads, median Mbps": "284-449",
        "16 threads, largest to smallest": "1.1",
    },
}
"""Experiment → row → what the paper measured, on hardware of its own (AWS, 2022)."""


def write(
    page: Path, outcomes: Sequence[Outcome], told: Mapping[str, object], shares: Mapping[str, float]
) -> None:
    """Write the chapter into a page, in the place of an earlier one; pictures and JSON go beside it.

    `told` are facts of the session, `shares` how much of the paper's size each experiment had.
    """
    chapter = CURVE if {each.experiment for each in outcomes} == {"curve"} else PAPER
    pictures = draw(outcomes)
    beside = page.parent / chapter.folder
    beside.mkdir(parents=True, exist_ok=True)
    for name, svg in pictures.items():
        (beside / f"{name}.svg").write_text(svg, encoding="utf-8")
    results = {"facts": told, "outcomes": [each.as_json() for each in outcomes]}
    (beside / "results.json").write_text(json.dumps(results))
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    page.write_text(
        placed(before, chapter, text(chapter, outcomes, told, shares, pictures)), encoding="utf-8"
    )


def placed(before: str, chapter: Chapter, body: str) -> str:
    """Return a page with the chapter in the place of an earlier one, or at its end."""
    first, last = (f"<!-- {what} of {chapter.command} -->\n" for what in ("beginning", "end"))
    lead, _, rest = before.partition(first)
    rest = rest.partition(last)[2]
    return (lead.rstrip("\n") + "\n\n" if lead.strip() else "") + first + "\n" + body + "\n" + last + rest


def text(
    chapter: Chapter,
    outcomes: Sequence[Outcome],
    told: Mapping[str, object],
    shares: Mapping[str, float],
    pictures: Mapping[str, str],
) -> str:
    """Return the chapter in Markdown."""
    facts = (f"- {name}: {value}" for name, value in told.items() if name != "runs")
    lines = [*chapter.head.format(runs=told["runs"]).splitlines(), "", *facts]
    for name in dict.fromkeys(each.experiment for each in outcomes):
        lines += _section(name, [each for each in outcomes if each.experiment == name], shares)
        drawn = [picture for picture in pictures if name in (picture, picture.replace("figure", "fig"))]
        lines += [f"\n![{picture}]({chapter.folder}/{picture}.svg)" for picture in drawn]
    return "\n".join(lines) + "\n"


def _section(name: str, of_it: Sequence[Outcome], shares: Mapping[str, float]) -> list[str]:
    papers = PAPERS_OWN.get(name, {})
    heads = [*(each.target for each in of_it), "the paper"]
    lines = ["", f"### {EXPERIMENTS[name].title}", ""]
    size = f"Size: {shares[name]:.2g} of the paper's. " if name in shares else ""
    lines += [f"{size}The paper: {EXPERIMENTS[name].paper}.", ""]
    if sentences := said(of_it):
        lines += [" ".join(sentences), ""]
    lines += ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lines.append("| asked by | " + " | ".join(each.way for each in of_it) + " | |")
    for row in dict.fromkeys(row for each in of_it for row in each.summary):
        cells = [figure(each.summary[row]) if row in each.summary else "" for each in of_it]
        lines.append(f"| {row} | " + " | ".join(cells) + f" | {papers.get(row, '')} |")
    notes = [not_complete(each) for each in of_it if each.stopped]
    notes += [f"{each.target}: {note}" for each in of_it for note in each.notes]
    return lines + [f"\n{line}" for line in notes]
