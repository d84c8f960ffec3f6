"""Experiments that retrieve: single instances (Figure 9), parallel workers (Figure 10), sizes (Table 4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from statistics import mean, median
from threading import Event
from typing import Final

from ..cases import AVERAGE_202_KB, CT_512_KB
from ..pdu import ProtocolError
from ..phantoms import Study, series_instance_uid, sop_instance_uid, study
from ..targets import Fetched, Target
from .loading import load
from .outcome import Outcome, Plan, Say


class Figure9:
    """Random instances of one day, one by one, in two passes."""

    name = "fig9"
    title = "Retrieving single instances in two passes (Figure 9)"
    paper = "1000 of 4874 instances, 251 MB; the second pass took about 15 % less"

    def run(self, target: Target, plan: Plan, outcome: Outcome, say: Say) -> None:
        """Load a day's instances, fetch a random fifth of them, wait, and fetch them again."""
        count, wanted = plan.some(4874, 10), plan.some(1000, 5)
        outcome.of, outcome.unit = 2 * wanted, "instances"
        outcome.way = "WADO-RS" if target.web else "C-GET"
        outcome.columns = ("pass", "instances", "mean ms", "median ms", "95 % ms")
        studies = _day(plan, count)
        if not plan.is_loaded:
            load(target, studies, outcome, say)
        every = [(made, number) for made in studies for number in range(1, made.instances + 1)]
        chosen = Random(f"fig9 {plan.seed}").sample(every, min(wanted, len(every)))
        outcome.of = 2 * len(chosen)
        outcome.samples |= {"sizes": [made.size for made, _ in chosen], "passes": [[], []]}
        for number in range(2):
            if number:
                say(f"fig9: waiting {plan.pause:g} s before the second pass")
                time.sleep(plan.pause)
            self._pass(target, chosen, number, outcome, say)
        first, second = (mean(times) for times in outcome.samples["passes"])
        outcome.summary = {
            "first pass, mean ms": 1000 * first,
            "second pass, mean ms": 1000 * second,
            "second pass is shorter by, %": 100 * (1 - second / first),
        }

    def _pass(
        self, target: Target, chosen: Sequence[tuple[Study, int]], number: int, outcome: Outcome, say: Say
    ) -> None:
        times: list[float] = outcome.samples["passes"][number]
        with target.retriever(outcome.way) as retriever:
            for made, instance in chosen:
                series = series_instance_uid(made, 1)
                began = time.perf_counter()
                retriever.instance(made.StudyInstanceUID, series, sop_instance_uid(made, 1, instance))
                times.append(time.perf_counter() - began)
                outcome.done += 1
                if outcome.done % 100 == 0:
                    say(f"fig9: {target.name}, {outcome.done} of {outcome.of} instances")
        ordered = sorted(1000 * each for each in times)
        late = ordered[int(0.95 * (len(ordered) - 1))]
        outcome.rows.append((number + 1, len(ordered), mean(ordered), median(ordered), late))


def _day(plan: Plan, count: int) -> list[Study]:
    """Series of several instances each, of sizes around the paper's: most of them several hundred kB."""
    chance = Random(f"fig9 sizes {plan.seed}")
    studies: list[Study] = []
    while count > 0:
        instances = min(count, chance.randint(1, 40))
        size = round(min(4e6, max(16_000, chance.lognormvariate(12.2, 0.8)))) // 2 * 2
        number = 9_000_000 + len(studies)
        studies.append(study(plan.seed, number, instances=instances, size=size, StudyDate="20240108"))
        count -= instances
    return studies


def refuse_part(fetched: Fetched, made: Study) -> None:
    """Raise ProtocolError if only a part of a study came, by its bytes where instances are not counted."""
    count = made.series * made.instances
    if fetched.instances not in (0, count):
        raise ProtocolError(f"{fetched.instances} instances came of a study of {count}.")
    if not fetched.instances and 0 < fetched.size < _LEAST_SHARE * made.size * count:
        raise ProtocolError(f"{fetched.size} bytes came of a study of {made.size * count}.")


_LEAST_SHARE: Final = 0.3
"""Without loss, phantoms cannot be made smaller than about half."""


@dataclass(frozen=True, slots=True)
class Batch:
    """How parallel workers did: the time of each, and of all together."""

    each: list[float]
    together: float
    instances: int


def parallel(target: Target, studies: Sequence[Study], workers: int, on_study: Callable[[], None]) -> Batch:
    """Have workers retrieve studies, the same number each, one after the other. Raises `REFUSALS`."""
    failed = Event()

    def work(share: Sequence[Study]) -> float:
        began = time.perf_counter()
        with target.retriever() as retriever:
            for made in share:
                if failed.is_set():
                    break
                refuse_part(retriever.study(made.StudyInstanceUID, made.total_size), made)
                on_study()
        return time.perf_counter() - began

    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        try:
            each = list(pool.map(work, (studies[place::workers] for place in range(workers))))
        except BaseException:
            failed.set()
            raise
    together = time.perf_counter() - began
    return Batch(each, together, sum(made.series * made.instances for made in studies))


_QUESTIONS: Final = 10


def _series_times(target: Target, studies: Sequence[Study]) -> list[float]:
    """Ask for all instances of one series of each study, which nobody asked for before; return seconds."""
    times = []
    with target.finder() as finder:
        for made in studies:
            asked = {
                "StudyInstanceUID": made.StudyInstanceUID,
                "SeriesInstanceUID": series_instance_uid(made, 1),
            }
            began = time.perf_counter()
            found = finder.find("IMAGE", **asked, SOPInstanceUID="")
            times.append(time.perf_counter() - began)
            if len(found) != made.instances:
                raise ProtocolError(f"{len(found)} instances of a series of {made.instances} were found.")
    return times


class Figure10:
    """Parallel workers that retrieve the same number of studies together, however many they are."""

    name = "fig10"
    title = "Retrieving 80 studies with parallel workers (Figure 10)"
    paper = "throughput grows with the workers in the cloud PACS, not in Dcm4chee 2.18.3"
    _WORKERS: Final = (1, 2, 4, 8, 16)
    _STUDIES: Final = 80

    def run(self, target: Target, plan: Plan, outcome: Outcome, say: Say) -> None:
        """For each number of workers, retrieve 80 studies that were not retrieved before."""
        outcome.way, outcome.unit = target.way, "studies"
        outcome.of = self._STUDIES * len(self._WORKERS)
        outcome.columns = ("workers", "seconds", "MB/s", "instances/s", "median of a worker s")
        sets = [self._studies(plan, turn) for turn in range(len(self._WORKERS))]
        if not plan.is_loaded:
            load(target, (made for each in sets for made in each), outcome, say)
        times = _series_times(target, sets[0][:_QUESTIONS])
        outcome.samples["workers"] = {}
        rates: dict[int, float] = {}

        def count() -> None:
            outcome.done += 1

        for workers, studies in zip(self._WORKERS, sets, strict=True):
            batch = parallel(target, studies, workers, count)
            rates[workers] = batch.instances * AVERAGE_202_KB / batch.together / 1e6
            outcome.samples["workers"][str(workers)] = batch.each
            rate = batch.instances / batch.together
            outcome.rows.append((workers, batch.together, rates[workers], rate, median(batch.each)))
            say(f"fig10: {target.name}, {workers} workers: {rates[workers]:.0f} MB/s")
        outcome.summary = {f"{workers} workers, MB/s": rate for workers, rate in rates.items()}
        outcome.summary["8 workers to 1"] = rates[8] / rates[1]
        outcome.summary["all instances of a series, mean s"] = mean(times)

    def _studies(self, plan: Plan, turn: int) -> list[Study]:
        return [
            study(
                plan.seed,
                10_000_000 + turn * 1000 + number,
                series=5,
                instances=plan.some(104),
                size=AVERAGE_202_KB,
            )
            for number in range(self._STUDIES)
        ]


class Table4:
    """Studies of 2 MB to 1 GB, four series each, with four, eight and sixteen threads."""

    name = "table4"
    title = "Retrieving studies of various sizes (Table 4)"
    paper = "87-126 Mbps with 4 threads, 181-293 with 8, 284-449 with 16; no fall with size"
    _THREADS: Final = (4, 8, 16)
    _STUDIES: Final = 32

    def run(self, target: Target, plan: Plan, outcome: Outcome, say: Say) -> None:
        """For each size and number of threads, retrieve all studies of that size."""
        sizes = [size for size in (2**power for power in range(1, 11)) if size <= max(8, 1024 * plan.share)]
        count = self._STUDIES if plan.share >= 1 else self._STUDIES // 2
        outcome.way, outcome.unit = target.way, "studies"
        outcome.of = len(sizes) * len(self._THREADS) * count
        outcome.columns = ("threads", "study MB", "instances/s", "s per 100", "Mbps")
        sets = {size: self._studies(plan, size, count) for size in sizes}
        if not plan.is_loaded:
            load(target, (made for each in sets.values() for made in each), outcome, say)
        outcome.samples["threads"] = {}

        def done() -> None:
            outcome.done += 1

        for threads in self._THREADS:
            of_threads = outcome.samples["threads"].setdefault(str(threads), [])
            for size in sizes:
                batch = parallel(target, sets[size], threads, done)
                rate = batch.instances / batch.together
                mbps = rate * CT_512_KB * 8 / 1e6
                of_threads.append((size, mbps))
                outcome.rows.append((threads, size, rate, 100 / rate, mbps))
                say(f"table4: {target.name}, {threads} threads, {size} MB: {mbps:.0f} Mbps")
        for threads, points in outcome.samples["threads"].items():
            outcome.summary[f"{threads} threads, median Mbps"] = median(mbps for _, mbps in points)
            outcome.summary[f"{threads} threads, largest to smallest"] = points[-1][1] / points[0][1]

    @staticmethod
    def _studies(plan: Plan, size: int, count: int) -> list[Study]:
        instances = max(1, size * 1_000_000 // CT_512_KB // 4)
        first = 11_000_000 + size * 1000
        return [
            study(plan.seed, first + number, series=4, instances=instances, size=CT_512_KB)
            for number in range(count)
        ]
