"""Checks blanked pixel data: outside the boxes nothing changed, inside there is one shade only."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

from anonymizer.elements import Item, text_value
from anonymizer.quarantine import Reason

Boxes = tuple[tuple[int, int, int, int], ...]
Complaint = tuple[Reason, str]

_OUTSIDE = (Reason.IOD_REGRESSION, "Its pixels changed outside the areas that were to be blanked.")
_INSIDE = (Reason.LEAK_FOUND, "An area that was to be blanked is not of one shade.")


def native_finding(root: Item, before: bytes, after: bytes, boxes: Boxes) -> Iterator[Complaint]:
    """Complaints about native pixel data, byte by byte in every frame and plane."""
    rows, columns = _number(root, 0x00280010), _number(root, 0x00280011)
    samples, size = _number(root, 0x00280002), _number(root, 0x00280100) // 8
    is_planar = samples > 1 and _number(root, 0x00280006) == 1
    pixel = size if is_planar else size * samples
    frames = int(text_value(root, 0x00280008) or 1) * (samples if is_planar else 1)
    plane = rows * columns * pixel
    if len(after) < frames * plane:
        yield _OUTSIDE
        return
    shades: dict[int, set[bytes]] = {}
    old, new = bytearray(before[: frames * plane]), bytearray(after[: frames * plane])
    for frame in range(frames):
        kind = frame % samples if is_planar else 0
        for left, top, width, height in boxes:
            for row in range(max(0, top), min(rows, top + height)):
                start = frame * plane + (row * columns + max(0, left)) * pixel
                end = frame * plane + (row * columns + min(columns, left + width)) * pixel
                line = after[start:end]
                if end > start:
                    shades.setdefault(kind, set()).update(_shades(line, pixel))
                    old[start:end] = new[start:end] = bytes(end - start)
    if old != new:
        yield _OUTSIDE
    if any(len(found) > 1 for found in shades.values()):
        yield _INSIDE


def compressed_finding(before: bytes, after: bytes, boxes: Boxes) -> Iterator[Complaint]:
    """Complaints about compressed pixel data, on decoded frames; the arguments are Part 10 files."""
    for old, new in zip(_frames(before), _frames(after), strict=True):
        for left, top, width, height in boxes:
            area = (slice(top, top + height), slice(left, left + width))
            inside = new[area].reshape(-1, new.shape[2] if new.ndim == 3 else 1)
            if len(inside) and (inside != inside[0]).any():
                yield _INSIDE
            old[area] = new[area] = 0
        if (old != new).any():
            yield _OUTSIDE


def is_only_cleared(root: Item, before: bytes, after: bytes) -> bool:
    """Whether the only difference is that bits beside the stored ones became 0 (PS3.5 8.1.1)."""
    size = _number(root, 0x00280100) // 8
    stored, high = _number(root, 0x00280101), _number(root, 0x00280102)
    if size not in (1, 2) or len(before) != len(after) or len(before) % size:
        return False
    kept = ((1 << stored) - 1) << max(0, high + 1 - stored)
    word = (kept & (1 << 8 * size) - 1).to_bytes(size, "little")
    mask = int.from_bytes(word * (len(before) // size), "big")
    return int.from_bytes(before, "big") & mask == int.from_bytes(after, "big")


def _number(root: Item, tag: int) -> int:
    return int.from_bytes(root[tag].data[:2], "little") if tag in root else 0


def _shades(line: bytes, pixel: int) -> set[bytes]:
    first = line[:pixel]
    return {first} if line == first * (len(line) // pixel) else {first, b""}


def _frames(data: bytes) -> Iterator[Any]:
    from pydicom import dcmread
    from pydicom.pixels.decoders.base import get_decoder

    dataset = dcmread(BytesIO(data))
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.convert_pixel_data()
        frames = dataset.pixel_array
        yield from (f.copy() for f in (frames if int(dataset.get("NumberOfFrames", 1)) > 1 else [frames]))
        return
    for frame, _ in get_decoder(dataset.file_meta.TransferSyntaxUID).iter_array(dataset):
        yield frame.copy()
