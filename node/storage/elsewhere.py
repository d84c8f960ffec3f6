"""The word for the place of an object that lies at other sites alone, and what reads it from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from catalog import Entry, Holding, Reader

_WORD: Final = b"copies:"


class Names(NamedTuple):
    """The UIDs of an object, which its place tells."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPInstanceUID: str


class Elsewhere(Protocol):
    """Reads what lies at other sites alone."""

    def open(self, holding: Holding) -> Reader:
        """Fetch a file and open it; raises what `ObjectStore.open` raises."""

    def verify(self, holding: Holding) -> None:
        """Have those who keep it prove it; raises what `ObjectStore.verify` raises."""

    def prefetch(self, holdings: Sequence[Holding]) -> None:
        """Hear what will be opened soon, in this order."""


def place_elsewhere(entry: Entry) -> bytes:
    """Return the word for the place of an object that is not here any more."""
    names = (entry.StudyInstanceUID, entry.SeriesInstanceUID, entry.SOPInstanceUID)
    return _WORD + "\0".join(names).encode()


def is_elsewhere(holding: Holding) -> bool:
    """Say whether an object's bytes lie at other sites alone."""
    return holding.where.startswith(_WORD)


def names_of(holding: Holding) -> Names:
    """Return the UIDs of an object that lies elsewhere."""
    return Names(*holding.where[len(_WORD) :].decode().split("\0"))
