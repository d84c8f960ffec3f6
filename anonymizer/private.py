"""Private attributes: all go, but those known to be safe when 113111 is chosen (PS3.15 E.3.10)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from anonymizer.elements import Element, Item, text_value
from anonymizer.table import load_table

_CHARACTERISTICS, _GROUP, _CREATOR = 0x00080300, 0x00080301, 0x00080302
_STATUS, _NONIDENTIFYING = 0x00080303, 0x00080304
_DEIDENTIFICATION, _IDENTIFYING = 0x00080305, 0x00080306

_BULK = frozenset(("OB", "OW", "OF", "OD", "OL", "OV", "UN"))

SafeList = dict[tuple[int, str, int], str]


def safe_list(more: list[dict[str, Any]]) -> SafeList:
    """(group, creator, low byte) to VR: Table E.3.10-1 and the policy's own rows."""
    known = {key: safe.vr for key, safe in load_table().safe_private.items()}
    for row in more:
        key = (int(row["group"], 16), str(row["creator"]), int(row["element"], 16) & 0xFF)
        known[key] = str(row.get("vr", ""))
    return known


def safe_members(item: Item, known: SafeList) -> Iterator[tuple[int, Element]]:
    """The item's safe private elements with their listed VR, and the creators of those."""
    declared = _declared(item)
    private = [(tag, element) for tag, element in item.items() if tag & 0x10000]
    reserved = {
        tag: element.data.decode("latin-1").strip(" \0")
        for tag, element in private
        if 0x10 <= tag & 0xFFFF <= 0xFF
    }
    used = set()
    for tag, element in private:
        if tag & 0xFFFF < 0x1000:
            continue
        block = tag & 0xFFFF0000 | (tag >> 8 & 0xFF)
        key = (tag >> 16, reserved.get(block, ""), tag & 0xFF)
        is_readable = key in declared and element.vr not in _BULK
        listed = known.get(key, element.vr if is_readable else None)
        kept = None if listed is None else _as_listed(element, listed)
        if kept is not None:
            used.add(block)
            yield tag, kept
    for block in used:
        yield block, Element("LO", item[block].data)


def _as_listed(element: Element, listed: str) -> Element | None:
    """The element under its listed VR; None if it does not agree with what is there."""
    vrs = listed.split("/") if listed else [element.vr]
    if element.vr in vrs:
        return element
    if element.vr == "UN" and not element.items and vrs[0] != "SQ":
        return Element(vrs[0], element.value)
    return None


def _declared(item: Item) -> set[tuple[int, str, int]]:
    """What the instance itself declares not to be identifying in (0008,0300), by (0008,0304)."""
    found: set[tuple[int, str, int]] = set()
    sequence = item.get(_CHARACTERISTICS)
    for block in sequence.items if sequence else ():
        group = _shorts(block, _GROUP)
        if len(group) != 1:
            continue
        key = (group[0], text_value(block, _CREATOR))
        status = text_value(block, _STATUS)
        if status == "SAFE":
            found |= {(*key, number) for number in range(0x100)}
        elif status == "MIXED":
            found |= {(*key, number & 0xFF) for number in _shorts(block, _NONIDENTIFYING)}
        acts = block.get(_DEIDENTIFICATION)
        for act in acts.items if acts else ():
            found -= {(*key, number & 0xFF) for number in _shorts(act, _IDENTIFYING)}
    return found


def _shorts(item: Item, tag: int) -> tuple[int, ...]:
    element = item.get(tag)
    data = element.data if element else b""
    return struct.unpack(f"<{len(data) // 2}H", data[: len(data) // 2 * 2])
