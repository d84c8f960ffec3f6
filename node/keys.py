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
    return {tag: read[tag] for tag in attributes}


def check_values(attributes: Attributes) -> None:
    """Make sure that values may stand in a data set, not only in a question (PS3.5 6.2).

    Raises:
        BadRequest: one may not; `tags` names its element.
    """
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    for tag, content in attributes.items():
        for value in content.get("Value", ()):
            try:
                validate_value(content["vr"], _word(value), RAISE)
                if content["vr"] == "DA":
                    date.fromisoformat(_word(value))
            except ValueError:
                what = f"{_word(value)!r} is no value for {keyword_of(tag)} (VR {content['vr']})."
                raise BadRequest(what, "PS3.5 section 6.2 says what is.", (tag,)) from None


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
