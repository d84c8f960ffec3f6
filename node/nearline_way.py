"""What is under way to this node: who wants it, one object from whoever has it, one stream of several."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from catalog import Decision, Entry, PacsError
from federation.sourcing import Source
from federation.trust.assertion import Asker
from node.contracts import Unwanted
from node.nearline_copy import Part, Said


class Wish:
    """On whose behalf objects are fetched, and whether they still want them; each is one of its own."""

    def __init__(self, asker: Asker, is_unwanted: Callable[[], bool] = bool) -> None:
        """`is_unwanted` is asked by the thread that waits."""
        self.asker = asker
        self.is_unwanted = is_unwanted

    @property
    def use(self) -> tuple[str, str]:
        """In which role and for which purpose it asks."""
        return self.asker.role, self.asker.purpose

    def may_have(self, said: Said) -> bool:
        """Say whether a copy serves it without its owner being asked again."""
        return not said.only_for or said.only_for == self.use

    def check(self) -> None:
        """Ask whether it still counts.

        Raises:
            Unwanted: it does not.
        """
        if self.is_unwanted():
            raise Unwanted


class Link(Protocol):
    """How peers are called."""

    def fetch(self, node_id: str, asker: Asker, request: Any, timeout: float, *, patient: bool) -> Any:
        """Begin a Fetch on behalf of an asker; return the call, which yields replies and can be cancelled.

        A `patient` one waits while the connection is made anew: the node has said that it is there.

        Raises:
            Unavailable: the node is not connected.
        """

    def letters(self, node_id: str) -> AbstractContextManager[None]:
        """Turn what a call raises inside into PacsErrors."""


class Way:
    """One object on its way: who wants it, what came so far, where it was asked for."""

    def __init__(self, entry: Entry, wish: Wish, priority: int, sources: list[Source]) -> None:
        self.entry = entry
        self.use = wish.use
        """For whom it was asked for last."""
        self.wishes = {wish: None}
        """Who wants it, the first one first; when nobody is left, it is given up."""
        self.priority = priority
        self.sources = sources
        self.part: Part | None = None
        self.said: tuple[list[Decision], str, bool] = ([], "", False)
        self.source: Source | None = None
        self.call: Call | None = None
        self.error: PacsError | None = None
        self.is_over = False
        self.waiting = 0
        """Threads that wait for it."""

    @property
    def asker(self) -> Asker:
        """On whose behalf it is asked for."""
        return next(iter(self.wishes)).asker

    def leave(self, error: PacsError) -> None:
        """Give a source up."""
        self.error, self.call = error, None
        if self.source is not None and self.source in self.sources:
            self.sources.remove(self.source)


class Call:
    """One stream, and when its last byte came."""

    def __init__(self, source: Source, ways: list[Way], asker: Asker, now: float) -> None:
        self.source = source
        self.ways = ways
        self.asker = asker
        self.moved = now
        self.stream: Any = None
        self.is_cancelled = False
        self.is_given_up = False
        """Cancelled because of what nobody wants any more; its source is as good as before."""

    def cancel(self) -> None:
        """End it, also when it has not begun yet."""
        self.is_cancelled = True
        if self.stream is not None:
            self.stream.cancel()
