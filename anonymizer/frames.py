"""Blanking areas of compressed frames: decode, blank, write again without loss.

This is the only module that needs numpy and codecs, the optional extra `pixels`. Without them it says
so and the instance is quarantined. Instances that need no blanking never come here, so their code
streams stay as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from io import BytesIO
from typing import Any

from anonymizer.elements import EXPLICIT_LITTLE, PIXEL_DATA, Element, Item, encapsulate
from anonymizer.pixels import Box, fill_pixel, short
from anonymizer.quarantine import Quarantined, Reason

JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"

_SAMPLES, _PHOTOMETRIC, _PLANAR = 0x00280002, 0x00280004, 0x00280006
_OFFSET_TABLES = (0x7FE00001, 0x7FE00002, 0x7FE00003)


def blank_compressed(
    copy: Item, transfer_syntax: str, data: bytes | memoryview, boxes: tuple[Box, ...]
) -> str:
    """Blanks `boxes` in every frame of `copy` and returns its new transfer syntax.

    JPEG-LS lossless if there is a codec for it, else RLE, else native. Raises Quarantined if the frames
    cannot be decoded here.
    """
    try:
        frames, photometric = _decoded(copy, transfer_syntax, data, boxes)
        written, value = _written(copy, frames, photometric)
    except (ImportError, RuntimeError, NotImplementedError, ValueError, AttributeError) as error:
        raise Quarantined(
            Reason.UNSUPPORTED_TS_FOR_REQUIRED_PIXEL_WORK,
            "Its compressed frames need blanking, and no codec for them is installed: "
            "pip install 'peerpacs[pixels]', then run again.",
        ) from error
    copy[PIXEL_DATA] = value
    for tag in _OFFSET_TABLES:
        copy.pop(tag, None)
    copy[_PHOTOMETRIC] = Element("CS", photometric.encode())
    if short(copy, _SAMPLES) > 1:
        copy[_PLANAR] = Element("US", struct.pack("<H", 0))
    return written


def _decoded(
    copy: Item, transfer_syntax: str, data: bytes | memoryview, boxes: tuple[Box, ...]
) -> tuple[list[Any], str]:
    from pydicom import dcmread
    from pydicom.pixels.decoders.base import get_decoder

    source = dcmread(BytesIO(data))
    fill = list(fill_pixel(copy))
    frames, photometric = [], ""
    for frame, meaning in get_decoder(transfer_syntax).iter_array(source):
        photometric = str(meaning["photometric_interpretation"])
        shade = [0, 0, 0] if frame.ndim == 3 and photometric == "RGB" else fill
        blanked = frame.copy()
        for box in boxes:
            area = (slice(box.top, box.top + box.height), slice(box.left, box.left + box.width))
            blanked[area] = shade if frame.ndim == 3 else shade[0]
        frames.append(blanked)
    return frames, photometric


def _written(copy: Item, frames: list[Any], photometric: str) -> tuple[str, Element]:
    from pydicom.pixels.encoders.base import get_encoder

    options: dict[str, Any] = {
        "rows": short(copy, 0x00280010),
        "columns": short(copy, 0x00280011),
        "number_of_frames": 1,
        "samples_per_pixel": short(copy, _SAMPLES),
        "bits_allocated": short(copy, 0x00280100),
        "bits_stored": short(copy, 0x00280101),
        "pixel_representation": short(copy, 0x00280103),
        "photometric_interpretation": photometric,
        "planar_configuration": 0,
    }
    for transfer_syntax in (JPEG_LS_LOSSLESS, RLE_LOSSLESS):
        encoder = get_encoder(transfer_syntax)
        if encoder.is_available and _has_fast_plugin(encoder.available_plugins):
            encoded = [encoder.encode(frame, **options) for frame in frames]
            return transfer_syntax, Element("OB", encapsulate(encoded), True)
    return EXPLICIT_LITTLE, Element("OW", b"".join(frame.tobytes() for frame in frames))


def _has_fast_plugin(plugins: Iterable[str]) -> bool:
    """Whether a plugin other than pydicom's own RLE encoder, which takes a second a frame, is there."""
    return any(plugin != "pydicom" for plugin in plugins)
