"""What a keeper writes down: of each copy, of each study, and of who may read them."""

from __future__ import annotations

import msgspec

from catalog import Entry, Holding
from federation.copying import CopyItem


class CopyRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One object that is kept for an owner."""

    SeriesInstanceUID: str
    SOPInstanceUID: str
    SOPClassUID: str
    TransferSyntaxUID: str
    holding: Holding
    source: str
    """Who stored it at the owner."""
    received: int
    """When it was stored there, in milliseconds since 1970."""

    def entry(self, StudyInstanceUID: str) -> Entry:
        """Return it as its owner's catalog has it, but for its place."""
        return Entry(StudyInstanceUID=StudyInstanceUID, **msgspec.structs.asdict(self))


def item_of(kept: Entry | CopyRow) -> CopyItem:
    """Return an object as owner and keeper name it to each other."""
    uids = (kept.SeriesInstanceUID, kept.SOPInstanceUID, kept.SOPClassUID, kept.TransferSyntaxUID)
    return CopyItem(*uids, kept.holding.sha256, kept.holding.size, kept.source, kept.received)


def row_of(item: CopyItem) -> CopyRow:
    """Return the row for an object that is named; its place is not known yet."""
    named = item._asdict()
    return CopyRow(holding=Holding(named.pop("sha256"), b"", named.pop("size")), **named)


class StudyRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What an owner said about a study besides its objects."""

    decisions: tuple[bytes, ...] = ()
    """All that its persons decided, oldest first."""
    statement: bytes = b""
    """What it stated of the study, and of its series."""
    said: float = 0.0
    """When, in seconds since 1970."""
    readable: bytes = b""
    """What others may be given of it, packed; none: nothing."""


class ReadersRow(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What an owner said of who may read its copies."""

    readers: bytes
    said: float
    """When, in seconds since 1970."""


def study_key(owner: bytes, study: str) -> bytes:
    """Return the key of an owner's study."""
    return owner + b"\0" + study.encode()
