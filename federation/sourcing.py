"""From whom an object can be fetched, and what its owner says of it now: read from the mirrors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from catalog import Entry, PacsError, Unavailable

from .mirror_reading import mirrored
from .readable import state_of
from .sight import Grid


class Source(NamedTuple):
    """An owner who states that it holds a series."""

    owner: bytes
    site: str
    is_reachable: bool
    state: bytes
    """Changes when the owner says something else of the patient, study or series."""


class Sources:
    """Looks holders up; called once for each object, so it reads no more than one study's rows."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def __call__(self, entry: Entry) -> list[Source]:
        """Return everybody who states the series of an object."""
        return list(self._of(entry.StudyInstanceUID, entry.SeriesInstanceUID))

    def _of(self, study: str, series: str) -> Iterator[Source]:
        standing = self._grid.standing()
        with self._grid.mirror.reading() as reading:
            found = list(mirrored(reading, study.encode(), standing.keys()))
        for each in found:
            said, at = each.stated, standing[each.source]
            row = next((row for row in said.series if row.SeriesInstanceUID == series), None)
            if row is not None:
                is_reachable = at.is_reachable and each.is_confirmed
                yield Source(at.owner, at.site, is_reachable, state_of(said.study, row))


def nobody_of(sources: Sequence[Source]) -> PacsError:
    """Return why none of these gives an object, where none can be reached."""
    sites = sorted({source.site for source in sources})
    if not sites:
        return Unavailable("Nobody in the grid states to hold it any more.")
    what = f"Held by {', '.join(sites)}, which cannot be reached now."
    return Unavailable(what, "Try again when it can.")
