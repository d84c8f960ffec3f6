"""Where things lie in the local store: the word a Holding carries, the file a segment number names.

`objects/00/000123.tar` is segment 123; its folder is the number without the last four digits, so that no
folder ever holds more than 10 000 segments.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

from catalog import NotFound

_WORD = struct.Struct(">BII")
_BLOCK = 512
_PER_FOLDER = 10_000


class Place(NamedTuple):
    """The member whose tar header starts `offset` bytes into `segment` of `volume`; the first one is 0."""

    volume: int
    segment: int
    offset: int

    def pack(self) -> bytes:
        """Return the nine bytes of `Holding.where`; offsets are counted in tar blocks, up to 2 TiB."""
        return _WORD.pack(self.volume, self.segment, self.offset // _BLOCK)


def place_of(where: bytes) -> Place:
    """Return the place that `Holding.where` names.

    Raises:
        NotFound: another kind of store wrote this word.
    """
    if len(where) == _WORD.size:
        volume, segment, block = _WORD.unpack(where)
        return Place(volume, segment, block * _BLOCK)
    raise NotFound(
        f"The place {where.hex() or 'nowhere'} is not one of this node's own disk.",
        "Ask the store that wrote it; if this is the only one, run `peerpacs rebuild`.",
    )


def segment_path(objects: Path, number: int) -> Path:
    """Return the file of a segment."""
    return objects / f"{number // _PER_FOLDER:02d}" / f"{number:06d}.tar"


def segment_numbers(objects: Path) -> list[int]:
    """Return the numbers of all segments, ascending: one directory listing for each 10 000 of them."""
    return sorted(number for folder in _folders(objects) for number in _numbers(folder))


def highest_number(objects: Path) -> int:
    """Return the highest segment number in use, 0 for an empty store; lists one folder, never the store."""
    for folder in reversed(_folders(objects)):
        numbers = _numbers(folder)
        if numbers:
            return max(numbers)
    return 0


def make_folder(folder: Path) -> None:
    """Make a folder, durably; one that exists is fine."""
    if not folder.exists():
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, content: bytes) -> None:
    """Write a small file so that after a power cut it is the old one or the new one, whole."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    sync_folder(path.parent)


def _folders(objects: Path) -> list[Path]:
    named = [entry for entry in objects.iterdir() if entry.name.isdigit()]
    return sorted(named, key=lambda folder: int(folder.name))


def _numbers(folder: Path) -> list[int]:
    names = (entry.name.partition(".") for entry in os.scandir(folder))
    return [int(stem) for stem, _, suffix in names if stem.isdigit() and suffix == "tar"]
