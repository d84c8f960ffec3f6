"""From one uncompressed little-endian syntax to another: what every receiver can be given, pixels untouched.

Only what stands before and after Pixel Data is decoded and written again; the pixels pass through as they
are read, so memory is bounded by the header. Compressed instances stay as they are; transcoding them
belongs behind the same `Convert`.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Collection
from typing import Any, BinaryIO, Final

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.filewriter import dcmwrite

from catalog import Unavailable
from node.contracts import Outgoing

from .syntaxes import DEFLATED, EXPLICIT_LITTLE, IMPLICIT_LITTLE, UNCOMPRESSED

LARGEST: Final = 1 << 26
"""Bytes without Pixel Data, or of an inflated data set; they are in memory while it is converted."""
_PIXEL_DATA: Final = 0x7FE00010
_UNDEFINED: Final = 0xFFFFFFFF
Parts = tuple[bytes, int, int, bytes]
"""Converted beginning; offset and length in the original of what is passed through; converted end."""


class Reencoded:
    """An instance in another syntax: a converted beginning and end around what is passed through."""

    def __init__(self, original: Outgoing, TransferSyntaxUID: str, parts: Parts) -> None:
        self.SOPClassUID = original.SOPClassUID
        self.SOPInstanceUID = original.SOPInstanceUID
        self.TransferSyntaxUID = TransferSyntaxUID
        self._original = original
        self._head, self._start, self._length, self._tail = parts
        self.size = len(self._head) + self._length + len(self._tail)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer, as far as one part of the data set reaches; return how many bytes there were."""
        head = len(self._head)
        through = offset - head
        if head <= offset < head + self._length:
            return self._original.read_into(buffer[: self._length - through], self._start + through)
        source, start = (self._head, offset) if offset < head else (self._tail, through - self._length)
        part = source[start : start + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Forget the bytes; the original is its opener's to close."""
        self._head = self._tail = b""


def reencode(outgoing: Outgoing, accepted: Collection[str]) -> Outgoing | None:
    """Return the instance in one of the accepted syntaxes if no pixel has to be decoded for that, else None.

    Raises:
        Unavailable: its header is too large to convert, or cannot be read.
    """
    targets = [syntax for syntax in UNCOMPRESSED if syntax in accepted]
    source = outgoing.TransferSyntaxUID
    if not targets or source not in (IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED):
        return None
    target = targets[0]
    try:
        file: BinaryIO = io.BufferedReader(_Reading(outgoing), 65536)
        if source == DEFLATED:
            inflated = _inflate(file.read(LARGEST))
            file, source = io.BytesIO(inflated), EXPLICIT_LITTLE
            if source == target:
                return Reencoded(outgoing, target, (inflated, 0, 0, b""))
            outgoing = _Inflated(outgoing, inflated)
        return Reencoded(outgoing, target, _parts(file, outgoing, source, target))
    except Unavailable:
        raise
    except Exception as error:
        raise Unavailable(
            f"Instance {outgoing.SOPInstanceUID} could not be converted ({type(error).__name__})."
        ) from None


def _inflate(data: bytes) -> bytes:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflate.decompress(data, LARGEST)
    if not inflate.eof:
        raise Unavailable("A deflated instance is too large to be inflated, or ends early.")
    return inflated


def _parts(file: BinaryIO, outgoing: Outgoing, source: str, target: str) -> Parts:
    is_implicit = source == IMPLICIT_LITTLE
    dataset = read_dataset(file, is_implicit, True, stop_when=lambda tag, vr, length: tag >= _PIXEL_DATA)
    if "SOPInstanceUID" not in dataset:
        raise Unavailable(f"Instance {outgoing.SOPInstanceUID} cannot be read.")
    head = _written(dataset, target)
    place = file.tell()
    element = file.read(8 if is_implicit else 12)
    if len(element) < 8 or struct.unpack_from("<HH", element) != (0x7FE0, 0x0010):
        file.seek(place)
        return head + _rewritten(file, source, target), 0, 0, b""
    (length,) = struct.unpack("<I", element[-4:])
    start = place + len(element)
    if length == _UNDEFINED or start + length > outgoing.size:
        raise Unavailable("Pixel Data has no length that could be believed.")
    vr = b"OB" if not is_implicit and element[4:6] == b"OB" else b"OW"
    header = element[:4] + (b"" if target == IMPLICIT_LITTLE else vr + bytes(2)) + element[-4:]
    file.seek(start + length)
    return head + header, start, length, _rewritten(file, source, target)


def _rewritten(file: BinaryIO, source: str, target: str) -> bytes:
    return _written(read_dataset(file, source == IMPLICIT_LITTLE, True), target)


def _written(dataset: Dataset, target: str) -> bytes:
    written = io.BytesIO()
    dcmwrite(written, dataset, implicit_vr=target == IMPLICIT_LITTLE, little_endian=True)
    return written.getvalue()


class _Reading(io.RawIOBase):
    """An `Outgoing` as a file whose header may be `LARGEST` bytes long."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._place = 0
        self._budget = LARGEST

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._outgoing.size}[whence]
        self._place = base + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), max(0, self._outgoing.size - self._place))
        self._budget -= count
        if self._budget < 0:
            raise Unavailable(f"Instance {self._outgoing.SOPInstanceUID} has too large a header to convert.")
        count = self._outgoing.read_into(memoryview(buffer)[:count], self._place) if count else 0
        self._place += count
        return count


class _Inflated:
    """A deflated instance, inflated, as an `Outgoing` in Explicit VR Little Endian."""

    def __init__(self, original: Outgoing, data: bytes) -> None:
        self.SOPClassUID = original.SOPClassUID
        self.SOPInstanceUID = original.SOPInstanceUID
        self.TransferSyntaxUID = EXPLICIT_LITTLE
        self.size = len(data)
        self._data = data

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; return how many bytes there were."""
        part = self._data[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Forget the bytes."""
        self._data = b""
