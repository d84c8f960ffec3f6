"""Range matching, PS3.4 C.2.2.2.5: tests for keys that are dates, times, moments, or a date with its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from .dictionary import name
from .errors import BadRequest
from .model import Attributes
from .moments import DAY, DateTime, parse_date, parse_date_time, parse_offset, parse_range, parse_time
from .values import texts

Test = Callable[[Attributes], bool]
"""Says whether some attributes match."""
_Moment = TypeVar("_Moment", int, DateTime)
_Range = tuple[_Moment | None, _Moment | None]

# Dates and the times that complete them, PS3.4 C.2.2.2.5.
PAIRS: Final = (
    ("00080012", "00080013"),
    ("00080020", "00080030"),
    ("00080021", "00080031"),
    ("00080022", "00080032"),
    ("00080023", "00080033"),
    ("00100030", "00100032"),
    ("00400002", "00400003"),
    ("00400244", "00400245"),
    ("00400250", "00400251"),
)
_TIMEZONE: Final = "00080201"
_NOTHING: Final[dict[str, Any]] = {"vr": "UN"}

_FORMS: Final = {
    "DA": "YYYYMMDD and ranges of it, as in 20240101-20240131, 20240101- and -20240131",
    "TM": "HHMMSS, HHMM or HH and ranges of them, as in 0800-1200, 0800- and -1200",
    "DT": "YYYYMMDDHHMMSS&ZZXX or its beginning and ranges of them, as in 20240101-20240131",
}


def dates(tag: str, wanted: list[str]) -> Test:
    """Return the test for a DA key; raises BadRequest, as all here do, if it is none."""
    ranges = [_ordered(tag, "DA", _range(tag, "DA", text, parse_date)) for text in wanted if text]

    def test(attributes: Attributes) -> bool:
        for text in _stored(attributes, tag):
            day = parse_date(text)
            if day is not None and any(_is_between(low, day, high) for low, high in ranges):
                return True
        return False

    return test


def times(tag: str, wanted: list[str], offset: int | None) -> Test:
    """Return the test for a TM key; `offset` is that of the query from UTC, in microseconds."""
    ranges = [_ordered(tag, "TM", _range(tag, "TM", text, parse_time)) for text in wanted if text]

    def test(attributes: Attributes) -> bool:
        shift = _shift(offset, attributes)
        for text in _stored(attributes, tag):
            time = parse_time(text)
            if time is not None and any(_is_between(low, (time + shift) % DAY, high) for low, high in ranges):
                return True
        return False

    return test


def date_times(tag: str, wanted: list[str], offset: int | None) -> Test:
    """Return the test for a DT key; `offset` goes for keys that do not state their own."""
    ranges = [_range(tag, "DT", text, _in_zone(offset)) for text in wanted if text]
    if any(low and high and high.is_before(low) for low, high in ranges):
        raise refused(tag, "DT", "The range ends before it begins.")

    def test(attributes: Attributes) -> bool:
        parse = _in_zone(zone(attributes))
        moments = [moment for text in _stored(attributes, tag) if (moment := parse(text))]
        return any(
            not (low and moment.is_before(low)) and not (high and high.is_before(moment))
            for moment in moments
            for low, high in ranges
        )

    return test


def combined(keys: Attributes, date_tag: str, time_tag: str, offset: int | None) -> Test | None:
    """Return one test for a date and a time range of the same form, as if they were one DT; else None."""
    date_text, time_text = (texts(keys.get(tag) or _NOTHING) for tag in (date_tag, time_tag))
    if len(date_text) != 1 or len(time_text) != 1 or "-" not in date_text[0] or "-" not in time_text[0]:
        return None
    days = _range(date_tag, "DA", date_text[0].strip(), parse_date)
    within = _range(time_tag, "TM", time_text[0].strip(), parse_time)
    if [end is None for end in days] != [end is None for end in within]:
        return None
    low, high = (_joined(day, time) for day, time in zip(days, within, strict=True))
    _ordered(date_tag, "DA", (low, high))

    def test(attributes: Attributes) -> bool:
        day, time = parse_date(_first(attributes, date_tag)), parse_time(_first(attributes, time_tag))
        moment = _joined(day, time)
        return moment is not None and _is_between(low, moment + _shift(offset, attributes), high)

    return test


def zone(attributes: Attributes) -> int | None:
    """Return the attributes' Timezone Offset From UTC in microseconds, if they have one."""
    text = _first(attributes, _TIMEZONE)
    return parse_offset(text) if text else None


def _stored(attributes: Attributes, tag: str) -> list[str]:
    return [text.strip() for text in texts(attributes.get(tag) or _NOTHING)]


def _first(attributes: Attributes, tag: str) -> str:
    values = _stored(attributes, tag)
    return values[0] if values else ""


def _shift(offset: int | None, attributes: Attributes) -> int:
    stored = None if offset is None else zone(attributes)
    return 0 if offset is None or stored is None else offset - stored


def _is_between(low: int | None, value: int, high: int | None) -> bool:
    return (low is None or low <= value) and (high is None or value <= high)


def _joined(day: int | None, time: int | None) -> int | None:
    return None if day is None else day * DAY + (time or 0)


def _in_zone(offset: int | None) -> Callable[[str], DateTime | None]:
    def parse(text: str) -> DateTime | None:
        moment = parse_date_time(text)
        return moment._replace(offset=offset) if moment and moment.offset is None else moment

    return parse


def _range(tag: str, vr: str, text: str, parse: Callable[[str], _Moment | None]) -> _Range[_Moment]:
    try:
        return parse_range(text, parse)
    except ValueError:
        raise refused(tag, vr, f"The forms are {_FORMS[vr]}; wildcards are none of them.") from None


def _ordered(tag: str, vr: str, ends: _Range[int]) -> _Range[int]:
    low, high = ends
    if low is not None and high is not None and low > high:
        raise refused(tag, vr, "The range ends before it begins; a range of times is within one day.")
    return ends


def refused(tag: str, vr: str, next: str) -> BadRequest:
    """Return the error for a key whose value is none."""
    return BadRequest(
        f"The value of {name(int(tag, 16))} is not one that a key of VR {vr} can have.", next, (tag,)
    )
