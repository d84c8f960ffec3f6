"""What PS3.5 and PS3.6 say about value representations and tags, arranged for quick look-up.

The tables themselves are pydicom's (PS3.6 and the known private dictionaries); here they become one
integer-keyed look-up that also answers for repeating groups, private creators and group lengths. They are
read when the first tag is asked for: importing them takes longer than most commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Final

# PS3.5 Table 7.1-1: two reserved bytes and a 32-bit length follow these VRs.
LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
# PS3.5 Table 7.1-2: a 16-bit length follows these.
SHORT: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())

# PS3.5 Table 6.2-1.
UNDIVIDED: Final = frozenset(["LT", "ST", "UR", "UT"])
"""VRs in which a backslash is a character, not a delimiter."""
BINARY: Final = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "UN"])
NUMBERS: Final[Mapping[str, str]] = {
    "FD": "d",
    "FL": "f",
    "SL": "i",
    "SS": "h",
    "SV": "q",
    "UL": "I",
    "US": "H",
    "UV": "Q",
}
"""VRs of binary numbers, with their `struct` letter."""

# PS3.6 leaves these to the data set; what pixel data in Implicit VR means is PS3.5 Annex A.1.
_CHOICES: Final = {"OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW", "US or SS": "US"}
_VR: Final[dict[int, str]] = {}
"""Filled when the first tag is asked for."""
_VR_LETTERS: Final = frozenset(letters.decode() for letters in LONG | SHORT)


@cache
def of_either_sign() -> frozenset[int]:
    """Return the tags that are SS where Pixel Representation (0028,0103) is 1, else US."""
    from pydicom._dicom_dict import DicomDictionary

    return frozenset(tag for tag, row in DicomDictionary.items() if row[0] == "US or SS")


def known_vr(tag: int) -> str:
    """Return the VR that PS3.6 gives a public tag; UN where it gives none, or the tag is private."""
    return _VR.get(tag) or _unlisted_vr(tag)


@lru_cache(maxsize=4096)
def _unlisted_vr(tag: int) -> str:
    from pydicom._dicom_dict import DicomDictionary
    from pydicom.datadict import dictionary_VR

    if not _VR:
        vrs = {tag: row[0] for tag, row in DicomDictionary.items() if row[0] != "NONE"}
        _VR.update({tag: _CHOICES.get(vr, vr) for tag, vr in vrs.items()})
    if tag in _VR:
        return _VR[tag]
    group, element = tag >> 16, tag & 0xFFFF
    if element == 0:
        return "UL"
    if group & 1:
        return "LO" if 0x10 <= element <= 0xFF else "UN"
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    vr = _CHOICES.get(vr, vr)
    return vr if vr in _VR_LETTERS else "UN"


def known_private_vr(tag: int, creator: str) -> str:
    """Return the VR that a published private dictionary gives the tag; UN where none does."""
    return _private_vr(tag, creator) if len(creator) <= 64 else "UN"


@lru_cache(maxsize=4096)
def _private_vr(tag: int, creator: str) -> str:
    from pydicom.datadict import private_dictionary_VR

    try:
        vr = private_dictionary_VR(tag, creator)
    except KeyError:
        return "UN"
    vr = _CHOICES.get(vr, vr)
    return vr if vr in _VR_LETTERS else "UN"


def name(tag: int) -> str:
    """Return the tag as people write it: (gggg,eeee)."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
