"""Explicit VR data sets made little endian, or implicit: headers are written anew, values stay as they were.

PS3.5 7.1, 7.3, 7.5. Values are turned around only where they were big endian. Group lengths are left out
where they would be wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from catalog import ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, Coding, Unreadable, end_of_sequence, nested

_DEEPEST: Final = 32
_SHORT: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""The VRs with a 16-bit length, PS3.5 Table 7.1-2."""
_UNIT: Final = {
    vr: unit
    for unit, vrs in {2: b"AT OW SS US", 4: b"FL OF OL SL UL", 8: b"FD OD OV SV UV"}.items()
    for vr in vrs.split()
}
"""Bytes that change their places together between the byte orders, PS3.5 7.3."""


class Found(NamedTuple):
    """An element where it stands, from `start` to `stop`; its value has `length` bytes, or UNDEFINED."""

    tag: int
    vr: bytes
    start: int
    offset: int
    length: int
    stop: int


class Rewriter(NamedTuple):
    """Reads Explicit VR of either byte order; writes Explicit or Implicit VR Little Endian."""

    source: Coding
    is_implicit: bool

    def elements(self, data: memoryview) -> Iterator[Found]:
        """Yield the elements of a data set, up to trailing zeros.

        Raises:
            Unreadable: it ends inside an element, or the items of a sequence are out of step.
        """
        offset = 0
        while offset < len(data) and any(data[offset : offset + 8]):
            found = self._found(data, offset)
            yield found
            offset = found.stop

    def rewrite(self, data: memoryview, found: Found, depth: int = 0) -> bytes:
        """Return an element as it is written in the other syntax.

        Raises:
            Unreadable: what is in it is out of step.
        """
        tag, vr, start, offset, length, stop = found
        if not self.is_big and not self.is_implicit:
            return bytes(data[start:stop])
        if vr == b"SQ":
            items = self._items(data, found, depth + 1)
            return self.header(tag, vr, length if length == UNDEFINED else len(items)) + items
        return self.header(tag, vr, length) + self.turned(bytes(data[offset:stop]), _UNIT.get(vr, 1))

    def header(self, tag: int, vr: bytes, length: int) -> bytes:
        """Return the header of an element."""
        if self.is_implicit:
            return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length)
        if vr in _SHORT:
            return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, length)
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, length)

    def element(self, tag: int, vr: bytes, value: bytes) -> bytes:
        """Return an element with a short value, made of an even length."""
        padded = value + b" " * (len(value) % 2)
        return self.header(tag, vr, len(padded)) + padded

    def turned(self, value: bytes, unit: int) -> bytes:
        """Return a value of `unit` bytes each little endian."""
        if not self.is_big or unit == 1:
            return value
        whole = len(value) - len(value) % unit
        turned = bytearray(value)
        for place in range(unit):
            turned[place:whole:unit] = value[unit - 1 - place : whole : unit]
        return bytes(turned)

    def number(self, value: bytes) -> int:
        """Return the first number of a US value."""
        return int.from_bytes(value[:2], "big" if self.is_big else "little")

    @property
    def is_big(self) -> bool:
        """Whether what is read is big endian."""
        return self.source.order == ">"

    def _found(self, data: memoryview, start: int) -> Found:
        try:
            tag, vr, offset, length = self.source.header(data, start)
            if length != UNDEFINED:
                stop = offset + length
            else:
                stop = end_of_sequence(data, offset, nested(self.source, vr), len(data))
        except struct.error:
            raise _out_of_step(start) from None
        if stop > len(data):
            raise _out_of_step(start)
        return Found(tag, vr, start, offset, length, stop)

    def _items(self, data: memoryview, sequence: Found, depth: int) -> bytes:
        offset = sequence.offset
        written = bytearray()
        if depth > _DEEPEST:
            raise _out_of_step(offset)
        while offset < sequence.stop:
            try:
                tag, inside, length = self.source.item(data, offset)
            except struct.error:
                raise _out_of_step(offset) from None
            if tag == SEQUENCE_END:
                return bytes(written + _delimiter(SEQUENCE_END, 0))
            if tag != ITEM:
                raise _out_of_step(offset)
            stop = sequence.stop if length == UNDEFINED else inside + length
            body, offset = self._body(data[:stop], inside, depth)
            if length == UNDEFINED:
                written += _delimiter(ITEM, UNDEFINED) + body + _delimiter(ITEM_END, 0)
            else:
                written += _delimiter(ITEM, len(body)) + body
        return bytes(written)

    def _body(self, data: memoryview, offset: int, depth: int) -> tuple[bytes, int]:
        """Return the rewritten elements of an item and the offset behind it."""
        written = bytearray()
        while offset < len(data):
            found = self._found(data, offset)
            offset = found.stop
            if found.tag == ITEM_END:
                break
            if found.tag & 0xFFFF:
                written += self.rewrite(data, found, depth)
        return bytes(written), offset


def _delimiter(tag: int, length: int) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length)


def _out_of_step(offset: int) -> Unreadable:
    return Unreadable(
        f"The elements of its data set are out of step at byte {offset}.",
        "Let the receiver accept the syntax it is stored in, or repair it at its source.",
    )
