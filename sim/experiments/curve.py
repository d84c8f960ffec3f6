"""How the time of questions grows with the archive: the same ones to a thousand series, ten thousand, ..."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from random import Random
from statistics import median
from typing import Final

from ..finding import syllables
from ..patients import Patient
from ..pdu import ProtocolError
from ..phantoms import Study, series_instance_uid, study
from ..targets import Finder, Target
from .loading import load
from .outcome import Outcome, Plan, Say

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
"""Series in the archive."""
SERIES: Final = 5
"""Series of a study, of one small instance each."""
_FIRST_DAY: Final = date(1996, 1, 1)
_A_DAY: Final = 20
_A_PATIENT: Final = 3
_REPETITIONS: Final = 15


def described(n: int) -> Study:
    """Return the study of that number: twenty a day, over the hours of a shift, three of each patient."""
    patient, place = divmod(n, _A_PATIENT)
    who = Patient(
        PatientID=f"CURVE{patient:07d}", PatientName=f"{_family(patient)}^Jo", character_set="ISO_IR 100"
    )
    return study(
        1,
        17_000_000 + n,
        patient=who,
        series=SERIES,
        AccessionNumber=f"CUR{n:09d}",
        StudyDate=_day(n),
        StudyTime=f"{8 + n % 10:02d}{20 * place:02d}00",
    )


def _family(patient: int) -> str:
    return (syllables(patient // 4900 % 4900) + syllables(patient % 4900)).title()


def _day(n: int) -> str:
    return f"{_FIRST_DAY + timedelta(days=n // _A_DAY):%Y%m%d}"


Question = Callable[[Finder], int]


def questions(n: int) -> dict[str, tuple[int, Question]]:
    """Return question → (matches, asker); all are about one study, and have as many matches at any size."""
    made, patient = described(n), n // _A_PATIENT
    series = {"StudyInstanceUID": made.StudyInstanceUID, "SeriesInstanceUID": series_instance_uid(made, 1)}
    hour = made.StudyTime[:2]

    def studies(**keys: str) -> Question:
        return lambda finder: len(finder.find("STUDY", **{"StudyInstanceUID": "", "PatientName": ""} | keys))

    def of_an_hour(finder: Finder) -> int:
        found = finder.find(
            "STUDY", StudyInstanceUID="", StudyDate=made.StudyDate, StudyTime=f"{hour}0000-{hour}5959"
        )
        asked = [{"StudyInstanceUID": each["StudyInstanceUID"], "SeriesInstanceUID": ""} for each in found]
        return sum(len(finder.find("SERIES", **keys)) for keys in asked)

    return {
        "patient ID, 3 matches": (_A_PATIENT, studies(PatientID=made.patient.PatientID)),
        "accession number, 1 match": (1, studies(AccessionNumber=made.AccessionNumber)),
        "date, 20 matches": (_A_DAY, studies(StudyDate=made.StudyDate)),
        "start of the name, 3 matches": (_A_PATIENT, studies(PatientName=f"{_family(patient)}*")),
        "part of the name, 3 matches": (_A_PATIENT, studies(PatientName=f"*{_family(patient)[1:]}*")),
        "all series of an hour, 10 matches": (2 * SERIES, of_an_hour),
        "instances of a series, 1 match": (
            1,
            lambda finder: len(finder.find("IMAGE", **series, SOPInstanceUID="")),
        ),
    }


class Curve:
    """Seven questions at each size of the archive, which grows in between."""

    name = "curve"
    title = "Query time by the size of the archive"
    paper = "0.099 s with 1.3 TB and 0.105 s with 0.1 TB: size did not tell"

    def __init__(self, fill: Callable[[Iterator[Study]], object] | None = None) -> None:
        """Archives grow by C-STORE, or by what `fill` does instead."""
        self._fill = fill

    def run(self, target: Target, plan: Plan, outcome: Outcome, say: Say) -> None:
        """Load up to each size, then ask each question fifteen times, about a study drawn by chance."""
        sizes = [size for size in SIZES if size <= max(SIZES[0], plan.some(SIZES[-1]))]
        outcome.way = "C-FIND" if target.address else "QIDO-RS"
        outcome.columns, outcome.unit = ("series", "question", "median ms", "slowest ms"), "queries"
        outcome.of = len(sizes) * len(questions(0)) * _REPETITIONS
        measured: dict[str, dict[str, list[float]]] = {}
        outcome.samples["archives"] = measured
        there = 0
        for size in sizes:
            if not plan.is_loaded:
                more = map(described, range(there // SERIES, size // SERIES))
                self._fill(more) if self._fill else load(target, more, outcome, say)
            there = size
            times = measured.setdefault(str(size), {})
            self._ask(target, plan, size, times, outcome)
            say(f"curve: {target.name}, {size} series: {median(map(median, times.values())):.3g} ms")
        self._tell(measured, outcome)

    def _ask(
        self, target: Target, plan: Plan, size: int, times: dict[str, list[float]], outcome: Outcome
    ) -> None:
        chance = Random(f"curve {plan.seed} {size}")
        # Days and patients whose studies are all there: the last ones may be cut off by the size.
        whole = size // SERIES // (_A_DAY * _A_PATIENT) * _A_DAY * _A_PATIENT
        with target.finder() as finder:
            for _ in range(_REPETITIONS):
                for question, (matches, ask) in questions(chance.randrange(whole)).items():
                    began = time.perf_counter()
                    found = ask(finder)
                    times.setdefault(question, []).append(1000 * (time.perf_counter() - began))
                    outcome.done += 1
                    if found < matches:
                        raise ProtocolError(f"{question}, of {size} series: {found} were found.")
        for question, of_it in times.items():
            outcome.rows.append((size, question, median(of_it), max(of_it)))

    @staticmethod
    def _tell(measured: dict[str, dict[str, list[float]]], outcome: Outcome) -> None:
        of_size = {size: {q: median(t) for q, t in times.items()} for size, times in measured.items()}
        for size, times in of_size.items():
            outcome.summary[f"{size} series, median of the questions, ms"] = median(times.values())
        first, last = (list(of_size.values())[place] for place in (0, -1))
        for question in first if len(of_size) > 1 else ():
            ratio = last[question] / first[question]
            outcome.summary[f"largest to smallest: {question.partition(',')[0]}"] = ratio
