"""The Type of an attribute at its place in an instance (PS3.3), which decides between X, Z and D.

A mandatory module counts; a conditional or optional one counts only if the instance holds one of its
Type 1 attributes. Where several modules name the same attribute, the strictest Type wins.
"""

from __future__ import annotations

import json
from collections.abc import Container
from functools import cache
from typing import Any

from anonymizer.table import DATA

Path = tuple[int, ...]
Types = dict[Path, dict[int, str]]

_STRICTNESS = {"1": 3, "1C": 3, "2": 2, "2C": 2, "3": 1}
_EFFECTIVE = {"1": "1", "1C": "1", "2": "2", "2C": "2", "3": "3"}


def is_supported(sop_class: str) -> bool:
    """Whether the Types of this SOP Class are known here."""
    return sop_class in _data()["sop_classes"]


def must_have_pixels(sop_class: str) -> bool:
    """Whether an instance of this SOP Class is an image, so that one without Pixel Data was cut short."""
    data = _data()
    return "image-pixel" in data["iods"][data["sop_classes"][sop_class]]["mandatory"]


def types_of(sop_class: str, present: Container[int]) -> Types:
    """Sequence path to {attribute: "1", "2" or "3"} for an instance whose root holds `present`.

    The root's path is empty. An attribute that is missing is not in the IOD, or is Type 3 and no action
    depends on it. Raises KeyError for a SOP Class that is not in the table.
    """
    data = _data()
    iod = data["iods"][data["sop_classes"][sop_class]]
    optional = tuple(key for key in iod["optional"] if any(tag in present for tag in _presence(key)))
    return _merged(sop_class, optional)


@cache
def _data() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DATA / "iod-types.json").read_text(encoding="utf-8"))
    return loaded


@cache
def _presence(module: str) -> tuple[int, ...]:
    return tuple(int(tag, 16) for tag in _data()["modules"][module]["presence"])


@cache
def _merged(sop_class: str, optional: tuple[str, ...]) -> Types:
    data = _data()
    iod = data["iods"][data["sop_classes"][sop_class]]
    merged: Types = {}
    counted = {*iod["mandatory"], *optional}
    for module in (*iod["mandatory"], *iod["optional"]):
        for path, index in data["modules"][module]["paths"].items():
            place = merged.setdefault(_parse(path), {})
            for tag, type_ in data["members"][index].items():
                known = type_ if module in counted else "3"
                old = place.get(int(tag, 16), "3")
                place[int(tag, 16)] = max(known, old, key=lambda t: _STRICTNESS[t])
    return {path: {tag: _EFFECTIVE[type_] for tag, type_ in place.items()} for path, place in merged.items()}


def _parse(path: str) -> Path:
    return tuple(int(part, 16) for part in path.split("/")) if path else ()
