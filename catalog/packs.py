"""Every attribute of every instance: compressed header packs, one row for each few instances of a series.

Beside them stands what the series' instances say together: for every tag the distinct values, sequences as
distinct items, so that two keys of one item are still matched within one item. A tag with more values than
a person would look through is named instead, and whoever asks for it reads the packs.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from .commit import Batch
from .elements import MoreNeeded
from .errors import PacsError
from .levels import visible_instances
from .model import Attributes, Entry
from .order import decoded, encoded
from .repeats import Described, Describer
from .rows import VERSION, Codec, SeriesRow, summed
from .truth import PACK, UNION, Reading, Reads, counted, scan

ReadHeader = Callable[[Entry, int], tuple[memoryview, int]]
"""Returns the first bytes of an instance's data set, at least so many if there are, and its whole length."""

HEADER: Final = 16 * 1024
"""Bytes of a data set that usually hold all but the pixels."""
_TO_A_PACK: Final = 64
_DISTINCT: Final = 64
"""Values of one tag that a union keeps."""
_DISTINCT_ITEMS: Final = 16
_LONGEST: Final = 2048
"""Characters of a text that a union keeps."""
_NEVER_UNITED: Final = frozenset({"00080005", "7FE00010", "00080018"})


class Packed(NamedTuple):
    """The attributes of one stored version of an instance, as DICOM JSON."""

    SOPInstanceUID: str
    sha256: bytes
    json: bytes


class UnionRow(msgspec.Struct, array_like=True):
    """What the packed instances of a series say together."""

    digest: bytes = bytes(32)
    """Sum of the united versions' SHA-256; where it is the series' own, the union is of what can be seen."""
    chunks: int = 0
    filled: int = 0
    """Instances in the last chunk."""
    values: bytes = b"{}"
    """DICOM JSON with the distinct values."""
    crowded: list[str] = []
    """Tags of which not every value is in `values`."""


UNION_CODEC: Final = Codec(UnionRow)
_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(list[Packed]).decode


def described(read_header: ReadHeader, entry: Entry, describer: Describer) -> Described:
    """Return every attribute of a stored instance.

    Raises:
        PacsError: its bytes cannot be read.
    """
    size = HEADER
    while True:
        data, total = read_header(entry, size)
        try:
            return describer.describe(data, entry.TransferSyntaxUID, total)
        except MoreNeeded as more:
            if len(data) >= total:
                raise PacsError("The data set ends before its header does.") from more
            size = max(size * 4, more.size)


def append(batch: Batch, series_key: bytes, items: list[Packed], row: UnionRow) -> None:
    """Add instances to the packs; where they end is noted in `row`, which is not written."""
    if row.chunks and row.filled + len(items) <= _TO_A_PACK:
        row.chunks -= 1
        items = [*_chunk(batch.get(_chunk_key(series_key, row.chunks)) or b""), *items]
    for start in range(0, len(items), _TO_A_PACK):
        part = items[start : start + _TO_A_PACK]
        batch.put(_chunk_key(series_key, row.chunks), VERSION + zlib.compress(_pack(part), 1))
        row.chunks += 1
        row.filled = len(part)


def _chunk_key(series_key: bytes, number: int) -> bytes:
    return PACK + series_key + b"\0" + counted(number)


def _chunk(stored: bytes) -> list[Packed]:
    return _unpack(zlib.decompress(memoryview(stored)[1:]))


def packed(reading: Reading, series_key: bytes) -> list[Packed]:
    """Return every packed version of a series."""
    return [item for _, chunk in scan(reading, PACK + series_key + b"\0") for item in _chunk(chunk)]


def packed_json(reading: Reading, series_key: bytes) -> dict[tuple[str, bytes], bytes]:
    """Return the DICOM JSON of every packed version of a series, by SOP Instance UID and SHA-256."""
    return {(item.SOPInstanceUID, item.sha256): item.json for item in packed(reading, series_key)}


def union_row(reads: Reads, series_key: bytes) -> UnionRow | None:
    """Return what a series' packed instances say together; a series of one needs none."""
    stored = reads.get(UNION + series_key)
    return UNION_CODEC.unpack(stored) if stored else None


def store_union(batch: Batch, series_key: bytes, row: UnionRow) -> None:
    """Write the row, unless one pack of one instance says as much."""
    if row.chunks > 1 or row.filled > 1:
        batch.put(UNION + series_key, UNION_CODEC.pack(row))


class Union:
    """The distinct values of a series in the making."""

    def __init__(self, row: UnionRow) -> None:
        self.values: Attributes = decoded(row.values)
        self.crowded = set(row.crowded)
        self.digest = row.digest

    @property
    def is_empty(self) -> bool:
        """Whether nothing was taken in yet."""
        return self.digest == bytes(32)

    def add(self, attributes: Attributes, sha256: bytes) -> None:
        """Take in what one version says."""
        self.digest = summed(self.digest, (sha256,))
        values, crowded = self.values, self.crowded
        if not values and not crowded:
            # One instance alone cannot crowd anything.
            self.values = {tag: element for tag, element in attributes.items() if tag not in _NEVER_UNITED}
            return
        for tag, element in attributes.items():
            known = values.get(tag)
            if known != element and tag not in crowded and tag not in _NEVER_UNITED:
                self._add(tag, known, element)

    def _add(self, tag: str, known: dict[str, Any] | None, element: dict[str, Any]) -> None:
        if known is None:
            merged = element
        elif not (new := element.get("Value")):
            if "Value" in known or element.keys() == known.keys() == {"vr"}:
                return
            # Two different binary values: whoever asks reads the packs.
            merged = None
        else:
            old = known.get("Value") or []
            merged = {"vr": known["vr"], "Value": old + [value for value in new if value not in old]}
        if merged is None or _is_too_much(merged):
            self.values.pop(tag, None)
            self.crowded.add(tag)
        else:
            self.values[tag] = merged

    def fill(self, row: UnionRow) -> UnionRow:
        """Return the row with these values."""
        return msgspec.structs.replace(
            row, values=encoded(self.values), crowded=sorted(self.crowded), digest=self.digest
        )


def _is_too_much(element: dict[str, Any]) -> bool:
    values = element.get("Value") or ()
    if element["vr"] == "SQ":
        return len(values) > _DISTINCT_ITEMS or len(encoded(values)) > 8 * _LONGEST
    return len(values) > _DISTINCT or any(
        isinstance(value, str) and len(value) > _LONGEST for value in values
    )


class Headers:
    """Reads attributes outside the fixed table: from the packs, or from an object not packed yet."""

    def __init__(self, read_header: ReadHeader) -> None:
        self._read_header = read_header
        self._describer = Describer()
        self._turn = threading.Lock()

    def of_instances(
        self, reading: Reading, series_key: bytes, entries: Iterable[Entry]
    ) -> Iterator[tuple[Entry, Attributes]]:
        """Yield each entry with all of its attributes; an object nobody can read has none."""
        known = packed_json(reading, series_key)
        for entry in entries:
            json = known.get((entry.SOPInstanceUID, entry.holding.sha256))
            yield entry, decoded(json) if json is not None else self._described(entry)

    def _described(self, entry: Entry) -> Attributes:
        # What is not packed yet mostly came together and is alike; who asks beside another starts afresh.
        is_first = self._turn.acquire(blocking=False)
        try:
            found = described(self._read_header, entry, self._describer if is_first else Describer())
            # The describer goes on sharing its elements, and an answer is its receiver's own.
            return decoded(encoded(found.attributes))
        except PacsError:
            return {}
        finally:
            if is_first:
                self._turn.release()

    def of_series(
        self, reading: Reading, series_key: bytes, series: SeriesRow, tags: frozenset[str]
    ) -> Iterator[Attributes]:
        """Yield attribute sets that together hold every value of the tags in the series."""
        row = union_row(reading, series_key)
        if row and row.digest == series.digest and tags.isdisjoint(row.crowded):
            yield decoded(row.values)
            return
        entries = list(visible_instances(reading, series_key))
        for _, attributes in self.of_instances(reading, series_key, entries):
            yield attributes
