"""Traffic played against targets in compressed time: devices send series, readers ask and open studies.

A device works like a real one: one series after the other, each over an association of its own, until it is
acknowledged. What was acknowledged is remembered, so that it can be looked for in the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from random import Random
from typing import Final, NamedTuple
from uuid import uuid4

from ..committing import request_of
from ..headers import KINDS, Kind
from ..patients import visitor
from ..phantoms import Instance, Study, instances, study
from ..targets import REFUSALS, Target, reason
from .records import DAY, Burst
from .scenario import Scenario

_SMALLEST_BYTES: Final = 16_384
"""Below so many bytes an instance is as small as its kind can be."""


class Sent(NamedTuple):
    """One series that was acknowledged; times are seconds of the run, not of the scenario."""

    burst: Burst
    began: float
    seconds: float
    size: int
    """Bytes that were really sent."""
    slowest: float
    """The longest wait for one answer."""
    late: float
    """Seconds behind its time when it began."""
    attempts: int


class Asked(NamedTuple):
    """What a reader or a device asked for besides storing."""

    what: str
    site: str
    began: float
    seconds: float
    error: str


@dataclass(slots=True)
class Run:
    """What became of the traffic so far."""

    sent: list[Sent] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    acknowledged: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    """Site → StudyInstanceUID → SOP Instance UIDs."""
    failures: list[str] = field(default_factory=list)
    """What went wrong on the way, also where a later attempt succeeded."""
    stopped: str = ""
    """Why it ended before all was sent; empty if it did not."""
    missing: list[str] = field(default_factory=list)
    """Studies that were acknowledged and not found in the end."""
    planned: int = 0
    seconds: float = 0.0


class Replay:
    """Plays a scenario's bursts; `targets` by site, with the first one for sites that are not named.

    `patience` is how many seconds nothing at all may be acknowledged before it is given up.
    """

    def __init__(
        self,
        scenario: Scenario,
        targets: Mapping[str, Target],
        patience: float = 30.0,
        on_progress: Callable[[Run], None] = lambda run: None,
    ) -> None:
        self.scenario = scenario
        self.run = Run()
        self._targets = targets
        self._patience = patience
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._is_ended = self._is_dropped = False
        self._bursts = scenario.bursts()
        self._numbers = numbered(self._bursts)
        self._began = self._failing_since = 0.0

    def play(self) -> Run:
        """Send everything in its time, look for it afterwards, and return what became of it."""
        self.run.planned = len(self._bursts)
        by_device: dict[str, list[Burst]] = {}
        for burst in self._bursts:
            by_device.setdefault(burst.device, []).append(burst)
        self._began = time.monotonic()
        threading.stack_size(512 * 1024)
        senders = [threading.Thread(target=self._device, args=(each,)) for each in by_device.values()]
        of_site = self.scenario.readers
        readers = [
            threading.Thread(target=what, args=(site, number))
            for site in self.scenario.sites
            for what, count in ((self._reader, of_site.workstations), (self._researcher, of_site.researchers))
            for number in range(count)
        ]
        for thread in (*senders, *readers):
            thread.start()
        try:
            while any(thread.is_alive() for thread in senders) and not self._stop.wait(0.2):
                self._on_progress(self.run)
        except KeyboardInterrupt:
            self._is_dropped = True
            raise
        finally:
            self._stop.set()
            for thread in (*senders, *readers):
                thread.join()
            self.run.seconds = time.monotonic() - self._began
        self._look_for_all()
        if not self.run.stopped and len(self.run.sent) < self.run.planned:
            self.run.stopped = (
                f"It was ended when {len(self.run.sent)} of {self.run.planned} series were stored."
            )
        return self.run

    def stop(self) -> None:
        """End it early; what is under way ends first, and nothing is looked for any more."""
        self._is_ended = True
        self._stop.set()

    def due(self, moment: float) -> float:
        """Return how long after the beginning a moment of the traffic comes, in seconds of the run.

        A recording begins with its first series, a planned week at midnight.
        """
        first = self._bursts[0].time if self.scenario.traffic else 0.0
        return (moment - first) / self.scenario.faster

    def _target(self, site: str) -> Target:
        return self._targets.get(site) or next(iter(self._targets.values()))

    def _device(self, bursts: Sequence[Burst]) -> None:
        for burst in bursts:
            due = self._began + self.due(burst.time)
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            try:
                self._send(burst, max(0.0, time.monotonic() - due))
            except Exception as error:  # in a thread nobody would hear of it
                self.run.stopped = f"{burst.device} could not go on. {reason(error)}"
                self._stop.set()
                raise

    def _send(self, burst: Burst, late: float) -> None:
        made = series(burst, self.scenario, self._numbers[burst.study])
        whole = list(instances(made))
        began, slowest, attempts = time.monotonic(), 0.0, 0
        wait = 0.1
        while not self._stop.is_set():
            attempts += 1
            try:
                for stored in self._target(burst.site).store(whole, calling(burst.device)):
                    slowest = max(slowest, stored.seconds)
                    self._acknowledge(burst, made, stored.SOPInstanceUID)
                    if self._is_dropped:
                        return
            except REFUSALS as error:
                self._fail(burst, error)
                self._stop.wait(wait)
                wait = min(2.0, 2 * wait)
                continue
            size = sum(each.size for each in whole)
            seconds = time.monotonic() - began
            with self._lock:
                row = Sent(burst, began - self._began, seconds, size, slowest, late, attempts)
                self.run.sent.append(row)
            if Random(f"{burst.study} {burst.series}").random() < self.scenario.readers.commitment:
                self._commit(burst, whole)
            return

    def _acknowledge(self, burst: Burst, made: Study, uid: str) -> None:
        with self._lock:
            at_site = self.run.acknowledged.setdefault(burst.site, {})
            at_site.setdefault(made.StudyInstanceUID, set()).add(uid)
            self._failing_since = 0.0

    def _fail(self, burst: Burst, error: BaseException) -> None:
        with self._lock:
            self.run.failures.append(
                f"{burst.device}, series {burst.series} of {burst.study}: {reason(error)}"
            )
            self._failing_since = self._failing_since or time.monotonic()
            if time.monotonic() - self._failing_since > self._patience:
                self.run.stopped = (
                    f"Nothing was acknowledged for {self._patience:g} s. {reason(error)} "
                    f"{len(self.run.sent)} of {self.run.planned} series had been stored."
                )
                self._stop.set()

    def _commit(self, burst: Burst, whole: Sequence[Instance]) -> None:
        if not self._target(burst.site).address:
            return  # DICOMweb has no Storage Commitment.
        # A Transaction UID is new each time, whatever the seed (PS3.4 J.3.2.1.1).
        asked = [(each.SOPClassUID, each.SOPInstanceUID) for each in whole]
        request = request_of(f"2.25.{uuid4().int}", asked)
        self._ask("commitment", burst.site, lambda target: target.commit(request))

    def _reader(self, site: str, number: int) -> None:
        chance = Random(f"reader {self.scenario.seed} {site} {number}")
        pause = 3600 / self.scenario.readers.questions_an_hour / self.scenario.faster
        while not self._stop.wait(chance.expovariate(1 / pause)):
            day = chance.randrange(self.scenario.days)
            date = f"{self.scenario.start + timedelta(days=day):%Y%m%d}"
            found: list[dict[str, str]] = []

            def look(target: Target, date: str = date, found: list[dict[str, str]] = found) -> None:
                with target.finder() as finder:
                    found += finder.find("STUDY", StudyDate=date, StudyInstanceUID="", PatientName="")

            self._ask("query", site, look)
            if found and chance.random() < self.scenario.readers.opened:
                uid = chance.choice(found)["StudyInstanceUID"]
                self._ask("open", site, partial(_open, uid))

    def _researcher(self, site: str, number: int) -> None:
        chance = Random(f"researcher {self.scenario.seed} {site} {number}")
        pause = DAY / self.scenario.readers.exports_a_day / self.scenario.faster
        while not self._stop.wait(chance.expovariate(1 / pause)):
            date = f"{self.scenario.start + timedelta(days=chance.randrange(self.scenario.days)):%Y%m%d}"
            self._ask(
                "export", site, partial(self._export, date, chance.choice(sorted(self.scenario.devices)))
            )

    def _export(self, date: str, modality: str, target: Target) -> None:
        with target.finder() as finder:
            found = finder.find("STUDY", StudyDate=date, ModalitiesInStudy=modality, StudyInstanceUID="")
        with target.retriever() as retriever:
            for each in found:
                if self._stop.is_set():
                    return
                retriever.study(each["StudyInstanceUID"])

    def _ask(self, what: str, site: str, ask: Callable[[Target], object]) -> None:
        began, error = time.monotonic(), ""
        try:
            ask(self._target(site))
        except Exception as refusal:  # whatever it is, the reader comes back with the next question
            error = reason(refusal)
        row = Asked(what, site, began - self._began, time.monotonic() - began, error)
        with self._lock:
            self.run.asked.append(row)

    def _look_for_all(self) -> None:
        for site, studies in self.run.acknowledged.items():
            try:
                with self._target(site).finder() as finder:
                    for uid, held in studies.items():
                        if self._is_ended:
                            return
                        if (found := count(finder.find, uid)) < len(held):
                            self.run.missing.append(
                                f"{uid} at {site or 'the target'}: {found} of {len(held)}"
                            )
            except REFUSALS as error:
                self.run.stopped = (
                    self.run.stopped or f"What was stored could not be looked for. {reason(error)}"
                )


def numbered(bursts: Iterable[Burst]) -> dict[str, int]:
    """Return study → its number among the seed's studies, in the order in which they begin."""
    return {study: number for number, study in enumerate(dict.fromkeys(each.study for each in bursts))}


def calling(device: str) -> str:
    """Return the AE title that a device calls with: what of its name may be in one (PS3.5 6.2)."""
    return "".join(letter for letter in device if letter.isascii() and letter not in "-\\")[:16] or "DEVICE"


def _open(uid: str, target: Target) -> None:
    with target.retriever() as retriever:
        retriever.study(uid)


Find = Callable[..., list[dict[str, str]]]


def count(find: Find, StudyInstanceUID: str) -> int:
    """Return how many instances of a study are found, series by series. Raises `REFUSALS`."""
    asked = {"StudyInstanceUID": StudyInstanceUID}
    total = 0
    for each in find("SERIES", **asked, SeriesInstanceUID="", NumberOfSeriesRelatedInstances=""):
        told = each["NumberOfSeriesRelatedInstances"]
        if told.isdecimal():
            total += int(told)
        else:
            uid = each["SeriesInstanceUID"]
            total += len(find("IMAGE", **asked, SeriesInstanceUID=uid, SOPInstanceUID=""))
    return total


def series(burst: Burst, scenario: Scenario, number: int) -> Study:
    """Return the series that a burst stands for: the right modality, day, hour, patient and size.

    A sixth of all people comes to other hospitals too, under the ID that each of those gives them.
    """
    person = Random(f"person {scenario.seed} {number}").randrange(6)
    who = visitor(
        scenario.seed, number // 6 if person == 0 else 1000 + number, (burst.site or "alpha").upper()
    )
    moment = timedelta(seconds=burst.time % DAY)
    size = burst.size // burst.instances // 2 * 2
    made = study(
        scenario.seed,
        number,
        patient=who,
        modality=burst.modality,
        instances=burst.instances,
        first_series=burst.series,
        StudyDate=f"{scenario.start + timedelta(days=burst.time // DAY):%Y%m%d}",
        StudyTime=f"{str(moment).split('.')[0].replace(':', ''):0>6}",
    )
    return (
        replace(made, size=size, frames=_frames(KINDS[burst.modality], size))
        if size >= _SMALLEST_BYTES
        else made
    )


def _frames(kind: Kind, size: int) -> int:
    """How many usual frames make such an instance, where its kind has several."""
    rows, columns = kind.matrix
    return max(1, size * 8 // (kind.pixel_bits * rows * columns)) if kind.is_multiframe else 1
