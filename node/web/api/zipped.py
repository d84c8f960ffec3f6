"""Zip files made while they are sent: nothing of them is kept, and they may be of any length."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import Any, Final, NamedTuple

from catalog import Entry
from node.contracts import Outgoing
from node.medium import DICOMDIR, Medium, aside

from ..streams import Bytes, Part10, Readable

_PIECE: Final = 1 << 18
_LARGE: Final = 1 << 31
_HEADER: Final = 1 << 18
Open = Callable[[Entry], Outgoing]


class Member(NamedTuple):
    """One file of a zip file."""

    name: str
    written: float
    """Unix seconds."""
    open: Callable[[], Readable]


class _Sink(RawIOBase):
    """Where the zip writer writes to: what it wrote since it was last taken. It cannot go back."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        written = bytes(self._written)
        self._written.clear()
        return written


class Packed:
    """A zip file, not compressed; satisfies `Stream`.

    What cannot be read breaks the answer off: a zip without its directory is seen to be no whole one.
    """

    size: int | None = None

    def __init__(self, members: Callable[[], Iterator[Member]]) -> None:
        self._members = members

    def __iter__(self) -> Iterator[bytes]:
        sink, buffer = _Sink(), memoryview(bytearray(_PIECE))
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as made:
            for member in self._members():
                with closing(member.open()) as file:
                    info = zipfile.ZipInfo(member.name, time.gmtime(member.written)[:6])
                    info.file_size = file.size
                    with made.open(info, "w", force_zip64=file.size > _LARGE) as into:
                        done = 0
                        while done < file.size:
                            count = file.read_into(buffer, done)
                            if not count:
                                raise OSError("A file is shorter than it was.")
                            into.write(buffer[:count])
                            done += count
                            yield sink.take()
                yield sink.take()
        yield sink.take()

    def close(self) -> None:
        """Nothing is held between two pieces."""


class _File:
    """A file of this machine; satisfies `Readable`."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._descriptor).st_size

    def read_into(self, buffer: memoryview, offset: int) -> int:
        return os.preadv(self._descriptor, [buffer], offset)

    def place(self) -> None:
        return None

    def close(self) -> None:
        os.close(self._descriptor)


def file_member(name: str, path: Path) -> Member:
    """Return a file of this machine as a member."""
    return Member(name, path.stat().st_mtime, lambda: _File(path))


def instances(entries: Sequence[Entry], open_one: Open) -> Iterator[Member]:
    """Yield instances as `SERIES/INSTANCE.dcm`: UIDs, so that a list of files shows nobody's name."""
    for entry in entries:
        name = f"{entry.SeriesInstanceUID}/{entry.SOPInstanceUID}.dcm"
        yield _instance(name, entry, open_one)


def medium(entries: Sequence[Entry], open_one: Open, folder: Path | None) -> Iterator[Member]:
    """Yield a DICOMDIR and the instances under the names that it gives them (PS3.10 8.2).

    What it has no record for keeps its UIDs as its name. `folder` is where headers lie for that time.
    """
    with closing(Medium(folder)) as made, aside(folder) as into:
        for entry in entries:
            made.add(_header(entry, open_one))
        names = made.write(Path(into))
        directory = (Path(into) / DICOMDIR).read_bytes()
    yield Member(DICOMDIR, max(entry.received for entry in entries) / 1000, lambda: Bytes(directory))
    for entry in entries:
        name = names.get(entry.SOPInstanceUID, f"{entry.SeriesInstanceUID}/{entry.SOPInstanceUID}.dcm")
        yield _instance(name, entry, open_one)


def _instance(name: str, entry: Entry, open_one: Open) -> Member:
    return Member(name, entry.received / 1000, lambda: Part10(open_one(entry)))


def _header(entry: Entry, open_one: Open) -> Any:
    """Return an instance without its pixels."""
    from pydicom import dcmread

    with closing(Part10(open_one(entry))) as file:
        for length in (min(_HEADER, file.size), file.size):
            data = bytearray(length)
            file.read_into(memoryview(data), 0)
            try:
                return dcmread(BytesIO(data), stop_before_pixels=True)
            except EOFError:
                continue
        return dcmread(BytesIO(data), stop_before_pixels=True)
