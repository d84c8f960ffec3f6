"""Where known ultrasound scanners write names into their images, for policies that trust that knowledge."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, NamedTuple

from anonymizer.table import DATA

Area = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


class Place(NamedTuple):
    """What one scanner does in frames of one size: a strip at the top, and boxes."""

    manufacturer: str
    model: str
    rows: int
    columns: int
    top: int
    boxes: tuple[Area, ...]


def boxes_of(manufacturer: str, model: str, rows: int, columns: int) -> tuple[Area, ...]:
    """What to blank in every frame of an ultrasound image; nothing if its scanner is not known.

    Where several entries fit, all of their boxes go.
    """
    found: list[Area] = []
    for place in _places():
        is_scanner = (
            place.manufacturer in manufacturer.casefold()
            and place.model in model.casefold()
            and place.rows == rows
            and place.columns in (0, columns)
        )
        if is_scanner:
            found += [(0, 0, columns, place.top), *place.boxes]
    return tuple(dict.fromkeys(found))


@cache
def _places() -> tuple[Place, ...]:
    data: dict[str, Any] = json.loads((DATA / "pixel-rules.json").read_text(encoding="utf-8"))
    return tuple(
        Place(maker.casefold(), model.casefold(), rows, columns, top, tuple(tuple(box) for box in boxes))
        for maker, model, rows, columns, top, boxes in data["rows"]
    )
