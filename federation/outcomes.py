"""How each site took part in an answer, and what the device that asked is told of it; pure decisions."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple


class Part(StrEnum):
    """How a site took part in an answer."""

    MIRROR = "mirror"
    """Its rows are from the synchronised catalog."""
    LIVE = "live"
    """It was asked, and answered in time."""
    FALLBACK = "fallback"
    """It was asked and was silent, so its rows are from the synchronised catalog."""
    NONE = "none"
    """It did not answer, and there is no copy of its catalog here."""


class Outcome(NamedTuple):
    """One site's part in one answer."""

    site: str
    part: Part
    age: float | None = None
    """Seconds since what was used of its catalog was known to be right; None: there is nothing."""
    error: str = ""
    can_judge: bool = True
    """Whether what was used of it can say yes or no to every key that was asked, of all it has."""


class OnPartial(StrEnum):
    """What a device is told when an answer stands on old copies."""

    COMPLETE = "complete"
    COMMENT = "comment"
    WARN = "warn"
    FAIL = "fail"


class Ending(StrEnum):
    """How the answer ends: what DIMSE and web make statuses of."""

    COMPLETE = "complete"
    """0000."""
    COMMENT = "comment"
    """0000 with the comment."""
    WARN = "warn"
    """B001 with the comment."""
    FAIL = "fail"
    """A700 with the comment."""


class Manners(NamedTuple):
    """What was agreed for a device."""

    on_partial: OnPartial = OnPartial.COMPLETE
    """For sites whose copy is old, but not too old."""
    on_incomplete: OnPartial = OnPartial.FAIL
    """For sites without any copy, with one that is too old, or one that cannot judge what was asked."""
    fresh: float = 15.0
    """Seconds up to which a copy counts as up to date."""
    stale_after: float = 86_400.0
    """Seconds after which a copy counts as none."""


class Decision(NamedTuple):
    """How an answer ends, and the sentence that goes with it (Error Comment (0000,0902), Warning: 299)."""

    ending: Ending
    comment: str


_LONGEST: Final = 64
"""Characters of Error Comment, VR LO."""
_ENDINGS: Final = {
    OnPartial.COMPLETE: Ending.COMPLETE,
    OnPartial.COMMENT: Ending.COMMENT,
    OnPartial.WARN: Ending.WARN,
    OnPartial.FAIL: Ending.FAIL,
}
_SEVERITY: Final = (Ending.COMPLETE, Ending.COMMENT, Ending.WARN, Ending.FAIL)


def decide(outcomes: Sequence[Outcome], manners: Manners) -> Decision:
    """Return how an answer with these parts ends.

    An incomplete answer never ends like a complete one without a word: where a device was to be told
    nothing of it, it gets the comment.
    """
    missing = [each for each in outcomes if is_missing(each, manners)]
    stale = [each for each in outcomes if each not in missing and not is_fresh(each, manners)]
    endings = [Ending.COMPLETE]
    if stale:
        endings.append(_ENDINGS[manners.on_partial])
    if missing:
        told = _ENDINGS[manners.on_incomplete]
        endings.append(Ending.COMMENT if told is Ending.COMPLETE else told)
    ending = max(endings, key=_SEVERITY.index)
    return Decision(ending, comment(stale, missing) if ending is not Ending.COMPLETE else "")


def is_missing(outcome: Outcome, manners: Manners) -> bool:
    """Say whether what the site has may be missing from the answer."""
    if outcome.part is Part.LIVE:
        return not outcome.can_judge
    if outcome.part is Part.NONE or outcome.age is None or not outcome.can_judge:
        return True
    return outcome.age > manners.stale_after


def is_fresh(outcome: Outcome, manners: Manners) -> bool:
    """Say whether the site answered, or the copy of its catalog counts as up to date."""
    return outcome.part is Part.LIVE or (outcome.age is not None and outcome.age <= manners.fresh)


def warning(outcomes: Sequence[Outcome], manners: Manners) -> str:
    """Return the same as a sentence of any length; nothing where the answer is whole and up to date."""
    missing = [each for each in outcomes if is_missing(each, manners)]
    stale = [each for each in outcomes if each not in missing and not is_fresh(each, manners)]
    parts = []
    if missing:
        parts.append("may lack what these sites have: " + ", ".join(each.site for each in missing))
    if stale:
        old = ", ".join(f"{each.site} {spoken(each.age or 0.0)}" for each in stale)
        parts.append("stands on older copies of: " + old)
    return f"This answer {' and '.join(parts)}" if parts else ""


def comment(stale: Sequence[Outcome], missing: Sequence[Outcome]) -> str:
    """Return `none: HOSP-D; stale: HOSP-C 14m`, the most important first, cut where it is too long."""
    parts = []
    if missing:
        parts.append("none: " + ", ".join(each.site for each in missing))
    if stale:
        parts.append("stale: " + ", ".join(f"{each.site} {spoken(each.age or 0.0)}" for each in stale))
    text = "; ".join(parts)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def spoken(age: float) -> str:
    """Return a duration in its largest whole unit: 40s, 14m, 3h, 2d."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if age >= size:
            return f"{int(age // size)}{unit}"
    return f"{int(age)}s"
