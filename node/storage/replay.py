"""What segments say when nobody remembers: the walk that start, rebuild and verification share.

A member counts only when its header's checksum and its SHA-256 are right. After bytes that make no sense the
walk goes on at the next header of the same segment, known by its random stamp. Nothing found here is fatal.
"""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from catalog import Holding

from .elsewhere import is_elsewhere
from .members import BLOCK, END, Kind, Member, unpack
from .places import Place, place_of

_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """An object that is there and whole."""

    holding: Holding
    origin: Member
    """Satisfies `Origin`."""


@dataclass(frozen=True, slots=True)
class KeptDecision:
    """A decision that is there and whole; `written` in milliseconds since 1970."""

    id: str
    text: bytes
    written: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that are not, or no longer, what was stored."""

    segment: int
    offset: int
    length: int
    what: str
    sha256: bytes = b""
    """Of the object that was there, if its header still tells."""
    volume: int = field(default=0, kw_only=True)

    def covers(self, holding: Holding) -> bool:
        """Say whether the object lies, or would have to lie, in these bytes."""
        if is_elsewhere(holding):
            return False
        place = place_of(holding.where)
        is_here = place.volume == self.volume and place.segment == self.segment
        return is_here and 0 <= place.offset - self.offset < self.length


@dataclass(frozen=True, slots=True)
class SegmentEnd:
    """Where a segment that was open ends now: a catalog that names something behind it must forget that."""

    segment: int
    offset: int
    volume: int = field(default=0, kw_only=True)

    def covers(self, holding: Holding) -> bool:
        """Say whether the object would have to lie behind the end."""
        if is_elsewhere(holding):
            return False
        place = place_of(holding.where)
        is_here = place.volume == self.volume and place.segment == self.segment
        return is_here and place.offset >= self.offset


Item = Kept | KeptDecision | Damage | SegmentEnd


class Found(NamedTuple):
    """A stretch of a segment: a member, whole or not, or bytes without a header (`member` is None)."""

    offset: int
    end: int
    member: Member | None
    is_whole: bool
    stamp: bytes
    """Of the segment, as far as it is known here."""


def find_members(
    fd: int, start: int = 0, check: Callable[[int, int, Member], bool] | None = None
) -> Iterator[Found]:
    """Yield what lies in a segment from `start`, a member's offset, to its end, in order.

    `check` says whether a member is whole, and by default reads it for that.
    """
    check = check or is_intact
    size = os.fstat(fd).st_size
    stamp = stamp_of(fd) if start else b""
    offset = start
    while offset < size:
        known = unpack(os.pread(fd, BLOCK, offset), stamp)
        if known:
            member, stamp = known
            end = offset + member.length
            yield Found(offset, end, member, end <= size and check(fd, offset, member), stamp)
        else:
            end = _next_header(fd, offset + BLOCK, size, stamp)
            if end == size and _is_zero(fd, offset, size):
                return
            yield Found(offset, end, None, False, stamp)
        offset = end


def stamp_of(fd: int) -> bytes:
    """Return the stamp of a segment as its first header tells it, empty when that does not."""
    first = unpack(os.pread(fd, BLOCK, 0))
    return first[1] if first else b""


def is_intact(fd: int, offset: int, member: Member) -> bool:
    """Say whether the bytes behind the header at `offset` have the SHA-256 that it states."""
    if member.kind is Kind.DELETED:
        return True
    digest = hashlib.sha256()
    for piece in pieces(fd, offset + BLOCK, offset + BLOCK + member.size):
        digest.update(piece)
    return digest.digest() == member.sha256


def begun(path: Path) -> int:
    """Return when a segment begins: milliseconds since 1970 of its first member, 0 if that cannot be told."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        first = unpack(os.pread(fd, BLOCK, 0))
    finally:
        os.close(fd)
    return first[0].received if first else 0


def is_sealed(fd: int, end: int) -> bool:
    """Say whether the tar is ended properly behind its last member."""
    return os.pread(fd, len(END) + 1, end) == END


def items(path: Path, number: int, volume: int = 0) -> Iterator[Item]:
    """Yield what a whole segment has to say; removed objects are silent."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for found in find_members(fd):
            if item := item_of(fd, number, found, volume):
                yield item
    finally:
        os.close(fd)


def item_of(fd: int, number: int, found: Found, volume: int = 0) -> Item | None:
    """Return what a stretch means to a catalog; None for a removed object."""
    member = found.member
    if member is None or not found.is_whole:
        what = "bytes that belong to no member" if member is None else f"a damaged {member.kind}"
        sentence = f"Segment {number} has {what} at {found.offset}."
        sha256 = member.sha256 if member else b""
        return Damage(number, found.offset, found.end - found.offset, sentence, sha256, volume=volume)
    match member.kind:
        case Kind.OBJECT:
            where = Place(volume, number, found.offset).pack()
            return Kept(Holding(member.sha256, where, member.size), member)
        case Kind.DECISION:
            text = b"".join(pieces(fd, found.offset + BLOCK, found.offset + BLOCK + member.size))
            return KeptDecision(member.id, text, member.received)
        case Kind.DELETED:
            return None


def in_order(
    segments: Iterable[Iterator[Item]],
) -> Iterator[Item]:
    """Merge segments by time, each in its own order, so that a decision follows what it is about.

    Segments overlap where a large object got one of its own, or several processes wrote; only those that
    overlap are open at once. A decision that is there twice comes once.
    """
    decided: set[str] = set()
    for item in _merged(segments):
        if isinstance(item, KeptDecision):
            if item.id in decided:
                continue
            decided.add(item.id)
        yield item


def _merged(
    segments: Iterable[Iterator[Item]],
) -> Iterator[Item]:
    heads: list[tuple[int, int, Item, Iterator[Item]]] = []
    for serial, segment in enumerate(segments):
        first = next(segment, None)
        if first is None:
            continue
        while heads and heads[0][0] <= _time(first):
            yield _advance(heads)
        heapq.heappush(heads, (_time(first), serial, first, segment))
    while heads:
        yield _advance(heads)


def _advance(
    heads: list[tuple[int, int, Item, Iterator[Item]]],
) -> Item:
    _, serial, item, segment = heads[0]
    following = next(segment, None)
    if following is None:
        heapq.heappop(heads)
    else:
        heapq.heapreplace(heads, (_time(following), serial, following, segment))
    return item


def _time(item: Item) -> int:
    match item:
        case Kept():
            return item.origin.received
        case KeptDecision():
            return item.written
        case Damage() | SegmentEnd():
            return 0


def _next_header(fd: int, start: int, size: int, stamp: bytes) -> int:
    """Return where the next header of this segment stands, or the end of the file."""
    for base in range(start, size, _PIECE):
        piece = os.pread(fd, _PIECE, base)
        at = piece.find(b"ustar\00000", 0)
        while at >= 0:
            offset = at - 257
            if offset >= 0 and offset % BLOCK == 0 and unpack(piece[offset : offset + BLOCK], stamp):
                return base + offset
            at = piece.find(b"ustar\00000", at + 1)
    return size


def _is_zero(fd: int, start: int, end: int) -> bool:
    return not any(piece.strip(b"\0") for piece in pieces(fd, start, end))


def pieces(fd: int, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes of a stretch, a megabyte at a time, as far as there are any."""
    while start < end:
        piece = os.pread(fd, min(_PIECE, end - start), start)
        if not piece:
            return
        yield piece
        start += len(piece)
