"""WADO-RS metadata, PS3.18 10.4.1.1.2: headers as DICOM JSON, from the catalog's packs if they are there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from catalog import Damaged, Entry, MoreNeeded, describe
from node.contracts import Outgoing

from .exchange import Exchange
from .media import JSON, accepted, one_of

_TYPES: Final = (JSON, "application/json")
_REFERENCE: Final = b'"BulkDataURI":"#'
"""Cannot stand inside a JSON text, where quotes are escaped."""
_HEAD: Final = 1 << 16
_AT_ONCE: Final = 256


def retrieve_metadata(exchange: Exchange) -> None:
    """Answer …/metadata of a study, series or instance."""
    media_type = one_of(accepted(exchange.request), _TYPES)
    entries = exchange.entries()
    exchange.record("retrieve", what="metadata", instances=len(entries))
    if exchange.is_known(version_of(exchange, entries), is_immutable=False):
        return
    exchange.scope.retriever.expect(entries)
    first = headers(exchange, entries[:_AT_ONCE])
    if exchange.missing:
        exchange.response.status = 206
        exchange.response.set_header("Cache-Control", "no-store")
    exchange.stream(_Array(exchange, entries, first), media_type)


def version_of(exchange: Exchange, entries: Sequence[Entry]) -> str:
    """Return what changes whenever these instances do, as they leave."""
    digest = hashlib.sha256(b"".join(entry.holding.sha256 for entry in entries))
    digest.update(exchange.service.encode())
    insight = exchange.scope.insight
    if insight is not None:
        for study in dict.fromkeys(entry.StudyInstanceUID for entry in entries):
            digest.update(insight.state_of(study))
    return digest.hexdigest()[:40]


class _Array:
    """A JSON array of headers, a portion at a time; satisfies `Stream`."""

    def __init__(self, exchange: Exchange, entries: Sequence[Entry], first: list[bytes]) -> None:
        self._exchange = exchange
        self._entries = entries
        self._first = first
        is_whole = len(entries) <= len(first)
        self.size = sum(map(len, first)) + len(first) + 1 if is_whole else None

    def __iter__(self) -> Iterator[bytes]:
        yield b"[" + b",".join(self._first)
        for start in range(len(self._first), len(self._entries), _AT_ONCE):
            portion = self._entries[start : start + _AT_ONCE]
            yield b"," + b",".join(headers(self._exchange, portion))
        yield b"]"

    def close(self) -> None:
        """Nothing was taken."""


def headers(exchange: Exchange, entries: Sequence[Entry]) -> list[bytes]:
    """Return the DICOM JSON of each instance, references to bulk data as URLs.

    Raises:
        PacsError: an object that has to be opened cannot be.
    """
    insight = exchange.scope.insight
    known = insight.headers(entries) if insight is not None else [b""] * len(entries)
    return [
        _resolved(exchange, entry, json or _read(exchange, entry))
        for entry, json in zip(entries, known, strict=True)
    ]


def _resolved(exchange: Exchange, entry: Entry, json: bytes) -> bytes:
    url = exchange.url(entry.StudyInstanceUID, entry.SeriesInstanceUID, entry.SOPInstanceUID)
    return json.replace(_REFERENCE, f'"BulkDataURI":"{url}/bulkdata/'.encode())


def _read(exchange: Exchange, entry: Entry) -> bytes:
    """Return the header of an instance that is not packed yet, or was corrected."""
    outgoing = exchange.scope.retriever.open(entry)
    try:
        return msgspec.json.encode(described(outgoing))
    finally:
        outgoing.close()


def described(outgoing: Outgoing) -> dict[str, dict[str, object]]:
    """Return every attribute of an instance as it leaves, up to its pixels.

    Raises:
        Unreadable: its data set cannot be parsed.
        Damaged: it is shorter than it was.
    """
    limit = min(_HEAD, outgoing.size)
    while True:
        head = memoryview(bytearray(limit))
        count = 0
        while count < limit:
            step = outgoing.read_into(head[count:], count)
            if not step:
                raise Damaged("A stored file is shorter than when it was stored.", "Run: peerpacs rebuild")
            count += step
        try:
            return describe(head, outgoing.TransferSyntaxUID, outgoing.size)
        except MoreNeeded as more:
            limit = min(max(more.size, limit * 8), outgoing.size)
