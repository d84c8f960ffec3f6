"""What only a whole batch can tell about an instance."""

from __future__ import annotations

from typing import Any

import pytest

from anonymizer.judgement import judged
from anonymizer.worker import Outcome


def outcome(number: int, **changes: Any) -> Outcome:
    """A released instance of study 1 and its series 1."""
    usual: dict[str, Any] = {"uids": ("S", "E", f"I{number}"), "old_uids": ("s", "e", f"i{number}")}
    return Outcome(f"{number}.dcm", "", name=f"{number}", **{"subject": "P", **usual, **changes})


def reasons(*outcomes: Outcome) -> list[str]:
    return [str(o.reason) for o in judged(list(outcomes))]


def test_instances_whose_uids_are_one_to_one_and_whose_references_meet_pass() -> None:
    pointing = outcome(2, references=("I1",), old_references=("i1",))
    assert reasons(outcome(1), pointing) == ["", ""]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"uids": ("S", "E", "I1")}, "IOD_REGRESSION"),
        ({"uids": ("T", "E", "I2")}, "IOD_REGRESSION"),
        ({"subject": "Q"}, "IOD_REGRESSION"),
        ({"references": ("I9",), "old_references": ("i1",)}, "DANGLING_REFERENCE"),
    ],
)
def test_an_instance_that_does_not_fit_the_others_is_held(changes: dict[str, Any], reason: str) -> None:
    assert reasons(outcome(1), outcome(2, **changes))[1] == reason


def test_references_may_be_removed_and_may_lead_out_of_the_batch() -> None:
    removed = outcome(2, references=(), old_references=("i1",))
    outside = outcome(3, references=("I77",), old_references=("i77",))
    assert reasons(outcome(1), removed, outside) == ["", "", ""]


def test_one_leak_holds_its_subject_only() -> None:
    leaking = Outcome("4.dcm", "", subject="P", reason="LEAK_FOUND")
    other = outcome(5, subject="Q", uids=("T", "F", "I5"), old_uids=("t", "f", "i5"))
    assert reasons(outcome(1), leaking, other) == ["LEAK_FOUND", "LEAK_FOUND", ""]
