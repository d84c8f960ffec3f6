"""After a power cut: rows whose bytes did not reach the disk are taken back before anybody is answered.

The disk syncs an object while the catalog commits its row, so that a cut can leave a row without bytes.
It was never acknowledged; if the row stayed, the same instance sent again would be taken for known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from .commit import Batch
from .log import changes, read_head
from .model import Entry, Holding
from .publishing import marks
from .recording import flag_conflict, place, take_away, version_key
from .rows import (
    CLAIMS_CODEC,
    CONFLICT_CODEC,
    ENTRY_CODEC,
    INSTANCE_CODEC,
    OUTBOX_CODEC,
)
from .truth import CLAIM, CONFLICT, INSTANCE, OUTBOX, VERSIONS, Reading, joined, scan

_STATED_LATELY: Final = 1000
"""Log rows looked at, the newest; a row waits a second before it is stated, a sync takes far less."""


def find_lost(reading: Reading, is_lost: Callable[[Holding], bool]) -> list[Entry]:
    """Return the versions among the newest rows whose bytes are lost."""
    series = {mark.key for mark in marks(reading)}
    lately = max(0, read_head(reading).seq - _STATED_LATELY)
    series |= {change.key for change in changes(reading, lately, _STATED_LATELY)}
    for _, stored in scan(reading, OUTBOX):
        row = OUTBOX_CODEC.unpack(stored)
        series.add(joined(row.StudyInstanceUID, row.SeriesInstanceUID))
    found = [entry for key in series if b"\0" in key for entry in _instances(reading, key)]
    found += [ENTRY_CODEC.unpack(stored) for _, stored in scan(reading, VERSIONS)]
    return [entry for entry in found if is_lost(entry.holding)]


def forget(batch: Batch, entries: list[Entry]) -> None:
    """Take versions back as if they had never come."""
    for entry in entries:
        _forget(batch, entry)


def _instances(reading: Reading, key: bytes) -> Iterator[Entry]:
    for _, stored in scan(reading, INSTANCE + key + b"\0"):
        yield INSTANCE_CODEC.unpack(stored).entry


def _forget(batch: Batch, entry: Entry) -> None:
    uid, digest = entry.SOPInstanceUID, entry.holding.sha256
    claim_key = CLAIM + uid.encode()
    stored = batch.get(claim_key)
    claims = CLAIMS_CODEC.unpack(stored) if stored else None
    if claims is None or digest not in {claim[0] for claim in claims.versions}:
        return
    batch.totals.stored -= entry.holding.size
    is_preferred = claims.versions[0][0] == digest
    claims.versions = [claim for claim in claims.versions if claim[0] != digest]
    if is_preferred:
        take_away(batch, entry)
    else:
        batch.delete(version_key(entry))
    if not claims.versions:
        batch.delete(claim_key)
        return
    if claims.first == digest:
        claims.first = claims.versions[0][0]
    if is_preferred:
        key = VERSIONS + joined(uid) + b"\0" + claims.versions[0][0]
        place(batch, ENTRY_CODEC.unpack(batch.get(key) or b""))
        batch.delete(key)
    batch.put(claim_key, CLAIMS_CODEC.pack(claims))
    if len(claims.versions) == 1:
        _settle_conflict(batch, uid)


def _settle_conflict(batch: Batch, SOPInstanceUID: str) -> None:
    key = CONFLICT + b"v" + SOPInstanceUID.encode()
    if (stored := batch.get(key)) is not None:
        row = CONFLICT_CODEC.unpack(stored)
        if not row.is_resolved:
            flag_conflict(batch, row, -1)
        batch.delete(key)
