"""What may be said about how many there are: rounded, never small, and never two answers that tell one apart.

Whoever may ask often enough can subtract: the set of all, less the set without one. So a question whose set
differs from an answered one by few subjects gets that one's answer; where few ends, and whether a number is
rounded up or down, nobody can foresee who has not the project's key, and the same set is always told the
same. Different questions are counted by their words, whatever the answer was, and each project has a budget.
"""

from __future__ import annotations

import hashlib
import hmac
from bisect import bisect
from collections.abc import Collection
from typing import Final

import msgspec

from catalog import Busy
from node.state import State

from .model import Project

_ROUNDED_TO: Final = 10
_STEPS: Final[tuple[int, ...]] = (0, *(step * int(10**power) for power in range(13) for step in (1, 2, 5)))
"""To these everything but subjects is rounded: one subject may have most of the instances."""


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
        self._answers = state.table("research-counts", Answered)
        self._asked = state.table("research-questions", int)

    def tell(
        self, project: Project, secret: bytes, question: bytes, subjects: Collection[str], size: Size
    ) -> Counts:
        """Return how large a set of subjects is, as far as that may be told; `question` is what was asked.

        Raises:
            Busy: the project has asked all of its questions.
        """
        prefix = f"{project.name}\0".encode()
        left = self._charged(project, prefix, _hash(secret, question))
        asked = frozenset(_hash(secret, subject.encode()) for subject in subjects)
        if len(asked) < project.smallest:
            return _counts(_NOT_TOLD, left)
        answered = [row for _, row in self._answers.scan(prefix)]
        nearest = min(answered, key=lambda row: len(asked ^ _set(row)), default=None)
        if nearest is not None and len(asked ^ _set(nearest)) < _few(project, secret, asked, _set(nearest)):
            return _counts(nearest.told, left)
        chances = (_chance(secret, asked, about) for about in range(1, 5))
        numbers = (size.studies, size.instances, size.megabytes)
        told = Size(tens(len(asked), next(chances)), *map(stepped, numbers, chances))
        row = Answered(number=len(answered), subjects=b"".join(sorted(asked)), told=told)
        self._answers.put(prefix + len(answered).to_bytes(4, "big"), row)
        return _counts(told, left)

    def _charged(self, project: Project, prefix: bytes, question: bytes) -> int:
        """Note a question unless it was asked before; return how many are left."""
        key = prefix + question
        asked = {row for row, _ in self._asked.scan(prefix)}
        if key in asked:
            return project.questions - len(asked)
        if len(asked) >= project.questions:
            what = f"The project {project.name} has had {project.questions} different counts answered."
            raise Busy(what, f"Allow more: peerpacs projects edit {project.name} --questions NUMBER")
        self._asked.put(key, 1)
        return project.questions - len(asked) - 1


def tens(count: int, chance: float) -> int:
    """Return a count of subjects as it may be told: ten below or above it, the nearer the likelier."""
    return max(_ROUNDED_TO, int(count / _ROUNDED_TO + chance) * _ROUNDED_TO)


def stepped(count: int, chance: float) -> int:
    """Return another count as 1, 2 or 5 times a power of ten, below or above it, the nearer the likelier."""
    at = min(bisect(_STEPS, count), len(_STEPS) - 1)
    below, above = _STEPS[at - 1], _STEPS[at]
    return above if (count - below) / (above - below) > 1 - chance else below


def _counts(told: Size, left: int) -> Counts:
    return Counts(told.subjects, told.studies, told.instances, told.megabytes, left)


def _few(project: Project, secret: bytes, one: frozenset[bytes], other: frozenset[bytes]) -> int:
    """Return by how many subjects two sets must differ to be told apart: the smallest count, or half more."""
    return project.smallest + int(_chance(secret, one ^ other) * (project.smallest // 2 + 1))


def _chance(secret: bytes, subjects: Collection[bytes], about: int = 0) -> float:
    """Return a number from 0 to 1 that is the same for the same set, and without the key could be any."""
    content = b"set\0%d\0" % about + b"".join(sorted(subjects))
    return int.from_bytes(_hash(secret, content), "big") / 2**64


def _hash(secret: bytes, value: bytes) -> bytes:
    return hmac.digest(secret, value, hashlib.sha256)[:8]


def _set(row: Answered) -> frozenset[bytes]:
    return frozenset(row.subjects[at : at + 8] for at in range(0, len(row.subjects), 8))
