"""What an owner lets others read at the nodes that keep its copies: which objects, how, and who.

A keeper relies on what it was told, for so long as a certificate counts; what it was not told is not granted.
"""

from __future__ import annotations

import zlib
from hashlib import sha256
from typing import Final

import msgspec

from catalog import BadRequest, Decision, Entry
from catalog.rows import summed
from catalog.statements import SeriesStatement, Stated, StudyStatement

from .trust.policy import Grant, Share

_LARGEST: Final = 64 << 20
LONGEST: Final = 3 << 20
"""Bytes that may be told of one study; of a larger one nobody but its owner is given copies."""
NOTHING: Final = b"\0"
"""Says that nothing of a study is read by others."""
TOLD_FOR: Final = 30 * 86400.0
"""Seconds for which an owner's word of who may read counts: as long as a node's certificate."""


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One instance as readers are given it; its place is nowhere."""

    entry: Entry
    corrections: tuple[Decision, ...] = ()
    """In force for it, oldest first."""


class Readable(msgspec.Struct, frozen=True, array_like=True):
    """A study as its owner shows it: what was rejected, or is not the preferred version, is not in it."""

    study: StudyStatement
    series: tuple[SeriesStatement, ...]
    rows: tuple[Row, ...]

    def whole(self) -> dict[str, SeriesStatement]:
        """Return the series of which the rows are all that their owner states, by UID."""
        sums = {each.SeriesInstanceUID: bytes(32) for each in self.series}
        for row in self.rows:
            entry = row.entry
            if entry.SeriesInstanceUID in sums:
                at = sums[entry.SeriesInstanceUID]
                sums[entry.SeriesInstanceUID] = summed(at, [entry.holding.sha256])
        return {
            each.SeriesInstanceUID: each
            for each in self.series
            if sums[each.SeriesInstanceUID] == each.digest
        }

    @property
    def stated(self) -> Stated:
        """What its owner states."""
        return Stated(self.study, list(self.series))


class Readers(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Who may read an owner's copies, and what a reader is to know of the owner."""

    shares: tuple[Share, ...]
    grants: tuple[Grant, ...]
    system: str
    """Under which name corrections were made."""
    ahead: int
    """Seconds by which the owner's time of day is before UTC's: its hours are meant."""


_encode: Final = msgspec.msgpack.Encoder().encode
_read: Final = msgspec.msgpack.Decoder(Readable).decode
_read_readers: Final = msgspec.msgpack.Decoder(Readers).decode


def packed(readable: Readable | None) -> bytes:
    """Return it as it goes over the wire; NOTHING where there is none, or that would be too much."""
    data = zlib.compress(_encode(readable), 1) if readable else NOTHING
    return data if len(data) <= LONGEST else NOTHING


def unpacked(data: bytes) -> Readable:
    """Return what came over the wire.

    Raises:
        BadRequest: it cannot be read.
    """
    try:
        reader = zlib.decompressobj()
        return _read(reader.decompress(data, _LARGEST))
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest("What is readable of a study cannot be read.") from error


def packed_readers(readers: Readers) -> bytes:
    """Return them as they go over the wire."""
    return _encode(readers)


def unpacked_readers(data: bytes) -> Readers:
    """Return what came over the wire.

    Raises:
        BadRequest: it cannot be read.
    """
    try:
        return _read_readers(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest("Who may read copies cannot be read.") from error


def state_of(study: StudyStatement, series: SeriesStatement) -> bytes:
    """Return what changes when an owner says something else of the patient, study or series."""
    who = (name.encode() for name in study.patient)
    overlay = (study.overlay,) if study.overlay else ()
    return sha256(b"\0".join((*who, study.attributes, series.attributes, *overlay))).digest()
