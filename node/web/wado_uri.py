"""WADO-URI, PS3.18 9: one instance by query parameters, as a DICOM file or as an image."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

from node.transcoding import EXPLICIT_LITTLE

from .exchange import Exchange
from .instances import ANY, Wish, send_one
from .media import DICOM, RENDERED, parse
from .problems import Malformed, NotAcceptable
from .rendered import quality_of, rendering, window_of
from .rendering import Look

_UID: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")
_NAMES: Final = {"studyUID": "study", "seriesUID": "series", "objectUID": "instance"}
_NOT_DONE: Final = ("anonymize", "presentationUID", "presentationSeriesUID")
"""Parameters whose neglect would change what is shown."""
_IGNORED: Final = ("annotation", "charset", "overlays")
_SIDE: Final = 4096


def retrieve_by_uri(exchange: Exchange) -> None:
    """Answer GET /wado?requestType=WADO&…"""
    asked = dict(parse_qsl(exchange.request.query_string, keep_blank_values=True, max_num_fields=100))
    if asked.get("requestType") != "WADO":
        raise Malformed("requestType is not WADO.", "Ask as PS3.18 section 9 says.")
    for name, word in _NAMES.items():
        if not _UID.fullmatch(asked.get(name, "")):
            raise Malformed(f"{name} is missing or not a UID.", "Name study, series and object.")
        exchange.named[word] = asked[name]
    for name in _NOT_DONE:
        if asked.get(name):
            raise Malformed(f"{name} is not supported.", "Ask without it.")
    for name in _IGNORED:
        if asked.get(name):
            exchange.warn(f"The {name} parameter is not supported and was ignored.")
    [entry] = exchange.entries()
    default = RENDERED[0] if entry.Rows else DICOM
    media_type = _media_type(asked.get("contentType", "") or default)
    if media_type == DICOM:
        syntax = asked.get("transferSyntax", "") or EXPLICIT_LITTLE
        send_one(exchange, entry, Wish((syntax, ANY) if syntax == EXPLICIT_LITTLE else (syntax,), False))
        return
    frame = asked.get("frameNumber", "")
    if frame and not re.fullmatch(r"[1-9][0-9]{0,8}", frame):
        raise Malformed("frameNumber is not a number from 1 on.", "Correct the query.")
    look = _look(asked, entry.Columns, entry.Rows)
    image = rendering(exchange, entry, [int(frame)] if frame else [], media_type, look)
    exchange.record("retrieve", what="rendering")
    exchange.response.set_header("Cache-Control", "private, no-cache")
    exchange.reply(image, media_type)


def _media_type(text: str) -> str:
    for each in parse(text.replace(" ", "+") if "/" not in text else text):
        for offered in (DICOM, *RENDERED):
            if each.covers(offered) and each.quality > 0:
                return offered
    raise NotAcceptable(
        "None of these content types can be given.", f"There is {DICOM}, {', '.join(RENDERED)}."
    )


def _look(asked: dict[str, str], columns: int, rows: int) -> Look:
    look = Look()
    center, width = asked.get("windowCenter", ""), asked.get("windowWidth", "")
    if center or width:
        look = look._replace(window=window_of(f"{center},{width}"))
    if asked.get("imageQuality"):
        look = look._replace(quality=quality_of(asked["imageQuality"]))
    if asked.get("region"):
        look = look._replace(region=_region(asked["region"], columns, rows))
    wide, high = (_side(asked.get(name, "")) for name in ("columns", "rows"))
    if wide or high:
        look = look._replace(size=(wide or _SIDE, high or _SIDE))
    return look


def _side(text: str) -> int:
    if text and (not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= _SIDE):
        raise Malformed(f"rows and columns are whole numbers from 1 to {_SIDE}.", "Correct the query.")
    return int(text or 0)


def _region(text: str, columns: int, rows: int) -> tuple[int, int, int, int]:
    parts = text.split(",")
    if len(parts) != 4 or not all(re.fullmatch(r"[01](\.[0-9]{1,9})?|\.[0-9]{1,9}", each) for each in parts):
        raise Malformed("region is xmin,ymin,xmax,ymax, each from 0 to 1.", "Correct the query.")
    left, top, right, bottom = map(float, parts)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise Malformed("region is xmin,ymin,xmax,ymax, each from 0 to 1.", "Correct the query.")
    width, height = round((right - left) * columns), round((bottom - top) * rows)
    return round(left * columns), round(top * rows), max(1, width), max(1, height)
