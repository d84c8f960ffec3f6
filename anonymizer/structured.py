"""Content items and graphic annotations: what their concept says about them (PS3.15 E.3.4, E.3.3)."""

from __future__ import annotations

import struct
from functools import cache

from anonymizer.elements import Element, Item, text_value
from anonymizer.policy import Policy
from anonymizer.table import Concept, Option, load_table

CONTENT_SEQUENCE = 0x0040A730
GRAPHIC_ANNOTATION = 0x00700001
_VALUE_TYPE, _CONCEPT_NAME = 0x0040A040, 0x0040A043
_CODE_VALUE, _SCHEME = 0x00080100, 0x00080102
_REFERENCED_CONTENT_ITEM = 0x0040DB73
_GRAPHIC_LAYER = 0x00700002

# Where each value type keeps its value (PS3.3 C.17.3.2).
_VALUES = {
    "TEXT": 0x0040A160,
    "PNAME": 0x0040A123,
    "DATE": 0x0040A121,
    "TIME": 0x0040A122,
    "DATETIME": 0x0040A120,
    "UIDREF": 0x0040A124,
    "NUM": 0x0040A300,
    "CODE": 0x0040A168,
    "IMAGE": 0x00081199,
    "COMPOSITE": 0x00081199,
    "WAVEFORM": 0x00081199,
}
_REFERENCES = ("IMAGE", "COMPOSITE", "WAVEFORM")
_WITH_DATES = (Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES)


def is_content_item(item: Item) -> bool:
    """Whether the item is a node of a content tree."""
    return _VALUE_TYPE in item


def uses_references(root: Item) -> bool:
    """Whether any content item refers to another by position, so that none may be taken out."""
    return any(_has_reference(item) for item in root[CONTENT_SEQUENCE].items)


def content_action(item: Item, policy: Policy, *, may_drop: bool) -> tuple[int, str] | None:
    """The action for the item's value, as (tag, code); code "DROP" takes the whole item out.

    None leaves the value to Table E.1-1 and its VR.
    """
    value_type = text_value(item, _VALUE_TYPE)
    tag = _VALUES.get(value_type)
    if tag is None:
        return None
    concept = _concept(item, value_type)
    code = _unlisted(value_type, policy) if concept is None else _listed(concept, policy)
    if code.startswith("X"):
        if may_drop and value_type not in _REFERENCES:
            return tag, "DROP"
        if may_drop and policy.document["references"] == "strict":
            return tag, "DROP"
        code = "D"
    if value_type in ("NUM", *_REFERENCES):
        return tag, "Z" if code == "D" and value_type == "NUM" else "K"
    return tag, "E" if value_type == "TEXT" and code == "K" else code


def neutral_annotation(sequence: Element) -> Element:
    """A Graphic Annotation Sequence of one point in a corner, in the first layer that was there."""
    layer = sequence.items[0].get(_GRAPHIC_LAYER) if sequence.items else None
    point = Item(
        {
            0x00700005: Element("CS", b"PIXEL"),
            0x00700020: Element("US", struct.pack("<H", 2)),
            0x00700021: Element("US", struct.pack("<H", 1)),
            0x00700022: Element("FL", struct.pack("<2f", 1, 1)),
            0x00700023: Element("CS", b"POINT"),
        }
    )
    graphic = Item({_GRAPHIC_LAYER: layer or Element("CS", b"REMOVED")})
    graphic[0x00700009] = Element("SQ", (point,))
    return Element("SQ", (graphic,))


def removed_code() -> Element:
    """A code sequence that says that the code was removed."""
    code = Item(
        {
            _CODE_VALUE: Element("SH", b"REMOVED"),
            _SCHEME: Element("SH", b"99ANON"),
            0x00080104: Element("LO", b"Removed"),
        }
    )
    return Element("SQ", (code,))


def has_private_scheme(code: Item) -> bool:
    """Whether a code's meaning is somebody's own words: schemes 99..., L and unnamed ones."""
    scheme = text_value(code, _SCHEME).upper()
    return scheme.startswith("99") or scheme in ("", "L")


def _has_reference(item: Item) -> bool:
    nested = item.get(CONTENT_SEQUENCE)
    return _REFERENCED_CONTENT_ITEM in item or any(
        _has_reference(child) for child in (nested.items if nested else ())
    )


def _listed(concept: Concept, policy: Policy) -> str:
    codes = {code for option, code in concept.options.items() if option in policy.options}
    if not codes:
        return concept.basic
    return "C" if "C" in codes else codes.pop()


def _unlisted(value_type: str, policy: Policy) -> str:
    if value_type in ("DATE", "TIME", "DATETIME"):
        return "C" if any(policy.shows(option) for option in _WITH_DATES) else "D"
    if value_type == "TEXT":
        return "C" if policy.shows(Option.CLEAN_DESCRIPTORS) else "D"
    return {"PNAME": "D", "UIDREF": "U"}.get(value_type, "K")


def _concept(item: Item, value_type: str) -> Concept | None:
    names = item.get(_CONCEPT_NAME)
    if names is None or not names.items:
        return None
    scheme = text_value(names.items[0], _SCHEME)
    value = text_value(names.items[0], _CODE_VALUE)
    if scheme in ("SRT", "SNM3"):
        scheme, value = "SCT", _retired().get(value, value)
    return load_table().concepts.get((scheme, value, value_type))


@cache
def _retired() -> dict[str, str]:
    """Retired SNOMED-RT identifiers and the SNOMED CT concepts that replaced them (PS3.16 Annex O)."""
    from pydicom.sr._snomed_dict import mapping

    return dict(mapping["SRT"])
