"""Range requests, RFC 9110 14: one part of a single-part answer, so that what broke off can go on."""

from __future__ import annotations

import re
from typing import Final

from .exchange import Exchange
from .problems import NoSuchRange
from .streams import Readable, Single

_RANGE: Final = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")


def send_single(exchange: Exchange, content: Readable, media_type: str, etag: str) -> None:
    """Answer with the content, or with the range of it that was asked for (206).

    Several ranges at once are answered with all of it, as RFC 9110 14.2 allows.

    Raises:
        NoSuchRange: it begins behind the end.
    """
    exchange.response.set_header("Accept-Ranges", "bytes")
    asked = _asked(exchange, etag)
    if asked is None:
        exchange.stream(Single(content), media_type)
        return
    first, last = asked
    size = content.size
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1 if last else size)
    if start >= size or (last and first and int(last) < int(first)):
        content.close()
        exchange.response.set_header("Content-Range", f"bytes */{size}")
        raise NoSuchRange(f"It has {size} bytes, and none of those asked for.", "Ask for a part of it.")
    exchange.response.status = 206
    exchange.response.set_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
    exchange.stream(Single(content, start, stop - start), media_type)


def _asked(exchange: Exchange, etag: str) -> tuple[str, str] | None:
    match = _RANGE.fullmatch(exchange.request.get_header("Range", default=""))
    if match is None or not (match[1] or match[2]):
        return None
    condition = exchange.request.get_header("If-Range", default="")
    return None if condition and condition != f'"{etag}"' else (match[1], match[2])
