"""What the catalog has read of stored objects: headers for its index, and whether two have equal pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from catalog import Entry, Header, MoreNeeded, ObjectStore, PacsError, Reader, scan
from node.storage import file_meta

_HEAD: Final = 1 << 16
_PIECE: Final = 1 << 20


def first_bytes(reader: Reader, limit: int) -> memoryview:
    """Return the beginning of a stored file, at most `limit` bytes."""
    head = memoryview(bytearray(min(limit, reader.size)))
    return head[: reader.read_into(head, 0)]


def header_of(reader: Reader, offset: int, TransferSyntaxUID: str) -> Header:
    """Scan the header of a stored file whose data set begins at `offset`.

    Raises:
        Unreadable: it is not a data set in that transfer syntax.
    """
    limit = _HEAD
    while True:
        try:
            return scan(first_bytes(reader, limit)[offset:], TransferSyntaxUID, reader.size - offset)
        except MoreNeeded as more:
            limit = max(more.size + offset, limit * 8)


def header_reader(store: ObjectStore) -> Callable[[Entry, int], tuple[memoryview, int]]:
    """Return what reads headers: (at least so many first bytes of the data set, its whole length)."""

    def read(entry: Entry, size: int) -> tuple[memoryview, int]:
        reader = store.open(entry.holding)
        try:
            offset = _data_set_offset(entry)
            return first_bytes(reader, size + offset)[offset:], reader.size - offset
        finally:
            reader.close()

    return read


def pixel_comparer(store: ObjectStore) -> Callable[[Entry, Entry], bool]:
    """Return what says whether two versions are equal from Pixel Data to their end."""

    def has_same_pixels(one: Entry, other: Entry) -> bool:
        if one.TransferSyntaxUID != other.TransferSyntaxUID:
            return False
        first, second = store.open(one.holding), store.open(other.holding)
        try:
            return _are_equal(first, _pixels_at(first, one), second, _pixels_at(second, other))
        except PacsError:
            return False
        finally:
            first.close()
            second.close()

    return has_same_pixels


def _data_set_offset(entry: Entry) -> int:
    return len(file_meta(entry.SOPClassUID, entry.SOPInstanceUID, entry.TransferSyntaxUID))


def _pixels_at(reader: Reader, entry: Entry) -> int:
    offset = _data_set_offset(entry)
    return offset + header_of(reader, offset, entry.TransferSyntaxUID).pixels


def _are_equal(first: Reader, start: int, second: Reader, other_start: int) -> bool:
    length = first.size - start
    if length != second.size - other_start:
        return False
    mine, theirs = memoryview(bytearray(_PIECE)), memoryview(bytearray(_PIECE))
    for done in range(0, length, _PIECE):
        count = first.read_into(mine, start + done)
        if count != second.read_into(theirs, other_start + done) or mine[:count] != theirs[:count]:
            return False
    return True
