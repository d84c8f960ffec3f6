"""The codec program: one compressed frame in, its pixels out, in a process that may die or hang of it.

It is run by `node.pixels`, by its path, and knows nothing of the node: codecs are C code that reads what
strangers wrote, so what goes wrong in them must not go wrong in the node.
"""

from __future__ import annotations

import json
import resource
import sys
import warnings
import zlib
from multiprocessing.connection import Connection
from typing import Any

DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
RLE = "1.2.840.10008.1.2.5"
LOSSY_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
MOST_MEMORY = 4 << 30
"""Bytes of address space, numpy's and the codecs' own included."""

MOST_SECONDS = 900
"""Seconds of computing for one frame: the end of a codec whose node is gone."""


class Failed(Exception):
    """A frame that cannot be decoded: `missing` (a codec), `unsupported` or `corrupt`."""


def main(descriptor: int) -> None:
    """Answer each pair of messages, a description as JSON and a frame, with another: JSON and pixels."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    node = Connection(descriptor)
    node.send_bytes(b"ready")
    try:
        while True:
            described, frame = json.loads(node.recv_bytes()), node.recv_bytes()
            used = resource.getrusage(resource.RUSAGE_SELF)
            resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + MOST_SECONDS, -1))
            try:
                pixels, photometric = decode(frame, described)
                answer = {"photometric_interpretation": photometric}
            except Failed as failed:
                pixels, answer = b"", {"failed": str(failed)}
            node.send_bytes(json.dumps(answer).encode())
            node.send_bytes(pixels)
    except (EOFError, OSError):
        pass


def decode(frame: bytes, described: dict[str, Any]) -> tuple[bytes, str]:
    """Return the frame little endian and color-by-pixel, and its Photometric Interpretation.

    Raises:
        Failed: it cannot be decoded here.
    """
    described = dict(described)
    syntax = described.pop("transfer_syntax")
    photometric = described["photometric_interpretation"]
    size = (
        described["rows"]
        * described["columns"]
        * described["samples_per_pixel"]
        * described["bits_allocated"]
    )
    size = (size + 7) // 8
    if syntax == DEFLATED_FRAMES:
        return _inflated(frame, size), photometric
    if described["bits_allocated"] == 1:
        if syntax != RLE:
            raise Failed("unsupported")
        # Eight pixels are one byte, PS3.5 8.1.1, and RLE knows bytes only.
        described |= {"rows": 1, "columns": size, "bits_allocated": 8, "bits_stored": 8}
    pixels, photometric = _decoded(frame, syntax, described)
    if len(pixels) != size:
        raise Failed("corrupt")
    return pixels, photometric


def _inflated(frame: bytes, size: int) -> bytes:
    try:
        pixels = zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, size + 1)
    except zlib.error:
        raise Failed("corrupt") from None
    if not 0 <= len(pixels) - size <= size % 2:
        raise Failed("corrupt")
    return pixels[:size]


def _decoded(frame: bytes, syntax: str, described: dict[str, Any]) -> tuple[bytes, str]:
    try:
        import numpy  # noqa: F401
        from pydicom.encaps import encapsulate
        from pydicom.pixels.decoders.base import get_decoder

        decoder = get_decoder(syntax)
    except ImportError:
        raise Failed("missing") from None
    except NotImplementedError:
        raise Failed("unsupported") from None
    if syntax == LOSSY_JPEG[1] and _jpeg_precision(frame) > 8:
        raise Failed("unsupported")
    if not decoder.is_available:
        raise Failed("missing")
    # What was lossy anyway becomes RGB, which every receiver understands; what is lossless keeps its
    # values, and with them its color space, as the conversion rounds.
    options: dict[str, Any] = {
        "raw": syntax not in LOSSY_JPEG,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }
    if not syntax.startswith(("1.2.840.10008.1.2.4.8", "1.2.840.10008.1.2.4.9", "1.2.840.10008.1.2.4.2")):
        options["correct_unused_bits"] = False
    try:
        pixels, found = decoder.as_array(encapsulate([frame], has_bot=False), index=0, **options, **described)
    except Exception:
        raise Failed("corrupt") from None
    little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    return little.tobytes(), str(found["photometric_interpretation"])


def _jpeg_precision(frame: bytes) -> int:
    """Return the sample precision that the frame header (SOF) of a JPEG code stream tells, 0 if none does."""
    offset = 2
    while offset + 5 <= len(frame) and frame[offset] == 0xFF:
        marker = frame[offset + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return frame[offset + 4]
        offset += 1 if marker == 0xFF else 2 + int.from_bytes(frame[offset + 2 : offset + 4], "big")
    return 0


if __name__ == "__main__":
    main(int(sys.argv[1]))
