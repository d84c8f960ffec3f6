"""Part 10 files as trees of Data Elements whose values stay the bytes they were (PS3.5, PS3.10).

What nobody changes is written back bit for bit: no value is decoded on the way. The reader is strict
on purpose. Whatever it cannot account for to the last byte (truncation, unknown VRs, repeated tags,
bytes after the end) it refuses, because a part that was not understood cannot be vouched for.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from pydicom._dicom_dict import DicomDictionary
from pydicom._uid_dict import UID_dictionary

from anonymizer.quarantine import Quarantined, Reason

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
PIXEL_DATA = 0x7FE00010
MAX_DEPTH = 32
MAX_INFLATED = 1 << 29

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LARGE = 1 << 16
_SHORT_VRS = frozenset(re.findall(b"..", b"AEASATCSDADSDTFLFDISLOLTPNSHSLSSSTTMUIULUS"))
_LONG_VRS = frozenset(re.findall(b"..", b"OBODOFOLOVOWSQSVUCUNURUTUV"))
_NAMES = {vr: vr.decode() for vr in _SHORT_VRS | _LONG_VRS}
_SHORT_NAMES = frozenset(_NAMES[vr] for vr in _SHORT_VRS)
TEXTUAL = frozenset(re.findall("..", "AEASCSDADSDTISLOLTPNSHSTTMUCUIURUT"))
BINARY = frozenset(re.findall("..", "ATFDFLOBODOFOLOVOWSLSSSVULUNUSUV"))
_NUL_PADDED = frozenset(("UI", "OB", "UN", "OW", "OD", "OF", "OL", "OV"))


class Element(NamedTuple):
    """A VR and its value: bytes for most, items for a sequence.

    An encapsulated value is the whole of its fragments, delimiters included.
    """

    vr: str
    value: Value
    is_encapsulated: bool = False

    @property
    def items(self) -> tuple[Item, ...]:
        """The items of a sequence; none for any other value."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def data(self) -> bytes:
        """The value's bytes; none for a sequence."""
        return b"" if isinstance(self.value, tuple) else bytes(self.value)


_new = tuple.__new__


class Item(dict[int, Element]):
    """The elements of a data set or of one sequence item, by tag."""

    __slots__ = ()


Value = bytes | memoryview | tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Part10:
    """A file's File Meta Information and data set."""

    meta: Item
    root: Item
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class _Syntax:
    is_explicit: bool
    order: str


def read_part10(data: bytes | memoryview) -> Part10:
    """The file's elements; raises Quarantined (UNREADABLE) for anything that is not plainly DICOM."""
    view = memoryview(data)
    if len(view) < 132 or bytes(view[128:132]) != b"DICM":
        raise _unreadable("It is not a DICOM Part 10 file.")
    try:
        return _read_part10(view)
    except (struct.error, IndexError, UnicodeDecodeError, zlib.error) as error:
        raise _unreadable("It ends before its elements do, or a length in it is wrong.") from error


def text_value(item: Item, tag: int) -> str:
    """The value of a UID or code element, padding removed; "" if it is not there."""
    element = item.get(tag)
    return element.data.decode("latin-1").strip(" \0") if element else ""


def write_part10(file: Part10) -> Iterator[bytes | memoryview]:
    """The file as chunks: a zero preamble, the File Meta Information given, the data set."""
    meta = b"".join(_encode(file.meta, _Syntax(True, "<")))
    yield b"\0" * 128 + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta
    body = _encode(file.root, _syntax(file.transfer_syntax))
    if file.transfer_syntax == DEFLATED:
        yield _deflate(body)
    else:
        yield from body


def fragments_of(value: bytes | memoryview) -> list[memoryview]:
    """The fragments of an encapsulated value, Basic Offset Table first (PS3.5 A.4)."""
    view, position, found = memoryview(value), 0, []
    while position + 8 <= len(view):
        group, element, length = struct.unpack_from("<HHI", view, position)
        if group << 16 | element != _ITEM:
            break
        found.append(view[position + 8 : position + 8 + length])
        position += 8 + length
    return found


def encapsulate(frames: list[bytes]) -> bytes:
    """Frames as an encapsulated value: an empty Basic Offset Table, then one fragment each."""
    parts = [struct.pack("<HHI", 0xFFFE, 0xE000, 0)]
    for frame in frames:
        padded = frame + b"\0" * (len(frame) % 2)
        parts += [struct.pack("<HHI", 0xFFFE, 0xE000, len(padded)), padded]
    return b"".join([*parts, struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)])


def _unreadable(sentence: str) -> Quarantined:
    return Quarantined(Reason.UNREADABLE, sentence)


def _read_part10(view: memoryview) -> Part10:
    meta_end = _end_of_meta(view)
    meta = _Reader(view[:meta_end], _Syntax(True, "<")).item(132, meta_end, 0)
    transfer_syntax = text_value(meta, 0x00020010)
    if UID_dictionary.get(transfer_syntax, ("", ""))[1] != "Transfer Syntax":
        raise _unreadable("Its File Meta Information names no transfer syntax of PS3.6.")
    body = view[meta_end:]
    if transfer_syntax == DEFLATED:
        body = _inflate(body)
    root = _Reader(body, _syntax(transfer_syntax)).item(0, len(body), 0)
    return Part10(meta, root, transfer_syntax)


def _end_of_meta(view: memoryview) -> int:
    position = 132
    while position + 8 <= len(view) and bytes(view[position : position + 2]) == b"\2\0":
        vr = bytes(view[position + 4 : position + 6])
        if vr in _SHORT_VRS:
            position += 8 + int(struct.unpack_from("<H", view, position + 6)[0])
        elif vr in _LONG_VRS:
            position += 12 + int(struct.unpack_from("<I", view, position + 8)[0])
        else:
            raise _unreadable("Its File Meta Information is not Explicit VR Little Endian.")
    return position


def _syntax(transfer_syntax: str) -> _Syntax:
    return _Syntax(transfer_syntax != IMPLICIT_LITTLE, ">" if transfer_syntax == EXPLICIT_BIG else "<")


def _inflate(body: memoryview) -> memoryview:
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = decompressor.decompress(body, MAX_INFLATED)
    trailer = struct.pack("<II", zlib.crc32(inflated), len(inflated))  # as gzip has it; some add it
    if not decompressor.eof or decompressor.unused_data.strip(b"\0") not in (b"", trailer.strip(b"\0")):
        raise _unreadable("Its deflated data set is incomplete, too large, or followed by other bytes.")
    return memoryview(inflated)


def _deflate(chunks: Iterator[bytes | memoryview]) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = b"".join([compressor.compress(chunk) for chunk in chunks]) + compressor.flush()
    return body + b"\0" * (len(body) % 2)


class _Reader:
    """Reads items out of one buffer in one syntax."""

    def __init__(self, view: memoryview, syntax: _Syntax) -> None:
        self.view = view
        self.syntax = syntax
        self.tag = struct.Struct(f"{syntax.order}HH")
        self.u32 = struct.Struct(f"{syntax.order}I")
        self.head = struct.Struct(f"{syntax.order}HH2sH")
        self.short = {vr: _NAMES[vr] for vr in _SHORT_VRS} if syntax.is_explicit else {}

    def item(self, start: int, end: int, depth: int) -> Item:
        item, stopped = self._elements(start, end, depth)
        if stopped != end:
            raise _unreadable("Bytes are left over where a data set or item should end.")
        return item

    def _elements(self, start: int, end: int, depth: int) -> tuple[Item, int]:
        """Elements up to `end`, or up to and with an item delimiter."""
        if depth > MAX_DEPTH:
            raise _unreadable(f"Its sequences are nested more than {MAX_DEPTH} deep.")
        item, position, view, unpack, short = Item(), start, self.view, self.head.unpack_from, self.short
        while position < end:
            group, number, written, length = unpack(view, position)
            tag = group << 16 | number
            if tag == _ITEM_END:
                return item, position + 8
            if tag in item or group == 0xFFFE:
                raise _unreadable("An element appears twice, or a delimiter stands where none belongs.")
            vr = short.get(written)
            if vr is None:
                item[tag], position = self._element(tag, position, depth)
            else:  # nearly all elements, so they are read here without a call
                start, position = position + 8, position + 8 + length
                item[tag] = _new(Element, (vr, view[start:position].tobytes(), False))
            if position > end:
                raise _unreadable("A value is longer than what holds it.")
        return item, position

    def _element(self, tag: int, position: int, depth: int) -> tuple[Element, int]:
        vr, length, start = self._header(tag, position)
        if vr == "SQ":
            return self._sequence(start, length, depth)
        if length == _UNDEFINED:
            return self._undefined(tag, vr, start, depth)
        end = start + length
        if end > len(self.view):
            raise _unreadable("A value is longer than the file.")
        value = self.view[start:end]
        if vr == "UN" and not group_is_private(tag):
            return self._redecoded(tag, value, depth), end
        return Element(vr, value if length > _LARGE else value.tobytes()), end

    def _header(self, tag: int, position: int) -> tuple[str, int, int]:
        if not self.syntax.is_explicit:
            return vr_of(tag), self.u32.unpack_from(self.view, position + 4)[0], position + 8
        vr = self.view[position + 4 : position + 6].tobytes()
        if vr in _LONG_VRS:
            return _NAMES[vr], self.u32.unpack_from(self.view, position + 8)[0], position + 12
        raise _unreadable("An element has a VR that DICOM does not know.")

    def _undefined(self, tag: int, vr: str, start: int, depth: int) -> tuple[Element, int]:
        if vr == "UN" or not self.syntax.is_explicit:
            reader = _Reader(self.view, _Syntax(False, "<"))
            return reader._sequence(start, _UNDEFINED, depth)
        if vr not in ("OB", "OW"):
            raise _unreadable("A value of undefined length is neither a sequence nor pixel data.")
        position = start
        while True:
            group, number, length = struct.unpack_from("<HHI", self.view, position)
            position += 8
            if group << 16 | number == _SEQUENCE_END:
                return Element(vr, self.view[start:position], True), position
            position += length
            if group << 16 | number != _ITEM or position > len(self.view):
                raise _unreadable("The fragments of its pixel data are broken.")

    def _sequence(self, start: int, length: int, depth: int) -> tuple[Element, int]:
        end = len(self.view) if length == _UNDEFINED else start + length
        position = start
        items: list[Item] = []
        if end > len(self.view):
            raise _unreadable("A sequence is longer than the file.")
        while position < end:
            group, number = self.tag.unpack_from(self.view, position)
            item_length = self.u32.unpack_from(self.view, position + 4)[0]
            position += 8
            if group << 16 | number == _SEQUENCE_END and length == _UNDEFINED:
                return Element("SQ", tuple(items)), position
            if group << 16 | number != _ITEM:
                raise _unreadable("A sequence holds something that is not an item.")
            item, position = self._nested(position, item_length, end, depth)
            items.append(item)
        if length == _UNDEFINED:
            raise _unreadable("A sequence has no end.")
        return Element("SQ", tuple(items)), position

    def _nested(self, start: int, length: int, end: int, depth: int) -> tuple[Item, int]:
        if length == _UNDEFINED:
            item, stopped = self._elements(start, end, depth + 1)
            if self.view[stopped - 8 : stopped - 4] != self.tag.pack(0xFFFE, 0xE00D):
                raise _unreadable("An item has no end.")
            return item, stopped
        if start + length > end:
            raise _unreadable("An item is longer than its sequence.")
        return self.item(start, start + length, depth + 1), start + length

    def _redecoded(self, tag: int, value: memoryview, depth: int) -> Element:
        """A standard attribute that came as UN, by the VR the dictionary gives it (PS3.5 6.2.2)."""
        vr = vr_of(tag)
        if vr == "SQ":
            reader = _Reader(value, _Syntax(False, "<"))
            return reader._sequence(0, len(value), depth)[0]
        if self.syntax.order == ">" and vr not in TEXTUAL:
            return Element("UN", value.tobytes())
        return Element(vr, value if len(value) > _LARGE else value.tobytes())


TEXTUAL = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]
)
_AMBIGUOUS = {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}


def tags(listed: str) -> frozenset[int]:
    """Tags written as PS3.6 does without its punctuation: "00100010 00100020"."""
    return frozenset(int(tag, 16) for tag in listed.split())


def group_is_private(tag: int) -> bool:
    """Whether the tag's group number is odd (PS3.5 7.8)."""
    return bool(tag & 0x10000)


@lru_cache(maxsize=1 << 14)
def vr_of(tag: int) -> str:
    """The dictionary's VR; "LO" for private creators, "UN" for what the dictionary does not know."""
    if group_is_private(tag):
        return "LO" if 0x10 <= (tag & 0xFFFF) <= 0xFF else "UN"
    if (tag >> 24) in (0x50, 0x60):
        tag &= 0xFF00FFFF
    found = DicomDictionary.get(tag)
    if found is None:
        return "UL" if tag & 0xFFFF == 0 else "UN"
    return _AMBIGUOUS.get(found[0], found[0])


def _encode(item: Item, syntax: _Syntax) -> Iterator[bytes | memoryview]:
    for tag in sorted(item):
        element = item[tag]
        if element.is_encapsulated:
            yield _head(tag, element.vr, _UNDEFINED, syntax)
            yield element.data
        elif isinstance(element.value, tuple):
            body = b"".join(_encode_item(nested, syntax) for nested in element.value)
            if syntax.is_explicit or not group_is_private(tag):
                yield _head(tag, "SQ", len(body), syntax) + body
            else:  # only its undefined length tells an implicit private sequence from plain bytes
                end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
                yield _head(tag, "SQ", _UNDEFINED, syntax) + body + end
        else:
            yield from _encode_value(tag, element.vr, element.value, syntax)


def _encode_item(item: Item, syntax: _Syntax) -> bytes:
    body = b"".join(_encode(item, syntax))
    return struct.pack(f"{syntax.order}HHI", 0xFFFE, 0xE000, len(body)) + body


def _encode_value(
    tag: int, vr: str, value: bytes | memoryview, syntax: _Syntax
) -> Iterator[bytes | memoryview]:
    padding = b"" if len(value) % 2 == 0 else b"\0" if vr in _NUL_PADDED else b" "
    head = _head(tag, vr, len(value) + len(padding), syntax)
    if len(value) > _LARGE:
        yield head
        yield value
        yield padding
    else:
        yield head + value + padding


def _head(tag: int, vr: str, length: int, syntax: _Syntax) -> bytes:
    group, number = tag >> 16, tag & 0xFFFF
    if not syntax.is_explicit:
        return struct.pack("<HHI", group, number, length)
    if vr in _SHORT_NAMES and length < _LARGE:
        return struct.pack(f"{syntax.order}HH2sH", group, number, vr.encode(), length)
    written = "UN" if vr in _SHORT_NAMES else vr
    return struct.pack(f"{syntax.order}HH2sHI", group, number, written.encode(), 0, length)
