"""WADO-RS frames and pixel data, PS3.18 10.4.1.1.4: as stored, or decoded to native little endian."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from node.pixels import NotConvertible
from node.transcoding import EXPLICIT_LITTLE

from .exchange import Exchange
from .instances import ANY
from .media import OCTETS, MediaRange, accepted
from .metadata import version_of
from .pixeldata import Pixels
from .pixelmedia import media_type_of
from .problems import Malformed, NotAcceptable
from .ranges import send_single
from .streams import Bytes, Owned, Part, Readable, Related

_LIST: Final = re.compile(r"[0-9]{1,9}(,[0-9]{1,9})*")
_MOST: Final = 20_000


class Form(NamedTuple):
    """How frames are sent."""

    media_type: str
    syntax: str
    is_decoded: bool
    is_multipart: bool

    @property
    def content_type(self) -> str:
        """The Content-Type of one frame."""
        return f"{self.media_type}; transfer-syntax={self.syntax}"


def frame_numbers(text: str) -> list[int]:
    """Return the numbers of a list of frames.

    Raises:
        Malformed: it is none.
    """
    if not _LIST.fullmatch(text):
        raise Malformed("Frames are named by numbers from 1 on, with commas between.", "Correct the path.")
    numbers = [int(each) for each in text.split(",")]
    if len(numbers) > _MOST or 0 in numbers:
        raise Malformed(f"One to {_MOST} frames can be asked for, the first is 1.", "Correct the path.")
    return numbers


def retrieve_frames(exchange: Exchange) -> None:
    """Answer …/frames/{list}."""
    numbers = frame_numbers(exchange.named.pop("frames"))
    _retrieve(exchange, lambda _: numbers)


def retrieve_pixel_data(exchange: Exchange) -> None:
    """Answer …/pixeldata: every frame."""
    _retrieve(exchange, lambda pixels: range(1, pixels.index.frames + 1))


def _retrieve(exchange: Exchange, choose: Callable[[Pixels], Sequence[int]]) -> None:
    ranges = accepted(exchange.request)
    [entry] = exchange.entries()
    pixels = Pixels(exchange, entry)
    try:
        numbers = choose(pixels)
        for number in numbers:
            pixels.check(number)
        send_frames(exchange, pixels, numbers, ranges, version_of(exchange, [entry]))
    except BaseException:
        pixels.close()
        raise
    exchange.record("retrieve", what="frames", frames=len(numbers))


def send_frames(
    exchange: Exchange, pixels: Pixels, numbers: Sequence[int], ranges: Sequence[MediaRange], version: str
) -> None:
    """Answer with frames in the first form that is accepted and can be made; `pixels` is closed then.

    Raises:
        NotAcceptable, NotConvertible: there is no such form.
    """
    forms = _forms(pixels.syntax, ranges, is_one=len(numbers) == 1)
    if not forms:
        what = f"These frames are {pixels.syntax}, and the Accept header allows neither that nor native ones."
        raise NotAcceptable(what, "Ask for multipart/related; type=application/octet-stream.")
    etag = f"{version[:24]}-{numbers[0]}-{len(numbers)}-{forms[0].syntax}"
    if exchange.is_known(etag, is_immutable=True):
        pixels.close()
        return
    form, first = _first(pixels, numbers[0], forms)
    if not form.is_multipart:
        send_single(exchange, Owned(first, pixels.close), form.content_type, etag)
        return
    url = exchange.url(*(exchange.named[word] for word in ("study", "series", "instance")))
    parts = [_part(pixels, form, number, f"{url}/frames/{number}") for number in numbers]
    parts[0].open = lambda: first
    body = Related(form.media_type, parts, pixels.close)
    exchange.stream(body, body.media_type)


def _part(pixels: Pixels, form: Form, number: int, location: str) -> Part:
    if form.is_decoded:
        size = (pixels.index.picture.bits + 7) // 8
        return Part(form.content_type, location, lambda: Bytes(pixels.decoded(number)[0]), size)
    content = pixels.stored(number)
    return Part(form.content_type, location, lambda: content, content.size)


def _first(pixels: Pixels, number: int, forms: list[Form]) -> tuple[Form, Readable]:
    """Return the first form that can be made, and the first frame in it."""
    for form in forms[:-1]:
        try:
            return form, _content(pixels, form, number)
        except NotConvertible:
            continue
    return forms[-1], _content(pixels, forms[-1], number)


def _content(pixels: Pixels, form: Form, number: int) -> Readable:
    return Bytes(pixels.decoded(number)[0]) if form.is_decoded else pixels.stored(number)


def _forms(stored: str, ranges: Sequence[MediaRange], *, is_one: bool) -> list[Form]:
    found = []
    for each in ranges:
        is_multipart = each.is_multipart or each.kind == "*/*"
        if is_multipart or is_one:
            found += [form._replace(is_multipart=is_multipart) for form in _allowed(stored, each)]
    return found


def _allowed(stored: str, asked: MediaRange) -> list[Form]:
    """Return the forms that one range allows, the preferred first."""
    own, syntax = media_type_of(stored), asked.transfer_syntax
    native = Form(OCTETS, EXPLICIT_LITTLE, stored != EXPLICIT_LITTLE, True)
    is_own_wanted = syntax in ("", ANY, stored)
    if stored == EXPLICIT_LITTLE:
        return [native] if asked.covers(OCTETS) and syntax in ("", ANY, EXPLICIT_LITTLE) else []
    if asked.wanted == "*/*":
        as_stored = Form(own, stored, False, True)
        if syntax:
            return [as_stored] if is_own_wanted else [native] if syntax == EXPLICIT_LITTLE else []
        return [native, as_stored]
    if asked.covers(OCTETS):
        if syntax in (ANY, stored):
            return [Form(OCTETS, stored, False, True)]
        return [native] if syntax in ("", EXPLICIT_LITTLE) else []
    return [Form(own, stored, False, True)] if asked.covers(own) and is_own_wanted else []
