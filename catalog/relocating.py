"""Where the bytes of recorded instances lie: told from row to row, and changed when they were moved.

A move changes nothing that anybody is answered or told: the same bytes, the same version, another place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from msgspec.structs import replace

from .commit import Batch
from .model import Entry, Holding, Move, Moved
from .rows import CLAIMS_CODEC, ENTRY_CODEC, INSTANCE_CODEC
from .truth import CLAIM, INSTANCE, VERSIONS, Reading, joined, scan

_KINDS: Final = (INSTANCE, VERSIONS)


def relocate(batch: Batch, moves: Sequence[Move]) -> list[Moved]:
    """Have each row name the new place, if it still names the old one."""
    return [_relocate(batch, move) for move in moves]


def _relocate(batch: Batch, move: Move) -> Moved:
    stored = batch.get(CLAIM + move.SOPInstanceUID.encode())
    claims = CLAIMS_CODEC.unpack(stored).versions if stored else []
    for place, (digest, study, series) in enumerate(claims):
        if digest != move.was.sha256:
            continue
        if place == 0:
            key = INSTANCE + joined(study, series, move.SOPInstanceUID)
            row = INSTANCE_CODEC.unpack(batch.get(key) or b"")
            outcome, row.entry = _moved(row.entry, move)
            batch.put(key, INSTANCE_CODEC.pack(row))
        else:
            key = VERSIONS + joined(move.SOPInstanceUID) + b"\0" + digest
            outcome, entry = _moved(ENTRY_CODEC.unpack(batch.get(key) or b""), move)
            batch.put(key, ENTRY_CODEC.pack(entry))
        return outcome
    return Moved.UNKNOWN


def _moved(entry: Entry, move: Move) -> tuple[Moved, Entry]:
    if entry.holding == move.now:
        return Moved.BEFORE, entry
    if entry.holding != move.was:
        return Moved.ELSEWHERE, entry
    return Moved.NOW, replace(entry, holding=move.now)


def stored_after(reading: Reading, cursor: bytes, limit: int) -> list[tuple[bytes, Entry]]:
    """Return at most `limit` versions behind the cursor, whatever decisions say of them, with their cursors.

    Those that are preferred come first, study by study; an empty cursor begins.
    """
    return list(islice(_stored(reading, cursor), limit))


def _stored(reading: Reading, cursor: bytes) -> Iterator[tuple[bytes, Entry]]:
    for kind in _KINDS:
        if cursor[:1] > kind:
            continue
        for key, stored in scan(reading, kind, cursor if cursor[:1] == kind else b""):
            if kind == VERSIONS:
                yield key, ENTRY_CODEC.unpack(stored)
            elif _is_instance(key):
                yield key, INSTANCE_CODEC.unpack(stored).entry


def _is_instance(key: bytes) -> bool:
    """Tell the row of an instance from those of its study and series, which lie among them."""
    parts = key.split(b"\0")
    return len(parts) == 3 and parts[1] != b""


def holding_of(entries: Sequence[Entry], sha256: bytes) -> Holding | None:
    """Return where the version with these bytes lies, of those that claim one UID."""
    return next((entry.holding for entry in entries if entry.holding.sha256 == sha256), None)
