"""Traffic as a list: which device sent which series when, planned, recorded by a run, or read from CSV."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Final, NamedTuple

from catalog import BadRequest

from .devices import HABITS

DAY: Final = 86_400.0
COLUMNS: Final = ("time", "device", "study", "series", "size")
"""What a traffic file must have; `modality`, `instances` and `site` may follow."""
_MORE: Final = ("modality", "instances", "site")


class Burst(NamedTuple):
    """One series on its way from a device: sent over one association as fast as it goes."""

    time: float
    """Seconds from midnight of the first day."""
    device: str
    study: str
    """Any word that is the same for the series of one study."""
    series: int
    size: int
    """Bytes of all its instances."""
    modality: str
    instances: int
    site: str = ""


def write(path: Path, bursts: Iterable[Burst]) -> None:
    """Write a traffic file, times in seconds."""
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow((*COLUMNS, *_MORE))
        for b in bursts:
            row = (f"{b.time:.3f}", b.device, b.study, b.series, b.size, b.modality, b.instances, b.site)
            out.writerow(row)


def text_of(path: Path) -> str:
    """Return what a file says.

    Raises:
        BadRequest: it is not UTF-8; the line is named. And OSError.
    """
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadRequest(f"{path}, line {line}: this is not UTF-8.", "Save the file as UTF-8.") from None


def read(path: Path) -> list[Burst]:
    """Read a traffic file: times are seconds, or dates with times; the first day becomes day 1.

    Hours stay as they are. Where the modality is not said, it is what the device's name begins with; where
    the number of instances is not said, it follows from the size as that modality writes it.

    Raises:
        BadRequest: a column is missing, or a line cannot be understood; the line is named. And OSError.
    """
    rows = csv.DictReader(io.StringIO(text_of(path), newline=""))
    names = [name.strip().lower() for name in rows.fieldnames or ()]
    if missing := [column for column in COLUMNS if column not in names]:
        what = f"{path}, line 1: there is no column {', '.join(missing)}."
        raise BadRequest(what, _meant(missing, names))
    rows.fieldnames = names
    bursts = sorted(_bursts(path, rows), key=lambda burst: burst.time)
    if not bursts:
        raise BadRequest(f"{path}, line 2: there is no series in it.", _EXAMPLE)
    midnight = bursts[0].time // DAY * DAY
    return [burst._replace(time=burst.time - midnight) for burst in bursts]


_EXAMPLE: Final = "A line is: time, device, study, series, size; for example 81.5,CT-01,s7,2,52000000"


def _meant(missing: Sequence[str], names: Sequence[str]) -> str:
    if len(names) == 1 and ";" in names[0]:
        return "Columns are separated by commas."
    others = [name for name in names if name not in (*COLUMNS, *_MORE)]
    for column in missing:
        if close := difflib.get_close_matches(column, others, n=1):
            return f"Call the column {close[0]!r} {column}."
    return f"A traffic file begins with: {','.join(COLUMNS)}"


def _bursts(path: Path, rows: csv.DictReader[str]) -> Iterator[Burst]:
    senders: dict[tuple[str, int], str] = {}
    forms: set[type] = set()
    for row in rows:
        try:
            burst, form = _burst({name: (value or "").strip() for name, value in row.items() if name})
            forms.add(form)
            if len(forms) > 1:
                raise ValueError("seconds and dates are in one file")
            first = senders.setdefault((burst.study, burst.series), burst.device)
            if first != burst.device:
                raise ValueError(f"series {burst.series} of {burst.study} came from {first} already")
        except ValueError as error:
            raise BadRequest(f"{path}, line {rows.line_num}: {error}.", _EXAMPLE) from None
        yield burst


def _burst(row: dict[str, str]) -> tuple[Burst, type]:
    for column in ("device", "study"):
        if not row[column].isprintable() or not row[column]:
            raise ValueError(f"{row[column]!r} cannot be the {column}")
    modality = (row.get("modality") or row["device"].partition("-")[0].rstrip("0123456789")).upper()
    if modality not in HABITS:
        raise ValueError(f"{modality!r} is no modality; there are {', '.join(HABITS)}")
    size = _number(row["size"], "size")
    usual = max(1, round(size / HABITS[modality].size))
    time, form = _seconds(row["time"])
    burst = Burst(
        time=time,
        device=row["device"],
        study=row["study"],
        series=_number(row["series"], "series"),
        size=size,
        modality=modality,
        instances=_number(row["instances"], "instances") if row.get("instances") else usual,
        site=row.get("site", ""),
    )
    return burst, form


def _number(text: str, what: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{text!r} cannot be the {what}, which is a whole number above 0")
    return int(text)


def _seconds(text: str) -> tuple[float, type]:
    """Return a time and what it was written as; a date without an offset has the day that it says."""
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if not isfinite(seconds) or seconds < 0:
            raise ValueError(f"{text!r} is no time: seconds are counted from 0")
        return seconds, float
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither seconds nor a date with a time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), datetime
