"""What a device is told of an answer that stands on old copies, or on none."""

from __future__ import annotations

import pytest

from federation.outcomes import Decision, Ending, Manners, OnPartial, Outcome, Part, decide, spoken

FRESH = Outcome("A", Part.MIRROR, 3.0)
OLD = Outcome("HOSP-C", Part.MIRROR, 14 * 60.0)
ANCIENT = Outcome("HOSP-E", Part.MIRROR, 90_000.0)
NONE = Outcome("HOSP-D", Part.NONE, None, "silent")


def test_an_answer_from_fresh_copies_is_complete() -> None:
    assert decide([FRESH, Outcome("B", Part.LIVE)], Manners()) == Decision(Ending.COMPLETE, "")


@pytest.mark.parametrize("told", list(OnPartial))
def test_old_copies_are_told_as_was_agreed(told: OnPartial) -> None:
    decision = decide([FRESH, OLD], Manners(on_partial=told))
    assert decision.ending == Ending(told.value)
    assert decision.comment == ("" if told is OnPartial.COMPLETE else "stale: HOSP-C 14m")


@pytest.mark.parametrize("site", [NONE, ANCIENT, Outcome("HOSP-D", Part.MIRROR, 1.0, can_judge=False)])
@pytest.mark.parametrize("told", list(OnPartial))
def test_a_site_without_a_usable_copy_is_never_a_silent_no_priors(site: Outcome, told: OnPartial) -> None:
    decision = decide([FRESH, site], Manners(on_incomplete=told))
    assert decision.ending is not Ending.COMPLETE
    assert decision.comment == f"none: {site.site}"


def test_the_comment_names_the_missing_first_and_fits_its_vr() -> None:
    decision = decide([OLD, NONE], Manners(on_partial=OnPartial.WARN))
    assert decision == Decision(Ending.FAIL, "none: HOSP-D; stale: HOSP-C 14m")
    many = [NONE._replace(site=f"HOSPITAL-{n}") for n in range(20)]
    assert len(decide(many, Manners()).comment) == 64


def test_ages_are_spoken_in_their_largest_unit() -> None:
    assert [spoken(age) for age in (5, 65, 7300, 200_000)] == ["5s", "1m", "2h", "2d"]
