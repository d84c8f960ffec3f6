"""The mirror's keys and rows: what every peer stated, as it came, and how far each peer's log was applied.

One LMDB environment for all peers. A row lies under its source's number and its own key, so that one peer's
rows are one range; the indexes lie under the value they are asked by, whoever stated it, so that a question
costs the same for two peers as for thirty.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from catalog import Head, PatientKey
from catalog.log import ORIGIN
from catalog.order import decoded, index_keys, study_order
from catalog.rows import Codec
from catalog.truth import INDEX

from .foreign import UNREADABLE, study_of

# The first byte of a key says what lies under it; INDEX is b"x".
DIGEST: Final = b"g"  # source, bucket -> count and sum
HASHED: Final = b"e"  # hash of a study, patient or accession, source -> nothing
HOLDER: Final = b"h"  # study, zero, source -> nothing
STUDY_NUMBER: Final = b"k"  # number in the search index -> study
NUMBER_OF: Final = b"K"  # study -> its number in the search index
META: Final = b"m"  # name -> value
SOURCE: Final = b"n"  # share, owner -> source
UNINDEXED: Final = b"o"  # study -> a mark: the search index does not know it as it is
STATE: Final = b"p"  # source -> SourceState
ROW: Final = b"r"  # source, key -> stamp and row

SOURCE_BYTES: Final = 2
STAMP: Final = struct.Struct(">IQ")
"""The snapshot or later log that last confirmed a row, counted per source, and its number in the log."""
LONGEST_KEY: Final = 160
"""Bytes of the key of a row: two UIDs of 64 characters and some room; LMDB's own limit is 511."""
LONGEST_ROW: Final = 1 << 20


class SnapshotState(msgspec.Struct, array_like=True):
    """A snapshot that is being taken in."""

    at: Head
    after: bytes
    """The last key that was kept."""
    is_first: bool
    """Whether the source had no rows before, so that nothing can be replaced."""
    is_complete: bool = False
    """Whether all rows are here, and only those it did not confirm wait to be swept."""


class SourceState(msgspec.Struct, array_like=True):
    """How far one share of one owner is mirrored."""

    owner: bytes
    share: int
    epoch: int = 0
    applied: int = 0
    chain: bytes = ORIGIN
    reached: Head = Head(0, 0, ORIGIN)
    """The furthest head at which anything of this was read."""
    generation: int = 0
    """Counts the snapshots; rows carry the one they came in, or after."""
    confirmed: int = 0
    """Rows of an older generation are unconfirmed: they belong to a history that ended."""
    snapshot: SnapshotState | None = None
    studies: int = 0
    """Live rows of studies."""
    in_sync: int = 0
    """When the mirror last was as the owner's log, by this node's own clock; milliseconds since 1970."""
    vanished: int = 0
    """Studies that went since `vanishing`, within an hour of it."""
    vanishing: int = 0
    held: int = 0
    """Studies that would go, had a person said yes; nothing is applied while it is not zero."""
    allowed: int = 0
    """When a person said yes to it; good for an hour."""

    @property
    def seen(self) -> Head:
        """The end of the owner's log as it was applied."""
        return Head(self.epoch, self.applied, self.chain)

    @property
    def is_whole(self) -> bool:
        """Whether the rows are those of a log that ended at `seen`: no snapshot, nothing read beyond it."""
        return self.snapshot is None and self.reached.seq <= self.applied


STATE_CODEC: Final = Codec(SourceState)


class Held(NamedTuple):
    """A row of the mirror: what its source stated, when in its log, and whether its history still counts."""

    row: bytes
    seq: int
    is_confirmed: bool


def part_of(source: int) -> bytes:
    """Return a source's number as a key part."""
    return source.to_bytes(SOURCE_BYTES, "big")


def is_study(key: bytes) -> bool:
    """Say whether a key is that of a study, not of one of its series."""
    return b"\0" not in key


class HashedStudy(msgspec.Struct, array_like=True, frozen=True):
    """A study of a peer that grants no more than keyed hashes, to know whom to ask."""

    version: int
    study: bytes
    patient: bytes
    accession: bytes


_read_hashed: Final = msgspec.msgpack.Decoder(HashedStudy).decode


def _hashes_of(row: bytes) -> tuple[bytes, ...]:
    try:
        hashed = _read_hashed(row)
    except UNREADABLE:
        return ()
    return tuple(each for each in (hashed.study, hashed.patient, hashed.accession) if 0 < len(each) <= 64)


def places_of(key: bytes, row: bytes, source: bytes) -> Iterator[bytes]:
    """Yield the index keys under which a study is found that this source stated."""
    yield HOLDER + key + b"\0" + source
    statement = study_of(row)
    if statement is None:
        yield from (HASHED + each + source for each in _hashes_of(row))
        return
    try:
        attributes = decoded(statement.attributes)
        uid = key.decode()
    except UNREADABLE:
        return
    patient = PatientKey(*statement.patient)
    for place in index_keys(uid, attributes, patient, study_order(attributes)):
        yield place + b"\0" + source


def tail_of(place: bytes) -> bytes:
    """Return order and UID from an index key."""
    start = place.rfind(b"\0", 0, -SOURCE_BYTES - 1) + 1
    return place[start or len(INDEX) + 1 : -SOURCE_BYTES - 1]
