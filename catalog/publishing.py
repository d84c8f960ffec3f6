"""What is stated when: marks that commits leave, the pace of a growing series, and the shares' own rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from .commit import Batch
from .log import ALL, Ledger
from .rows import SERIES_CODEC, STUDY_CODEC, SeriesRow, StudyRow
from .shares import Share, ShareState, project, read_state, stored_shares, write_state
from .statements import of_series, of_study, why_gone, wire_form
from .truth import DIRTY, PUBLISHED, STUDY, Reading, end_of, scan, series_at

GROWING: Final = 500
"""Milliseconds between two statements about what keeps changing; its first change is told at once."""
SETTLED: Final = 2000
"""Milliseconds without an arrival after which a series counts as settled."""
_ALL_EVERY: Final = 250
"""Milliseconds between two looks at every mark; in between only new ones are looked at."""
_STATED_AT_ONCE: Final = 256
_STUDIES_AT_ONCE: Final = 50


class Mark(NamedTuple):
    """A study or series that has something to state."""

    place: bytes
    key: bytes

    @property
    def study(self) -> bytes:
        """The StudyInstanceUID."""
        return self.key.partition(b"\0")[0]


def marks(reading: Reading, after: bytes = b"") -> Iterator[Mark]:
    """Yield the marks that commits left for the log behind a place, oldest first."""
    return (Mark(*found) for found in scan(reading, DIRTY, after))


def extent(reading: Reading) -> tuple[int, int] | None:
    """Return the numbers of the oldest and the newest mark, if there is any."""
    start, cursor = len(DIRTY), reading.cursor()
    if not cursor.set_range(DIRTY) or not cursor.key().startswith(DIRTY):
        return None
    oldest = cursor.key()
    found = cursor.prev() if cursor.set_range(end_of(DIRTY)) else cursor.last()
    assert found
    return int.from_bytes(oldest[start:], "big"), int.from_bytes(cursor.key()[start:], "big")


class Pace:
    """Says what is to be stated now, at a cost that follows what is new, not what waits."""

    def __init__(self) -> None:
        self._seen = b""
        self._looked = 0

    def due(self, reading: Reading, now: int) -> list[list[Mark]]:
        """Return the marks whose time to be stated has come, commit by commit; `now` is milliseconds.

        A study and its series are in one commit, so that nobody hears of the one without the other.
        """
        is_full = not 0 <= now - self._looked < _ALL_EVERY
        found: dict[bytes, list[Mark]] = {}
        for mark in marks(reading, b"" if is_full else self._seen):
            self._seen = max(self._seen, mark.place)
            if _is_due(reading, mark, now):
                found.setdefault(mark.study, []).append(mark)
        self._looked = now if is_full else self._looked
        return _portions(found.values())


def _portions(studies: Iterable[list[Mark]]) -> list[list[Mark]]:
    portions: list[list[Mark]] = []
    for study in studies:
        if not portions or len(portions[-1]) >= _STATED_AT_ONCE:
            portions.append([])
        portions[-1].extend(study)
    return portions


def _is_due(reading: Reading, mark: Mark, now: int) -> bool:
    is_series = b"\0" in mark.key
    stored = reading.get(series_at(mark.key) if is_series else STUDY + mark.key)
    if stored is None:
        # It went for good meanwhile.
        return True
    row = SERIES_CODEC.unpack(stored) if is_series else STUDY_CODEC.unpack(stored)
    if isinstance(row, SeriesRow) and _idle(row, now) >= SETTLED:
        return True
    # A clock that was set back must not keep a change from being told.
    is_news = row.changed >= row.stated or row.stated > now
    return is_news and abs(now - row.stated) >= GROWING


def _idle(row: SeriesRow, now: int) -> int:
    return abs(now - row.changed)


def publishing(due: list[Mark], now: int, shares: Sequence[Share] = ()) -> Callable[[Batch], int]:
    """Return the work that states what was marked and returns how many rows changed, in all shares."""
    return lambda batch: _Publication(batch, now).publish(due, shares)


class _Publication:
    """One commit's worth of statements."""

    def __init__(self, batch: Batch, now: int) -> None:
        self._batch = batch
        self._now = now
        self._ledger = Ledger(batch, ALL)

    def publish(self, due: list[Mark], shares: Sequence[Share]) -> int:
        """State the studies and series as they are now; return how many rows that changed."""
        for mark in due:
            if b"\0" in mark.key:
                self._publish_series(mark)
            else:
                self._publish_study(mark)
        count = self._ledger.close()
        studies = list(dict.fromkeys(mark.study for mark in due))
        return count + sum(project(self._batch, share, studies) for share in shares)

    def _publish_study(self, mark: Mark) -> None:
        row = self._batch.study(mark.key.decode())
        if row is None:
            self._batch.delete(mark.place)
        if row is None or not row.is_dirty:
            return
        self._ledger.state(mark.key, self._of_study(row))
        row.is_dirty = False
        row.stated = self._now
        self._batch.delete(mark.place)
        self._batch.change_study(row)

    def _of_study(self, row: StudyRow) -> bytes:
        return wire_form(of_study(row)) if row.instances else why_gone(self._batch, row.StudyInstanceUID)

    def _publish_series(self, mark: Mark) -> None:
        row = self._batch.series(mark.key)
        if row is None:
            self._batch.delete(mark.place)
        if row is None or not row.is_dirty:
            return
        is_settled = _idle(row, self._now) >= SETTLED
        self._ledger.state(mark.key, self._of_series(row, is_settled))
        row.stated = self._now
        if is_settled:
            row.is_dirty = False
            self._batch.delete(mark.place)
        self._batch.change_series(mark.key, row)

    def _of_series(self, row: SeriesRow, is_settled: bool) -> bytes:
        if row.instances:
            return wire_form(of_series(row, is_settled=is_settled))
        return why_gone(self._batch, row.StudyInstanceUID, row.SeriesInstanceUID)


def unfinished(reading: Reading, shares: Sequence[Share]) -> list[Share]:
    """Return the shares whose rows are not (all) made by the terms they have now.

    Those that exist in the log but are not wanted any more are among them, with terms that hold nothing.
    """
    wanted = {share.number: share for share in shares}
    wanted.update(
        {number: Share.nothing(number) for number in stored_shares(reading) if number not in wanted}
    )
    found = []
    for share in wanted.values():
        state = read_state(reading, share.number)
        if state is None or state.terms != share.terms or state.after is not None:
            found.append(share)
    return found


def remaking(share: Share) -> Callable[[Batch], int]:
    """Return the work that makes the next portion of a share's rows by its terms of now."""

    def work(batch: Batch) -> int:
        state = read_state(batch, share.number)
        after = state.after if state and state.terms == share.terms else b""
        studies = list(islice(_stated_studies(batch.reading(), after or b""), _STUDIES_AT_ONCE))
        count = project(batch, share, studies)
        is_done = len(studies) < _STUDIES_AT_ONCE
        write_state(batch, share.number, ShareState(share.terms, None if is_done else studies[-1]))
        return count

    return work


def _stated_studies(reading: Reading, after: bytes) -> Iterator[bytes]:
    prefix = PUBLISHED + bytes((ALL,))
    cursor = reading.cursor()
    # A study's series lie behind it, separated by a zero byte, and all of them are skipped.
    found = cursor.set_range(prefix + after + b"\0\xff" if after else prefix)
    while found and cursor.key().startswith(prefix):
        study = bytes(cursor.key()[len(prefix) :]).partition(b"\0")[0]
        yield study
        found = cursor.set_range(prefix + study + b"\0\xff")
