"""The case of C-FIND: ten questions put to twenty thousand studies over one open association."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from statistics import median
from typing import Final

from .association import STUDY_ROOT_FIND, Association
from .cases import AGAINST_ORTHANC, Contestant, Figures, Filled
from .clients import ClientError
from .patients import Patient
from .pdu import identifier
from .phantoms import Study, study
from .report import Goal, Measured, Row, median_of_ratios
from .servers import Server

_SYLLABLES: Final = tuple(c + v for c in "bdfgklmnprstvz" for v in "aeiou")
_FIRST_DAY: Final = 17_000
"""Days since 1970 of the oldest study date."""


_ALONE: Final = 20
"""So many studies, the last ones, have a date that no other has."""


def syllables(number: int) -> str:
    """Return two syllables that no other number below 4900 has."""
    return _SYLLABLES[number // len(_SYLLABLES)] + _SYLLABLES[number % len(_SYLLABLES)]


def _date(day: int) -> str:
    return time.strftime("%Y%m%d", time.gmtime((_FIRST_DAY + day) * 86400))


_BASE: Final = 18_000_000
"""Numbers of studies that nothing else has: a week's traffic counts from 0."""


@dataclass(frozen=True, slots=True)
class Population:
    """Studies whose keys are chosen so that a question finds exactly one of them, or exactly a hundred.

    They come in groups of a hundred. The group shows in the accession number, the dates (five days) and
    the family name; one patient in ten groups has all hundred studies of the group.
    """

    count: int

    def study(self, n: int) -> Study:
        """Return the study of that number."""
        group, place = divmod(n, 100)
        id = f"G{group:06d}" if group % 10 == 0 else f"S{n:06d}"
        family = f"{syllables(group).title()}w{syllables(place)}"
        given = f"Joh{syllables(group)}h"
        who = Patient(PatientID=id, PatientName=f"{family}^{given}", character_set="ISO_IR 100")
        alone = n - (self.count - _ALONE)
        day = 5 * group + place // 20 if alone < 0 else -1 - alone
        return study(1, _BASE + n, patient=who, AccessionNumber=f"ACC{n:07d}", StudyDate=_date(day))

    def studies(self) -> Iterable[Study]:
        """Return all of them, by number."""
        return map(self.study, range(self.count))

    def times(self, find: Callable[[dict[str, str]], int], repetitions: int, chance: Random) -> Figures:
        """Return question → median of the milliseconds that `find` took for its keys, and that of all.

        Raises:
            ClientError: `find` returned another number than that of the matches there are.
        """
        taken: dict[str, list[float]] = {}
        for _ in range(repetitions):
            for question, (matches, keys) in self.questions(chance).items():
                began = time.perf_counter()
                found = find(keys)
                taken.setdefault(question, []).append(1000 * (time.perf_counter() - began))
                if found != matches:
                    raise ClientError(f"{found} were found for {keys}; {matches} are there.")
        figures = {question: median(times) for question, times in taken.items()}
        return {**figures, OVER_ALL: median(figures.values())}

    def questions(self, chance: Random) -> dict[str, tuple[int, dict[str, str]]]:
        """Return question → (matches, keys), for studies and groups drawn by `chance`."""
        group = 10 * chance.randrange(self.count // 1000)
        n = 100 * (group + 1) + chance.randrange(100)
        one = self.study(n)
        lone = self.study(self.count - 1 - chance.randrange(_ALONE))
        family, _, given = one.patient.PatientName.partition("^")
        days = f"{_date(5 * group)}-{_date(5 * group + 4)}"
        return {
            "patient id, 1 match": (1, {"PatientID": one.patient.PatientID}),
            "patient id, 100 matches": (100, {"PatientID": f"G{group:06d}"}),
            "accession, 1 match": (1, {"AccessionNumber": one.AccessionNumber}),
            "accession*, 100 matches": (100, {"AccessionNumber": f"ACC{group:05d}*"}),
            "date, 1 match": (1, {"StudyDate": lone.StudyDate}),
            "date range, 100 matches": (100, {"StudyDate": days}),
            "name prefix, 1 match": (1, {"PatientName": f"{family}*"}),
            "name prefix, 100 matches": (100, {"PatientName": f"{family[:5]}*"}),
            "name infix, 1 match": (1, {"PatientName": f"*{family[1:]}*"}),
            "name infix, 100 matches": (100, {"PatientName": f"*{given[2:]}*"}),
        }


_RETURN_KEYS: Final = """
PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyDate StudyTime AccessionNumber
StudyID StudyDescription
"""
OVER_ALL: Final = "median of the ten"


@dataclass(slots=True)
class Find(Filled):
    """C-FIND at study level, plain attributes returned; a time is from the request to the final response."""

    studies: int = 20_000
    repetitions: int = 15
    name: str = "find"
    senders: int = 4

    @property
    def title(self) -> str:
        return f"C-FIND over one open association, {self.studies} studies"

    @property
    def rows(self) -> tuple[Row, ...]:
        questions = self._population.questions(Random(0))
        times = [Row(question, "ms", more_is_better=False) for question in questions]
        return (*times, Row(OVER_ALL, "ms", more_is_better=False, goal=Goal(at_least=5.0)))

    @property
    def contestants(self) -> dict[str, Contestant]:
        return AGAINST_ORTHANC

    def held(self) -> Iterable[Study]:
        return self._population.studies()

    def measure(self, server: Server, run: int) -> Figures:
        with Association(server.address, [STUDY_ROOT_FIND]) as association:

            def find(keys: dict[str, str]) -> int:
                wanted = {**dict.fromkeys(_RETURN_KEYS.split(), ""), **keys}
                return len(association.find(identifier("STUDY", **wanted)))

            return self._population.times(find, self.repetitions, Random(run))

    def conclude(self, measured: list[Measured]) -> list[Measured]:
        questions = [row for row in measured if row.row.name != OVER_ALL]
        return [*measured, median_of_ratios(self.title, questions, Goal(at_least=5.0))]

    @property
    def _population(self) -> Population:
        return Population(self.studies)
