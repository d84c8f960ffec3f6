"""Moving in, as it is done: lanes take series after series of a day, then the next day; then all is compared.

A source that does not answer is waited for; one that sends less than it has is asked again, instance by
instance, and what still lacks is written down with its answer. What is here already is not asked for.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import Any, Final

from catalog import Busy, CatalogWriter, Clock, NotPermitted, PacsError, Selection, Unavailable
from node.dimse import Requestor
from node.dimse.commands import LOW
from node.dimse.requestor import Retrieved
from node.dimse.statuses import DESTINATION_UNKNOWN
from node.hours import read_hours
from node.listing import STUDY, Listing, value, where

from .book import Day, Difference, Failed, Migration, MigrationBook, Phase
from .planning import Comparison, Series, earlier, missing, series_of, studies_of

logger = logging.getLogger(__name__)

_TRIES: Final = 3
"""Times that a series is asked for before it is written down as failed."""
_ROUNDS: Final = 2
"""Times that a day is moved again in the comparison, where something of it lacks."""
_SILENT: Final = (2.0, 5.0, 15.0, 60.0, 300.0)
"""Seconds to wait for a source that does not answer, longer each time."""
_HOPELESS: Final = 5
"""Series one after the other of which nothing came, after which a person is asked."""
_TURN: Final = 1.0


class MoveIn:
    """Works on one migration; each lane is a thread that calls `turn`."""

    def __init__(
        self,
        book: MigrationBook,
        source: str,
        requestor: Callable[[], Requestor],
        catalog: Any,
        ae_title: str,
        clock: Clock,
    ) -> None:
        """`ae_title` is ours, to which the source sends; `requestor` calls the source."""
        self._book = book
        self._source = source
        self._requestor = requestor
        self._catalog: CatalogWriter = catalog
        self._ae_title = ae_title
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
        self._in_vain = 0
        self._pace = 0.0
        """When the next series may begin, by the rate."""

    @property
    def row(self) -> Migration:
        """The migration as it stands."""
        return self._book.find(self._source)

    def turn(self) -> bool:
        """Do one thing, or wait a moment; False once there is nothing to do until somebody says otherwise."""
        row, now = self.row, self._clock()
        if row.phase not in (Phase.MOVING, Phase.COMPARING):
            return False
        hours = read_hours(row.hours)
        if not hours.holds(now):
            self._rest(f"It goes on at {hours}.", "")
            return True
        if 0 < self._wait_until - now <= _SILENT[-1]:
            self._pause()
            return True
        try:
            self._work(row)
        except (Unavailable, Busy) as error:
            self._silent(error)
        except PacsError as error:
            self._stop(error.what, error.next)
        return True

    def _work(self, row: Migration) -> None:
        if row.phase is Phase.COMPARING:
            if self._may_ask():
                try:
                    self._compare(row)
                finally:
                    self._asked()
            return
        job = self._take(row)
        if job is not None:
            self._move(job[0], job[1], row)
        elif self._may_ask():
            try:
                self._next_day(row)
            finally:
                self._asked()

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
        listing = Listing(self._requestor())
        found = [
            series
            for study in list(studies_of(listing, row.day))
            for series in series_of(listing, row.day, study)
        ]
        self._answered()
        with self._lock:
            self._day, self._of_day = row.day, found
            lacking = (each for each in found if not each.classes or missing(self._catalog, each))
            self._queue.extend((series, 0) for series in lacking)
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

    def _move(self, series: Series, tries: int, row: Migration) -> None:
        is_again = True
        try:
            before = missing(self._catalog, series)
            moved = self._ask(series, before, tries)
            left = missing(self._catalog, series)
            self._answered()
            is_again = self._judge(series, tries, before, left, moved)
        finally:
            with self._lock:
                self._busy -= 1
                if is_again:
                    self._queue.append((series, tries))
                self._lock.notify_all()

    def _ask(self, series: Series, before: set[str], tries: int) -> Retrieved:
        """Have what lacks sent: the series, or after that failed each instance by itself.

        Raises:
            NotPermitted: the source does not know our AE title.
        """
        names = series.StudyInstanceUID, series.SeriesInstanceUID
        wanted = [where(*names)] if not tries else [where(*names, uid) for uid in sorted(before)]
        moved = Retrieved(0)
        for identifier in wanted or [where(*names)]:
            answer = self._requestor().move(identifier, self._ae_title, priority=LOW)
            if answer.status == DESTINATION_UNKNOWN:
                raise _unknown(self._source, self._ae_title)
            moved = answer if answer.status or not moved.status else moved
        return moved

    def _judge(self, series: Series, tries: int, before: set[str], left: set[str], moved: Retrieved) -> bool:
        """Note what came; say whether the series is to be asked for once more."""
        names = series.StudyInstanceUID, series.SeriesInstanceUID
        came = len(before) - len(left)
        self._in_vain = 0 if came or not before else self._in_vain + 1
        if came:
            self._book.add(self._source, arrived=came, arrived_today=came)
        if not left:
            self._book.note_failed(self._source, *names, None)
            return False
        said = f"{moved.status:04X} {moved.comment}".strip()
        if self._in_vain >= _HOPELESS:
            self._in_vain = 0
            what = f"Nothing came of {_HOPELESS} series: {self._source} answered {said}."
            self._stop(what, _remedy(self._source, self._ae_title))
            return True
        if tries + 1 < _TRIES:
            with self._lock:
                self._queue.append((series, tries + 1))
            return False
        logger.warning("%d instances of a series of %s did not come: %s", len(left), self._source, said)
        self._book.note_failed(self._source, *names, Failed(series.day, len(left), said))
        return False

    # The end.

    def _compare(self, row: Migration) -> None:
        """Compare a day, and move what lacks once more where something does."""
        found, comparison = self._compared(row.day)
        for _ in range(_ROUNDS):
            if not found.missing:
                break
            self._fill(comparison)
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
        listing, comparison = Listing(self._requestor()), Comparison(self._catalog, day)
        for study in list(studies_of(listing, day)):
            stated = self._stated(value(study, STUDY))
            for at, series in enumerate(series_of(listing, day, study)):
                comparison.add(series)
                if stated is not None and not at:
                    comparison.patient(series, stated)
        return comparison.end(), comparison

    def _stated(self, study: str) -> str | None:
        """Return the Patient ID that the archive names for a study; None when it has nothing of it."""
        stated = self._catalog.stated(study)  # type: ignore[attr-defined]
        return stated.study.patient.PatientID if stated else None

    def _fill(self, comparison: Comparison) -> None:
        lacking = [each for each in comparison.differences if each.kind == "missing"]
        for each in lacking:
            names = each.StudyInstanceUID, each.SeriesInstanceUID, each.SOPInstanceUID
            self._requestor().move(where(*names), self._ae_title, priority=LOW)
        self._book.add(self._source, arrived=sum(self._is_here(each) for each in lacking))

    def _is_here(self, difference: Difference) -> bool:
        return bool(self._catalog.select(Selection(instances=(difference.SOPInstanceUID,))))

    # What is in the way.

    def _answered(self) -> None:
        self._silences = 0
        self._wait_until = 0.0

    def _silent(self, error: PacsError) -> None:
        wait = _SILENT[min(self._silences, len(_SILENT) - 1)]
        self._silences += 1
        self._wait_until = self._clock() + wait
        self._rest(error.what, f"It is tried again in {wait:g} s.")

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


def _unknown(source: str, ae_title: str) -> NotPermitted:
    what = f"{source} does not know the AE title {ae_title}, so it cannot send to it."
    return NotPermitted(what, _remedy(source, ae_title))


def _remedy(source: str, ae_title: str) -> str:
    return (
        f"Register {ae_title} at {source} with this node's address and DICOM port, see that {source} may "
        f"store here, then: peerpacs migrate --from {source} --resume"
    )
