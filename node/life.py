"""The life of a study in sentences: who sent it, who took it, what persons decided, what is here now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from catalog import CatalogWriter, Decision, Entry, NotFound, Selection, Verb
from node.audit import Line, read
from node.held import HeldShelf
from node.keys import keyword_of, text_of

_DONE = {
    Verb.CORRECT: "corrected",
    Verb.REJECT: "rejected",
    Verb.DELETE: "deleted",
    Verb.ERASE: "erased",
    Verb.HOLD: "put a legal hold on",
    Verb.MOVE: "moved a series of, or into,",
    Verb.PREFER: "preferred a version of",
    Verb.RELEASE: "released",
    Verb.DISCARD: "discarded",
    Verb.UNDO: "took back a decision about",
}

_GOOD = ("success", "ok", "done")
"""How outcomes of the audit say that nothing went wrong."""

_UNDOABLE = (Verb.CORRECT, Verb.REJECT, Verb.DELETE, Verb.HOLD, Verb.MOVE)


def life_of(
    study: str, catalog: CatalogWriter, held: HeldShelf, audit: Path, is_ours: Callable[[Line], bool]
) -> dict[str, Any]:
    """Return `{"StudyInstanceUID", "now": sentence, "events": [{"time", "sentence"}, ...]}`, oldest first.

    `is_ours` says which lines of the audit are about the archive that is asked.

    Raises:
        NotFound: neither the catalog nor the audit knows the study.
    """
    decisions = catalog.decisions(study)
    told = {decision.id for decision in decisions}
    entries = catalog.select(Selection(studies=(study,)))
    events = [*_begun(entries), *_decided(decisions), *_audited(study, audit, told, is_ours)]
    now = _now(study, entries, catalog, held)
    if not events and now is None:
        raise NotFound(f"This node has never heard of study {study}.", "Look it up with: peerpacs find")
    events.sort(key=lambda event: event["time"])
    return {"StudyInstanceUID": study, "events": events, "now": now or "Nothing of it can be seen here now."}


def decisions_of(study: str, catalog: CatalogWriter) -> list[dict[str, Any]]:
    """Return what persons decided about a study, newest first, and what of it can be taken back.

    A row is what `Decided` of the REST interface says; what was taken back stays, as what it was.
    """
    decisions = catalog.decisions(study)
    undone: set[str] = set()
    for each in reversed(decisions):
        if each.verb is Verb.UNDO and each.id not in undone:
            undone.add(each.detail)
    return [
        {
            "decision": each.id,
            "verb": each.verb.value,
            "target": "/".join(each.target),
            "who": each.who,
            "when": each.when,
            "reason": each.reason,
            "attributes": {keyword_of(tag): text_of(value) for tag, value in each.attributes.items()},
            "to": each.detail if each.verb is Verb.MOVE else "",
            "is_undone": each.id in undone,
            "can_be_undone": each.verb in _UNDOABLE and each.id not in undone,
        }
        for each in reversed(decisions)
    ]


def _begun(entries: list[Entry]) -> Iterator[dict[str, str]]:
    if entries:
        first = min(entries, key=lambda entry: entry.received)
        yield {
            "time": _time(first.received),
            "sentence": f"The first instance of it came from {first.source}.",
        }


def _decided(decisions: list[Decision]) -> Iterator[dict[str, str]]:
    for decision in decisions:
        what = ("this study", "a series of it", "an instance of it")[len(decision.target) - 1]
        sentence = f"{decision.who} {_DONE[decision.verb]} {what}"
        if decision.attributes:
            sentence += f" ({', '.join(keyword_of(tag) for tag in decision.attributes)})"
        if decision.verb is Verb.UNDO:
            sentence += f" ({decision.detail[:8]})"
        sentence += f": {decision.reason}. Decision {decision.id[:8]}."
        yield {"time": _time(decision.when), "sentence": sentence}


def _audited(
    study: str, audit: Path, told: set[str], is_ours: Callable[[Line], bool]
) -> Iterator[dict[str, str]]:
    looks: set[tuple[str, str]] = set()
    for line in filter(is_ours, read(audit, study)):
        # Who reads this very story, or what else REST knows of the study, does nothing to it: see the audit.
        if line.event == "access" and str(line.detail.get("what", "")).startswith("GET "):
            continue
        # One UID may be the beginning of another.
        if study in _words(line.detail) and line.detail.get("decision") not in told:
            sentence = _sentence(line)
            # Whoever looks, looks again and again: told once a day.
            if line.event in ("find", "retrieve") and " fetched " not in sentence:
                if (line.time[:10], sentence) in looks:
                    continue
                looks.add((line.time[:10], sentence))
            yield {"time": line.time, "sentence": sentence}


def _words(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        return set().union(*(_words(item) for item in value.values()))
    if isinstance(value, list | tuple):
        return set().union(*(_words(item) for item in value))
    return {str(value)}


def _sentence(line: Line) -> str:
    who = f"{line.ae} at {line.address}" if line.ae else str(line.detail.get("who", "This node"))
    if line.user:
        who = f"{line.user} at {line.address}"
    count = line.detail.get("instances", line.detail.get("completed"))
    instances = "" if count is None else f" {_instances(count)}"
    if line.event == "decision":
        verb = (
            _DONE.get(Verb(line.detail["verb"]), "decided about")
            if "verb" in line.detail
            else "decided about"
        )
        return f"{who} {verb} this study. Decision {str(line.detail.get('decision', ''))[:8]}."
    if line.event == "receipt":
        return f"{line.detail.get('node')} dropped{instances} of it that were deleted here."
    sentence = {
        "store": f"{who} stored{instances} of it",
        "get": f"{who} fetched{instances} of it",
        "move": f"{who} had{instances} of it sent to {line.detail.get('destination', 'another system')}",
        "forward": f"{who} forwarded{instances} of it to {line.detail.get('destination')}",
        "transfer": f"{who} asked to {line.detail.get('what')} it to {line.detail.get('destination')}",
        "complete": f"It was complete with{instances}",
        "find": f"{who} looked it up",
        "retrieve": f"{who} {_retrieved(line, instances)}",
    }.get(line.event, f"{who}: {line.event}{instances}")
    return f"{sentence}." if line.outcome in _GOOD else f"{sentence}; outcome: {line.outcome}."


def _retrieved(line: Line, instances: str) -> str:
    """Return what somebody did who retrieved over the web: bytes as they are stored, or only to look."""
    what = str(line.detail.get("what", ""))
    if what == "metadata":
        return "read headers of it"
    return f"fetched{instances} of it" if instances else "looked at images of it"


def _instances(count: int) -> str:
    return f"{count} instance{'s' * (count != 1)}"


def _now(study: str, entries: list[Entry], catalog: CatalogWriter, held: HeldShelf) -> str | None:
    waiting = sum(1 for _ in held.list(study=study))
    conflicts = sum(
        any(version.StudyInstanceUID == study for version in conflict.versions)
        for conflict in catalog.conflicts()
    )
    sentences = []
    if entries:
        size = sum(entry.holding.size for entry in entries) / 1e3
        series = len({entry.SeriesInstanceUID for entry in entries})
        sources = ", ".join(sorted({entry.source for entry in entries}))
        count = f"{_instances(len(entries))} in {series} series ({size:,.0f} kB)"
        came = "is here; it came from" if len(entries) == 1 else "are here; they came from"
        sentences.append(f"{count} {came} {sources}.")
    if waiting:
        wait = "waits" if waiting == 1 else "wait"
        sentences.append(f"{_instances(waiting)} {wait} for a person: peerpacs held release --study {study}")
    if conflicts:
        are = "UID in it is in conflict" if conflicts == 1 else "UIDs in it are in conflict"
        sentences.append(f"{conflicts} {are}: peerpacs conflicts list")
    return " ".join(sentences) or None


def _time(milliseconds: int) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{whole}.{milliseconds % 1000:03d}Z"
