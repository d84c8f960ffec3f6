"""What is under way to this node: one object from whoever has it, and one stream that brings several."""

from __future__ import annotations

from typing import Any

from catalog import Decision, Entry, PacsError
from federation.sourcing import Source
from federation.trust.assertion import Asker
from node.nearline_copy import Part


class Way:
    """One object on its way: who waits, what came so far, where it was asked for."""

    def __init__(self, entry: Entry, asker: Asker, priority: int, sources: list[Source]) -> None:
        self.entry = entry
        self.asker = asker
        self.priority = priority
        self.sources = sources
        self.part: Part | None = None
        self.said: tuple[list[Decision], str] = ([], "")
        self.source: Source | None = None
        self.call: Call | None = None
        self.error: PacsError | None = None
        self.is_over = False
        self.waiting = 0
        """Threads that wait for it."""

    def leave(self, error: PacsError) -> None:
        """Give a source up."""
        self.error, self.call = error, None
        if self.source is not None and self.source in self.sources:
            self.sources.remove(self.source)


class Call:
    """One stream, and when its last byte came."""

    def __init__(self, source: Source, ways: list[Way], now: float) -> None:
        self.source = source
        self.ways = ways
        self.moved = now
        self.stream: Any = None
        self.is_cancelled = False

    def cancel(self) -> None:
        """End it, also when it has not begun yet."""
        self.is_cancelled = True
        if self.stream is not None:
            self.stream.cancel()
