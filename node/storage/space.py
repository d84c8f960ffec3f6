"""The watermark: a node stops taking objects in while its disk still has room for everything else."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple

from catalog import Clock, OutOfSpace, PacsError, Unavailable

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Room(NamedTuple):
    """Bytes of a disk: free, in all, and free above the watermark."""

    free: int
    size: int
    usable: int


class FreeSpace:
    """Knows what is free under a folder, and looks again at most once a second."""

    def __init__(self, folder: Path, clock: Clock, full_below: int, resume_above: int) -> None:
        self._folder = folder
        self._clock = clock
        self._full_below = full_below
        self._resume_above = max(resume_above, full_below)
        self._looked = float("-inf")
        self._free = 0
        self._is_full = False

    def claim(self, size: int) -> None:
        """Count on `size` more bytes.

        Raises:
            OutOfSpace: less than the watermark would stay free, or too little came free since.
        """
        now = self._clock()
        if not 0 <= now - self._looked < 1:
            self._noted(os.statvfs(self._folder), now)
        wanted = self._resume_above if self._is_full else self._full_below
        self._is_full = self._free - size < wanted
        if self._is_full:
            enough = self._resume_above // 1_000_000
            raise OutOfSpace(
                # Whoever sends is told the first sentence alone, in the 64 characters of an Error Comment.
                f"The disk is full: {self._free // 1_000_000} MB are free.",
                f"Nothing is taken in until {enough} MB are free under {self._folder}.",
            )
        self._free -= size

    def look(self) -> Room:
        """Look, however short ago somebody did.

        Raises:
            OSError: the disk does not say.
        """
        found = os.statvfs(self._folder)
        free = self._noted(found, self._clock())
        return Room(free, found.f_blocks * found.f_frsize, max(free - self._full_below, 0))

    def _noted(self, found: os.statvfs_result, now: float) -> int:
        self._free, self._looked = found.f_bavail * found.f_frsize, now
        return self._free


def refusal(error: OSError, folder: Path) -> PacsError:
    """Return what to tell the sender when the disk refused a write."""
    if error.errno in _FULL:
        return OutOfSpace(
            f"The disk under {folder} took no more: {os.strerror(error.errno or 0)}.",
            "Nothing of this was kept; free some space and do it again.",
        )
    return Unavailable(
        f"The disk under {folder} failed: {error.strerror or error}.",
        "Nothing of this object was kept; look at the system log and check the disk.",
    )
