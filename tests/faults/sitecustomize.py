"""Ends a node's process with SIGKILL at a named place of its code, or has it lie, as PEERPACS_FAULT says.

Python reads this file by itself in a process whose PYTHONPATH has this folder; nobody else ever does, so the
product's code neither knows of such places nor pays for them. `NAME:3` is the third time that it comes there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib import import_module
from itertools import count
from typing import Any, NamedTuple


class Place(NamedTuple):
    """A function of the node, and what happens instead of it."""

    module: str
    name: str
    """With a dot a method."""
    end: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
    """Given the function and what it was called with."""


def _gone() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before(call: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    _gone()


def _behind(call: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    call(*args, **named)
    _gone()


def _torn(call: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Have half of the bytes written that were to be."""
    fd, parts, offset = args
    data = b"".join(parts)
    os.pwrite(fd, data[: len(data) // 2], offset)
    _gone()


def _lies(call: Any, args: tuple[Any, ...], named: dict[str, Any]) -> dict[int, Exception]:
    """Say that everything is kept, and keep nothing."""
    return {}


PLACES = {
    "a keeper lies": Place("node.copies.store", "CopyStore.keep", _lies),
    "half of an object is written": Place("node.storage.appending", "write_whole", _torn),
    "an object is written, not synced": Place("node.storage.segments", "SegmentStore.flush", _before),
    "objects are on the disk without rows": Place("node.copies.store", "CopyStore._put", _before),
    "rows are there and nobody was told": Place("node.copies.store", "CopyStore._put", _behind),
    "a piece of a large object came": Place("node.storage.resuming", "ResumedObject.filled", _behind),
    "what was said of a study is kept": Place("node.copies.store", "CopyStore.note", _behind),
    "it is decided who is to have a study": Place("node.copies.ledger", "Ledger.place", _behind),
    "a receipt came and is not written": Place("node.copies.ledger", "Ledger.received", _before),
    "a receipt is written": Place("node.copies.ledger", "Ledger.received", _behind),
    "receipts are taken back before copies go": Place("node.copies.ledger", "Ledger.withdraw", _behind),
    "bytes of copies go before their rows": Place("node.storage.segments", "SegmentStore.remove", _behind),
    "rows name another site, bytes are here": Place("catalog.lmdb_catalog", "LmdbCatalog.relocate", _behind),
}


def _arm(place: Place, number: int) -> None:
    *path, name = place.name.split(".")
    owner: Any = import_module(place.module)
    for each in path:
        owner = getattr(owner, each)
    call, times = getattr(owner, name), count(1)

    def counted(*args: Any, **named: Any) -> Any:
        if next(times) == number:
            return place.end(call, args, named)
        return call(*args, **named)

    setattr(owner, name, counted)


if fault := os.environ.get("PEERPACS_FAULT"):
    named, _, which = fault.partition(":")
    _arm(PLACES[named], int(which or 1))
