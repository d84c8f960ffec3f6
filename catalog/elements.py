"""The bytes of a data set as elements: where each one starts, what it claims to be, how long it is.

PS3.5 7 and Annex A. Nothing is copied and nothing decoded: offsets into a buffer come in and go out. What
devices get wrong and what can still be told apart is read (VR letters that are none, Implicit VR where
Explicit was promised, groups 0002 and trailing padding); what would be a guess is refused.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from .dictionary import LONG, SHORT, name
from .errors import Unreadable

UNDEFINED: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD
CHARACTER_SET: Final = 0x00080005
PIXEL_DATA: Final = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
"""Float, Double Float and plain Pixel Data: what comes after the header."""
DEEPEST: Final = 32
"""Sequences inside sequences; real ones stay below 10."""

_INFLATED_AT_FIRST: Final = 1 << 17
_INFLATED_AT_MOST: Final = 1 << 26
"""A deflated header of more than 64 MB is an attack, not a patient."""

_T = TypeVar("_T")
Element = tuple[int, bytes, int, int]
"""Tag, VR letters (empty in Implicit VR), offset of the value, its length or UNDEFINED."""


class MoreNeeded(Exception):
    """The head ends before the header does: call again with at least `size` bytes, or as many as exist."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the first {size} bytes are needed")
        self.size = size


class Coding(NamedTuple):
    """How element headers are written: `order` is the byte order, as `struct` says it."""

    order: str
    is_implicit: bool
    header: Callable[[memoryview, int], Element]
    item: Callable[[memoryview, int], tuple[int, int, int]]
    """Like `header`, for the Item and delimitation tags, which have no VR: tag, offset, length."""


class Syntax(NamedTuple):
    """What a Transfer Syntax UID says about a data set, PS3.5 Annex A."""

    coding: Coding
    is_deflated: bool


def _item(order: str) -> Callable[[memoryview, int], tuple[int, int, int]]:
    unpack = struct.Struct(order + "HHI").unpack_from

    def item(data: memoryview, offset: int) -> tuple[int, int, int]:
        group, element, length = unpack(data, offset)
        return group << 16 | element, offset + 8, length

    return item


def _implicit() -> Coding:
    unpack = struct.Struct("<HHI").unpack_from

    def header(data: memoryview, offset: int) -> Element:
        group, element, length = unpack(data, offset)
        return group << 16 | element, b"", offset + 8, length

    return Coding("<", True, header, _item("<"))


def _explicit(order: str) -> Coding:
    unpack = struct.Struct(order + "HH2sH").unpack_from
    unpack_long = struct.Struct(order + "I").unpack_from

    def header(data: memoryview, offset: int) -> Element:
        group, element, vr, length = unpack(data, offset)
        if vr in SHORT:
            return group << 16 | element, vr, offset + 8, length
        if group == 0xFFFE:
            return group << 16 | element, b"", offset + 8, unpack_long(data, offset + 4)[0]
        # PS3.5 7.1.2 gives every VR not yet invented the long form. Letters that cannot be a VR are from
        # writers that knew only the short one.
        if vr in LONG or (vr.isalpha() and vr.isupper()):
            return group << 16 | element, vr, offset + 12, unpack_long(data, offset + 8)[0]
        return group << 16 | element, b"UN", offset + 8, length

    return Coding(order, False, header, _item(order))


IMPLICIT: Final = _implicit()
EXPLICIT: Final = _explicit("<")
BIG_ENDIAN: Final = _explicit(">")

_SYNTAXES: Final = {
    "1.2.840.10008.1.2": Syntax(IMPLICIT, False),
    "1.2.840.10008.1.2.2": Syntax(BIG_ENDIAN, False),
    "1.2.840.113619.5.2": Syntax(IMPLICIT, False),  # GE: only the pixels are big endian
    "1.2.840.10008.1.2.1.99": Syntax(EXPLICIT, True),
    "1.2.840.10008.1.2.4.95": Syntax(EXPLICIT, True),  # JPIP Referenced Deflate
    "1.2.840.10008.1.2.4.205": Syntax(EXPLICIT, True),  # JPIP HTJ2K Referenced Deflate
}
_ANY_OTHER: Final = Syntax(EXPLICIT, False)


def syntax(TransferSyntaxUID: str) -> Syntax:
    """Return how the syntax is written; all that are not listed are Explicit VR Little Endian, PS3.5 A.4."""
    return _SYNTAXES.get(TransferSyntaxUID, _ANY_OTHER)


def actual_coding(data: memoryview, offset: int, promised: Coding, end: int) -> Coding:
    """Return how the data set at `offset` is really written: the wrong VR form is a common mistake."""
    start = data[offset : offset + 8].tobytes()
    if len(start) < 8 or start[4:6] in SHORT or start[4:6] in LONG:
        if promised.is_implicit and len(start) == 8 and _length(start) > end - offset - 8:
            return EXPLICIT
        return promised
    if promised.order == "<" and not promised.is_implicit and start[:2] != b"\xfe\xff":
        length = _length(start)
        if not start[4:6].isalpha() and (length <= end - offset - 8 or length == UNDEFINED):
            return IMPLICIT
    return promised


def _length(start: bytes) -> int:
    return int.from_bytes(start[4:8], "little")


def overrun(tag: int, offset: int, length: int, end: int) -> Unreadable:
    """Return the error for an element whose value does not fit into what holds it."""
    return Unreadable(
        f"Element {name(tag)} at byte {offset} says its value has {length} bytes, "
        f"but {max(0, end - offset)} follow.",
        "The data set was cut short or its lengths are wrong; send it again or repair it at its source.",
    )


def ends_early(data: memoryview, offset: int) -> Unreadable:
    """Return the error for a data set that stops inside an element header or an open sequence."""
    return Unreadable(
        f"The data set ends at byte {len(data)}, inside of what began before or at byte {offset}.",
        "It was cut short or its lengths are wrong; send it again or repair it at its source.",
    )


def is_padding(data: memoryview, offset: int) -> bool:
    """Say whether nothing but zeros is left, which some writers leave behind the last element."""
    return not any(data[at : at + 4096].tobytes().strip(b"\0") for at in range(offset, len(data), 4096))


def nested(coding: Coding, vr: bytes) -> Coding:
    """Return how the items of a sequence are written: those in UN are Implicit VR, PS3.5 6.2.2."""
    return IMPLICIT if vr == b"UN" else coding


def end_of_sequence(data: memoryview, offset: int, coding: Coding, end: int, depth: int = 1) -> int:
    """Return the offset behind a sequence, or fragments, of undefined length whose first item is at `offset`.

    Raises:
        Unreadable: what stands there is not items, or they go deeper than DEEPEST or further than `end`.
        struct.error: the buffer ends first.
    """
    check_depth(offset, depth)
    while True:
        start = offset
        tag, offset, length = coding.item(data, offset)
        if tag == SEQUENCE_END:
            return offset
        if tag != ITEM:
            raise misplaced(tag, start)
        if length == UNDEFINED:
            offset = _end_of_item(data, offset, coding, end, depth)
        else:
            offset += length
        if offset > end:
            raise overrun(tag, start + 8, length, end)


def check_depth(offset: int, depth: int) -> None:
    """Raise Unreadable where sequences are nested deeper than DEEPEST."""
    if depth > DEEPEST:
        raise Unreadable(
            f"The sequences at byte {offset} are nested more than {DEEPEST} deep.",
            "No real object is; look at what made it.",
        )


def misplaced(tag: int, offset: int) -> Unreadable:
    """Return the error for a tag where an item should begin, or an item where none can."""
    return Unreadable(
        f"{name(tag)} at byte {offset} stands where it cannot: the items of a sequence are out of step.",
        "The object is damaged; send it again or repair it at its source.",
    )


def _end_of_item(data: memoryview, offset: int, promised: Coding, end: int, depth: int) -> int:
    coding = actual_coding(data, offset, promised, end)
    header = coding.header
    while True:
        tag, vr, offset, length = header(data, offset)
        if tag == ITEM_END:
            return offset
        if length == UNDEFINED:
            offset = end_of_sequence(data, offset, nested(coding, vr), end, depth + 1)
        elif offset + length > end:
            raise overrun(tag, offset, length, end)
        else:
            offset += length


def read_inflated(data: memoryview, total: int, read: Callable[[memoryview, int], _T]) -> _T:
    """Return what `read` makes of a deflated data set (PS3.5 A.5), given as much of it as it needs.

    `read` takes the inflated bytes and how many there are in all, which is unknown, and then enormous,
    until the end is reached.

    Raises:
        Unreadable: it is not deflated, ends too early, or its header needs more than any header does.
        MoreNeeded: `data`, the first of `total` bytes, does not reach so far.
    """
    size = _INFLATED_AT_FIRST
    while True:
        plain, is_whole = _inflate(data, total, size)
        try:
            return read(plain, len(plain) if is_whole else 1 << 62)
        except MoreNeeded as more:
            size = max(4 * size, more.size)


def _inflate(data: memoryview, total: int, size: int) -> tuple[memoryview, bool]:
    if size > _INFLATED_AT_MOST:
        raise Unreadable(
            f"The header of the deflated data set is larger than {_INFLATED_AT_MOST >> 20} MB.",
            "No real object's is; look at what made it.",
        )
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(data, size)
    except zlib.error as error:
        raise Unreadable(
            "The data set is not deflated as its transfer syntax promises.",
            "Send it again, or in another syntax.",
        ) from error
    if not inflater.eof and len(plain) < size:
        if len(data) < total:
            raise MoreNeeded(min(total, 2 * len(data) + 256))
        raise Unreadable("The deflated data set ends too early.", "It was cut short; send it again.")
    return memoryview(plain), inflater.eof
