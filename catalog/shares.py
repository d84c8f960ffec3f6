"""Shares: what a peer is granted, as a log of its own whose rows are projected from what is stated to all.

A projection sees everything stated about one study and says which rows the share has of it, under which
keys; it is a pure function, so that a share can be made again at any time from what share 0 says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from .commit import Batch
from .log import Ledger, part_of, rows_of
from .rows import Codec
from .statements import EVICTED, LEFT_SHARE, is_tombstone
from .truth import META, SHARED, Reading, Reads, scan

SHARES: Final = 64
"""Share numbers go from 0, everything, to 63."""
Project = Callable[[str, Mapping[bytes, bytes]], Mapping[bytes, bytes]]
"""Takes a StudyInstanceUID and the live statements about it by key; returns the share's rows by key."""
_STATE: Final = META + b"share"


class Share(NamedTuple):
    """A share as its owner means it now; `terms` is a text that changes whenever the projection does."""

    number: int
    terms: str
    project: Project

    @classmethod
    def nothing(cls, number: int) -> Share:
        """Return the share that holds nothing, which is what becomes of one that was taken away."""
        return cls(number, "", lambda study, rows: {})


class ShareState(msgspec.Struct, array_like=True):
    """By which terms a share's rows were made, and up to which study; None when all are."""

    terms: str
    after: bytes | None


_STATE_CODEC: Final = Codec(ShareState)
_KEYS_CODEC: Final = Codec(list[bytes])


def read_state(reads: Reads, number: int) -> ShareState | None:
    """Return how far a share is made; None for one that never was."""
    stored = reads.get(_STATE + part_of(number))
    return _STATE_CODEC.unpack(stored) if stored else None


def write_state(batch: Batch, number: int, state: ShareState) -> None:
    """Remember how far a share is made."""
    batch.put(_STATE + part_of(number), _STATE_CODEC.pack(state))


def stored_shares(reading: Reading) -> list[int]:
    """Return the numbers of the shares that ever had a log."""
    return [key[-1] for key, _ in scan(reading, _STATE)]


def project(batch: Batch, share: Share, studies: Iterable[bytes]) -> int:
    """State in the share's log what it has of these studies now; return how many rows changed."""
    ledger = Ledger(batch, share.number)
    for study in studies:
        stated = rows_of(batch.reading(), study)
        live = {key: row for key, row in stated.items() if not is_tombstone(row)}
        rows = dict(share.project(study.decode(), live)) if live else {}
        place = SHARED + part_of(share.number) + study
        stored = batch.get(place)
        for key in _KEYS_CODEC.unpack(stored) if stored else ():
            if key not in rows:
                ledger.state(key, _reason(stated, study, key))
        for key in sorted(rows):
            ledger.state(key, rows[key])
        if rows:
            batch.put(place, _KEYS_CODEC.pack(sorted(rows)))
        elif stored:
            batch.delete(place)
    return ledger.close()


def _reason(stated: Mapping[bytes, bytes], study: bytes, key: bytes) -> bytes:
    """Return why a share has a key no more: gone altogether, or only not shared."""
    row = stated.get(key, stated.get(study, EVICTED))
    return row if is_tombstone(row) else LEFT_SHARE
