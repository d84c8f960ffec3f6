"""Values between bytes and DICOM JSON, VR by VR: PS3.5 6.2 on one side, PS3.18 F.2 on the other.

Nothing is re-formatted. DS and IS become numbers only where these are written exactly as they came, so that
`0.143` is 0.143 and `1.50` stays the text "1.50"; `encode` gives back the same characters.
"""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from collections.abc import Callable
from math import isfinite
from typing import Any, Final

from .characters import ASCII, NAME_DELIMITERS, TEXT_DELIMITERS, Repertoire
from .dictionary import NUMBERS, UNDIVIDED

_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_PADDING: Final = " \0"
_SWAPPED: Final = {"OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2}
"""Bytes per word of the binary VRs that have a byte order."""


def element(vr: str, raw: bytes, repertoire: Repertoire, order: str) -> dict[str, Any]:
    """Return the DICOM JSON of an element that is not a sequence; `order` is its byte order."""
    if not raw:
        return {"vr": vr}
    if read := _READ.get(vr):
        values = read(raw, repertoire)
        return {"vr": vr, "Value": values} if values else {"vr": vr}
    letter = NUMBERS.get(vr)
    if letter and len(raw) % struct.calcsize("<" + letter) == 0:
        return {"vr": vr, "Value": _numbers(letter, raw, order)}
    if vr == "AT" and len(raw) % 4 == 0:
        halves = struct.unpack(f"{order}{len(raw) // 2}H", raw)
        return {
            "vr": vr,
            "Value": [f"{a:04X}{b:04X}" for a, b in zip(halves[::2], halves[1::2], strict=True)],
        }
    if letter or vr == "AT":
        vr = "UN"
    if order == ">" and (width := _SWAPPED.get(vr)) and len(raw) % width == 0:
        raw = _swapped(raw, width)
    return {"vr": vr, "InlineBinary": b64encode(raw).decode("ascii")}


def _numbers(letter: str, raw: bytes, order: str) -> list[Any]:
    values = list(struct.unpack(f"{order}{len(raw) // struct.calcsize('<' + letter)}{letter}", raw))
    if letter in "fd":
        # JSON has no word for these.
        return [value if isfinite(value) else str(value) for value in values]
    return values


def _swapped(raw: bytes, width: int) -> bytes:
    return b"".join(raw[at : at + width][::-1] for at in range(0, len(raw), width))


def _texts(raw: bytes, repertoire: Repertoire) -> list[Any]:
    text = repertoire.decode(raw)
    if "\\" in text:
        return [value.rstrip(_PADDING) or None for value in text.split("\\")]
    text = text.rstrip(_PADDING)
    return [text] if text else []


def _codes(raw: bytes, repertoire: Repertoire) -> list[Any]:
    text = repertoire.decode(raw)
    if "\\" in text:
        return [value.strip(_PADDING) or None for value in text.split("\\")]
    text = text.strip(_PADDING)
    return [text] if text else []


def _undivided(raw: bytes, repertoire: Repertoire) -> list[Any]:
    text = repertoire.decode(raw).rstrip(_PADDING)
    return [text] if text else []


def _names(raw: bytes, repertoire: Repertoire) -> list[Any]:
    text = repertoire.decode(raw, NAME_DELIMITERS).rstrip(_PADDING)
    return [person_name(value) or None for value in text.split("\\")] if text else []


def person_name(text: str) -> dict[str, str]:
    """Return the component groups that are not empty, PS3.18 F.2.2."""
    text = text.rstrip(_PADDING)
    if "=" not in text:
        return {"Alphabetic": text} if text else {}
    groups = (group.rstrip(_PADDING) for group in text.split("=", 2))
    return {name: group for name, group in zip(_GROUPS, groups, strict=False) if group}


def _decimals(raw: bytes, repertoire: Repertoire) -> list[Any]:
    written = _codes(raw, repertoire)
    values = [value and number(value) for value in written]
    # All or none: nobody expects an array of numbers with a text in it.
    return written if any(type(value) is str for value in values) else values


def number(text: str) -> int | float | str:
    """Return the number if it is written in just these characters, else the text."""
    if len(text) > 16:
        return text
    try:
        value = float(text) if "." in text or "e" in text else int(text)
    except ValueError:
        return text
    return value if str(value) == text and isfinite(value) else text


_READ: Final[dict[str, Callable[[bytes, Repertoire], list[Any]]]] = {
    **dict.fromkeys(("LO", "SH", "UC"), _texts),
    **dict.fromkeys(("AE", "AS", "CS", "DA", "DT", "TM", "UI"), _codes),
    **dict.fromkeys(UNDIVIDED, _undivided),
    **dict.fromkeys(("DS", "IS"), _decimals),
    "PN": _names,
}


def encode(vr: str, content: dict[str, Any], repertoire: Repertoire, order: str) -> bytes:
    """Return the bytes of an element that is not a sequence, not padded.

    Raises:
        NotInRepertoire: the repertoire lacks a character.
        ValueError: the values do not suit the VR.
    """
    try:
        return _encode(vr, content, repertoire, order)
    except (KeyError, TypeError, AttributeError, IndexError, struct.error, OverflowError) as error:
        raise ValueError(f"not values of VR {vr}") from error


def _encode(vr: str, content: dict[str, Any], repertoire: Repertoire, order: str) -> bytes:
    if "InlineBinary" in content:
        raw = b64decode(content["InlineBinary"], validate=True)
        width = _SWAPPED.get(vr)
        return _swapped(raw, width) if order == ">" and width and len(raw) % width == 0 else raw
    values = content.get("Value")
    if not values:
        return b""
    if vr == "PN":
        return repertoire.encode("\\".join(map(_name_text, values)), NAME_DELIMITERS)
    if vr in _READ:
        if len(values) == 1 and type(values[0]) is str:
            return repertoire.encode(values[0])
        return repertoire.encode(
            "\\".join("" if value is None else str(value) for value in values), TEXT_DELIMITERS
        )
    if vr == "AT":
        return b"".join(struct.pack(order + "HH", int(each[:4], 16), int(each[4:], 16)) for each in values)
    letter = NUMBERS[vr]
    return struct.pack(f"{order}{len(values)}{letter}", *map(float if letter in "fd" else int, values))


def _name_text(value: Any) -> str:
    if not isinstance(value, dict):
        return value or ""
    if len(value) == 1 and "Alphabetic" in value:
        return str(value["Alphabetic"])
    return "=".join(value.get(name, "") for name in _GROUPS).rstrip("=")


def texts(content: dict[str, Any]) -> list[str]:
    """Return the values of an element as DICOM writes them; those of a sequence or bulk data not at all."""
    if values := content.get("Value"):
        if content["vr"] == "SQ":
            return []
        return [value if type(value) is str else _written(value) for value in values]
    if content["vr"] == "UN" and "InlineBinary" in content:
        text = ASCII.decode(b64decode(content["InlineBinary"]))
        return [value.strip(" \0") for value in text.split("\\")]
    return []


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return _name_text(value)
    return "" if value is None else str(value)
