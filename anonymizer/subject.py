"""Who an instance is about: the subject's identity, and everything in it that names that subject."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import permutations
from typing import NamedTuple

from pydicom._dicom_dict import DicomDictionary

from anonymizer.dates import DUMMIES
from anonymizer.elements import Element, Item, tags, text_value
from anonymizer.keys import identity_of
from anonymizer.quarantine import Quarantined, Reason
from anonymizer.text import Identifiers, vocabulary

# Attributes whose value is an identifier of a person, a visit or an order.
_NUMBERS = tags(
    "00080050 00080094 00100020 00100021 00101000 00101001 00101060 00101081 00101090 00102154 00102155 "
    "00200010 00380010 00380060 00400009 00400253 00401001 00401103 00402010 00402016 00402017"
)
# Attributes whose words are a place's or a person's name.
_PLACES = tags(
    "00080080 00080081 00080092 00081010 00081040 00101040 00102150 00102152 00380300 00380400 00400243"
)
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_WORD = re.compile(r"[^\W_]+")

_NAMES = frozenset(tag for tag, row in DicomDictionary.items() if row[0] == "PN")
_PATIENT_NAME, _BIRTH_DATE = 0x00100010, 0x00100030
_TELLING = _NAMES | _NUMBERS | _PLACES | {_BIRTH_DATE}
_ISSUER, _PATIENT_ID, _CHARSET = 0x00100021, 0x00100020, 0x00080005


class Subject(NamedTuple):
    """The canonical identity ("" if there is none) and what names the subject."""

    identity: str
    identifiers: Identifiers


def subject_of(
    root: Item, *, strips_zeros: bool = False, keeps_places: bool = False, issuer: str = ""
) -> Subject:
    """The subject of one instance; raises Quarantined for text that its character set cannot decode.

    `issuer` is whose Patient IDs are that do not say so.
    """
    charset = charset_of(root, ("iso8859",))
    issuer = _text(root, _ISSUER, charset) or issuer
    patient_id = _text(root, _PATIENT_ID, charset)
    words: set[str] = set()
    numbers: set[str] = set()
    for tag, element, codecs in _telling(root, charset):
        if element.vr == "PN" or tag in _NAMES:
            _add_names(decode(element, codecs), words, numbers)
            words |= _initials(decode(element, codecs)) if tag == _PATIENT_NAME else set()
        elif tag == _BIRTH_DATE:
            numbers |= _orders(decode(element, codecs))
        elif tag in _NUMBERS:
            numbers.update(decode(element, codecs).split("\\"))
        elif tag in _PLACES and not keeps_places:
            found = _WORD.findall(decode(element, codecs))
            words |= {word for word in found if len(word) > 2 and not _is_ordinary(word)}
    identity = identity_of(issuer, patient_id, strips_zeros=strips_zeros)
    return Subject(identity, Identifiers(words, numbers))


def _telling(item: Item, charset: tuple[str, ...]) -> Iterator[tuple[int, Element, tuple[str, ...]]]:
    """The elements at any depth that may name somebody, with the character sets in force."""
    codecs = charset_of(item, charset)
    for tag, element in item.items():
        if isinstance(element.value, tuple):
            for nested in element.value:
                yield from _telling(nested, codecs)
        elif tag in _TELLING or (element.vr == "PN" and not tag & 0x10000):
            yield tag, element, codecs


def charset_of(item: Item, inherited: tuple[str, ...]) -> tuple[str, ...]:
    """Python codecs for (0008,0005) of this item; raises Quarantined (CHARSET_UNDECODABLE)."""
    element = item.get(_CHARSET)
    if element is None:
        return inherited
    terms = [term.strip() for term in text_value(item, _CHARSET).split("\\")]
    unknown = [term for term in terms if term not in _CODECS]
    if unknown:
        raise Quarantined(
            Reason.CHARSET_UNDECODABLE, "Its Specific Character Set is none of PS3.3 C.12.1.1.2."
        )
    return tuple(_CODECS[term] for term in terms)


def decode(element: Element, codecs: tuple[str, ...]) -> str:
    """The text of an element, padding removed; raises Quarantined (CHARSET_UNDECODABLE)."""
    data = element.data
    if data.isascii() and b"\x1b" not in data and codecs[0] != "shift_jis":
        return data.decode("ascii").strip(" \0")
    return _decode_bytes(data, codecs).strip(" \0")


def _decode_bytes(data: bytes, codecs: tuple[str, ...]) -> str:
    from pydicom.charset import decode_bytes
    from pydicom.config import settings
    from pydicom.valuerep import TEXT_VR_DELIMS

    validation, settings.reading_validation_mode = settings.reading_validation_mode, 2
    try:
        return decode_bytes(data, list(codecs), {*TEXT_VR_DELIMS, 0x5E, 0x3D})
    except (UnicodeError, LookupError, ValueError) as error:
        raise Quarantined(
            Reason.CHARSET_UNDECODABLE, "A text in it is not in the character set it declares."
        ) from error
    finally:
        settings.reading_validation_mode = validation


def _codecs() -> dict[str, str]:
    from pydicom.charset import python_encoding

    return dict(python_encoding)


_CODECS = _codecs()


def _text(root: Item, tag: int, charset: tuple[str, ...]) -> str:
    element = root.get(tag)
    return decode(element, charset) if element else ""


def _add_names(text: str, words: set[str], numbers: set[str]) -> None:
    for name in text.split("\\"):
        parts = _WORD.findall(name)
        words.update(parts)
        for pair in permutations(parts[:4], 2):
            numbers.add("".join(pair))


def _initials(name: str) -> set[str]:
    """Three initials or more, family name last or first; two are in any text."""
    family, *given = (_WORD.findall(part) for part in name.split("=")[0].split("^")[:3])
    first = "".join(part[0] for parts in given for part in parts)
    last = "".join(part[0] for part in family)
    return {first + last, last + first} if first and len(first + last) > 2 else set()


def _orders(day: str) -> set[str]:
    """A date's digits with year, day or month first; none for a dummy."""
    match = _DATE.fullmatch(day)
    if match is None or day in DUMMIES:
        return set()
    year, month, date = match.groups()
    return {year + month + date, date + month + year, month + date + year}


def _is_ordinary(word: str) -> bool:
    return word.casefold() in vocabulary()
