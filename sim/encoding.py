"""Elements in Explicit VR Little Endian as bytes, and data sets as templates of fixed bytes.

What does not vary is encoded once for each kind of instance, so an instance costs some thirty short elements.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

IMPLEMENTATION_CLASS_UID: Final = "2.25.164217218219220221222223224225226227228"
PIXEL_DATA: Final = 0x7FE00010
Values = dict[int, bytes]
"""Tag → value as encoded, not yet padded."""


class Place(NamedTuple):
    """A varying element of a template, behind the fixed bytes before it."""

    fixed: bytes
    tag: int
    vr: bytes


class Template(NamedTuple):
    """A data set whose varying elements are still open."""

    places: tuple[Place, ...]
    end: bytes


def tag_of(keyword: str) -> int:
    """Return the tag of a keyword of the dictionary."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


def template(ds: Dataset, keywords: Iterable[str], others: dict[int, str]) -> Template:
    """Take a data set apart at its varying elements: those of the keywords, and `others` by tag with VR."""
    varying = {tag_of(keyword): dictionary_VR(keyword) for keyword in keywords} | others
    places, before = [], 0
    for tag in sorted(varying):
        places.append(Place(encoded(ds[before:tag]), tag, varying[tag].encode()))
        before = tag + 1
    return Template(tuple(places), encoded(ds[before:]))


def encoded(ds: Dataset) -> bytes:
    """Return a data set as bytes."""
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    write_dataset(file, ds)
    return file.getvalue()


def sequence(items: Iterable[Dataset]) -> bytes:
    """Return the value of a sequence element, items with their lengths (PS3.5 7.5)."""
    return b"".join(item(encoded(ds)) for ds in items)


def item(value: bytes) -> bytes:
    """Return an item of a sequence or of encapsulated Pixel Data, padded to even length."""
    value += bytes(len(value) % 2)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


SEQUENCE_END: Final = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
UNDEFINED: Final = 0xFFFFFFFF


def file_meta(SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str) -> bytes:
    """Return preamble and File Meta Information, PS3.10 Table 7.1-1."""
    body = b"".join(
        (
            element(0x00020001, b"OB", b"\0\1"),
            element(0x00020002, b"UI", SOPClassUID.encode()),
            element(0x00020003, b"UI", SOPInstanceUID.encode()),
            element(0x00020010, b"UI", TransferSyntaxUID.encode()),
            element(0x00020012, b"UI", IMPLEMENTATION_CLASS_UID.encode()),
        )
    )
    return bytes(128) + b"DICM" + element(0x00020000, b"UL", struct.pack("<I", len(body))) + body


_LONG: Final = (b"OB", b"OW", b"SQ")


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """Return one element, padded to even length (PS3.5 6.2 and 7.1.2)."""
    if len(value) % 2:
        value += b"\0" if vr in (b"UI", b"OB") else b" "
    if vr in _LONG:
        return long_header(tag, vr, len(value)) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def long_header(tag: int, vr: bytes, length: int) -> bytes:
    """Return tag, VR and a length of 32 bits."""
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, length)


def filled(made: Template, values: Values) -> Iterator[bytes]:
    """Yield the bytes of a template with its values, in the order of tags."""
    for place in made.places:
        yield place.fixed
        yield element(place.tag, place.vr, values[place.tag])
    yield made.end
