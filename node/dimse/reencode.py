"""From one uncompressed little-endian syntax to another: what every receiver can be given, pixels untouched.

Compressed instances stay as they are; transcoding them belongs behind the same `Convert`.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from io import BytesIO
from typing import Final

from pydicom.filereader import read_dataset
from pydicom.filewriter import dcmwrite

from catalog import Unavailable
from node.contracts import Outgoing

from .syntaxes import DEFLATED, EXPLICIT_LITTLE, IMPLICIT_LITTLE, UNCOMPRESSED

LARGEST: Final = 1 << 28
"""Bytes of a data set; it is in memory while it is converted."""


class Reencoded:
    """An instance in another syntax, in memory."""

    def __init__(self, original: Outgoing, TransferSyntaxUID: str, data: bytes) -> None:
        self.SOPClassUID = original.SOPClassUID
        self.SOPInstanceUID = original.SOPInstanceUID
        self.TransferSyntaxUID = TransferSyntaxUID
        self.size = len(data)
        self._data = data

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer with the data set from `offset`; return how many bytes there were."""
        part = self._data[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Forget the bytes."""
        self._data = b""


def reencode(outgoing: Outgoing, accepted: Collection[str]) -> Outgoing | None:
    """Return the instance in one of the accepted syntaxes if no pixel has to be decoded for that, else None.

    Raises:
        Unavailable: it is too large to convert, or cannot be read.
    """
    targets = [syntax for syntax in UNCOMPRESSED if syntax in accepted]
    source = outgoing.TransferSyntaxUID
    if not targets or source not in (IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED):
        return None
    if outgoing.size > LARGEST:
        raise Unavailable(f"Instance {outgoing.SOPInstanceUID} is too large to be converted on its way.")
    data = bytearray(outgoing.size)
    done = 0
    while done < len(data):
        step = outgoing.read_into(memoryview(data)[done:], done)
        if not step:
            raise Unavailable(f"Instance {outgoing.SOPInstanceUID} ends early.")
        done += step
    try:
        return Reencoded(outgoing, targets[0], _convert(bytes(data), source, targets[0]))
    except Exception as error:
        raise Unavailable(
            f"Instance {outgoing.SOPInstanceUID} could not be converted ({type(error).__name__})."
        ) from None


def _convert(data: bytes, source: str, target: str) -> bytes:
    if source == DEFLATED:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, LARGEST)
        source = EXPLICIT_LITTLE
    if source == target:
        return data
    dataset = read_dataset(BytesIO(data), is_implicit_VR=source == IMPLICIT_LITTLE, is_little_endian=True)
    converted = BytesIO()
    dcmwrite(converted, dataset, implicit_vr=target == IMPLICIT_LITTLE, little_endian=True)
    return converted.getvalue()
