"""What arrived when, series by series, from the end of the change log: Traffic in numbers."""

from __future__ import annotations

from typing import Any, Final

from catalog import Catalog
from catalog.order import decoded, first_value
from catalog.statements import is_tombstone, read_series

from . import answers
from .operation import Call

_MOST: Final = 20_000
"""Changes that are looked at: the last ones."""
_MODALITY, _STATION, _MODEL, _MAKER = "00080060", "00081010", "00081090", "00080070"


def traffic(call: Call) -> answers.Traffic:
    """Return the series that arrived within the last seconds, oldest first."""
    query: answers.TrafficQuery = call.query()
    now = call.services.clock()
    found, is_cut = _arrived(call.scope.catalog, now - query.seconds)
    return answers.Traffic(now=now, is_cut=is_cut, series=found)


def _arrived(catalog: Catalog, since: float) -> tuple[list[answers.SeriesTraffic], bool]:
    head = catalog.head().seq
    begin = max(0, head - _MOST)
    found = []
    for change in catalog.changes(begin, _MOST):
        if not change.key.partition(b"\0")[2].strip(b"\0") or is_tombstone(change.row):
            continue
        series = read_series(change.row)
        if series.received / 1000 >= since:
            attributes = decoded(series.attributes)
            found.append(
                answers.SeriesTraffic(
                    StudyInstanceUID=series.StudyInstanceUID,
                    SeriesInstanceUID=series.SeriesInstanceUID,
                    time=series.received / 1000,
                    instances=series.instances,
                    bytes=series.size,
                    modality=str(first_value(attributes, _MODALITY) or ""),
                    device=_device(attributes),
                )
            )
    return sorted(found, key=lambda each: each.time), begin > 0


def _device(attributes: dict[str, Any]) -> str:
    """Return what tells a device from others of its kind: its station name, or else its model."""
    named = [str(first_value(attributes, tag) or "") for tag in (_STATION, _MODEL, _MAKER)]
    return " ".join(filter(None, (named[0] or named[2], named[1])))
