"""Encapsulated Pixel Data, PS3.5 A.4: which fragments make which frame, whatever tables there are."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from catalog import Unreadable
from node.contracts import Outgoing

_ITEM: Final = 0xFFFEE000
_SEQUENCE_END: Final = 0xFFFEE0DD
_MOST_FRAGMENTS: Final = 2_000_000
_STARTS: Final = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
"""How a JPEG or JPEG-LS and a JPEG 2000 code stream begin."""
_Fragment = tuple[int, int]
"""Offset of its first byte in the data set, and length."""


def read(source: Outgoing, offset: int, length: int) -> bytes:
    """Return bytes of a data set.

    Raises:
        Unreadable: it ends before.
    """
    if offset + length > source.size:
        raise Unreadable("The pixel data is cut short.", "Send the instance again from its source.")
    data = bytearray(length)
    done = 0
    while done < length:
        step = source.read_into(memoryview(data)[done:], offset + done)
        if not step:
            raise Unreadable("The pixel data is cut short.", "Send the instance again from its source.")
        done += step
    return bytes(data)


class Frames:
    """The frames of encapsulated Pixel Data, read one at a time; `end` is the offset behind all of them."""

    def __init__(self, source: Outgoing, offset: int, number: int, extended: Sequence[int] = ()) -> None:
        """Find the fragments from the first item, at `offset`, on.

        `extended` is the Extended Offset Table (7FE0,0001), PS3.3 C.7.6.3.

        Raises:
            Unreadable: the items are out of step or cut short, or cannot be dealt out to `number` frames.
        """
        self._source = source
        table, *fragments = self._items(offset)
        start = table[0] + table[1]
        entries = table[1] // 4
        basic = struct.unpack(f"<{entries}I", read(source, table[0], entries * 4))
        self._frames = _dealt(
            fragments, number, [[start + each for each in extended], [start + each for each in basic]]
        )
        if not self._frames:
            self._frames = self._by_their_starts(fragments, number)

    @property
    def places(self) -> list[list[_Fragment]]:
        """Offset and length of the fragments of each frame."""
        return self._frames

    def __iter__(self) -> Iterator[bytes]:
        for fragments in self._frames:
            yield b"".join(read(self._source, offset, length) for offset, length in fragments)

    def _items(self, offset: int) -> list[_Fragment]:
        items: list[_Fragment] = []
        while len(items) <= _MOST_FRAGMENTS:
            group, element, length = struct.unpack("<HHI", read(self._source, offset, 8))
            tag = group << 16 | element
            offset += 8
            if tag == _SEQUENCE_END and items:
                self.end = offset
                return items
            if tag != _ITEM or offset + length > self._source.size:
                break
            items.append((offset, length))
            offset += length
        raise Unreadable(
            "The fragments of its pixel data are out of step or cut short.",
            "Send the instance again from its source.",
        )

    def _by_their_starts(self, fragments: list[_Fragment], number: int) -> list[list[_Fragment]]:
        starts = [
            offset - 8
            for offset, length in fragments
            if read(self._source, offset, min(4, length)).startswith(_STARTS)
        ]
        frames = _dealt(fragments, number, [starts])
        if frames:
            return frames
        raise Unreadable(
            f"Its pixel data has {len(fragments)} fragments, which do not make {number} frames.",
            "Send the instance again from its source.",
        )


def _dealt(fragments: list[_Fragment], number: int, tables: list[list[int]]) -> list[list[_Fragment]]:
    """Return the fragments of each frame by the first table that fits, [] if none does.

    A table has the offset of each frame's first item; without one, a fragment is a frame, or all are one.
    """
    places = {offset - 8: place for place, (offset, _) in enumerate(fragments)}
    for table in tables:
        begins = [places.get(each, -1) for each in table]
        if len(begins) == number and begins[0] == 0 and all(a < b for a, b in pairwise(begins)):
            ends = [*begins[1:], len(fragments)]
            return [fragments[begin:end] for begin, end in zip(begins, ends, strict=True)]
    if len(fragments) == number:
        return [[each] for each in fragments]
    return [fragments] if number == 1 and fragments else []


def is_reversible(frame: bytes) -> bool:
    """Say whether a JPEG-LS or JPEG 2000 code stream is made to give back what went in.

    That is NEAR = 0 in the scan header (ISO 14495-1 C.2.3), or the 5-3 reversible wavelet in the coding style
    (ISO 15444-1 A.6.1).
    """
    offset = 2
    while offset + 14 <= len(frame) and frame[offset] == 0xFF:
        marker, segment = frame[offset + 1], frame[offset + 4 : offset + 14]
        if marker == 0x52:
            return segment[9] == 1
        if marker == 0xDA:
            near = offset + 5 + 2 * segment[0]
            return near < len(frame) and frame[near] == 0
        offset += 2 + int.from_bytes(frame[offset + 2 : offset + 4], "big")
    return False
