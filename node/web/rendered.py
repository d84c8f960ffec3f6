"""WADO-RS renderings and thumbnails, PS3.18 10.4.1.1.3: what a browser can show, of every level."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Sequence
from io import BytesIO
from threading import BoundedSemaphore
from typing import Final
from urllib.parse import parse_qsl

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from catalog import Entry, Unreadable
from node.pixels import NotConvertible
from node.transcoding import image_of

from .exchange import Exchange
from .frames import frame_numbers
from .media import RENDERED, MediaRange, accepted, choose
from .metadata import version_of
from .pixeldata import Pixels
from .problems import Malformed, NotAcceptable, TooLarge
from .rendering import Look, check_size, render
from .streams import Bytes, Part, Related

_THUMBNAIL: Final = (96, 96)
_NUMBER: Final = re.compile(r"-?[0-9]{1,7}(\.[0-9]{1,7})?")
_FUNCTIONS: Final = ("linear", "linear-exact", "sigmoid")
_LARGEST_SIDE: Final = 4096
_MOST_FRAMES: Final = 600
"""Frames of one animation or multipart answer."""
_IGNORED: Final = ("annotation", "iccprofile")
_at_a_time: Final = BoundedSemaphore(os.cpu_count() or 1)


def retrieve_rendered(exchange: Exchange) -> None:
    """Answer …/rendered of a study, series, instance or frames."""
    _render(exchange, _look(exchange, None))


def retrieve_thumbnail(exchange: Exchange) -> None:
    """Answer …/thumbnail."""
    _render(exchange, _look(exchange, _THUMBNAIL), is_thumbnail=True)


def _render(exchange: Exchange, look: Look, *, is_thumbnail: bool = False) -> None:
    asked = exchange.named.pop("frames", "")
    numbers = frame_numbers(asked) if asked else []
    if len(numbers) > _MOST_FRAMES:
        raise TooLarge(f"At most {_MOST_FRAMES} frames are rendered at once.", "Ask for fewer.")
    ranges = accepted(exchange.request)
    entries = exchange.entries()
    media_type, is_multipart = choose(ranges, _offer, ", ".join(RENDERED))
    etag = f"{version_of(exchange, entries)}{numbers}{look}{media_type}{is_multipart}".encode()
    if exchange.is_known(hashlib.sha256(etag).hexdigest()[:40], is_immutable=False):
        return
    if is_multipart and not is_thumbnail:
        parts = _parts(exchange, _visible(entries), numbers, media_type, look)
        body = Related(media_type, parts)
        exchange.stream(body, body.media_type)
    else:
        if len(numbers) > 1 and media_type != "image/gif":
            raise NotAcceptable(
                "Several frames are not one image.", "Ask for image/gif, or multipart/related."
            )
        entry = _representative(entries)
        exchange.reply(rendering(exchange, entry, numbers, media_type, look), media_type)
    exchange.record("retrieve", what="thumbnail" if is_thumbnail else "rendering")


def _offer(asked: MediaRange) -> tuple[str, bool] | None:
    media_type = next((each for each in RENDERED if asked.covers(each)), None)
    return (media_type, asked.is_multipart) if media_type else None


def _visible(entries: Sequence[Entry]) -> list[Entry]:
    found = [entry for entry in entries if entry.Rows and entry.Columns]
    if not found:
        raise NotConvertible("There are no pixels to be seen.", "Ask for the metadata.")
    return found


def _representative(entries: Sequence[Entry]) -> Entry:
    """Return the instance in the middle of those that can be seen."""
    visible = _visible(entries)
    return visible[len(visible) // 2]


def _parts(
    exchange: Exchange, entries: Sequence[Entry], numbers: list[int], media_type: str, look: Look
) -> list[Part]:
    """Return a part for each frame asked for, else for each instance; the first is made at once."""
    if len(entries) == 1 and not numbers:
        pixels = Pixels(exchange, entries[0])
        numbers = list(range(1, min(pixels.index.frames, _MOST_FRAMES) + 1))
        pixels.close()
    chosen = [(entry, [n]) for entry in entries for n in numbers] or [(entry, []) for entry in entries]

    def part(entry: Entry, frames: list[int]) -> Part:
        url = exchange.url(entry.StudyInstanceUID, entry.SeriesInstanceUID, entry.SOPInstanceUID)
        location = f"{url}/frames/{frames[0]}/rendered" if frames else f"{url}/rendered"
        return Part(
            media_type, location, lambda: Bytes(rendering(exchange, entry, frames, media_type, look)), None
        )

    parts = [part(entry, frames) for entry, frames in chosen]
    first = parts[0].open()
    parts[0].open = lambda: first
    return parts


def rendering(exchange: Exchange, entry: Entry, numbers: Sequence[int], media_type: str, look: Look) -> bytes:
    """Return the frames, or a representative one, as one image file; GIF shows all of them.

    Raises:
        NotFound: there is no such frame.
        NotConvertible, TooLarge: it cannot be rendered.
    """
    pixels = Pixels(exchange, entry)
    try:
        if not numbers:
            numbers = range(1, min(pixels.index.frames, _MOST_FRAMES) + 1)
            if media_type != "image/gif":
                numbers = numbers[:1]
        for number in numbers:
            pixels.check(number)
        check_size(pixels.index.picture, len(numbers))
        with _at_a_time:
            headers = _header(pixels)
            first = numbers[0]
            made = [_expanded(pixels, *pixels.decoded(number)) for number in numbers]
            return render(made, pixels.index.picture, _of_frame(headers, first), media_type, look)
    finally:
        pixels.close()


def _expanded(pixels: Pixels, data: bytes, photometric: str) -> tuple[bytes, str]:
    if pixels.index.places is None and photometric == "YBR_FULL_422":
        from pydicom.pixels.utils import expand_ybr422

        return expand_ybr422(data, pixels.index.picture.bits_allocated), "YBR_FULL"
    return data, photometric


def _header(pixels: Pixels) -> Dataset:
    image = image_of(pixels.outgoing)
    try:
        return read_dataset(BytesIO(image.head), image.is_implicit, True)
    except Exception:
        raise Unreadable("Its header cannot be read.", "Ask for its frames.") from None


def _of_frame(header: Dataset, number: int) -> Dataset:
    """Return the header with what the functional groups say about a frame, PS3.3 C.7.6.16."""
    groups = [*(header.get("SharedFunctionalGroupsSequence") or ())]
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or ()
    groups += per_frame[number - 1 : number]
    for group in groups:
        for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(keyword) or ():
                header.update(item)
    return header


def _look(exchange: Exchange, size: tuple[int, int] | None) -> Look:
    look = Look(size=size)
    for name, value in parse_qsl(exchange.request.query_string, keep_blank_values=True, max_num_fields=50):
        word = name.lower()
        if word == "window":
            look = look._replace(window=window_of(value))
        elif word == "viewport":
            look = _viewport(look, value)
        elif word == "quality":
            look = look._replace(quality=quality_of(value))
        elif word in _IGNORED:
            exchange.warn(f"The {word} parameter is not supported and was ignored.")
    return look


def quality_of(value: str) -> int:
    """Return a quality from 1 to 100. Raises Malformed if it is none."""
    if not re.fullmatch(r"[0-9]{1,3}", value) or not 1 <= int(value) <= 100:
        raise Malformed("quality is a whole number from 1 to 100.", "Correct the query.")
    return int(value)


def window_of(value: str) -> tuple[float, float, str]:
    """Return center, width and function. Raises Malformed if it is none."""
    parts = [each.strip() for each in value.split(",")]
    function = (parts[2].lower() if len(parts) > 2 else "") or "linear"
    if len(parts) not in (2, 3) or function not in _FUNCTIONS:
        raise Malformed(f"window is center,width,function, and that one of {', '.join(_FUNCTIONS)}.")
    numbers = _numbers(parts[:2])
    if numbers[1] < 0 or (function == "linear" and numbers[1] < 1):
        raise Malformed("The width of a window is at least 1.", "Correct the query.")
    return numbers[0], numbers[1], function


def _viewport(look: Look, value: str) -> Look:
    parts = value.split(",")
    if len(parts) not in (2, 6):
        raise Malformed("viewport is vw,vh or vw,vh,sx,sy,sw,sh.", "Correct the query.")
    width, height = (int(each) for each in _numbers(parts[:2]))
    if not (1 <= width <= _LARGEST_SIDE and 1 <= height <= _LARGEST_SIDE):
        raise Malformed(f"A viewport has 1 to {_LARGEST_SIDE} pixels each way.", "Correct the query.")
    if len(parts) == 2:
        return look._replace(size=(width, height))
    left, top, across, down = (int(each) for each in _numbers([each or "0" for each in parts[2:]]))
    if not across or not down or abs(across) > 1 << 16 or abs(down) > 1 << 16:
        raise Malformed("The region of a viewport has no extent, or too much.", "Correct the query.")
    return look._replace(size=(width, height), region=(left, top, across, down))


def _numbers(texts: Sequence[str]) -> list[float]:
    if not all(_NUMBER.fullmatch(text.strip()) for text in texts):
        raise Malformed("A parameter is not a number.", "Correct the query.")
    found = [float(text) for text in texts]
    if not all(map(math.isfinite, found)):
        raise Malformed("A parameter is not a number.", "Correct the query.")
    return found
