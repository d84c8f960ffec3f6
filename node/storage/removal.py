"""How an object leaves a segment while the tar around it stays whole.

First its header is renamed to `deleted/`, which readers notice; then, when that is durable, its bytes go. So
whatever moment the power fails at, a header that names an object still has its bytes behind it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Final

from catalog import Damaged, Holding

from .appending import new_stamp
from .members import BLOCK, Kind, Member, member_length, pack, unpack
from .places import place_of, segment_numbers, segment_path
from .replay import find_members

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
"""fallocate(2), linux/falloc.h."""
_ZEROS: Final = memoryview(bytes(1 << 20))


def remove_object(objects: Path, holding: Holding, erase: bool, is_sure: bool = False) -> None:
    """Free the bytes of an object; with `erase` they are overwritten on the disk before.

    An object that was removed is removed again, so that what a crash interrupted can be finished. One whose
    header is damaged is erased if nothing that can be read lies there; who is sure of that has it removed.

    Raises:
        Damaged: no header stands at its place, and nobody can say whose bytes these are.
    """
    remove_from(segment_path(objects, place_of(holding.where).segment), holding, erase, is_sure)


def remove_from(path: Path, holding: Holding, erase: bool, is_sure: bool = False) -> None:
    """As `remove_object`, from the segment's file, which need not have its name yet."""
    place = place_of(holding.where)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        header = os.pread(fd, BLOCK, place.offset)
        known = unpack(header)
        if header and known is None and (is_sure or (erase and _is_alone(fd, holding))):
            known = _as_it_was(fd, holding)
        if header and known is None:
            raise Damaged(
                f"No object begins at {place.offset} in segment {place.segment}.",
                "Nothing was removed; run `peerpacs rebuild`, which looks at every object.",
            )
        if known and known[0].sha256 == holding.sha256 and known[0].kind is not Kind.DECISION:
            member, stamp = known
            os.pwrite(fd, pack(replace(member, kind=Kind.DELETED), stamp), place.offset)
            os.fdatasync(fd)
            _free(fd, place.offset + BLOCK, member.length - BLOCK, erase)
    finally:
        os.close(fd)


def _is_alone(fd: int, holding: Holding) -> bool:
    """Say whether all bytes where an object lay are there, and those of no member that has a header."""
    begin = place_of(holding.where).offset
    end = begin + member_length(holding.size)
    stretches = find_members(fd, check=lambda fd, offset, member: True)
    return any(each.member is None and each.offset <= begin and end <= each.end for each in stretches)


def _as_it_was(fd: int, holding: Holding) -> tuple[Member, bytes]:
    """Return the header that an object had, as far as it matters for its removal, and the segment's stamp."""
    others = (found for found in find_members(fd, check=lambda fd, offset, member: True) if found.member)
    stamp = next((found.stamp for found in others), b"") or new_stamp()
    return Member(Kind.OBJECT, holding.sha256, holding.size, "", 0), stamp


def erase_decisions(objects: Path, ids: Collection[str]) -> int:
    """Overwrite the decisions with these ids, wherever they lie in the segments; return how many there were.

    Reads the header of every member of every segment.
    """
    count = 0
    for number in segment_numbers(objects) if ids else ():
        fd = os.open(segment_path(objects, number), os.O_RDWR | os.O_CLOEXEC)
        try:
            for found in find_members(fd, check=lambda fd, offset, member: True):
                member = found.member
                if member is None or member.kind is not Kind.DECISION or member.id not in ids:
                    continue
                gone = replace(member, kind=Kind.DELETED, id="")
                os.pwrite(fd, pack(gone, found.stamp), found.offset)
                os.fdatasync(fd)
                _free(fd, found.offset + BLOCK, member.length - BLOCK, erase=True)
                count += 1
        finally:
            os.close(fd)
    return count


def _free(fd: int, offset: int, length: int, erase: bool) -> None:
    if erase:
        _overwrite(fd, offset, length)
    if not _punch_hole(fd, offset, length) and not erase:
        _overwrite(fd, offset, length)


def _overwrite(fd: int, offset: int, length: int) -> None:
    for start in range(0, length, len(_ZEROS)):
        os.pwrite(fd, _ZEROS[: length - start], offset + start)
    os.fdatasync(fd)


def _punch_hole(fd: int, offset: int, length: int) -> bool:
    """Give the blocks back to the file system, if it can."""
    fallocate = getattr(ctypes.CDLL(None), "fallocate", None)
    if fallocate is None or ctypes.sizeof(ctypes.c_long) != 8 or not length:
        return False
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
    return bool(fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length) == 0)
