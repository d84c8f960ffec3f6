"""Manifests: which instances a peer's series has; asked for when needed, and kept by digest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from threading import Lock
from typing import Final

from catalog import Entry, PacsError, Unavailable
from catalog.rows import summed
from catalog.statements import SeriesStatement

from .merging import HERE, MergedSeries

MOST_ENTRIES: Final = 200_000
"""Instances of which manifests are kept; some 60 MB."""
Manifest = Callable[[bytes, SeriesStatement], list[Entry]]
"""Takes an owner and its series; returns its instances, with places from which they can be opened.

Raises PacsError where it cannot be had.
"""

given_up: Final[ContextVar[Callable[[], bool]]] = ContextVar("given_up", default=bool)
"""Says whether nobody waits for the instances any more that the code within a context looks for."""


class Manifests:
    """Manifests that were fetched; the least used are forgotten, and a changed series has another digest."""

    def __init__(self, fetch: Manifest, most: int = MOST_ENTRIES) -> None:
        self._fetch = fetch
        self._most = most
        self._kept: OrderedDict[tuple[bytes, str, str, bytes], list[Entry]] = OrderedDict()
        self._entries = 0
        self._lock = Lock()

    def __call__(self, owner: bytes, series: SeriesStatement) -> list[Entry]:
        """Return the instances of an owner's series; see `Manifest`."""
        name = _name(owner, series)
        known = self.known(owner, series)
        if known and series.is_settled:
            return known
        try:
            found = self._fetch(owner, series)
        except PacsError:
            # Its owner may have more by now; what it said before is better than nothing.
            if known:
                return known
            raise
        if sum_of(found) != series.digest:
            # It changed since it was stated, and the catalog will follow; this is true, but not for long.
            return found
        with self._lock:
            if name not in self._kept:
                self._kept[name] = found
                self._entries += len(found)
            while self._entries > self._most and len(self._kept) > 1:
                _, gone = self._kept.popitem(last=False)
                self._entries -= len(gone)
        return found

    def known(self, owner: bytes, series: SeriesStatement) -> list[Entry]:
        """Return the instances of an owner's series if its manifest is kept, else nothing; asks nobody."""
        name = _name(owner, series)
        with self._lock:
            found = self._kept.get(name)
            if found is not None:
                self._kept.move_to_end(name)
            return found or []


def _name(owner: bytes, series: SeriesStatement) -> tuple[bytes, str, str, bytes]:
    # A series that was moved has the same instances in another study.
    return owner, series.StudyInstanceUID, series.SeriesInstanceUID, series.digest


def sum_of(entries: list[Entry]) -> bytes:
    """Return the digest a series with these instances has."""
    return summed(bytes(32), (entry.holding.sha256 for entry in entries))


def elsewhere(
    series: MergedSeries, manifest: Manifest, unlisted: set[bytes], *, reachable: bool = False
) -> Iterator[Entry]:
    """Yield what peers have of a series and this node may lack, from whoever holds most first.

    Holders with the same digest have the same; where digests differ, each may have what no other has. Owners
    whose manifest cannot be had, though nobody else has the same, go into `unlisted`.

    Raises:
        Unavailable: nobody waits for them any more, so nobody is asked.
    """
    is_given_up = given_up.get()
    seen = {statement.digest for holder, statement in series.holders if holder.owner == HERE}
    lacking: dict[bytes, list[bytes]] = {}
    for holder, statement in series.holders:
        if statement.digest in seen or (reachable and not holder.gives(series.SeriesInstanceUID)):
            continue
        if is_given_up():
            raise Unavailable("Nobody waits for the answer any more.")
        try:
            entries = manifest(holder.owner, statement)
        except PacsError:
            lacking.setdefault(statement.digest, []).append(holder.owner)
            continue
        seen.add(statement.digest)
        yield from entries
    unlisted.update(*(owners for digest, owners in lacking.items() if digest not in seen))
