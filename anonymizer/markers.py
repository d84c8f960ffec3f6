"""What an instance says about its own de-identification, from what really happened to it."""

from __future__ import annotations

from dataclasses import dataclass

from anonymizer.assignment import UNLABELLED, Label
from anonymizer.elements import Element, Item, tags, text_value
from anonymizer.keys import ProjectKey
from anonymizer.policy import Policy
from anonymizer.table import BASIC_PROFILE, EDITION, Option, load_table

PRODUCT = "PeerPACS"
VERSION = "0.1.0"
IMPLEMENTATION_CLASS_UID = "2.25.211536485935310475021446894093917563218"

_METHOD, _METHOD_CODES = 0x00120063, 0x00120064
_EQUIPMENT = 0x0018A001
_SEAL = "seal:"

# With modified dates (113107, C) winning over device identity (113109, K) on these, 113109 may be
# claimed only if none of them carries a value (PS3.15 Table E.1-1).
_DATES_OF_DEVICES = tags(
    "0014407C 0014407E 00181200 00181201 00181202 00181203 00181204 00181205 0018700C 0018700E 300C0127"
)
_TRIAL = {
    "sponsor": (0x00120010,),
    "protocol_id": (0x00120020,),
    "protocol_name": (0x00120021,),
    "site_id": (0x00120030,),
    "site_name": (0x00120031,),
    "time_point": (0x00120050, 0x00120051),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What happened to the pixels and the tree of one instance."""

    pixels_cleaned: bool = False
    pixels_changed: bool = False
    holds_device_dates: bool = False


def device_dates_in(root: Item) -> bool:
    """Whether any of the eleven attributes on which 113107 and 113109 disagree has a value."""
    return any(root[tag].value for tag in _DATES_OF_DEVICES if tag in root)


def claimed(policy: Policy, facts: Facts) -> list[str]:
    """The codes of CID 7050 that this instance may carry; 113102 never, as no face is removed here."""
    codes = {BASIC_PROFILE, *policy.options} - {Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES}
    if not facts.pixels_cleaned:
        codes -= {Option.CLEAN_PIXEL_DATA}
    if facts.holds_device_dates and policy.shows(Option.RETAIN_MODIFIED_DATES):
        codes -= {Option.RETAIN_DEVICE_IDENTITY}
    return sorted(str(code) for code in codes)


def set_identity(
    root: Item, policy: Policy, pseudonym: str, accession: str, label: Label = UNLABELLED
) -> None:
    """Gives the subject its pseudonym, never empty, since an empty one would merge patients."""
    root[0x00100010] = Element("PN", pseudonym.encode())
    root[0x00100020] = Element("LO", pseudonym.encode())
    if accession:
        root[0x00080050] = Element("SH", accession.encode())
    trial = dict(policy.document["clinical_trial"])
    if label.time_point:
        trial["time_point"] = label.time_point
    if not trial and not label.subject_id:
        return
    for key, trial_tags in _TRIAL.items():
        for tag in trial_tags:
            root[tag] = Element("ST" if tag == 0x00120051 else "LO", str(trial.get(key, "")).encode("ascii"))
    for tag in (0x00120010, 0x00120020):
        root[tag] = root[tag] if root[tag].value else Element("LO", b"UNSPECIFIED")
    root[0x00120040] = Element("LO", (label.subject_id or pseudonym).encode("ascii"))


def add_markers(root: Item, policy: Policy, facts: Facts) -> list[str]:
    """Writes the de-identification attributes and returns the claimed codes."""
    codes = claimed(policy, facts)
    root[0x00120062] = Element("CS", b"YES")
    _add_values(root, [f"{PRODUCT} {VERSION}", f"PS3.15-{EDITION}", f"policy:{policy.digest[:12]}"])
    meanings = load_table().cid_7050
    _add_items(root, _METHOD_CODES, [_code(code, meanings[code]) for code in codes])
    purpose = Element("SQ", (_code("109104", "De-identifying Equipment"),))
    equipment = Item({0x00080070: Element("LO", PRODUCT.encode()), 0x0040A170: purpose})
    _add_items(root, _EQUIPMENT, [equipment])
    root[0x00280303] = Element("CS", _longitudinal(policy))
    if facts.pixels_cleaned:
        root[0x00280301] = Element("CS", b"NO")
    if facts.pixels_changed:
        values = text_value(root, 0x00080008).split("\\")
        root[0x00080008] = Element("CS", "\\".join(["DERIVED", *values[1:]]).encode())
        root[0x00082111] = Element("ST", b"areas removed")
    return codes


def claims(root: Item, code: str) -> bool:
    """Whether the instance carries this code of CID 7050."""
    return any(text_value(item, 0x00080100) == code for item in root[_METHOD_CODES].items)


def add_seal(root: Item, key: ProjectKey) -> None:
    """Signs the instance's elements with the project key, so that a second run recognises them."""
    _add_values(root, [_SEAL + key.seal(_content(root))])


def is_sealed(root: Item, policy: Policy, key: ProjectKey) -> bool:
    """Whether this engine wrote these elements with this policy and key, and nobody changed one since."""
    *rest, last = text_value(root, _METHOD).split("\\")
    if not last.startswith(_SEAL) or f"policy:{policy.digest[:12]}" not in rest:
        return False
    bare = Item(root)
    bare[_METHOD] = Element("LO", "\\".join(rest).encode())
    return key.seal(_content(bare)) == last.removeprefix(_SEAL)


def file_meta(root: Item, transfer_syntax: str) -> Item:
    """File Meta Information made from nothing but the data set (PS3.10 7.1)."""
    return Item(
        {
            0x00020001: Element("OB", b"\0\1"),
            0x00020002: Element("UI", text_value(root, 0x00080016).encode()),
            0x00020003: Element("UI", text_value(root, 0x00080018).encode()),
            0x00020010: Element("UI", transfer_syntax.encode()),
            0x00020012: Element("UI", IMPLEMENTATION_CLASS_UID.encode()),
        }
    )


def _content(item: Item) -> bytes:
    """Every element that is not bulk data, with trailing padding aside."""
    parts = []
    for tag in sorted(item):
        element = item[tag]
        if isinstance(element.value, tuple):
            parts += [b"%08X[" % tag, *(_content(nested) + b";" for nested in element.value), b"]"]
        elif len(element.value) <= 1 << 16 and not element.is_encapsulated:
            parts += [b"%08X=" % tag, element.data.rstrip(b" \0"), b"\n"]
    return b"".join(parts)


def _longitudinal(policy: Policy) -> bytes:
    if policy.shows(Option.RETAIN_FULL_DATES):
        return b"UNMODIFIED"
    return b"MODIFIED" if policy.shows(Option.RETAIN_MODIFIED_DATES) else b"REMOVED"


def _code(value: str, meaning: str) -> Item:
    return Item(
        {
            0x00080100: Element("SH", value.encode()),
            0x00080102: Element("SH", b"DCM"),
            0x00080104: Element("LO", meaning.encode()),
        }
    )


def _add_values(root: Item, added: list[str]) -> None:
    old = [value for value in text_value(root, _METHOD).split("\\") if value]
    old = [value for value in old if value not in added and not value.startswith(_SEAL)]
    root[_METHOD] = Element("LO", "\\".join([*old, *added]).encode("latin-1"))


def _add_items(root: Item, tag: int, added: list[Item]) -> None:
    old = root[tag].items if tag in root else ()
    new = tuple(item for item in added if not any(_content(item) == _content(known) for known in old))
    root[tag] = Element("SQ", (*old, *new))
