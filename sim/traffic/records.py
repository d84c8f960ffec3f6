"""Traffic as a list: which device sent which series when, planned, recorded by a run, or read from CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from catalog import BadRequest

from .devices import HABITS

COLUMNS: Final = ("time", "device", "study", "series", "size")
"""What a traffic file must have; `modality`, `instances` and `site` may follow."""
_MORE: Final = ("modality", "instances", "site")


class Burst(NamedTuple):
    """One series on its way from a device: sent over one association as fast as it goes."""

    time: float
    """Seconds from the beginning of the traffic."""
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


def read(path: Path) -> list[Burst]:
    """Read a traffic file: times are seconds, or dates with times; the first becomes 0.

    Where the modality is not said, it is what the device's name begins with; where the number of instances is
    not said, it follows from the size as that modality writes it.

    Raises:
        BadRequest: a column is missing, or a line cannot be understood; the line is named.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise BadRequest(
                f"{path}, line 1: the columns {', '.join(missing)} are missing.",
                f"A traffic file begins with: {','.join(COLUMNS)}",
            )
        bursts = sorted(_bursts(path, rows), key=lambda burst: burst.time)
    first = bursts[0].time if bursts else 0.0
    return [burst._replace(time=burst.time - first) for burst in bursts]


def _bursts(path: Path, rows: csv.DictReader[str]) -> Iterator[Burst]:
    for row in rows:
        try:
            yield _burst({name: (value or "").strip() for name, value in row.items() if name})
        except ValueError as error:
            raise BadRequest(
                f"{path}, line {rows.line_num}: {error}.",
                "A line is: time, device, study, series, size; for example 81.5,CT-01,s7,2,52000000",
            ) from None


def _burst(row: dict[str, str]) -> Burst:
    modality = row.get("modality") or row["device"].partition("-")[0].rstrip("0123456789").upper()
    if modality not in HABITS:
        raise ValueError(f"{modality or row['device']!r} is no modality; there are {', '.join(HABITS)}")
    size = _number(row["size"], "size")
    usual = max(1, round(size / HABITS[modality].size))
    return Burst(
        time=_seconds(row["time"]),
        device=row["device"],
        study=row["study"],
        series=_number(row["series"], "series"),
        size=size,
        modality=modality,
        instances=_number(row["instances"], "instances") if row.get("instances") else usual,
        site=row.get("site", ""),
    )


def _number(text: str, what: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{text!r} cannot be the {what}, which is a whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ValueError(f"{text!r} is neither seconds nor a date with a time") from None
