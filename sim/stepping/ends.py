"""What REQ, REP, DEALER and ROUTER do with what they send and are sent (ZeroMQ RFC 28), without any waiting.

Sockets are connected by pairs of ends, which a post joins; all of this happens under its mutex.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from typing import Any, Protocol

import zmq

Frames = list[bytes]
"""A message."""
Place = tuple[int, str]
"""Where one can be bound: the number of a context and a name in it, or 0 and the path of ipc."""


class Owner(Protocol):
    """What an end knows of the socket that it belongs to."""

    ends: list[End]
    options: dict[int, Any]
    pattern: Pattern

    def arrive(self, end: End, frames: Frames) -> None:
        """Take a message in."""

    def lose(self, end: End, for_good: bool) -> None:
        """Learn that nobody is at the other end any more, or is to be for good."""

    def drop(self, end: End) -> None:
        """Forget an end, and what came by it and was not read."""

    def settle(self) -> None:
        """Have what waits for it know how things stand."""


class End:
    """One side of a connection."""

    def __init__(self, owner: Owner, place: Place, is_host: bool) -> None:
        self.owner = owner
        self.place = place
        self.is_host = is_host
        """Whether it is the side that is bound."""
        self.peer: End | None = None
        self.own_name = bytes(owner.options[zmq.IDENTITY])
        self.name = b""
        """What a ROUTER calls the other side; empty where it does not listen to it."""
        self.held: list[Frames] = []
        """What was sent while nobody was there."""

    def send(self, frames: Frames) -> None:
        """Have the other side take a message in, or keep it until there is one."""
        if self.peer is not None:
            self.peer.owner.arrive(self.peer, frames)
        elif not self.is_host:
            self.held.append(frames)

    def part(self, for_good: bool = False) -> None:
        """Go away from the other side, which may look for somebody else unless it is for good."""
        if self.peer is not None:
            other, self.peer = self.peer, None
            other.peer = None
            other.owner.lose(other, for_good)


class Pattern:
    """What the four kinds share; as it stands, the rules of DEALER."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def welcome(self, end: End, name: bytes) -> None:
        """Begin to talk by an end to somebody who goes by that name, empty for anybody."""

    def farewell(self, end: End) -> None:
        """Talk no more by an end."""

    def send(self, frames: Frames) -> bool:
        """Send a message to whose turn it is; say whether there is anybody.

        Raises:
            ZMQError: EFSM out of turn, EHOSTUNREACH for one who must be there and is not.
        """
        end = self._next()
        if end is not None:
            end.send(frames)
        return end is not None

    def sort(self, end: End, frames: Frames) -> Frames | None:
        """Return what is kept of a message that arrives, None if nothing."""
        return frames

    def may_take(self) -> bool:
        """Say whether it is the turn of receiving."""
        return True

    def take(self, end: End, frames: Frames) -> Frames:
        """Return what the user is given of a message that was kept."""
        return frames

    def _next(self) -> End | None:
        ends = self._owner.ends
        if not ends:
            return None
        ends.append(ends.pop(0))
        return ends[-1]


class Req(Pattern):
    """Asks, and takes nothing but the answer."""

    _asked: End | None = None
    _is_answered = False

    def send(self, frames: Frames) -> bool:
        """Ask the next one, once what was asked before is answered."""
        if self._asked is not None:
            raise zmq.ZMQError(zmq.EFSM)
        end = self._next()
        if end is not None:
            self._asked, self._is_answered = end, False
            end.send([b"", *frames])
        return end is not None

    def sort(self, end: End, frames: Frames) -> Frames | None:
        """Keep the first answer of who was asked."""
        if end is not self._asked or self._is_answered or frames[0]:
            return None
        self._is_answered = True
        return frames[1:]

    def may_take(self) -> bool:
        """Say whether something was asked."""
        return self._asked is not None

    def take(self, end: End, frames: Frames) -> Frames:
        """Return the answer, after which it may ask again."""
        self._asked = None
        return frames


class Rep(Pattern):
    """Answers one after the other."""

    _back: tuple[End, Frames] | None = None

    def send(self, frames: Frames) -> bool:
        """Answer who asked last, whether or not it is still there."""
        if self._back is None:
            raise zmq.ZMQError(zmq.EFSM)
        (end, envelope), self._back = self._back, None
        end.send([*envelope, *frames])
        return True

    def sort(self, end: End, frames: Frames) -> Frames | None:
        """Keep what has an envelope, and something in it."""
        return frames if b"" in frames[:-1] else None

    def may_take(self) -> bool:
        """Say whether what was asked before is answered."""
        return self._back is None

    def take(self, end: End, frames: Frames) -> Frames:
        """Return what is in the envelope, and keep that for the answer."""
        first = frames.index(b"") + 1
        self._back = end, frames[:first]
        return frames[first:]


class Dealer(Pattern):
    """Sends to all in turn, and takes from all."""


class Router(Pattern):
    """Knows everybody by name."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self._numbers = itertools.count(1)
        self._named: dict[bytes, End] = {}

    def welcome(self, end: End, name: bytes) -> None:
        """Call an end by its name; one whose name is taken is heard only with ROUTER_HANDOVER."""
        old = self._named.get(name)
        if old is not None:
            if not self._owner.options[zmq.ROUTER_HANDOVER]:
                return
            self._owner.drop(old)
        end.name = name or b"\0" + next(self._numbers).to_bytes(4, "big")
        self._named[end.name] = end

    def farewell(self, end: End) -> None:
        """Know its name no more."""
        if end.name:
            del self._named[end.name]
            end.name = b""

    def send(self, frames: Frames) -> bool:
        """Send to whom the first frame names; without ROUTER_MANDATORY nobody misses who is not there."""
        end = self._named.get(frames[0])
        if end is not None:
            end.send(frames[1:])
        elif self._owner.options[zmq.ROUTER_MANDATORY]:
            raise zmq.ZMQError(zmq.EHOSTUNREACH)
        return True

    def sort(self, end: End, frames: Frames) -> Frames | None:
        """Keep it with the name of who sent it."""
        return [end.name, *frames] if end.name else None


class Post:
    """Who is bound where, and who waits for somebody to be: the endpoints of one process."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        """Held for each change of any socket, never while anybody waits."""
        self.numbers = itertools.count(1)
        self._bound: dict[Place, Owner] = {}
        self._waiting: dict[Place, list[End]] = {}

    def bind(self, socket: Owner, place: Place) -> None:
        """Let others come to a socket by a place, those who wait for one first.

        Raises:
            ZMQError: EADDRINUSE, in a context.
        """
        if place[0] and place in self._bound:
            raise failure(errno.EADDRINUSE, place[1])
        self._bound[place] = socket
        for end in self._waiting.pop(place, []):
            self._join(end, socket)

    def connect(self, end: End) -> None:
        """Lead an end to whoever is bound at its place, or will be."""
        bound = self._bound.get(end.place)
        if bound is None:
            self._waiting.setdefault(end.place, []).append(end)
        else:
            self._join(end, bound)

    def leave(self, socket: Owner) -> None:
        """Let nobody come to a socket any more, and have it wait for nobody."""
        for place in [place for place, bound in self._bound.items() if bound is socket]:
            del self._bound[place]
        for ends in self._waiting.values():
            ends[:] = [end for end in ends if end.owner is not socket]
        self._waiting = {place: ends for place, ends in self._waiting.items() if ends}

    def _join(self, end: End, bound: Owner) -> None:
        other = End(bound, end.place, is_host=True)
        end.peer, other.peer = other, end
        bound.ends.append(other)
        bound.pattern.welcome(other, end.own_name)
        end.owner.pattern.welcome(end, other.own_name)
        held, end.held = end.held, []
        for frames in held:
            end.send(frames)
        bound.settle()


def failure(number: int, url: str) -> zmq.ZMQError:
    """Return the error of an address."""
    return zmq.ZMQError(number, f"{os.strerror(number)} (addr={url!r})")
