"""What encoders write beside the picture: comments and application segments of compressed frames.

A scanner's encoder may put a name where no viewer shows it (ITU-T T.81 B.2.4.5, T.800 A.9.2). The
segments are small and plain, so they are searched as a header is, not as pixels are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from anonymizer.elements import fragments_of

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f"
_COMMENTS = {_JPEG: frozenset((0xFE, *range(0xE0, 0xF0))), _JPEG_2000: frozenset((0x64,))}
_DATA_BEGINS = {_JPEG: 0xDA, _JPEG_2000: 0x90}
_END = b"\xff\xd9"


def remarks_of(value: bytes | memoryview) -> bytes:
    """All comments of an encapsulated value, what follows its frames' ends, and its Basic Offset Table."""
    table, *fragments = fragments_of(value) or [memoryview(b"")]
    found = [bytes(table)]
    for fragment in fragments:
        found += _segments(fragment)
        tail = bytes(fragment[-_LONGEST_TAIL:])
        found.append(tail[tail.rfind(_END) + 2 :] if _END in tail else b"")
    return b"\n".join(part for part in found if part)


_LONGEST_TAIL = 4096


def _segments(fragment: memoryview) -> Iterator[bytes]:
    start = bytes(fragment[:2])
    position = 2
    while start in _COMMENTS and position + 4 <= len(fragment) and fragment[position] == 0xFF:
        marker = fragment[position + 1]
        if marker == _DATA_BEGINS[start]:
            return
        length = struct.unpack_from(">H", fragment, position + 2)[0]
        if marker in _COMMENTS[start]:
            yield bytes(fragment[position + 4 : position + 2 + length])
        position += 2 + length
