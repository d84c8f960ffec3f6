"""A whole data set as DICOM JSON, PS3.18 Annex F: every element, private and nested ones too.

Large binary values stay where they are: `BulkDataURI` is `#offset,length` into the data set (for a deflated
one, into what it inflates to). Group lengths and trailing padding are no attributes and are left out.
"""

from __future__ import annotations

import struct
from typing import Final

from .characters import ASCII, Repertoire, repertoire
from .dictionary import BINARY, LONG, SHORT, known_private_vr, known_vr, of_either_sign
from .elements import (
    CHARACTER_SET,
    ITEM,
    ITEM_END,
    PIXEL_DATA,
    SEQUENCE_END,
    UNDEFINED,
    Coding,
    MoreNeeded,
    actual_coding,
    check_depth,
    end_of_sequence,
    ends_early,
    is_padding,
    misplaced,
    nested,
    overrun,
    read_inflated,
    syntax,
)
from .errors import Unreadable
from .model import Attributes
from .values import element

_INLINE: Final = 64
"""Binary values up to so many bytes are in the JSON itself."""
_VR: Final = {letters: letters.decode("ascii") for letters in LONG | SHORT if letters != b"UN"}
_PIXELS: Final = frozenset(f"{tag:08X}" for tag in PIXEL_DATA)
_MOST_ELEMENTS: Final = 2_000_000
"""Some ten times what the largest multi-frame objects have."""
_PADDING: Final = 0xFFFC0000
"""The first tag that is no attribute any more: trailing padding, items and delimiters."""


def describe(data: memoryview, TransferSyntaxUID: str, total: int) -> Attributes:
    """Return the DICOM JSON of every element of a data set, in the order of the bytes.

    `data` is the data set or its first bytes, `total` its whole length in bytes. Elements behind Pixel Data
    are there only if `data` reaches them. Specific Character Set, where present, says what the JSON is in.

    Raises:
        Unreadable: it cannot be parsed, or an element runs past `total`.
        MoreNeeded: `data` ends before the header does.
    """
    attributes = read_data_set(data, TransferSyntaxUID, total, _INLINE)
    _claim_unicode(attributes)
    return attributes


def _claim_unicode(attributes: Attributes) -> None:
    if "00080005" in attributes:
        attributes["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    for content in attributes.values():
        if content["vr"] == "SQ":
            for item in content.get("Value", ()):
                _claim_unicode(item)


def read_data_set(data: memoryview, TransferSyntaxUID: str, total: int, inline: int) -> Attributes:
    """Return the DICOM JSON of a data set, binary values of more than `inline` bytes by reference.

    Raises:
        Unreadable: it cannot be parsed, or an element runs past `total`.
        MoreNeeded: `data` ends before the header does.
    """
    data = memoryview(data)
    coding, is_deflated = syntax(TransferSyntaxUID)
    if is_deflated:
        return read_inflated(data, total, lambda plain, size: _read(plain, size, inline, coding))
    return _read(data, total, inline, coding)


def _read(data: memoryview, total: int, inline: int, promised: Coding) -> Attributes:
    coding = actual_coding(data, 0, promised, total)
    source = _Source(data, total, inline)
    try:
        attributes = _DataSet(source, coding, ASCII).read_from_top()
        characters = _characters_of(attributes)
        if characters is not ASCII and next(iter(attributes)) != "00080005":
            # Something stands before Specific Character Set and may have been decoded without it.
            attributes = _DataSet(source, coding, characters).read_from_top()
    except struct.error as error:
        if len(data) < total:
            raise MoreNeeded(min(total, 2 * len(data) + 256)) from None
        raise ends_early(data, len(data)) from error
    return attributes


def _characters_of(attributes: Attributes) -> Repertoire:
    terms = attributes.get("00080005", {}).get("Value", ())
    return repertoire("\\".join(term or "" for term in terms).encode()) if terms else ASCII


class _Source:
    """The bytes that are here, how many there should be, and the size from which values stay in them."""

    __slots__ = ("_elements", "data", "inline", "total")

    def __init__(self, data: memoryview, total: int, inline: int) -> None:
        self.data = data
        self.total = total
        self.inline = inline
        self._elements = 0

    def count(self, elements: int) -> None:
        self._elements += elements
        if self._elements > _MOST_ELEMENTS:
            raise Unreadable(
                f"The data set has more than {_MOST_ELEMENTS} elements.",
                "They would fill the memory; ask whoever made it what they are.",
            )

    def check_reach(self, stop: int) -> None:
        if stop > len(self.data):
            raise MoreNeeded(min(self.total, stop + 256))


class _DataSet:
    """One data set or item while it is read."""

    __slots__ = ("_characters", "_coding", "_depth", "_outer", "_source", "attributes")

    def __init__(
        self, source: _Source, coding: Coding, characters: Repertoire, outer: _DataSet | None = None
    ) -> None:
        self.attributes: Attributes = {}
        self._source = source
        self._coding = coding
        self._characters = characters
        self._outer = outer
        self._depth: int = outer._depth + 1 if outer else 0

    def read_from_top(self) -> Attributes:
        try:
            self.read(0, self._source.total)
        except (Unreadable, MoreNeeded, struct.error):
            # What is behind the pixels is seldom there and never worth the rest.
            if self.attributes.keys().isdisjoint(_PIXELS):
                raise
        return self.attributes

    def read(self, offset: int, end: int) -> int:
        """Read up to `end` or an Item Delimitation; return the offset of what is behind."""
        data, inline, attributes = self._source.data, self._source.inline, self.attributes
        header, order = self._coding.header, self._coding.order
        try:
            while offset < end:
                tag, letters, offset, length = header(data, offset)
                vr = _VR.get(letters) or self._known_vr(tag)
                if length == UNDEFINED or vr == "SQ":
                    offset = self._read_sequence(tag, letters, vr, offset, length, end)
                    continue
                stop = offset + length
                if stop > end and tag != ITEM_END:
                    raise overrun(tag, offset, length, end)
                if tag >= _PADDING or not tag & 0xFFFF:
                    if tag == ITEM_END:
                        break
                elif length > inline and vr in BINARY:
                    attributes[f"{tag:08X}"] = {"vr": vr, "BulkDataURI": f"#{offset},{length}"}
                elif stop <= len(data):
                    raw = data[offset:stop].tobytes()
                    attributes[f"{tag:08X}"] = element(vr, raw, self._characters, order)
                    if tag == CHARACTER_SET:
                        self._characters = repertoire(raw)
                else:
                    self._source.check_reach(stop)
                offset = stop
                if len(attributes) > _MOST_ELEMENTS:
                    break
        except struct.error:
            if self._depth or len(data) < end or not is_padding(data, offset):
                raise
        self._source.count(len(attributes))
        return offset

    def _known_vr(self, tag: int) -> str:
        if tag & 0x10000 and tag & 0xFF00:
            creator = self.attributes.get(f"{tag >> 16:04X}00{tag >> 8 & 0xFF:02X}", {}).get("Value")
            return known_private_vr(tag, str(creator[0])) if creator else "UN"
        if tag in of_either_sign() and self._is_signed():
            return "SS"
        return known_vr(tag)

    def _is_signed(self) -> bool:
        if representation := self.attributes.get("00280103"):
            return bool(representation.get("Value") == [1])
        return self._outer is not None and self._outer._is_signed()

    def _read_sequence(self, tag: int, letters: bytes, vr: str, offset: int, length: int, end: int) -> int:
        if tag >= _PADDING:
            raise misplaced(tag, offset)
        coding, key = nested(self._coding, letters), f"{tag:08X}"
        if length == UNDEFINED:
            if tag in PIXEL_DATA or (vr in BINARY and vr != "UN"):
                return self._refer_to_fragments(tag, vr, offset, end)
            items: list[Attributes] = []
            offset = self._read_items(items, coding, offset, end, True)
            self.attributes[key] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
            return offset
        stop = offset + length
        if stop > end:
            raise overrun(tag, offset, length, end)
        self._source.check_reach(stop)
        items = []
        try:
            self._read_items(items, coding, offset, stop, False)
            self.attributes[key] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        except (Unreadable, struct.error):
            # Its length is known, so the rest of the data set need not suffer for it.
            self.attributes[key] = {"vr": "UN", "BulkDataURI": f"#{offset},{length}"}
        return stop

    def _read_items(
        self, items: list[Attributes], coding: Coding, offset: int, end: int, is_delimited: bool
    ) -> int:
        check_depth(offset, self._depth + 1)
        data = self._source.data
        while is_delimited or offset < end:
            start = offset
            tag, offset, length = coding.item(data, offset)
            if tag == SEQUENCE_END:
                return offset
            if tag != ITEM:
                raise misplaced(tag, start)
            stop = end if length == UNDEFINED else offset + length
            if stop > end:
                raise overrun(tag, offset, length, end)
            item = _DataSet(self._source, actual_coding(data, offset, coding, stop), self._characters, self)
            offset = item.read(offset, stop)
            items.append(item.attributes)
        return offset

    def _refer_to_fragments(self, tag: int, vr: str, offset: int, end: int) -> int:
        try:
            stop = end_of_sequence(self._source.data, offset, self._coding, end)
        except (Unreadable, struct.error):
            if tag not in PIXEL_DATA or self._depth:
                raise
            # The head may end here, a delimiter be missing: pixels are never parsed to accept an object.
            stop = end
        self.attributes[f"{tag:08X}"] = {"vr": vr, "BulkDataURI": f"#{offset},{stop - offset}"}
        return stop
