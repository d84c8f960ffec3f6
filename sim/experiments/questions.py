"""Experiments that ask: series of a day and hour (Figure 8), and ten questions to many studies."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from random import Random
from statistics import mean, median, stdev
from typing import Final

from ..clients import ClientError
from ..finding import Population
from ..pdu import ProtocolError
from ..phantoms import Study, study
from ..targets import Finder, Target
from .loading import load
from .outcome import Outcome, Plan, Say

_BASE: Final = 8_000_000
_FIRST_DAY: Final = date(2024, 1, 1)
_DAYS: Final = 7
_REPETITIONS: Final = 10
_SERIES_A_DAY: Final = 6000
_SERIES_A_STUDY: Final = 6
_EVERY_TAG: Final = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "StudyDescription", "ReferringPhysicianName", "StudyInstanceUID", "SeriesInstanceUID",
    "Modality", "SeriesNumber", "SeriesDescription", "BodyPartExamined", "ProtocolName", "Manufacturer",
    "ManufacturerModelName", "StationName", "InstitutionName", "OperatorsName", "PerformingPhysicianName",
    "DeviceSerialNumber", "SoftwareVersions", "NumberOfSeriesRelatedInstances",
)  # fmt: skip


class Figure8:
    """All series created on each day of a week in one hour of the morning, with optional keys."""

    name = "fig8"
    title = "Searching all series created at a specific time (Figure 8)"
    paper = "0.099 s ± 0.02 in the mean of ten repetitions, 7 days, at 8 am"

    def run(self, target: Target, plan: Plan, outcome: Outcome, say: Say) -> None:
        """Load a week of series, then ask for each day ten times; the days come in turn."""
        outcome.of, outcome.unit = _DAYS * _REPETITIONS, "queries"
        outcome.columns = ("day", "series found", "mean s", "slowest s")
        if not plan.is_loaded:
            load(target, _week(plan), outcome, say)
        expected = [_at_eight(plan, day) for day in range(_DAYS)]
        times: list[list[float]] = [[] for _ in range(_DAYS)]
        outcome.samples["days"] = times
        try:
            self._ask(target, expected, times, outcome, say)
        finally:
            for day, of_day in enumerate(times):
                if of_day:
                    outcome.rows.append((day + 1, expected[day], mean(of_day), max(of_day)))
        every = [each for of_day in times for each in of_day]
        outcome.summary = {
            "mean, s": mean(every),
            "standard deviation, s": stdev(every),
            "slowest, s": max(every),
        }

    @staticmethod
    def _ask(
        target: Target, expected: list[int], times: list[list[float]], outcome: Outcome, say: Say
    ) -> None:
        with target.finder(is_relational=True) as finder:
            ask, outcome.way = _way(finder, target, expected)
            for _ in range(_REPETITIONS):
                for day in range(_DAYS):
                    began = time.perf_counter()
                    found = ask(finder, _date(day))
                    times[day].append(time.perf_counter() - began)
                    outcome.done += 1
                    if found < expected[day]:
                        raise ProtocolError(
                            f"Day {day + 1} has {expected[day]} series at 8 am; {found} came."
                        )
                say(f"fig8: {target.name}, {outcome.done} of {outcome.of} queries")


def _date(day: int) -> str:
    return f"{_FIRST_DAY + timedelta(days=day):%Y%m%d}"


def _week(plan: Plan) -> list[Study]:
    return [
        study(
            plan.seed,
            _BASE + day * 100_000 + number,
            StudyDate=_date(day),
            StudyTime=f"{_hour(plan, day, number):02d}{number % 60:02d}00",
            series=_SERIES_A_STUDY,
        )
        for day in range(_DAYS)
        for number in range(plan.some(_SERIES_A_DAY / _SERIES_A_STUDY))
    ]


def _hour(plan: Plan, day: int, number: int) -> int:
    return Random(f"hour {plan.seed} {day} {number}").randint(7, 18)


def _at_eight(plan: Plan, day: int) -> int:
    studies = range(plan.some(_SERIES_A_DAY / _SERIES_A_STUDY))
    return _SERIES_A_STUDY * sum(_hour(plan, day, number) == 8 for number in studies)


def _flat(finder: Finder, day: str) -> int:
    keys = dict.fromkeys(_EVERY_TAG, "")
    return len(finder.find("SERIES", **keys | {"SeriesDate": day, "SeriesTime": "080000-085959"}))


def _by_study(finder: Finder, day: str) -> int:
    """As a workstation does where series cannot be asked for without their study."""
    found = finder.find("STUDY", StudyInstanceUID="", StudyDate=day, StudyTime="080000-085959")
    keys = dict.fromkeys(_EVERY_TAG[12:], "")
    return sum(
        len(finder.find("SERIES", **keys | {"StudyInstanceUID": each["StudyInstanceUID"]})) for each in found
    )


def _way(finder: Finder, target: Target, expected: Sequence[int]) -> tuple[Callable[[Finder, str], int], str]:
    """Return how to ask; a day that has series at 8 am shows whether it answers for all studies at once."""
    how = "QIDO-RS" if target.web else "C-FIND"
    day = next((day for day in range(_DAYS) if expected[day]), None)
    try:
        if day is None or _flat(finder, _date(day)):
            return _flat, how
    except (ProtocolError, ClientError):
        pass
    return _by_study, f"{how} study by study, because it answers no flat question"


class Find:
    """Ten questions, with one match and with a hundred, to twenty thousand studies."""

    name = "find"
    title = "C-FIND at study level"
    paper = "0.105 ± 0.018 s for all instances of a series"

    def run(self, target: Target, plan: Plan, outcome: Outcome, say: Say) -> None:
        """Load the population, then ask each question fifteen times over one association."""
        population = Population(plan.some(200, least=12) * 100)
        outcome.way = "C-FIND" if target.address else "QIDO-RS"
        outcome.columns, outcome.unit = ("question", "median ms"), "queries"
        if not plan.is_loaded:
            load(target, map(population.study, range(population.count)), outcome, say)
        repetitions, taken = 15, dict[str, list[float]]()
        outcome.of = 10 * repetitions
        chance = Random(plan.seed)
        outcome.samples["questions"] = taken
        try:
            self._ask(target, population, repetitions, chance, taken, outcome)
        finally:
            outcome.rows = [(question, median(times)) for question, times in taken.items()]
        outcome.summary = {"median of the ten, ms": median(row[1] for row in outcome.rows)}

    @staticmethod
    def _ask(
        target: Target,
        population: Population,
        repetitions: int,
        chance: Random,
        taken: dict[str, list[float]],
        outcome: Outcome,
    ) -> None:
        with target.finder() as finder:
            for _ in range(repetitions):
                for question, (matches, keys) in population.questions(chance).items():
                    began = time.perf_counter()
                    found = len(finder.find("STUDY", **{"StudyInstanceUID": "", "PatientName": "", **keys}))
                    taken.setdefault(question, []).append(1000 * (time.perf_counter() - began))
                    outcome.done += 1
                    # The target may hold other studies besides ours.
                    if found < matches:
                        asked = ", ".join(f"{keyword} {text}" for keyword, text in keys.items())
                        raise ProtocolError(
                            f"It took {matches} studies of {asked}, and finds {found} of them."
                        )
