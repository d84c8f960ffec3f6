"""A segment's members written again, into a file that becomes a segment of another volume.

The copy keeps the order and every header but the stamp, so that a catalog made from it is the same. Each
object is hashed on its way; what is damaged is not copied, and told.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from catalog import BadRequest, Holding, Unreadable

from .appending import new_stamp, write_whole
from .members import BLOCK, END, Kind, Member, pack
from .part10 import read_meta
from .places import Place
from .replay import find_members, pieces

_HEAD = 4096


class Segment(NamedTuple):
    """Which segment of which volume."""

    volume: int
    number: int

    def holding(self, member: Member, offset: int) -> Holding:
        """Return the holding of an object that lies here."""
        return Holding(member.sha256, Place(*self, offset).pack(), member.size)


class Stretch(NamedTuple):
    """A member that lies in a segment, and whom it belongs to if it is an instance."""

    member: Member
    offset: int
    SOPInstanceUID: str


class SegmentCopy:
    """The copy of one segment; take `steps` to the end, then everything said of it is complete."""

    def __init__(self, source: Path, target: int, is_wanted: Callable[[Stretch], bool]) -> None:
        """`target` is a descriptor, open for writing, of an empty file; all decisions are wanted."""
        self._source = source
        self._target = target
        self._is_wanted = is_wanted
        self._stamp = new_stamp()
        self._end = 0
        self.objects = 0
        self.damaged = 0
        """Stretches that could not be copied."""
        self.is_decision_damaged = False

    def steps(self) -> Iterator[None]:
        """Copy a member at a time; at the end the copy is durable.

        Raises:
            OSError: a disk failed.
        """
        fd = os.open(self._source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for found in find_members(fd, check=lambda fd, offset, member: True):
                member = found.member
                if member is None or not found.is_whole:
                    self._tell_damage(member)
                elif self._copies(fd, found.offset, member):
                    self._copy(fd, found.offset, member)
                    yield
        finally:
            os.close(fd)
        write_whole(self._target, [END], self._end)
        os.ftruncate(self._target, self._end + len(END))
        os.fdatasync(self._target)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was copied."""
        return not self._end

    def _copies(self, fd: int, offset: int, member: Member) -> bool:
        match member.kind:
            case Kind.OBJECT:
                return self._is_wanted(Stretch(member, offset, instance_at(fd, offset, member)))
            case Kind.DECISION:
                return True
            case Kind.DELETED:
                return False

    def _copy(self, fd: int, offset: int, member: Member) -> None:
        digest = hashlib.sha256()
        at = self._end + BLOCK
        for piece in pieces(fd, offset + BLOCK, offset + BLOCK + member.size):
            digest.update(piece)
            write_whole(self._target, [piece], at)
            at += len(piece)
        if digest.digest() != member.sha256:
            self._tell_damage(member)
            return
        write_whole(self._target, [bytes(-member.size % BLOCK)], at)
        write_whole(self._target, [pack(member, self._stamp)], self._end)
        self._end += member.length
        self.objects += member.kind is Kind.OBJECT

    def _tell_damage(self, member: Member | None) -> None:
        self.damaged += 1
        self.is_decision_damaged |= member is not None and member.kind is Kind.DECISION


class Contents(NamedTuple):
    """What the headers of a segment say; no object's bytes were looked at."""

    objects: list[Stretch]
    """In order."""
    removed: frozenset[bytes]
    """SHA-256 of objects that were removed and do not lie here a second time."""
    has_unreadable: bool
    """Whether there are bytes that belong to no member that is known."""


def contents(path: Path, wanted: Collection[bytes] | None = None) -> Contents:
    """Return what lies in a segment, of objects only those with a SHA-256 that is `wanted`, if any are named.

    Raises:
        OSError: there is no such file, or the disk failed.
    """
    objects, removed, has_unreadable = list[Stretch](), set[bytes](), False
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for found in find_members(fd, check=lambda fd, offset, member: True):
            member = found.member
            if member is None or not found.is_whole:
                has_unreadable = True
            elif wanted is not None and member.sha256 not in wanted:
                continue
            elif member.kind is Kind.DELETED:
                removed.add(member.sha256)
            elif member.kind is Kind.OBJECT:
                objects.append(Stretch(member, found.offset, instance_at(fd, found.offset, member)))
    finally:
        os.close(fd)
    here = {each.member.sha256 for each in objects}
    return Contents(objects, frozenset(removed - here), has_unreadable)


def instance_at(fd: int, offset: int, member: Member) -> str:
    """Return the SOP Instance UID that the File Meta Information names, empty if it names none."""
    try:
        return read_meta(os.pread(fd, min(_HEAD, member.size), offset + BLOCK)).SOPInstanceUID
    except (Unreadable, BadRequest):
        return ""
