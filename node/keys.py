"""Attributes as people type them (`PatientName=NOVAK*`, `0010,0020=4711`): DICOM JSON, and text again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from typing import Any, Final

from catalog import Attributes, BadRequest, Level, decode_identifier, encode_identifier, texts

_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_TAG: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")
_UNDIVIDED: Final = frozenset({"LT", "ST", "UR", "UT"})
"""VRs in which a backslash is a character, PS3.5 6.2."""
_BINARY_NUMBERS: Final = frozenset({"FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"})
_CONTROL: Final = (re.compile(r"[\x00-\x1f\x7f]"), re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]"))
"""Control characters that may not stand in a value, and in one with lines and tabs, PS3.5 6.1.3."""
_ENUMERATED: Final = {"00100040": ("F", "M", "O")}
"""Enumerated Values of Patient's Sex, PS3.3 C.7.1.1."""
LEVEL: Final = "00080052"
_OFTEN_WANTED: Final[dict[Level, tuple[str, ...]]] = {
    Level.PATIENT: ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    Level.STUDY: (
        "StudyDate",
        "StudyTime",
        "PatientName",
        "PatientID",
        "ModalitiesInStudy",
        "StudyDescription",
        "AccessionNumber",
        "NumberOfStudyRelatedInstances",
        "StudyInstanceUID",
    ),
    Level.SERIES: (
        "SeriesNumber",
        "Modality",
        "SeriesDescription",
        "NumberOfSeriesRelatedInstances",
        "StudyInstanceUID",
        "SeriesInstanceUID",
    ),
    Level.IMAGE: ("InstanceNumber", "SOPClassUID", "SeriesInstanceUID", "SOPInstanceUID"),
}


def tag_of(word: str) -> str:
    """Return the tag that a keyword or `gggg,eeee` names, as eight hexadecimal digits.

    Raises:
        BadRequest: it names none.
    """
    from pydicom.datadict import tag_for_keyword

    number = tag_for_keyword(word)
    if number is not None:
        return f"{number:08X}"
    match = _TAG.fullmatch(word)
    if match is None:
        remedy = "Use a keyword like PatientName, or a tag like 0010,0010."
        raise BadRequest(f"{word!r} is no attribute of the standard.", remedy)
    return (match[1] + match[2]).upper()


def keyword_of(tag: str) -> str:
    """Return the keyword of a tag, or `(gggg,eeee)` where the standard has none."""
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(int(tag, 16)) or f"({tag[:4]},{tag[4:]})"


def attributes_of(pairs: Iterable[str]) -> Attributes:
    """Return what `Keyword=Value`, `gggg,eeee=Value` and a bare keyword say; a backslash divides values.

    Raises:
        BadRequest: an attribute is unknown, a sequence, or its value does not suit its VR.
    """
    attributes: Attributes = {}
    for pair in pairs:
        word, _, value = pair.partition("=")
        tag = tag_of(word.strip())
        attributes[tag] = _element(tag, word, value)
    read = decode_identifier(encode_identifier(attributes, _EXPLICIT), _EXPLICIT)
    if lost := attributes.keys() - read.keys():
        what = f"{', '.join(sorted(map(keyword_of, lost)))} cannot be given a value."
        raise BadRequest(what, "Leave it out; it follows from the rest.", tuple(sorted(lost)))
    return {tag: read[tag] for tag in attributes}


def check_values(attributes: Attributes) -> None:
    """Make sure that values may stand in a data set, not only in a question (PS3.5 6.2).

    Raises:
        BadRequest: one may not; `tags` names its element.
    """
    for tag, content in attributes.items():
        values = content.get("Value", ())
        _check_number_of(tag, len(values))
        for value in values:
            _check_value(tag, content["vr"], value)


def _check_number_of(tag: str, count: int) -> None:
    from pydicom.datadict import dictionary_VM

    try:
        multiplicity = dictionary_VM(int(tag, 16))
    except KeyError:
        return
    least, _, most = multiplicity.partition("-")
    if count and (count < int(least) or ((most or least).isdigit() and count > int(most or least))):
        what = f"{keyword_of(tag)} has {count} values, and may have {multiplicity}."
        raise BadRequest(what, "A backslash divides values; PS3.6 says how many there are.", (tag,))


def _check_value(tag: str, vr: str, value: Any) -> None:
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    word = _word(value)
    try:
        # What is a number was read as one.
        validate_value(vr, value if vr in _BINARY_NUMBERS else word, RAISE)
        if vr == "DA":
            date.fromisoformat(word)
        is_good = word in _ENUMERATED.get(tag, (word,)) and not _CONTROL[vr in _UNDIVIDED].search(word)
    except ValueError:
        is_good = False
    if not is_good:
        what = f"{word!r} is no value for {keyword_of(tag)} (VR {vr})."
        known = f"It is one of {', '.join(_ENUMERATED[tag])}." if tag in _ENUMERATED else ""
        raise BadRequest(what, known or "PS3.5 section 6.2 says what is.", (tag,))


def question(pairs: Iterable[str], level: str = "") -> Attributes:
    """Return a C-FIND Identifier: the pairs, the level, and what people want to see at that level."""
    asked = attributes_of(pairs)
    named = texts(asked[LEVEL])[0] if asked.get(LEVEL, {}).get("Value") else (level or "STUDY").upper()
    try:
        wanted = _OFTEN_WANTED[Level(named)]
    except ValueError:
        remedy = f"It is one of {', '.join(Level)}."
        raise BadRequest(f"{named!r} is not a Query/Retrieve Level.", remedy) from None
    return attributes_of((f"QueryRetrieveLevel={named}", *wanted)) | asked


def row_of(attributes: Attributes, level: str) -> dict[str, str]:
    """Return what people want to see of an answer, keyword and text, in the order of the columns."""
    shown = {keyword: tag_of(keyword) for keyword in _OFTEN_WANTED[Level(level)]}
    return {keyword: text_of(attributes.get(tag, {})) for keyword, tag in shown.items()}


def text_of(content: dict[str, Any]) -> str:
    """Return the values of an element as one line."""
    return "\\".join(_word(value) for value in content.get("Value", ()))


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("Alphabetic", "")) if "Alphabetic" in value or not value else "(sequence)"
    return "" if value is None else str(value)


def _element(tag: str, word: str, value: str) -> dict[str, Any]:
    from pydicom.datadict import dictionary_VR

    try:
        vr = dictionary_VR(int(tag, 16)).split()[0]
    except KeyError:
        vr = "LO"
    if vr == "SQ":
        raise BadRequest(f"{word} is a sequence.", "Sequences cannot be given as Keyword=Value.")
    if not value:
        return {"vr": vr}
    parts = [value] if vr in _UNDIVIDED else value.split("\\")
    return {"vr": vr, "Value": [{"Alphabetic": part} for part in parts] if vr == "PN" else parts}
