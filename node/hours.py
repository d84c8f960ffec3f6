"""Hours of the day in which something may go on: `19-06` is from seven in the evening to six next day."""

from __future__ import annotations

import re
import time
from typing import Final, NamedTuple

from catalog import BadRequest

_WRITTEN: Final = re.compile(r"(\d{1,2})(?::(\d{2}))?-(\d{1,2})(?::(\d{2}))?")
_DAY: Final = 1440


class Hours(NamedTuple):
    """From one minute of the local day to another, maybe past midnight; equal ones are the whole day."""

    begin: int = 0
    end: int = 0

    def holds(self, now: float) -> bool:
        """Say whether a Unix time is within them."""
        return self.opens_in(now) == 0.0

    def opens_in(self, now: float) -> float:
        """Return the seconds until they begin; 0 while they last."""
        local = time.localtime(now)
        minute = local.tm_hour * 60 + local.tm_min
        length = (self.end - self.begin) % _DAY or _DAY
        if (minute - self.begin) % _DAY < length:
            return 0.0
        return ((self.begin - minute) % _DAY) * 60.0 - local.tm_sec

    def __str__(self) -> str:
        if self.begin == self.end:
            return "at any hour"
        return f"{self.begin // 60:02}:{self.begin % 60:02}-{self.end // 60:02}:{self.end % 60:02}"


def read_hours(text: str) -> Hours:
    """Return what `19-06` or `19:30-06:00` says; empty is the whole day.

    Raises:
        BadRequest: it says something else.
    """
    if not text:
        return Hours()
    match = _WRITTEN.fullmatch(text.strip())
    numbers = [int(number or 0) for number in match.groups()] if match else []
    if not numbers or numbers[0] > 24 or numbers[2] > 24 or max(numbers[1], numbers[3]) > 59:
        raise BadRequest(f"{text!r} is no span of hours.", "Write it as 19-06 or 19:30-06:00.")
    return Hours((numbers[0] * 60 + numbers[1]) % _DAY, (numbers[2] * 60 + numbers[3]) % _DAY)
