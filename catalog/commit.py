"""Group commit: whatever gathers while one commit runs goes into the next one, with one sync for all.

There is no thread and no timer here. The first caller commits for everybody who came meanwhile; when it is
done it wakes one of those who came too late to lead the next commit. A lone caller never waits for anybody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any, Final, TypeVar, cast

import lmdb

from .errors import Unavailable
from .rows import (
    OUTBOX_CODEC,
    SERIES_CODEC,
    STUDY_CODEC,
    TOTALS_CODEC,
    OutboxRow,
    SeriesRow,
    StudyRow,
    Totals,
)
from .truth import DIRTY, META, OUTBOX, STUDY, Environment, Reading, counted, series_at, translated

GROUP_LIMIT: Final = 256
"""Arrivals in one commit, so that nobody waits long behind a crowd."""
_ROWS_KEPT: Final = 1024
_TOTALS_KEY: Final = META + b"totals"

Result = TypeVar("Result")


class Batch:
    """One write transaction: each row is decoded once, changed in place and written once.

    Decoded study and series rows outlive the transaction, because the next instance usually belongs to the
    same series; a failed transaction forgets them all.
    """

    def __init__(self, now: int, studies: dict[str, StudyRow], series: dict[bytes, SeriesRow]) -> None:
        self.now = now
        """Milliseconds since 1970."""
        self._studies = studies
        self._series = series
        self._txn: Any = None
        self._puts: dict[bytes, bytes] = {}
        self._changed_studies: dict[str, StudyRow] = {}
        self._changed_series: dict[bytes, SeriesRow] = {}
        self._arrived: dict[bytes, OutboxRow] = {}
        self._totals: Totals | None = None

    def begin(self, txn: lmdb.Transaction) -> None:
        """Start to work in this transaction."""
        self._txn = txn

    def get(self, key: bytes) -> bytes | None:
        """Return a stored value, or the one this transaction is about to store."""
        pending = self._puts.get(key)
        if pending is not None:
            return pending
        value: bytes | None = self._txn.get(key)
        return value

    def put(self, key: bytes, value: bytes = b"") -> None:
        """Store a value when the transaction ends."""
        self._puts[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a key if it is there."""
        self._puts.pop(key, None)
        self._txn.delete(key)

    def reading(self) -> Reading:
        """Return the transaction with everything put so far in it, for scans."""
        self.flush()
        return cast(Reading, self._txn)

    @property
    def totals(self) -> Totals:
        """The catalog's counters, to be changed in place."""
        if self._totals is None:
            stored = self.get(_TOTALS_KEY)
            self._totals = TOTALS_CODEC.unpack(stored) if stored else Totals()
        return self._totals

    def study(self, uid: str) -> StudyRow | None:
        """Return the row of a study to read or, after `change_study`, to change."""
        row = self._studies.get(uid)
        if row is None and (stored := self.get(STUDY + uid.encode())) is not None:
            row = self._studies[uid] = STUDY_CODEC.unpack(stored)
        return row

    def series(self, key: bytes) -> SeriesRow | None:
        """Return the row of a series, `key` being its two UIDs joined."""
        row = self._series.get(key)
        if row is None and (stored := self.get(series_at(key))) is not None:
            row = self._series[key] = SERIES_CODEC.unpack(stored)
        return row

    def change_study(self, row: StudyRow) -> None:
        """Write the row when the transaction ends."""
        self._studies[row.StudyInstanceUID] = self._changed_studies[row.StudyInstanceUID] = row

    def change_series(self, key: bytes, row: SeriesRow) -> None:
        """Write the row when the transaction ends."""
        self._series[key] = self._changed_series[key] = row

    def drop_study(self, uid: str) -> None:
        """Remove the row of a study as if there had never been one."""
        self._studies.pop(uid, None)
        self._changed_studies.pop(uid, None)
        self.delete(STUDY + uid.encode())

    def drop_series(self, key: bytes) -> None:
        """Remove the row of a series as if there had never been one."""
        self._series.pop(key, None)
        self._changed_series.pop(key, None)
        self.delete(series_at(key))

    def _mark(self, key: bytes) -> None:
        self.totals.marks += 1
        self.put(DIRTY + counted(self.totals.marks), key)

    def publish_study(self, row: StudyRow) -> None:
        """Write the row and have it go to the change log."""
        row.changed = self.now
        if not row.is_dirty:
            row.is_dirty = True
            self._mark(row.StudyInstanceUID.encode())
        self.change_study(row)

    def publish_series(self, key: bytes, row: SeriesRow) -> None:
        """Write the row and have it go to the change log."""
        row.changed = self.now
        if not row.is_dirty:
            row.is_dirty = True
            self._mark(key)
        self.change_series(key, row)

    def index_later(self, key: bytes, row: SeriesRow) -> OutboxRow:
        """Have the search index take in the series again; the caller says what of it."""
        waiting = self._arrived.get(key)
        if waiting is None:
            waiting = OutboxRow(row.StudyInstanceUID, row.SeriesInstanceUID, row.number)
            self._arrived[key] = waiting
        return waiting

    def flush(self) -> None:
        """Put everything that changed into the transaction, in key order."""
        puts = self._puts
        for uid, study in self._changed_studies.items():
            puts[STUDY + uid.encode()] = STUDY_CODEC.pack(study)
        for key, series in self._changed_series.items():
            puts[series_at(key)] = SERIES_CODEC.pack(series)
        for outbox in self._arrived.values():
            self.totals.arrivals += 1
            puts[OUTBOX + counted(self.totals.arrivals)] = OUTBOX_CODEC.pack(outbox)
        if self._totals is not None:
            puts[_TOTALS_KEY] = TOTALS_CODEC.pack(self._totals)
        if puts:
            self._txn.cursor().putmulti(sorted(puts.items()))
        self._puts = {}
        self._changed_studies = {}
        self._changed_series = {}
        self._arrived = {}


class _Ticket:
    """One caller's place in the queue; its lock is held until somebody has news for it."""

    __slots__ = ("error", "is_done", "news", "result", "weight", "work")

    def __init__(self, work: Callable[[Batch], Any], weight: int) -> None:
        self.work = work
        self.weight = weight
        self.news = Lock()
        self.is_done = False
        self.result: Any = None
        self.error: BaseException | None = None


class GroupCommit:
    """Runs pieces of work in write transactions, many callers' together."""

    def __init__(self, environment: Environment, clock: Callable[[], float]) -> None:
        self._environment = environment
        self._clock = clock
        self._gate = Lock()
        self._waiting: deque[_Ticket] = deque()
        self._is_led = False
        self._studies: dict[str, StudyRow] = {}
        self._series: dict[bytes, SeriesRow] = {}

    def run(self, work: Callable[[Batch], Result], weight: int = 1) -> Result:
        """Run `work` in a write transaction and return its result when that is on disk.

        The work may be run again from the start when another caller's work in the same transaction fails.

        Raises:
            OutOfSpace: the map or the disk is full; nothing of this work was written.
            PacsError: what the work itself raised; nothing of it was written.
        """
        ticket = _Ticket(work, weight)
        ticket.news.acquire()
        with self._gate:
            self._waiting.append(ticket)
            leads = not self._is_led
            self._is_led = True
        if not leads:
            ticket.news.acquire()
        if not ticket.is_done:
            self._lead()
        if ticket.error is not None:
            raise ticket.error
        result: Result = ticket.result
        return result

    def _lead(self) -> None:
        with self._gate:
            group = [self._waiting.popleft()]
            room = GROUP_LIMIT - group[0].weight
            while self._waiting and self._waiting[0].weight <= room:
                group.append(self._waiting.popleft())
                room -= group[-1].weight
        try:
            self._commit(group)
        finally:
            self._hand_over(group)

    def _hand_over(self, group: list[_Ticket]) -> None:
        with self._gate:
            if self._waiting:
                # It wakes while the others are told, so that the next commit starts at once.
                self._waiting[0].news.release()
            else:
                self._is_led = False
        for ticket in group:
            if not ticket.is_done:
                ticket.error = Unavailable("The catalog stopped in the middle of a commit.", "Send it again.")
                ticket.is_done = True
            ticket.news.release()

    def _commit(self, group: list[_Ticket]) -> None:
        try:
            self._together(group)
        except Exception as error:
            self._studies.clear()
            self._series.clear()
            if len(group) > 1:
                # Somebody's work failed and took the transaction with it: each gets one of its own.
                for ticket in group:
                    self._commit([ticket])
                return
            group[0].error = translated(error)
            group[0].is_done = True

    def _together(self, group: list[_Ticket]) -> None:
        if len(self._series) > _ROWS_KEPT:
            self._studies.clear()
            self._series.clear()
        batch = Batch(int(self._clock() * 1000), self._studies, self._series)
        with self._environment.writing() as txn:
            batch.begin(txn)
            results = [ticket.work(batch) for ticket in group]
            batch.flush()
        for ticket, result in zip(group, results, strict=True):
            ticket.result = result
            ticket.is_done = True
