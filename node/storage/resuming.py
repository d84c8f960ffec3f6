"""Objects that come over a link and may take long: every piece is in a file, so that a restart goes on there.

What a killed process had taken in is hashed again and not sent again; only a piece under way is.
"""

from __future__ import annotations

import os
from typing import Final

from .incoming import Buffers, IncomingObject, SpillFolder
from .members import BLOCK
from .space import refusal

_PIECE: Final = 1 << 20


class ResumedObject(IncomingObject):
    """Satisfies `Incoming`; its file outlives `discard`, and goes with `forget`."""

    __slots__ = ("_outlives",)

    def __init__(self, buffers: Buffers, spill: SpillFolder, name: str, most: int) -> None:
        """Take up the file of this name, unless it holds more than an object of `most` bytes.

        Raises:
            Busy: somebody else fills it just now.
            OutOfSpace, Unavailable: the disk refused.
        """
        self._outlives = True
        super().__init__(buffers, lambda: spill)
        try:
            path, self._fd = spill.resume(name)
        except BaseException:
            self.discard()
            raise
        self._path, self.spill = path, spill
        try:
            self._take_up(max(0, os.fstat(self._fd).st_size - BLOCK), most)
        except OSError as error:
            self.discard()
            raise refusal(error, spill.folder) from error

    def _take_up(self, there: int, most: int) -> None:
        if there > most:
            os.ftruncate(self._fd, 0)
            there = 0
        at = 0
        while at < there:
            piece = os.pread(self._fd, min(_PIECE, there - at), BLOCK + at)
            if not piece:
                break
            self._hash.update(piece)
            at += len(piece)
        self._written = self.size = at

    def filled(self, length: int) -> None:
        """Say that `length` bytes of the last space now count; they are in the file when this returns."""
        super().filled(length)
        self._write_out()

    def forget(self) -> None:
        """Let nothing of it be left: it was kept, or was not what it should be."""
        self._outlives = False
        self.discard()

    def discard(self) -> None:
        """Give memory and descriptor back; the file stays for whoever takes it up, unless forgotten."""
        if self._outlives:
            self._path = None
        super().discard()
