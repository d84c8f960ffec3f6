"""What lies in the segments, told from their headers: whether what has bytes has a row."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from catalog import Holding

from .copying import Segment, instance_at
from .members import Kind, Member
from .places import segment_path
from .replay import Damage, find_members, is_intact
from .segments import SegmentStore
from .spread import VolumeStore


class Lying(NamedTuple):
    """An object that a header names, whose bytes were not looked at."""

    SOPInstanceUID: str
    """Empty if its first bytes do not name one."""
    holding: Holding


def inventory(store: SegmentStore | VolumeStore) -> Iterator[Lying | Damage | None]:
    """Yield the objects of all settled segments, and what is no member or a damaged decision.

    None comes now and then where there is nothing to tell, so that whoever walks can rest. A volume that is
    missing is silent.
    """
    stores = [store] if isinstance(store, SegmentStore) else store.present()
    for each in stores:
        for number in _settled(each):
            yield from _items(each, Segment(each.volume, number))
            yield None


def _settled(store: SegmentStore) -> list[int]:
    try:
        return store.settled()
    except OSError:
        # Its disk went this moment.
        return []


def _items(store: SegmentStore, segment: Segment) -> Iterator[Lying | Damage]:
    try:
        fd = os.open(segment_path(store.objects, segment.number), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        # It was drained meanwhile, or its disk went.
        return
    try:
        for found in find_members(fd, check=_is_whole):
            member = found.member
            if member is None or not found.is_whole:
                what = "a damaged decision" if member else "bytes that belong to no member"
                sentence = (
                    f"Segment {segment.number} of volume {segment.volume} has {what} at {found.offset}."
                )
                length = found.end - found.offset
                yield Damage(segment.number, found.offset, length, sentence, volume=segment.volume)
            elif member.kind is Kind.OBJECT:
                uid = instance_at(fd, found.offset, member)
                yield Lying(uid, segment.holding(member, found.offset))
    finally:
        os.close(fd)


def _is_whole(fd: int, offset: int, member: Member) -> bool:
    """Check decisions; objects are read when their rows are verified."""
    return member.kind is not Kind.DECISION or is_intact(fd, offset, member)
