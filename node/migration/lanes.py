"""Moving in, as it is done: lanes take series after series of a day, then the next day; then all is compared.

A source that does not answer is waited for, and so is room; one that sends less than it has is asked again,
instance by instance, and what still lacks is written down with its answer. What is here is not asked for.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import Any, Final

from catalog import Busy, Clock, OutOfSpace, PacsError, Selection, Unavailable
from node.dimse import Requestor
from node.dimse.requestor import Retrieved
from node.hours import read_hours
from node.listing import STUDY, value

from .book import Day, Difference, Failed, Migration, MigrationBook, Phase
from .calling import Calling, said
from .planning import Comparison, Own, Series, earlier, missing, series_of, studies_of

logger = logging.getLogger(__name__)

_TRIES: Final = 3
"""Times that a series is asked for before it is written down as failed."""
_ROUNDS: Final = 2
"""Times that a day is moved again in the comparison, where something of it lacks."""
_SILENT: Final = (2.0, 5.0, 15.0, 60.0, 300.0)
"""Seconds to wait for a source that does not answer, longer each time."""
_HOPELESS: Final = 5
"""Studies one after the other of which nothing came, after which a person is asked."""
_OUT_OF_RESOURCES: Final = 0xA7
"""How the statuses begin with which a source says that it cannot now, PS3.4 C.4.2.1.5."""
_BURST: Final = 10.0
"""Seconds of its rate that one C-MOVE may bring at most, so that the rate holds within a long series too."""
_MOST: Final = 100
"""Instances that one C-MOVE names at most."""
_TURN: Final = 1.0


class MoveIn:
    """Works on one migration; each lane is a thread that calls `turn`."""

    def __init__(
        self,
        book: MigrationBook,
        order: Migration,
        requestor: Callable[[], Requestor],
        catalog: Any,
        ae_title: str,
        clock: Clock,
        make_sure_of_room: Callable[[], object] = lambda: None,
        is_damaged: Callable[[bytes], bool] = lambda sha256: False,
    ) -> None:
        """`ae_title` is ours, to which the source sends; `requestor` calls the source.

        `make_sure_of_room` raises OutOfSpace while the archive takes nothing; `is_damaged` as for `Own`.
        """
        self._book = book
        self._source = order.source
        self._created = order.created
        self._calling = Calling(requestor, order.source, ae_title, clock)
        self._catalog = Own(catalog, is_damaged)
        self._stated_of = catalog.stated
        self._make_sure_of_room = make_sure_of_room
        self._clock = clock
        self._lock = Condition()
        self._queue: deque[tuple[Series, int]] = deque()
        self._day: str | None = None
        """The day whose series are in the queue; None before it was asked for."""
        self._of_day: list[Series] = []
        self._busy = 0
        self._is_asking = False
        self._wait_until = 0.0
        self._silences = 0
        self._in_vain: dict[tuple[str, str], Failed] = {}
        """Series of which nothing came, one after the other, by study and series."""
        self._pace = 0.0
        """When the next series may begin, by the rate."""

    @property
    def row(self) -> Migration:
        """The migration as it stands."""
        return self._book.find(self._source)

    def turn(self) -> bool:
        """Do one thing, or wait a moment; False once there is nothing to do until somebody says otherwise."""
        row, now = self.row, self._clock()
        if row.phase not in (Phase.MOVING, Phase.COMPARING) or row.created != self._created:
            return False
        hours = read_hours(row.hours)
        if not hours.holds(now):
            self._rest(f"It goes on at {hours}.", "")
            return True
        if 0 < self._wait_until - now <= _SILENT[-1]:
            self._pause()
            return True
        self._work(row)
        return True

    def _work(self, row: Migration) -> None:
        if row.phase is Phase.COMPARING:
            if self._may_ask():
                self._ask(row, lambda: self._compare(row))
            return
        job = self._take(row)
        if job is not None:
            self._attempt(lambda: self._move(*job))
        elif self._may_ask():
            self._ask(row, lambda: self._next_day(row))

    def _ask(self, row: Migration, step: Callable[[], None]) -> None:
        """Look at a day, unless another lane stopped meanwhile: a late stop would end what was resumed."""
        try:
            if self.row.phase is row.phase:
                self._attempt(step)
        finally:
            self._asked()

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (Unavailable, Busy, OutOfSpace) as error:
            self._silent(error)
        except PacsError as error:
            self._stop(error.what, error.next)

    # Days.

    def _may_ask(self) -> bool:
        """Take the right to look at a day; one lane at a time has it, when no series is under way."""
        with self._lock:
            if self._is_asking or self._queue or self._busy:
                self._lock.wait(_TURN)
                return False
            self._is_asking = True
            return True

    def _asked(self) -> None:
        with self._lock:
            self._is_asking = False
            self._lock.notify_all()

    def _next_day(self, row: Migration) -> None:
        """Note that the day under way is done, or ask what it has."""
        if self._day == row.day:
            self._end_day(row)
            return
        listing = self._calling.listing()
        studies = studies_of(listing, row.day)
        found = [series for study in studies for series in series_of(listing, row.day, study)]
        self._answered()
        failed = self._book.failed(self._source).keys()
        lacking = [each for each in found if not each.classes or missing(self._catalog, each)]
        # What did not come before is tried once, and last, so that a person who says "go on" gets further.
        jobs = [
            (part, _TRIES - 1 if each[1:3] in failed else 0)
            for each in lacking
            for part in (each.parts(_part(row.per_second)) if row.per_second else [each])
        ]
        with self._lock:
            self._day, self._of_day = row.day, found
            self._queue.extend(sorted(jobs, key=lambda job: job[1]))
            self._lock.notify_all()

    def _end_day(self, row: Migration) -> None:
        found, self._day, self._of_day = self._of_day, None, []
        expected = sum(len(series.classes) for series in found)
        left = sum(len(missing(self._catalog, series)) for series in found)
        following = earlier(row.day, row.since, is_undated=row.is_undated)
        phase = Phase.MOVING if following is not None else Phase.COMPARING
        self._book.change(
            self._source,
            days_done=row.days_done + 1,
            studies=row.studies + len({series.StudyInstanceUID for series in found}),
            series=row.series + len(found),
            expected=row.expected + expected,
            here_before=row.here_before + expected - left - row.arrived_today,
            arrived_today=0,
            phase=phase if self.row.phase is Phase.MOVING else self.row.phase,
            before=phase,
            day=row.until if following is None else following,
            why="",
            remedy="",
        )

    # Series.

    def _take(self, row: Migration) -> tuple[Series, int] | None:
        with self._lock:
            now = self._clock()
            if not self._queue:
                return None
            if row.per_second and 0 < self._pace - now <= 86400.0:
                self._lock.wait(min(_TURN, self._pace - now))
                return None
            job = self._queue.popleft()
            if row.per_second:
                self._pace = max(now, self._pace) + max(1, len(job[0].classes)) / row.per_second
            self._busy += 1
            return job

    def _move(self, series: Series, tries: int) -> None:
        is_again = True
        try:
            self._make_sure_of_room()
            before = left = missing(self._catalog, series)
            try:
                # The series, or after that failed each instance by itself.
                uids = sorted(before) if tries or series.is_part else ()
                moved = self._calling.send(*series[1:3], uids, is_at_once=not tries)
            finally:
                left = missing(self._catalog, series)
                if came := len(before) - len(left):
                    self._book.add(self._source, arrived=came, arrived_today=came)
            self._answered()
            self._judge(series, tries, before, left, moved)
            is_again = False
        finally:
            with self._lock:
                self._busy -= 1
                if is_again:
                    self._queue.append((series, tries))
                self._lock.notify_all()

    def _judge(self, series: Series, tries: int, before: set[str], left: set[str], moved: Retrieved) -> None:
        """Have what lacks asked for once more, or write it down.

        Raises:
            OutOfSpace: it lacks for want of room here.
        """
        names = series.StudyInstanceUID, series.SeriesInstanceUID
        is_in_vain = bool(before) and left == before
        if not is_in_vain:
            self._in_vain.clear()
        if not left:
            # Another part may have failed; the comparison forgives a series that is here in the end.
            if not series.is_part:
                self._book.note_failed(self._source, *names, None)
            return
        self._make_sure_of_room()
        failed = Failed(series.day, len(left), said(moved))
        if is_in_vain and not tries:
            self._in_vain[names] = failed
            self._stop_if_hopeless(failed)
        if is_in_vain and moved.status >> 8 == _OUT_OF_RESOURCES:
            self._wait()
        tries += is_in_vain or not tries
        if tries < _TRIES:
            with self._lock:
                self._queue.append((series, tries))
            return
        what = "%d instances of a series of %s did not come: %s"
        logger.warning(what, failed.missing, self._source, failed.why)
        self._book.note_failed(self._source, *names, failed)

    def _stop_if_hopeless(self, last: Failed) -> None:
        """Ask a person where nothing came of many studies; what they were is written down."""
        in_vain = dict(self._in_vain)
        if len({study for study, _ in in_vain}) < _HOPELESS:
            return
        self._in_vain.clear()
        for names, failed in in_vain.items():
            self._book.note_failed(self._source, *names, failed)
        what = f"Nothing came of {_HOPELESS} studies: {self._source} answered {last.why}."
        self._stop(what, self._calling.remedy())

    # The end.

    def _compare(self, row: Migration) -> None:
        """Compare a day, and move what lacks once more where something does."""
        found, comparison = self._compared(row.day)
        for _ in range(_ROUNDS):
            if not (lacking := comparison.lacking):
                break
            self._fill(lacking)
            found, comparison = self._compared(row.day)
        self._answered()
        self._book.note_day(self._source, row.day, found, comparison.differences)
        self._forgive(row.day, comparison)
        following = earlier(row.day, row.since, is_undated=row.is_undated)
        if following is None:
            self._book.change(self._source, phase=Phase.DONE, ended=self._clock(), why="", remedy="")
        else:
            self._book.change(self._source, day=following, why="", remedy="")

    def _forgive(self, day: str, comparison: Comparison) -> None:
        """Forget of the day what had not come and is here now."""
        lacking = {(each.StudyInstanceUID, each.SeriesInstanceUID) for each in comparison.differences}
        for names, failed in self._book.failed(self._source).items():
            if failed.day == day and names not in lacking:
                self._book.note_failed(self._source, *names, None)

    def _compared(self, day: str) -> tuple[Day, Comparison]:
        listing, comparison = self._calling.listing(), Comparison(self._catalog, day)
        for study in studies_of(listing, day):
            stated = self._stated(value(study, STUDY))
            for at, series in enumerate(series_of(listing, day, study)):
                comparison.add(series)
                if stated is not None and not at:
                    comparison.patient(series, stated)
        return comparison.end(), comparison

    def _stated(self, study: str) -> str | None:
        """Return the Patient ID that the archive names for a study; None when it has nothing of it."""
        stated = self._stated_of(study)
        return stated.study.patient.PatientID if stated else None

    def _fill(self, lacking: list[Difference]) -> None:
        self._make_sure_of_room()
        by_series: dict[tuple[str, str], list[str]] = {}
        for each in lacking:
            names = each.StudyInstanceUID, each.SeriesInstanceUID
            by_series.setdefault(names, []).append(each.SOPInstanceUID)
        for names, uids in by_series.items():
            self._calling.send(*names, uids)
        self._book.add(self._source, arrived=sum(self._is_here(each) for each in lacking))

    def _is_here(self, difference: Difference) -> bool:
        return bool(self._catalog.select(Selection(instances=(difference.SOPInstanceUID,))))

    # What is in the way.

    def _answered(self) -> None:
        self._silences = 0
        self._wait_until = 0.0

    def _silent(self, error: PacsError) -> None:
        wait = self._wait()
        self._rest(error.what, f"{error.next} It is tried again in {wait:g} s.".strip())

    def _wait(self) -> float:
        """Have nothing asked for a while, longer each time; return how many seconds."""
        wait = _SILENT[min(self._silences, len(_SILENT) - 1)]
        self._silences += 1
        self._wait_until = self._clock() + wait
        return wait

    def _rest(self, why: str, remedy: str) -> None:
        row = self.row
        if (row.why, row.remedy) != (why, remedy):
            self._book.change(self._source, why=why, remedy=remedy)
        self._pause()

    def _pause(self) -> None:
        with self._lock:
            self._lock.wait(_TURN)

    def _stop(self, what: str, remedy: str) -> None:
        row = self.row
        before = row.phase if row.phase in (Phase.MOVING, Phase.COMPARING) else row.before
        self._book.change(self._source, phase=Phase.STOPPED, before=before, why=what, remedy=remedy)
        logger.warning("Moving in from %s stopped. %s", self._source, what)


def _part(per_second: float) -> int:
    """Return how many instances are asked for at once, by the rate."""
    return max(1, min(_MOST, int(per_second * _BURST)))
