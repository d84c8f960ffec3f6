"""One end of a session, and what the rest of the node gives to sessions and hears from them."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from federation.trust.names import Identity
from protos import trust_pb2 as wire

from .roll import Standing

Spawn = Callable[[str, Callable[[], None]], None]
"""Runs something in a thread of its own, under this name."""


class News(NamedTuple):
    """What the catalog side adds to sessions, and wants to hear from them; nodes are named by their id."""

    heads: Callable[[Identity], Iterable[wire.Head]]
    """The heads of the shares that a node may follow."""
    seen: Callable[[Identity], Iterable[wire.Seen]]
    """What this node has of that node."""
    heard: Callable[[Identity, Iterable[wire.Head], Iterable[wire.Seen], bool], None]
    """That node said so: in its Hello, at each heartbeat, and when a head moved; the last says whether the
    heads are all that it lets this node follow."""
    granted: Callable[[Identity], Iterable[str]] = lambda identity: ()
    """What this node lets that node do, in words for its admin."""


SILENT = News(lambda identity: (), lambda identity: (), lambda identity, heads, seen, is_all: None)


class Own(NamedTuple):
    """What a node says of itself to others, beside what its certificate says."""

    addresses: tuple[str, ...] = ()
    """host:port."""
    ae_titles: tuple[str, ...] = ()
    is_dial_only: bool = False
    is_authority: bool = False
    door: str = ""
    """host:port at which it forwards to others."""
    desk: str = ""
    """host:port at which it answers who wants to join, or comes back."""


class Conversation:
    """What is to be sent over one session waits here, so that nobody ever waits for the wire."""

    def __init__(self, standing: Standing | None = None) -> None:
        self.standing = standing
        self.sent = 0.0
        """Monotonic seconds of the last heartbeat."""
        self.theirs = wire.Versions()
        """What the other side has of the documents that travel."""
        self.granted: tuple[str, ...] | None = None
        """What the other side lets this node do; None until it says."""
        self.is_over = False
        self._outbox: queue.SimpleQueue[wire.LinkMessage | None] = queue.SimpleQueue()

    def send(self, **content: Any) -> None:
        """Send one message, by its kind."""
        if not self.is_over:
            self._outbox.put(wire.LinkMessage(**content))

    def end(self) -> None:
        """Send what waits, then end this side."""
        self.is_over = True
        self._outbox.put(None)

    def messages(self) -> Iterator[wire.LinkMessage]:
        """Yield what is to be sent, until the end."""
        while (message := self._outbox.get()) is not None:
            yield message
