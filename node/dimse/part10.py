"""A DICOM file on its way out: without File Meta Information, the data set as it is (PS3.10 7.1)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from catalog import Unreadable
from node.storage import read_meta

_HEAD: Final = 65536


class Part10File:
    """One file as an `Outgoing`; `close` it when it was sent."""

    def __init__(self, path: Path) -> None:
        """Open a file and read what it is, from its File Meta Information or its first elements.

        Raises:
            OSError: it cannot be read.
            Unreadable: it is no DICOM file, or does not say what a C-STORE must.
        """
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            meta = read_meta(os.pread(self._descriptor, _HEAD, 0))
            if not meta.SOPClassUID or not meta.SOPInstanceUID:
                raise Unreadable(
                    f"{path.name} does not say which SOP Class and Instance it holds.",
                    "`peerpacs import` on its folder says what is wrong with each file.",
                )
        except BaseException:
            self.close()
            raise
        self.SOPClassUID, self.SOPInstanceUID, self.TransferSyntaxUID, self._offset = meta
        self.size = os.fstat(self._descriptor).st_size - self._offset

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer with the data set from `offset`; return how many bytes there were."""
        return os.preadv(self._descriptor, [buffer], self._offset + offset)

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
