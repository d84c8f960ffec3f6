"""Dates, times and the ranges of them that a key can ask for: PS3.5 6.2 (DA, TM, DT), PS3.4 C.2.2.2.5.

A moment is microseconds, so that values of different precision compare: what is not said is zero. A date is
its days since year 1, a time its microseconds since midnight.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
DAY: Final = 24 * 60 * MINUTE

# The form with points is ACR-NEMA's, the one with colons too; PS3.5 asks readers to be kind to them.
_DATE: Final = re.compile(r"(\d{4})(\.?)(\d\d)\2(\d\d)", re.ASCII)
_TIME: Final = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_DATE_TIME: Final = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?)?)?)?([+-]\d{4})?", re.ASCII
)
_OFFSET: Final = re.compile(r"([+-])(\d\d)([0-5]\d)", re.ASCII)

_Bound = TypeVar("_Bound")


class DateTime(NamedTuple):
    """A moment as written, and its offset from UTC; both in microseconds, the latter perhaps unknown."""

    local: int
    offset: int | None

    def is_before(self, other: DateTime) -> bool:
        """Say whether this is the earlier one: in UTC if both offsets are known, else as written."""
        if self.offset is None or other.offset is None:
            return self.local < other.local
        return self.local - self.offset < other.local - other.offset


def parse_date(text: str) -> int | None:
    """Return the days since year 1, or None if this is no DA."""
    return _parse_date(text) if len(text) <= 10 else None


@lru_cache(maxsize=1 << 14)
def _parse_date(text: str) -> int | None:
    found = _DATE.fullmatch(text)
    return _days(int(found[1]), int(found[3]), int(found[4])) if found else None


def _days(year: int, month: int, day: int) -> int | None:
    if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= 31):
        return None
    # 31 February and the like are in real archives and real keys, and mean the end of the month.
    return date(year, month, min(day, monthrange(year, month)[1])).toordinal()


def parse_time(text: str) -> int | None:
    """Return the microseconds since midnight, or None if this is no TM; a leap second is the one before."""
    found = _TIME.fullmatch(text)
    return _since_midnight(*found.groups()) if found else None


def _since_midnight(
    hour: str | None, minute: str | None, second: str | None, fraction: str | None
) -> int | None:
    h, m, s = int(hour or 0), int(minute or 0), int(second or 0)
    if h > 23 or m > 59 or s > 60:
        return None
    return ((h * 60 + m) * 60 + min(s, 59)) * SECOND + int((fraction or "").ljust(6, "0"))


def parse_offset(text: str) -> int | None:
    """Return an offset from UTC such as +0100 in microseconds; None if it is none between -1200 and +1400."""
    found = _OFFSET.fullmatch(text)
    if not found:
        return None
    offset = (int(found[2]) * 60 + int(found[3])) * MINUTE * (-1 if found[1] == "-" else 1)
    return offset if -12 * 60 * MINUTE <= offset <= 14 * 60 * MINUTE else None


def parse_date_time(text: str) -> DateTime | None:
    """Return the moment, or None if this is no DT."""
    found = _DATE_TIME.fullmatch(text)
    if not found:
        return None
    year, month, day, *clock, suffix = found.groups()
    days = _days(int(year), int(month or 1), int(day or 1))
    time = _since_midnight(*clock)
    offset = parse_offset(suffix) if suffix else None
    if days is None or time is None or (suffix and offset is None):
        return None
    return DateTime(days * DAY + time, offset)


def parse_range(text: str, parse: Callable[[str], _Bound | None]) -> tuple[_Bound | None, _Bound | None]:
    """Return the two ends of `a-b`, `a-`, `-b`, or of `a` alone, which is both; None is an open end.

    An offset from UTC has a hyphen too, so the whole text is tried as one value before it is divided.

    Raises:
        ValueError: it is none of these.
    """
    whole = parse(text)
    if whole is not None:
        return whole, whole
    for hyphen in (at for at, character in enumerate(text) if character == "-"):
        first, last = text[:hyphen].strip(), text[hyphen + 1 :].strip()
        low, high = parse(first) if first else None, parse(last) if last else None
        if (first or last) and bool(first) == (low is not None) and bool(last) == (high is not None):
            return low, high
    raise ValueError(text)
