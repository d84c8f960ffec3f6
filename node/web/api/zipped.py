"""A study as a zip file, made while it is sent: nothing of it is kept, and it may be of any length."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from io import RawIOBase
from typing import Any, Final

from catalog import Entry
from node.contracts import Outgoing

from ..streams import Part10

_PIECE: Final = 1 << 18
_LARGE: Final = 1 << 31


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


class Zipped:
    """The instances as files `SERIES/INSTANCE.dcm`, not compressed; satisfies `Stream`.

    Names are UIDs, so a downloaded file shows nobody's name in a list. An instance that cannot be read breaks
    the answer off: a zip without its directory is seen to be no whole one.
    """

    size: int | None = None

    def __init__(self, entries: Sequence[Entry], open_one: Callable[[Entry], Outgoing]) -> None:
        self._entries = entries
        self._open = open_one

    def __iter__(self) -> Iterator[bytes]:
        sink, buffer = _Sink(), memoryview(bytearray(_PIECE))
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as made:
            for entry in self._entries:
                with closing(self._open(entry)) as outgoing:
                    file = Part10(outgoing)
                    name = f"{entry.SeriesInstanceUID}/{entry.SOPInstanceUID}.dcm"
                    info = zipfile.ZipInfo(name, time.gmtime(entry.received / 1000)[:6])
                    info.file_size = file.size
                    with made.open(info, "w", force_zip64=file.size > _LARGE) as member:
                        done = 0
                        while done < file.size:
                            count = file.read_into(buffer, done)
                            if not count:
                                raise OSError("An instance is shorter than it was.")
                            member.write(buffer[:count])
                            done += count
                            yield sink.take()
                yield sink.take()
        yield sink.take()

    def close(self) -> None:
        """Nothing is held between two pieces."""
