"""The ledger of moving in: what was asked for, which day is next, what of each series came or did not.

All of it is on disk before it counts, so whatever is killed, it goes on where it was. There are UIDs in it
and no names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from catalog import BadRequest, NotFound
from node.state import State

_SPAN: Final = re.compile(r"(\d{4})(\d{2})?(\d{2})?\s*-\s*(?:(\d{4})(\d{2})?(\d{2})?)?")
_RATE: Final = re.compile(r"(\d{1,7})\s*/\s*(s|min|h)")
_SECONDS: Final = {"s": 1.0, "min": 60.0, "h": 3600.0}
UNDATED: Final = ""
"""The day of studies without a Study Date; it comes last, if it was asked for."""


class Phase(StrEnum):
    """How far a migration is."""

    MOVING = "moving"
    COMPARING = "comparing"
    DONE = "done"
    PAUSED = "paused"
    STOPPED = "stopped"
    """Something has to be mended by a person first."""
    CANCELLED = "cancelled"


OVER: Final = (Phase.DONE, Phase.CANCELLED)


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One source that is moved in from; there is at most one migration of each."""

    source: str
    """AE title in the device book."""
    archive: str
    since: str
    """The oldest day, as 2009-01-01."""
    until: str
    dates: str = ""
    """Both as they were ordered: `2009-` has another last day each day."""
    hours: str = ""
    per_second: float = 0.0
    """Instances; 0 = as fast as it goes."""
    lanes: int = 2
    is_undated: bool = False
    """Whether studies without a Study Date are moved in too, which takes one question for everything."""
    who: str = ""
    created: float = 0.0
    ended: float = 0.0
    phase: Phase = Phase.MOVING
    before: Phase = Phase.MOVING
    """What a pause or stop interrupted."""
    day: str = ""
    """The next day to look at, as 2009-01-01; it goes towards the past."""
    days_done: int = 0
    studies: int = 0
    series: int = 0
    """That the source has, as far as it was looked through."""
    expected: int = 0
    """Instances that the source has, as far as it was looked through."""
    here_before: int = 0
    arrived: int = 0
    arrived_today: int = 0
    """Of the day under way."""
    why: str = ""
    """Why it stopped, or waits."""
    remedy: str = ""

    def is_ordered_as(self, other: Migration) -> bool:
        """Say whether another order wants the same, in the same way."""
        mine, its = (
            (each.archive, each.since, each.hours, each.per_second, each.lanes, each.is_undated)
            for each in (self, other)
        )
        same_end = self.until == other.until or (self.dates == other.dates and self.dates != "")
        return mine == its and same_end

    @property
    def order(self) -> str:
        """What was ordered, as one would order it again."""
        span = "-".join(day.replace("-", "") for day in (self.since, self.until))
        words = [f"--dates {self.dates or span}"]
        words += [f"--hours {self.hours}"] if self.hours else []
        words += [f"--rate {self.per_second * 3600:.0f}/h"] if self.per_second else []
        words += [f"--lanes {self.lanes}"] + ["--undated"] * self.is_undated
        return " ".join(words)

    @property
    def days(self) -> int:
        """How many days there are in all."""
        return (date.fromisoformat(self.until) - date.fromisoformat(self.since)).days + 1 + self.is_undated


def underway(row: Migration) -> BadRequest:
    """Return what to tell who orders otherwise than a migration that is under way."""
    what = f"{row.source} is being moved in already, into {row.archive}: {row.order}. It goes on as it is."
    how = f"peerpacs migrate --from {row.source}"
    return BadRequest(
        what, f"Look: {how}. To order it anew: {how} --cancel; what came is not asked for again."
    )


class Failed(msgspec.Struct, frozen=True, array_like=True):
    """A series of which something did not arrive."""

    day: str
    missing: int
    why: str


class Difference(msgspec.Struct, frozen=True, array_like=True):
    """What source and archive do not agree about."""

    kind: str
    """missing, different or extra."""
    day: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPInstanceUID: str
    detail: str = ""


class Day(msgspec.Struct, frozen=True, array_like=True):
    """One day as it was compared, in instances."""

    there: int
    here: int
    missing: int
    different: int
    extra: int


class MigrationBook:
    """All migrations of a node."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._rows = state.table("migrations", Migration)

    def __iter__(self) -> Iterator[Migration]:
        for _, row in self._rows.scan():
            yield row

    def find(self, source: str) -> Migration:
        """Return the migration of a source.

        Raises:
            NotFound: there is none.
        """
        row = self._rows.get(source.encode())
        if row is None:
            remedy = f"Begin: peerpacs migrate --from {source or 'AE'} --dates 2009-"
            raise NotFound(f"Nothing is moved in from {source!r}.", remedy)
        return row

    def put(self, migration: Migration) -> Migration:
        """Write a migration down, a new one without what an earlier one of its source left."""
        self._rows.put(migration.source.encode(), migration)
        return migration

    def change(self, source: str, **changes: Any) -> Migration:
        """Change a migration as it is at this moment; return it."""
        return self._change(source, lambda row: replace(row, **changes))

    def add(self, source: str, **counts: int) -> Migration:
        """Count further; return the migration."""
        return self._change(
            source, lambda row: replace(row, **{key: getattr(row, key) + n for key, n in counts.items()})
        )

    def _change(self, source: str, change: Callable[[Migration], Migration]) -> Migration:
        def apply(row: Migration | None) -> Migration | None:
            return change(row) if row else None

        self._rows.change({source.encode(): apply})
        return self.find(source)

    def failed(self, source: str) -> dict[tuple[str, str], Failed]:
        """Return the series that did not arrive whole, by study and series."""
        return {_pair(key): row for key, row in self._failures(source).scan()}

    def note_failed(self, source: str, study: str, series: str, failed: Failed | None) -> None:
        """Write down that a series did not arrive whole, or that it did after all."""
        self._failures(source).change({f"{study}\0{series}".encode(): lambda _: failed})

    def note_day(self, source: str, day: str, found: Day, differences: list[Difference]) -> None:
        """Write down how a day compares, in place of what was known of it."""
        days = self._state.table(f"migration-days/{source}", Day)
        rows = self._differences(source)
        old: dict[bytes, Any] = {key: (lambda _: None) for key, _ in rows.scan(f"{day}\0".encode())}
        new = {f"{day}\0{at:08}".encode(): (lambda _, each=each: each) for at, each in enumerate(differences)}
        rows.change(old | new)
        days.put(day.encode(), found)

    def days(self, source: str) -> dict[str, Day]:
        """Return how each day compares."""
        table = self._state.table(f"migration-days/{source}", Day)
        return {key.decode(): row for key, row in table.scan()}

    def differences(self, source: str) -> Iterator[Difference]:
        """Yield what source and archive do not agree about."""
        for _, row in self._differences(source).scan():
            yield row

    def forget(self, source: str) -> None:
        """Forget what an earlier migration of a source found."""
        days = self._state.table(f"migration-days/{source}", Day)
        for table in (days, self._differences(source), self._failures(source)):
            table.change({key: lambda _: None for key, _ in table.scan()})

    def _failures(self, source: str) -> Any:
        return self._state.table(f"migration-failed/{source}", Failed)

    def _differences(self, source: str) -> Any:
        return self._state.table(f"migration-differences/{source}", Difference)


def _pair(key: bytes) -> tuple[str, str]:
    study, _, series = key.decode().partition("\0")
    return study, series


def read_dates(text: str, today: date) -> tuple[date, date]:
    """Return the days that `2009-`, `2009-2015` or `20090131-20101231` means, the first and the last.

    Raises:
        BadRequest: it means none.
    """
    match = _SPAN.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        year, month, day, last_year, last_month, last_day = match.groups()
        first = date(int(year), int(month or 1), int(day or 1))
        if not last_year:
            return first, max(first, today)
        last = date(int(last_year), int(last_month or 12), int(last_day or 1))
        if not last_day:
            last = _month_end(last)
        if last < first:
            raise ValueError
    except ValueError:
        raise BadRequest(
            f"{text!r} is no span of dates.", "Write 2009-, 2009-2015 or 20090131-20101231."
        ) from None
    return first, last


def _month_end(day: date) -> date:
    later = date(day.year + day.month // 12, day.month % 12 + 1, 1)
    return date.fromordinal(later.toordinal() - 1)


def read_rate(text: str) -> float:
    """Return instances per second of `200/min`; empty is 0, as fast as it goes.

    Raises:
        BadRequest: it is no rate.
    """
    if not text:
        return 0.0
    match = _RATE.fullmatch(text.strip())
    if match is None or not int(match[1]):
        raise BadRequest(f"{text!r} is no rate.", "Write instances as 200/min, 5/s or 10000/h.")
    return int(match[1]) / _SECONDS[match[2]]
