"""One HTML file that sets several targets side by side: summaries, pictures, and what was not finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from .catalogue import EXPERIMENTS
from .figures import draw
from .findings import said
from .outcome import Outcome, figure

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; } th, td { padding: .25em .9em; text-align: right; }
th:first-child, td:first-child { text-align: left; } tr { border-bottom: 1px solid #ddd; }
.partial { background: #fff3cd; padding: .6em 1em; border-left: 4px solid #e69f00; }
svg { max-width: 100%; height: auto; }
footer, .paper { color: #666; }
"""


def page(outcomes: Sequence[Outcome], facts: Mapping[str, object]) -> str:
    """Return the report; everything is in the one file, and it loads nothing."""
    targets = list(dict.fromkeys(each.target for each in outcomes))
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>PACS benchmark</title>",
        f"<style>{_STYLE}</style><h1>{escape(' and '.join(targets))}</h1>",
    ]
    if broken := [each for each in outcomes if each.stopped]:
        are = "is" if len(broken) == 1 else "are"
        parts.append(f"<p class='partial'>{len(broken)} of {len(outcomes)} measurements {are} not complete; "
                     "each says below how far it came, and why not further.</p>")  # fmt: skip
    parts += [f"<p class='partial'>{escape(sentence)}</p>" for sentence in remarks(facts)]
    for name in dict.fromkeys(each.experiment for each in outcomes):
        parts += _section(name, [each for each in outcomes if each.experiment == name], targets)
    told = "; ".join(f"{name}: {value}" for name, value in facts.items() if name not in _REMARKS)
    parts.append(f"<footer><p>{escape(told)}</p></footer></html>")
    return "\n".join(parts)


_REMARKS: Final = {
    "not begun": "Not begun: {}.",
    "not alike": "Figures of other sizes are not comparable: {}.",
}
"""Facts that a reader must know before any figure."""


def remarks(facts: Mapping[str, object]) -> list[str]:
    """Return what is to be known of a run before its figures, as sentences."""
    return [sentence.format(facts[name]) for name, sentence in _REMARKS.items() if name in facts]


def _section(name: str, of_it: Sequence[Outcome], targets: Sequence[str]) -> list[str]:
    experiment = EXPERIMENTS[name]
    parts = [f"<h2>{escape(experiment.title)}</h2>"]
    if experiment.paper:
        parts.append(f"<p class='paper'>The paper: {escape(experiment.paper)}.</p>")
    parts += [f"<p class='partial'>{escape(partial(each))}</p>" for each in of_it if each.stopped]
    if sentences := said(of_it):
        parts.append(f"<p>{escape(' '.join(sentences))}</p>")
    by_target = {each.target: each for each in of_it}
    there = [target for target in targets if target in by_target]
    heads = "".join(f"<th>{escape(target)}</th>" for target in there)
    ways = "".join(f"<td>{escape(by_target[target].way)}</td>" for target in there)
    parts.append(f"<table><tr><th></th>{heads}</tr><tr><td>asked by</td>{ways}</tr>")
    for row in dict.fromkeys(key for each in of_it for key in each.summary):
        cells = "".join(f"<td>{_cell(by_target[target], row)}</td>" for target in there)
        parts.append(f"<tr><td>{escape(row)}</td>{cells}</tr>")
    parts.append("</table>")
    parts += draw(of_it).values()
    for each in of_it:
        parts += _details(each)
    return parts


def _cell(outcome: Outcome, row: str) -> str:
    return escape(figure(outcome.summary[row])) if row in outcome.summary else ""


def _details(outcome: Outcome) -> list[str]:
    heads = "".join(f"<th>{escape(column)}</th>" for column in outcome.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(figure(value))}</td>" for value in row) + "</tr>"
        for row in outcome.rows
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in outcome.notes)
    return [
        f"<details><summary>{escape(outcome.target)}, all figures</summary>"
        f"<table><tr>{heads}</tr>{rows}</table><ul>{notes}</ul></details>"
    ]


def partial(outcome: Outcome) -> str:
    """Say in a sentence how far an experiment came and why not further."""
    done = f"{outcome.done} of {outcome.of} {outcome.unit}" if outcome.of else "nothing"
    return f"{outcome.target}, {outcome.experiment}: not complete, {done} done. {outcome.stopped}"
