"""Tables of what can be asked: information models, keys, extended negotiation, character sets."""

from __future__ import annotations

from typing import Final

from catalog import DEFINED_TERMS, UNIQUE_KEY, Level
from federation import private_block as grid_block
from node.dimse.negotiation import performed
from node.dimse.syntaxes import SERVICE_SUFFIX, STUDY_ROOT

from .claims import keys, models
from .markdown import named, table, tag, yes

_NEGOTIABLE: Final = (
    "Relational queries, relational retrieval",
    "Combined date and time matching",
    "Fuzzy semantic matching of person names",
    "Timezone query adjustment",
    "Enhanced multi-frame image conversion",
    "Empty value matching",
    "Multiple value matching",
)
"""PS3.4 Table C.5-2, byte by byte."""


def information_models() -> str:
    """Return the table of information models."""
    keyword = {key.tag: key.keyword for key in keys()}
    rows = [
        (
            named(root + ".1").partition(" - ")[0],
            ", ".join(levels),
            ", ".join(keyword[UNIQUE_KEY[level]] for level in levels),
        )
        for root, levels in models().items()
    ]
    return table("5-3", "Information models", ("Model", "Levels", "Unique keys, in order"), rows)


def key_table() -> str:
    """Return the table of keys that are exact at once."""
    rows = [
        (
            _levels(key.level, is_computed=key.is_computed),
            key.keyword,
            tag(key.tag),
            key.vr,
            "unique" if key.tag == UNIQUE_KEY[key.level] else "computed" if key.is_computed else "stored",
            key.matching,
        )
        for key in keys()
    ]
    heads = ("Level", "Key", "Tag", "VR", "Kind", "Matching")
    return table("5-4", "Keys that are exact at once", heads, rows)


def _levels(level: Level, *, is_computed: bool) -> str:
    return f"{level} and below" if is_computed else str(level)


def private_block() -> str:
    """Return the table of private attributes in answers of the grid."""
    rows = [
        (f"(0077,xx{element:02X})", name, vr, vm, what) for element, name, vr, vm, what in grid_block.ELEMENTS
    ]
    title = f"Private attributes of answers, Private Creator {grid_block.CREATOR}"
    return table("A-1", title, ("Tag", "Name", "VR", "VM", "Meaning"), rows)


def extended_negotiation() -> str:
    """Return the table of what a requestor can switch on."""
    rows = []
    for place, name in enumerate(_NEGOTIABLE):
        asked = bytes(int(each == place) for each in range(len(_NEGOTIABLE)))
        answers = [performed(STUDY_ROOT + suffix, asked)[place] for suffix in SERVICE_SUFFIX.values()]
        rows.append((place + 1, name, *(yes(bool(each)) for each in answers)))
    heads = ("Byte", "What", *(("FIND", "MOVE", "GET")))
    return table("5-5", "SOP Class Extended Negotiation, PS3.4 Tables C.5-2 and C.5-3", heads, rows)


def character_sets() -> str:
    """Return the table of character sets that are understood."""
    rows = [(term, "Yes", yes(term == "ISO_IR 192")) for term in DEFINED_TERMS]
    heads = ("Defined Term", "Read; written for a device that is set so", "Written otherwise")
    return table("5-6", "Specific Character Set, PS3.3 Tables C.12-2 to C.12-5", heads, rows)
