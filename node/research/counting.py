"""What may be said about how many there are: rounded, never small, and never two answers that tell one apart.

Whoever may ask often enough can subtract: the set of all, less the set without one. So a question whose set
differs from an answered one by fewer subjects than the smallest count gets that one's answer, and each
project has a budget of different answers.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from typing import Final

import msgspec

from catalog import Busy
from node.state import State

from .model import Project

_ROUNDED_TO: Final = 10


class Size(msgspec.Struct, frozen=True, array_like=True):
    """How large a set is; after `told`, as far as may be told."""

    subjects: int
    studies: int
    instances: int
    megabytes: int


_NOT_TOLD: Final = Size(-1, -1, -1, -1)


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that was given: its set, as keyed hashes, and what was said."""

    number: int
    subjects: bytes
    """Eight bytes each, sorted."""
    told: Size


class Counts(msgspec.Struct, frozen=True):
    """Counts as they may be told; `subjects` of -1 stands for fewer than the project's smallest."""

    subjects: int
    studies: int
    instances: int
    megabytes: int
    left: int
    """Different questions that the project may still ask."""


class Counter:
    """Answers counts for projects and remembers what it said."""

    def __init__(self, state: State) -> None:
        self._table = state.table("research-counts", Answered)

    def tell(self, project: Project, secret: bytes, subjects: Collection[str], size: Size) -> Counts:
        """Return how large a set of subjects is, as far as that may be told.

        Raises:
            Busy: the project has asked all of its questions.
        """
        asked = frozenset(hmac.digest(secret, subject.encode(), hashlib.sha256)[:8] for subject in subjects)
        prefix = f"{project.name}\0".encode()
        answered = [row for _, row in self._table.scan(prefix)]
        nearest = min(answered, key=lambda row: len(asked ^ _set(row)), default=None)
        left = project.questions - len(answered)
        if nearest is not None and len(asked ^ _set(nearest)) < project.smallest:
            return _counts(nearest.told, left)
        if left <= 0:
            what = f"The project {project.name} has had {project.questions} different counts answered."
            raise Busy(what, f"Allow more: peerpacs projects edit {project.name} --questions NUMBER")
        told = _NOT_TOLD
        if len(asked) >= project.smallest:
            numbers = (len(asked), size.studies, size.instances, size.megabytes)
            told = Size(*(rounded(number) for number in numbers))
        row = Answered(number=len(answered), subjects=b"".join(sorted(asked)), told=told)
        self._table.put(prefix + len(answered).to_bytes(4, "big"), row)
        return _counts(told, left - 1)


def _counts(told: Size, left: int) -> Counts:
    return Counts(told.subjects, told.studies, told.instances, told.megabytes, left)


def rounded(count: int) -> int:
    """Return a count as it may be told: to the nearest ten."""
    return (count + _ROUNDED_TO // 2) // _ROUNDED_TO * _ROUNDED_TO


def _set(row: Answered) -> frozenset[bytes]:
    return frozenset(row.subjects[at : at + 8] for at in range(0, len(row.subjects), 8))
