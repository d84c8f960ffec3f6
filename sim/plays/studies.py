"""The studies that a play speaks of by words like CT-3x10: made when they are first spoken of."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from ..examinations import EXAMINATIONS, examination, instances_of
from ..phantoms import Instance, Study, study
from .script import study_of

_SIZE = 40_000
"""Bytes of an instance; plays are about many, not about large ones."""


class Studies:
    """Knows every word of one play and the study that it means."""

    def __init__(self, seed: int) -> None:
        """The same seed, and the same words in the same order, give the same studies."""
        self._seed = seed
        self._made: dict[str, list[Instance]] = {}
        self._uids: dict[str, str] = {}

    def instances(self, word: str) -> Sequence[Instance]:
        """Return all instances of a study."""
        if word not in self._made:
            parts = self._described(word, len(self._made) + 1)
            self._uids[word] = parts[0].StudyInstanceUID
            self._made[word] = list(instances_of(parts))
        return self._made[word]

    def uid(self, word: str) -> str:
        """Return the Study Instance UID of a study."""
        self.instances(word)
        return self._uids[word]

    def word(self, StudyInstanceUID: str) -> str:
        """Return the word of a study, in words that say so if it has none."""
        found = (word for word, uid in self._uids.items() if uid == StudyInstanceUID)
        return next(found, "a study nobody sent")

    def _described(self, word: str, number: int) -> tuple[Study, ...]:
        kind, series, count = study_of(word)
        if not series:
            assert kind in EXAMINATIONS
            return examination(self._seed, number, kind, is_small=True)
        day = f"202401{1 + Random(number).randrange(28):02d}"
        described = study(
            self._seed, number, modality=kind, series=series, instances=count, size=_SIZE, StudyDate=day
        )
        return (described,)
