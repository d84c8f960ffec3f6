"""WADO-RS bulk data, PS3.18 10.4.1.1.5: what metadata refers to, by where it lies in the data set.

A reference names a place in the data set as it leaves now; what is not a value of its own there is not given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from catalog import Attributes, Entry, NotFound
from node.contracts import Outgoing
from node.encapsulation import read
from node.transcoding import EXPLICIT_BIG, EXPLICIT_LITTLE

from .exchange import Exchange
from .frames import send_frames
from .media import OCTETS, MediaRange, accepted, choose
from .metadata import described, version_of
from .pixeldata import Pixels
from .pixelmedia import media_type_of
from .problems import Malformed, TooLarge
from .ranges import send_single
from .streams import Bytes, Owned, Part, Readable, Related, Window

_PLACE: Final = re.compile(r"[0-9]{1,18},[0-9]{1,18}")
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_PIXEL_DATA: Final = "7FE00010"
_LARGEST_TURNED: Final = 256 << 20
_WORDS: Final = {"OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2}
"""Bytes that change their places together, PS3.5 7.3."""


def retrieve_bulk_data(exchange: Exchange) -> None:
    """Answer …/bulkdata/{offset},{length}."""
    place = exchange.named.pop("place")
    if not _PLACE.fullmatch(place):
        raise Malformed("Bulk data is named as the metadata names it.", "Ask for the metadata again.")
    ranges = accepted(exchange.request)
    [entry] = exchange.entries()
    exchange.record("retrieve", what="bulk data")
    outgoing = exchange.scope.retriever.open(entry)
    try:
        found = next((each for each in _references(described(outgoing)) if each[2] == f"#{place}"), None)
        if found is None:
            raise NotFound("There is no bulk data at that place.", "Ask for the metadata again.")
        tag, vr, _ = found
        if tag == _PIXEL_DATA and media_type_of(outgoing.TransferSyntaxUID) != OCTETS:
            outgoing.close()
            _send_frames(exchange, entry, ranges)
            return
        content = Owned(_content(outgoing, vr, place), outgoing.close)
        _send(exchange, content, ranges, version_of(exchange, [entry]) + place)
    except BaseException:
        outgoing.close()
        raise


def retrieve_all_bulk_data(exchange: Exchange) -> None:
    """Answer …/bulkdata of an instance: every value that its metadata refers to, a part each."""
    ranges = accepted(exchange.request)
    choose(ranges, lambda each: (each.covers(OCTETS) and each.kind != OCTETS) or None, "multipart/related")
    [entry] = exchange.entries()
    exchange.record("retrieve", what="bulk data")
    outgoing = exchange.scope.retriever.open(entry)
    try:
        url = exchange.url(entry.StudyInstanceUID, entry.SeriesInstanceUID, entry.SOPInstanceUID)
        parts = []
        for _, vr, reference in _references(described(outgoing)):
            content = _content(outgoing, vr, reference[1:])
            parts.append(
                Part(OCTETS, f"{url}/bulkdata/{reference[1:]}", lambda kept=content: kept, content.size)  # type: ignore[misc]
            )
        if not parts:
            raise NotFound("The instance has no bulk data.", "All of it is in its metadata.")
        body = Related(OCTETS, parts, outgoing.close)
        exchange.stream(body, body.media_type)
    except BaseException:
        outgoing.close()
        raise


def _references(
    attributes: Attributes | dict[str, Any], is_top: bool = True
) -> Iterator[tuple[str, str, str]]:
    """Yield tag, VR and reference of each element that has one; the tag is empty inside sequences."""
    for tag, content in attributes.items():
        if "BulkDataURI" in content:
            yield tag if is_top else "", content["vr"], content["BulkDataURI"]
        elif content["vr"] == "SQ":
            for item in content.get("Value", ()):
                yield from _references(item, False)


def _send_frames(exchange: Exchange, entry: Entry, ranges: list[MediaRange]) -> None:
    pixels = Pixels(exchange, entry)
    try:
        numbers = range(1, pixels.index.frames + 1)
        send_frames(exchange, pixels, numbers, ranges, version_of(exchange, [entry]))
    except BaseException:
        pixels.close()
        raise


def _send(exchange: Exchange, content: Readable, ranges: list[MediaRange], etag: str) -> None:
    is_multipart = choose(
        ranges,
        lambda each: each.is_multipart if each.covers(OCTETS) and each.transfer_syntax in _NATIVE else None,
        OCTETS,
    )
    if exchange.is_known(etag, is_immutable=False):
        content.close()
    elif is_multipart:
        location = exchange.service + exchange.request.path.removeprefix(exchange.root)
        body = Related(OCTETS, [Part(OCTETS, location, lambda: content, content.size)], content.close)
        exchange.stream(body, body.media_type)
    else:
        send_single(exchange, content, OCTETS, etag)


_NATIVE: Final = ("", "*", EXPLICIT_LITTLE)


def _content(outgoing: Outgoing, vr: str, place: str) -> Readable:
    """Return a value, little endian."""
    offset, length = map(int, place.split(","))
    syntax = outgoing.TransferSyntaxUID
    if syntax == _DEFLATED:
        return Bytes(_inflated(outgoing, offset, length))
    if syntax == EXPLICIT_BIG and vr in _WORDS:
        if length > _LARGEST_TURNED:
            raise TooLarge("It is too large to be made little endian.", "Ask for the whole instance.")
        return Bytes(_turned(read(outgoing, offset, length), _WORDS[vr]))
    return Window(outgoing, offset, length)


def _turned(data: bytes, width: int) -> bytes:
    turned = bytearray(data)
    for place in range(width):
        turned[place::width] = data[width - 1 - place :: width][: len(turned[place::width])]
    return bytes(turned)


def _inflated(outgoing: Outgoing, offset: int, length: int) -> bytes:
    import zlib

    if offset + length > _LARGEST_TURNED:
        raise TooLarge("It is too large to be inflated.", "Ask for the whole instance.")
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflate.decompress(read(outgoing, 0, outgoing.size), offset + length)
    return plain[offset : offset + length]
