"""The first bytes of every stored file: preamble, prefix and File Meta Information (PS3.10 7.1).

We write them ourselves, always the same way, so that an instance has the same SHA-256 by whatever way its
data set came; those of files that others wrote are only read, and read leniently.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from catalog import BadRequest, Unreadable

IMPLEMENTATION_CLASS_UID: Final = "2.25.296804368220110382574942273650948610839"
"""The same for ever: it is part of every hash."""

_PREFIX_AT: Final = 128
_META_AT: Final = 132
_GROUP_LENGTH: Final = struct.Struct("<HH2sHI")
_LONG_VRS: Final = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
_EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
_LAST_UID: Final = (0x0008, 0x0018)


class Meta(NamedTuple):
    """What a file says it is, and where its data set starts; a UID the file does not tell is empty."""

    SOPClassUID: str
    SOPInstanceUID: str
    TransferSyntaxUID: str
    offset: int


@lru_cache(maxsize=256)
def file_meta(SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str) -> bytes:
    """Return what stands before the data set in a stored file (PS3.10 Table 7.1-1).

    Raises:
        BadRequest: a UID is empty, too long or not ASCII.
    """
    elements = b"".join(
        [
            b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01",
            _uid_element(0x0002, SOPClassUID),
            _uid_element(0x0003, SOPInstanceUID),
            _uid_element(0x0010, TransferSyntaxUID),
            _uid_element(0x0012, IMPLEMENTATION_CLASS_UID),
        ]
    )
    return bytes(_PREFIX_AT) + b"DICM" + _GROUP_LENGTH.pack(2, 0, b"UL", 4, len(elements)) + elements


def data_set_offset(head: bytes | memoryview) -> int:
    """Return where the data set starts in a Part 10 file of which `head` is the beginning.

    Raises:
        Unreadable: there is no File Meta Information, or it goes on behind `head`.
    """
    if bytes(head[_PREFIX_AT:_META_AT]) != b"DICM":
        raise Unreadable("The file has no DICM prefix.", "No node wrote it; run `peerpacs rebuild`.")
    return _parse_meta(bytes(head), _META_AT)[1]


def read_meta(head: bytes) -> Meta:
    """Read the beginning of anybody's DICOM file, also one without preamble or File Meta Information.

    A file that names no transfer syntax is taken for what its first element looks like; UIDs that only its
    data set tells are taken from there. 4 KiB are nearly always enough.

    Raises:
        Unreadable: this is no DICOM file, or `head` is too short to tell.
    """
    start = _META_AT if head[_PREFIX_AT:_META_AT] == b"DICM" else 4 if head[:4] == b"DICM" else 0
    meta, offset = _parse_meta(head, start)
    syntax = meta.get(0x0010) or _guess_syntax(head[offset:], is_dicom=start > 0)
    found = {} if meta.get(0x0002) and meta.get(0x0003) else _uids_of_data_set(head[offset:], syntax)
    return Meta(
        SOPClassUID=meta.get(0x0002) or found.get((0x0008, 0x0016), ""),
        SOPInstanceUID=meta.get(0x0003) or found.get(_LAST_UID, ""),
        TransferSyntaxUID=syntax,
        offset=offset,
    )


def _uid_element(element: int, uid: str) -> bytes:
    if not uid.isascii() or not 0 < len(uid) <= 64:
        raise BadRequest(f"{uid[:80]!r} is not a UID of 1 to 64 characters.", "Correct it at its source.")
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return struct.pack("<HH2sH", 2, element, b"UI", len(value)) + value


def _parse_meta(head: bytes, start: int) -> tuple[dict[int, str], int]:
    """Return the UIDs of group 0002 by element, and where it ends; the group length is only a promise."""
    uids: dict[int, str] = {}
    offset = start
    for tag, value, end in _elements(head, start, is_big=False):
        if tag[0] != 2:
            return uids, offset
        uids[tag[1]] = _uid(value)
        offset = end
    if offset != len(head) and head[offset : offset + 2] == b"\x02\x00":
        raise Unreadable("The File Meta Information is cut off.", "Get the whole file and import it again.")
    return uids, offset


def _guess_syntax(data_set: bytes, is_dicom: bool) -> str:
    """Tell the transfer syntax from the first element, as the standard once had none other than these."""
    group, vr = data_set[:2], data_set[4:6]
    if vr.isalpha() and vr.isupper() and group in (b"\x08\x00", b"\x00\x08"):
        return _EXPLICIT_LITTLE if group == b"\x08\x00" else _EXPLICIT_BIG
    if group == b"\x08\x00" or (is_dicom and data_set):
        return _IMPLICIT_LITTLE
    raise Unreadable(
        "This is not a DICOM file: it has no DICM prefix and does not begin with a data set.",
        "Nothing to do if it was never meant to be one.",
    )


def _uids_of_data_set(data_set: bytes, syntax: str) -> dict[tuple[int, int], str]:
    if syntax == _DEFLATED:
        try:
            data_set = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data_set, 1 << 16)
        except zlib.error:
            return {}
    found: dict[tuple[int, int], str] = {}
    for tag, value, _ in _elements(data_set, 0, is_big=syntax == _EXPLICIT_BIG):
        if tag > _LAST_UID:
            break
        found[tag] = _uid(value)
    return found


def _elements(data: bytes, offset: int, is_big: bool) -> Iterator[tuple[tuple[int, int], bytes, int]]:
    """Yield (tag, value, end) of each whole element; explicit or implicit VR, as it looks."""
    order = ">" if is_big else "<"
    while offset + 8 <= len(data):
        group, element, vr, short = struct.unpack_from(order + "HH2sH", data, offset)
        value_at = offset + 8
        if not (vr.isalpha() and vr.isupper()):
            [length] = struct.unpack_from(order + "I", data, offset + 4)
        elif vr in _LONG_VRS:
            if offset + 12 > len(data):
                return
            [length] = struct.unpack_from(order + "I", data, value_at)
            value_at += 4
        else:
            length = short
        end = value_at + length
        if end > len(data) and group == 2:
            raise Unreadable(
                "The File Meta Information is cut off.", "Get the whole file and import it again."
            )
        yield (group, element), data[value_at:end], end
        offset = end


def _uid(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii", "replace")
