"""What only a whole batch can tell: leaks hold subjects, UIDs are one to one, references still meet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from anonymizer.quarantine import Reason
from anonymizer.worker import Outcome

Pairs = dict[str, set[str]]


def judged(outcomes: list[Outcome]) -> list[Outcome]:
    """The outcomes, with those held back that may not be released beside the others."""
    leaking = {o.subject for o in outcomes if o.reason == Reason.LEAK_FOUND}
    kept = [_held(o, Reason.LEAK_FOUND, _LEAK) if o.name and o.subject in leaking else o for o in outcomes]
    old_of, new_of, subjects_of = _pairs(kept)
    instances = {o.old_uids[2]: o.uids[2] for o in kept if o.name}
    final = []
    for outcome in kept:
        complaint = _complaint(outcome, old_of, new_of, subjects_of, instances)
        final.append(_held(outcome, *complaint) if complaint else outcome)
    return final


_LEAK = "Another instance of its subject leaked, so the whole subject is held."
_NOT_ONE_TO_ONE = (Reason.IOD_REGRESSION, "Its old and new UIDs are not one to one over the batch.")
_TWO_SUBJECTS = (Reason.IOD_REGRESSION, "Its new study would hold instances of two subjects.")
_DANGLING = (Reason.DANGLING_REFERENCE, "It referred to instances of the batch, and no longer does.")


def _held(outcome: Outcome, reason: Reason, sentence: str) -> Outcome:
    return replace(outcome, name="", reason=reason, sentence=sentence)


def _pairs(outcomes: Iterable[Outcome]) -> tuple[Pairs, Pairs, Pairs]:
    """Old UIDs by new, new UIDs by old, subjects by new study."""
    old_of: Pairs = defaultdict(set)
    new_of: Pairs = defaultdict(set)
    subjects_of: Pairs = defaultdict(set)
    for outcome in outcomes:
        for old, new in zip(outcome.old_uids, outcome.uids, strict=True):
            old_of[new].add(old)
            new_of[old].add(new)
        subjects_of[outcome.uids[0]].add(outcome.subject)
    return old_of, new_of, subjects_of


def _complaint(
    outcome: Outcome, old_of: Pairs, new_of: Pairs, subjects_of: Pairs, instances: dict[str, str]
) -> tuple[Reason, str] | None:
    if not outcome.name:
        return None
    if any(len(old_of[uid]) > 1 for uid in outcome.uids):
        return _NOT_ONE_TO_ONE
    if any(len(new_of[uid]) > 1 for uid in outcome.old_uids):
        return _NOT_ONE_TO_ONE
    if len(subjects_of[outcome.uids[0]]) > 1:
        return _TWO_SUBJECTS
    # References may have been removed, and may lead out of the batch; none may lead astray.
    if set(outcome.old_references) <= instances.keys():
        wanted = {instances[uid] for uid in outcome.old_references}
        if not set(outcome.references) <= wanted:
            return _DANGLING
    return None
