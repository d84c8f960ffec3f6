"""What LMDB leaves behind of deleted rows: overwritten in its file, while others go on.

A deleted row stays in pages that are free, and in the gap of a page between its list of nodes and the nodes.
Pages of a state that is being read are never changed, so their gaps can be filled while others write; which
pages are free stands in a small tree of its own, and nobody writes while those are filled. LMDB also keeps
the memory of pages it wrote and writes their gaps again, so that is wiped before.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from .soundness import (
    BRANCH,
    DATA,
    HEADER,
    IS_BIG,
    NO_PAGE,
    NODE,
    OVERFLOW,
    PAGE,
    Meta,
    meta_of,
    newest_meta,
)

_READER: Final = re.compile(r"^\s*\d+\s+[0-9a-f]+\s+(\d+)\s*$", re.MULTILINE)
"""A line of LMDB's reader table with a transaction that is being read."""


_NUMBER: Final = struct.Struct("<Q")
_BUFFERS: Final = 8192
"""Pages that one commit changes at most, here."""


class _Stretch(NamedTuple):
    start: int
    end: int


def scour(environment: lmdb.Environment, key: bytes) -> bool:
    """Overwrite in an environment's file what was deleted; `key` gets a new value.

    Writers wait only while free pages are filled. False: somebody reads a state from before; try again.
    """
    _wipe_buffers(environment)
    # Twice: neither is the state before the last one ever needed again.
    for _ in range(2):
        with environment.begin(write=True) as txn:
            txn.put(key, os.urandom(8))
    environment.sync(True)
    path = Path(os.fspath(environment.path())) / DATA
    with environment.begin() as reading:
        if not _fill(path, lambda data, size: meta_of(data, size, reading.id()), _gaps):
            return False
    with environment.begin(write=True) as txn:
        last = txn.id() - 1
        if any(int(found) < last for found in _READER.findall(environment.readers())):
            return False
        # What is free by the last commit must be free after a power cut too.
        environment.sync(True)
        return _fill(path, newest_meta, _free)


def _wipe_buffers(environment: lmdb.Environment) -> None:
    """Have the memory of pages that LMDB wrote before hold nothing: it is used again as it is.

    Values of one page each are put, in leaves that are full to the last byte, and taken back; the second
    round gets hold of what the first had for the path to its first leaf.
    """
    pages = min(environment.info()["last_pgno"] + 64, _BUFFERS)
    size = environment.stat()["psize"]
    for _ in range(3):
        txn = environment.begin(write=True)
        try:
            for count in range(pages):
                txn.put(b"\xff\xff%040d" % count, bytes(size - HEADER), append=True)
        finally:
            txn.abort()


def _fill(
    path: Path,
    find: Callable[[memoryview, int], Meta | None],
    stretches: Callable[[memoryview, int, Meta], Iterator[_Stretch]],
) -> bool:
    """Overwrite stretches of a state that are not empty; False if the state is not to be found any more."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        with mmap.mmap(fd, size, prot=mmap.PROT_READ) as pages, memoryview(pages) as data:
            meta = find(data, size)
            for start, end in stretches(data, size, meta) if meta else ():
                if any(data[start:end]):
                    os.pwrite(fd, bytes(end - start), start)
        os.fdatasync(fd)
        return meta is not None
    finally:
        os.close(fd)


def _gaps(data: memoryview, size: int, meta: Meta) -> Iterator[_Stretch]:
    """Yield the gaps in the pages of one state."""
    step = meta.page_size
    waiting = [root for root, _ in meta.roots if root != NO_PAGE]
    while waiting:
        start = waiting.pop() * step
        _, _, flags, lower, upper = PAGE.unpack_from(data, start)
        if lower < upper:
            yield _Stretch(start + lower, start + upper)
        for at in _nodes(data, start, lower):
            low, high, kind, key = NODE.unpack_from(data, at)
            if flags & BRANCH:
                waiting.append(low | high << 16 | kind << 32)
            elif kind & IS_BIG:
                big = OVERFLOW.unpack_from(data, at + NODE.size + key)[0]
                _, _, _, few, many = PAGE.unpack_from(data, big * step)
                end = big * step + HEADER + (low | high << 16)
                yield _Stretch(end, (big + (few | many << 16)) * step)


def _free(data: memoryview, size: int, meta: Meta) -> Iterator[_Stretch]:
    """Yield the pages that are free by the last commit, and what lies behind its last page."""
    step = meta.page_size
    waiting = [meta.roots[0][0]] if meta.roots[0][0] != NO_PAGE else []
    while waiting:
        start = waiting.pop() * step
        _, _, flags, lower, _ = PAGE.unpack_from(data, start)
        for at in _nodes(data, start, lower):
            low, high, kind, key = NODE.unpack_from(data, at)
            if flags & BRANCH:
                waiting.append(low | high << 16 | kind << 32)
                continue
            value = at + NODE.size + key
            if kind & IS_BIG:
                value = OVERFLOW.unpack_from(data, value)[0] * step + HEADER
            [count] = _NUMBER.unpack_from(data, value)
            for [page] in _NUMBER.iter_unpack(data[value + 8 : value + 8 + 8 * count]):
                if (page + 1) * step <= size:
                    yield _Stretch(page * step, (page + 1) * step)
    if (end := (meta.last_page + 1) * step) < size:
        yield _Stretch(end, size)


def _nodes(data: memoryview, start: int, lower: int) -> Iterator[int]:
    for at in range(start + HEADER, start + lower, 2):
        yield start + int.from_bytes(data[at : at + 2], "little")
