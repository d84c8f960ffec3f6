"""Where the objects of one stream come down: into parts of the cache, and what became of each is told."""

from __future__ import annotations

from typing import Protocol

from catalog import Damaged, Decision, PacsError
from node.nearline_cache import CopyCache
from node.nearline_copy import Said
from node.nearline_way import Call, Way


class Arrivals(Protocol):
    """Who hears what comes; `Fetches` does."""

    cache: CopyCache

    def now(self) -> float:
        """Return the monotonic time."""

    def landed(self, way: Way) -> None:
        """Hear from a stream that one of its objects is whole."""

    def failed(self, way: Way, error: PacsError) -> None:
        """Hear from a stream that one of its objects does not come."""


class Landing:
    """Writes what one stream brings; satisfies `Receiver`."""

    def __init__(self, fetches: Arrivals, call: Call) -> None:
        self._fetches = fetches
        self._call = call
        self._current: Way | None = None
        self.size = 0
        """Bytes that came."""

    def begin(
        self, index: int, size: int, corrections: list[Decision], system: str, *, is_limited: bool
    ) -> None:
        way = self._call.ways[index]
        self._current = way
        way.said = corrections, system, is_limited
        if way.part is None:
            way.part = self._fetches.cache.part(way.entry)

    def data(self, piece: memoryview) -> None:
        self._call.moved = self._fetches.now()
        self.size += len(piece)
        way = self._current
        if way is None or way.part is None or way.part.length + len(piece) > way.entry.holding.size:
            raise Damaged("A peer sends bytes that nobody asked for.", "It is not asked again for these.")
        way.part.write(piece)

    def end(self, index: int) -> None:
        way = self._call.ways[index]
        self._current = None
        assert way.part is not None
        corrections, system, is_limited = way.said
        source, asker = self._call.source, self._call.asker
        use = (asker.role, asker.purpose) if is_limited else ()
        try:
            way.part.finish(Said(source.owner, way.entry, tuple(corrections), system, source.state, use))
        except PacsError as error:
            way.part.discard()
            way.part = None
            self._fetches.failed(way, error)
        else:
            self._fetches.landed(way)

    def failed(self, index: int, error: PacsError) -> None:
        self._current = None
        self._fetches.failed(self._call.ways[index], error)
