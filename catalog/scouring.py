"""What LMDB leaves behind of deleted rows: overwritten in its file, while nobody writes and nobody reads it.

A deleted row stays in pages that are free, and in the gap of a page between its list of nodes and the nodes.
Both are told from the tree of the last commit, which must be on the disk: then no other is ever needed. LMDB
also keeps the memory of pages it wrote and writes their gaps again, so that is wiped before.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
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
    newest_meta,
)

_READER: Final = re.compile(r"^\s*\d+\s+[0-9a-f]+\s+(\d+)\s*$", re.MULTILINE)
"""A line of LMDB's reader table with a transaction that is being read."""


_BUFFERS: Final = 8192
"""Pages that one commit changes at most, here."""


class _Stretch(NamedTuple):
    start: int
    end: int


def scour(environment: lmdb.Environment, key: bytes) -> bool:
    """Overwrite in an environment's file what was deleted; writers wait, and `key` gets a new value.

    Nothing is done, and False returned, while somebody reads a state from before.
    """
    _wipe_buffers(environment)
    # Twice: neither is the state before the last one ever needed again.
    for _ in range(2):
        with environment.begin(write=True) as txn:
            txn.put(key, os.urandom(8))
    environment.sync(True)
    with environment.begin(write=True) as txn:
        last = txn.id() - 1
        if any(int(found) < last for found in _READER.findall(environment.readers())):
            return False
        _overwrite(Path(os.fspath(environment.path())) / DATA)
        return True


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


def _overwrite(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        with mmap.mmap(fd, size, prot=mmap.PROT_READ) as pages, memoryview(pages) as data:
            for start, end in _unused(data, size):
                if any(data[start:end]):
                    os.pwrite(fd, bytes(end - start), start)
        os.fdatasync(fd)
    finally:
        os.close(fd)


def _unused(data: memoryview, size: int) -> Iterator[_Stretch]:
    """Yield the stretches of the file that the last commit does not need."""
    meta = newest_meta(data, size)
    assert meta is not None
    step = meta.page_size
    used = bytearray(size // step)
    used[0:2] = b"\1\1"
    waiting = [root for root, _ in meta.roots if root != NO_PAGE]
    while waiting:
        number = waiting.pop()
        used[number] = 1
        start = number * step
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
                count = few | many << 16
                used[big : big + count] = b"\1" * count
                end = big * step + HEADER + (low | high << 16)
                yield _Stretch(end, (big + count) * step)
    number = 0
    while (number := used.find(0, number)) >= 0:
        behind = used.find(1, number)
        behind = len(used) if behind < 0 else behind
        yield _Stretch(number * step, behind * step)
        number = behind


def _nodes(data: memoryview, start: int, lower: int) -> Iterator[int]:
    for at in range(start + HEADER, start + lower, 2):
        yield start + int.from_bytes(data[at : at + 2], "little")
