"""Whether an LMDB file can be what LMDB wrote: looked at before it is opened, because a torn one can end a
process instead of raising an error.

LMDB keeps no checksums. What can be told is that every page of the tree is in the file, and says of itself
what its parent says of it. Values that changed within a row do not show
here; rows are decoded strictly when they are read.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from .errors import Damaged

DATA: Final = "data.mdb"
PAGES_AT_START: Final = 60_000
"""Leaf pages that a start looks at; a larger database has only its branches looked at."""

# LMDB 0.9, lmdb.h and mdb.c: MDB_page, MDB_meta, MDB_db and MDB_node on machines of 64 bits.
PAGE: Final = struct.Struct("<QHHHH")
_META: Final = struct.Struct("<IIQQ")
_DB: Final = struct.Struct("<IHHQQQQQ")
_META_END: Final = struct.Struct("<QQ")
NODE: Final = struct.Struct("<HHHH")
OVERFLOW: Final = struct.Struct("<Q")
_MAGIC: Final = 0xBEEFC0DE
BRANCH, LEAF, BIG, _META_PAGE = 1, 2, 4, 8
IS_BIG: Final = 1
NO_PAGE: Final = 2**64 - 1
HEADER: Final = 16


class Meta(NamedTuple):
    """What a commit left on one of the first two pages."""

    page_size: int
    roots: tuple[tuple[int, int], ...]
    """(root page, depth) of the tree of free pages and of the tree of rows."""
    last_page: int
    transaction: int


def check_environment(folder: Path, leaf_pages: int = PAGES_AT_START) -> None:
    """Look at an environment that nobody writes to just now; one that does not exist, or is new, is sound.

    Of more than `leaf_pages` leaves only the branches above them are looked at.

    Raises:
        Damaged: it is not what was written.
    """
    path = folder / DATA
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return
    if size == 0:
        # As a crash leaves it that came when it was being made.
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        why = next(_faults(memoryview(data), size, leaf_pages), "")
    if why:
        raise Damaged(f"{path} is damaged: {why}.", "")


def _faults(data: memoryview, size: int, leaf_pages: int) -> Iterator[str]:
    with data:
        meta = newest_meta(data, size)
        if meta is None:
            yield "one of its first pages is not whole"
            return
        for root, depth in meta.roots:
            if root != NO_PAGE:
                # Pages at the end that were given back before they were written are not in the file.
                yield from _Tree(data, meta, leaf_pages, size // meta.page_size).faults(root, depth)


def newest_meta(data: memoryview, size: int) -> Meta | None:
    """Return what the last commit left; None if one of the first pages is not whole."""
    whole = _metas(data, size)
    return max(whole, key=lambda meta: meta.transaction) if len(whole) == 2 else None


def meta_of(data: memoryview, size: int, transaction: int) -> Meta | None:
    """Return what a commit left, if it was one of the last two."""
    return next((meta for meta in _metas(data, size) if meta.transaction == transaction), None)


def _metas(data: memoryview, size: int) -> list[Meta]:
    page_size = os.sysconf("SC_PAGE_SIZE")
    if size >= HEADER + _META.size + _DB.size:
        # The first field of the tree of free pages keeps the size of a page.
        stated = _DB.unpack_from(data, HEADER + _META.size)[0]
        page_size = stated if 512 <= stated <= 65536 and not stated & (stated - 1) else page_size
    found = [_meta_at(data, number * page_size, size) for number in (0, 1)]
    return [meta for meta in found if meta is not None]


def _meta_at(data: memoryview, offset: int, size: int) -> Meta | None:
    end = offset + HEADER + _META.size + 2 * _DB.size + _META_END.size
    if size < end:
        return None
    flags = PAGE.unpack_from(data, offset)[2]
    at = offset + HEADER
    magic = _META.unpack_from(data, at)[0]
    free = _DB.unpack_from(data, at + _META.size)
    rows = _DB.unpack_from(data, at + _META.size + _DB.size)
    last_page, transaction = _META_END.unpack_from(data, at + _META.size + 2 * _DB.size)
    if magic != _MAGIC or not flags & _META_PAGE:
        return None
    return Meta(free[0], ((free[7], free[2]), (rows[7], rows[2])), last_page, transaction)


class _Tree:
    """One B+tree, walked from its root by depth."""

    def __init__(self, data: memoryview, meta: Meta, leaf_pages: int, pages: int) -> None:
        self._data = data
        self._pages = min(pages, meta.last_page + 1)
        self._meta = meta
        self._leaves = leaf_pages

    def faults(self, root: int, depth: int) -> Iterator[str]:
        """Yield what is wrong, a sentence each; the first says enough."""
        if not 1 <= depth <= 32:
            yield f"its tree cannot be {depth} pages deep"
            return
        waiting = [(root, depth)]
        while waiting:
            number, below = waiting.pop()
            if not 1 < number < self._pages:
                yield f"its page {number} is not in it: it has {self._pages} pages"
                return
            if below == 1:
                self._leaves -= 1
                if self._leaves < 0:
                    continue
            children = self._children(number, LEAF if below == 1 else BRANCH)
            if children is None:
                yield f"its page {number} is not what was written there"
                return
            waiting += [(child, below - 1) for child in children]

    def _children(self, number: int, kind: int) -> list[int] | None:
        """Return the pages a page names, None if it cannot be a page of this kind."""
        data, size = self._data, self._meta.page_size
        start = number * size
        stated, _, flags, lower, upper = PAGE.unpack_from(data, start)
        count = (lower - HEADER) // 2
        if stated != number or not flags & kind or lower & 1 or not HEADER <= lower <= upper <= size:
            return None
        offsets = struct.unpack_from(f"<{count}H", data, start + HEADER)
        if count and not (upper <= min(offsets) and max(offsets) <= size - NODE.size):
            return None
        children = [self._child(start + offset, start + size, kind) for offset in offsets]
        return None if None in children else [child for child in children if child]

    def _child(self, at: int, end: int, kind: int) -> int | None:
        """Return the page a node of a branch names, 0 for one of a leaf; None if it leads nowhere."""
        low, high, flags, key = NODE.unpack_from(self._data, at)
        value = at + NODE.size + key
        if kind == BRANCH:
            return low | high << 16 | flags << 32 if value <= end else None
        if not flags & IS_BIG:
            return 0 if value + (low | high << 16) <= end else None
        if value + OVERFLOW.size > end:
            return None
        return 0 if self._is_big(OVERFLOW.unpack_from(self._data, value)[0], low | high << 16) else None

    def _is_big(self, number: int, length: int) -> bool:
        """Say whether a value that fills pages of its own begins on this page."""
        size = self._meta.page_size
        if not 1 < number < self._pages:
            return False
        stated, _, flags, low, high = PAGE.unpack_from(self._data, number * size)
        pages = low | high << 16
        is_long_enough = number + pages <= self._pages and HEADER + length <= pages * size
        return stated == number and bool(flags & BIG) and is_long_enough
