"""Which instances of a transfer arrived and which failed: a small file each while it is not over.

A line is written for each answer as it comes and is never waited for: it survives a `kill -9`, and what a
power cut takes is sent again, which harms nobody. That the transfer exists at all stands in the queue's rows.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from .model import Item, SeriesCount

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Item).decode
_FORGIVEN = Item("", "", 0)
"""A line that says: what failed so far is to be tried again."""


class Progress:
    """The answers to one transfer so far; open its file with `Journals.open`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self.done: dict[str, str] = {}
        """Series by instance."""
        self.failed: dict[str, Item] = {}
        self.planned: dict[str, int] = {}
        """Instances by series, as the worker found them."""
        self.size = 0
        for item in _items(path):
            self._count(item)

    def note(self, items: Iterable[Item]) -> None:
        """Take in answers; those known already change nothing."""
        lines = bytearray()
        for item in items:
            known = self.failed.get(item.SOPInstanceUID)
            if item.SOPInstanceUID not in self.done and item != known:
                self._count(item)
                lines += _encode(item) + b"\n"
        self._append(lines)

    def forgive(self) -> None:
        """Have what failed tried again."""
        if self.failed:
            self.failed.clear()
            self._append(_encode(_FORGIVEN) + b"\n")

    def settled(self) -> tuple[str, ...]:
        """Return the instances that need not be tried: they arrived, or were refused for good."""
        return (*self.done, *self.failed)

    def series(self) -> tuple[SeriesCount, ...]:
        """Return how far each series has come."""
        done = Counter(self.done.values())
        failed = Counter(item.SeriesInstanceUID for item in self.failed.values())
        return tuple(
            SeriesCount(uid, max(self.planned.get(uid, 0), done[uid] + failed[uid]), done[uid], failed[uid])
            for uid in dict.fromkeys((*self.planned, *done, *failed))
        )

    def close(self) -> None:
        """Give the file back; the next answer opens it again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def remove(self) -> None:
        """Forget everything: the transfer is over, or begins anew."""
        self.close()
        self._path.unlink(missing_ok=True)

    def _count(self, item: Item) -> None:
        if item == _FORGIVEN:
            self.failed.clear()
        elif item.why:
            self.failed[item.SOPInstanceUID] = item
        elif item.SOPInstanceUID not in self.done:
            self.failed.pop(item.SOPInstanceUID, None)
            self.done[item.SOPInstanceUID] = item.SeriesInstanceUID
            self.size += item.size

    def _append(self, lines: bytes | bytearray) -> None:
        if not lines:
            return
        if self._file < 0:
            self._path.parent.mkdir(exist_ok=True)
            # A line that a crash cut short must not swallow the next one.
            is_torn = bool(self._path.exists() and self._path.stat().st_size)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
            lines = b"\n" * is_torn + lines
        os.write(self._file, lines)


def _items(path: Path) -> Iterator[Item]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return
    for line in text.split(b"\n"):
        try:
            if line:
                yield _decode(line)
        except msgspec.MsgspecError:
            continue  # A crash cut it short: that instance is sent again.


class Journals:
    """The files of a folder, one for each transfer that has begun and is not over."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._folder = folder

    def open(self, id: str, run: int) -> Progress:
        """Return the answers to a transfer in one of its runs; empty when there are none."""
        return Progress(self._folder / id[:2] / f"{id}.{run}")
