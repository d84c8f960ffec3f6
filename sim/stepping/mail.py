"""A stand-in for pyzmq inside one process, because libzmq has threads in C that nobody can step.

Between `install` and its undoing `zmq.Context` and `zmq.Poller` are the ones below: REQ, REP, DEALER and
ROUTER over inproc and ipc, where all who talk are in this process. Everything else of `zmq` stays the real
library's. What is sent lies with its reader at once, in the order in which it was sent; whoever waits, waits
in `select.poll().poll()` and nowhere else. There are no high-water marks and no lingering: what nobody is
there to take when its sender closes is gone. As in libzmq 4.3.5, binding an ipc path takes it over from
whoever had it, and closing leaves its file.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, ClassVar, Final

import zmq

from .ends import Post
from .mailboxes import PATTERNS, NotStoodIn, Signal, Socket
from .swaps import Swaps

_EVENTS: Final = (
    (select.POLLIN, zmq.POLLIN),
    (select.POLLOUT, zmq.POLLOUT),
    (select.POLLPRI, zmq.POLLPRI),
    (select.POLLERR | select.POLLHUP | select.POLLNVAL, zmq.POLLERR),
)
"""What poll(2) says of a descriptor, as ZeroMQ says it."""


class Context:
    """What `zmq.Context` is: the sockets of one node, and the names that only they know."""

    post: ClassVar[Post]
    closed = False

    def __init__(self, io_threads: int = 1) -> None:
        self.number = next(self.post.numbers)
        self._sockets: list[Socket] = []
        self._empty: Signal | None = None

    def socket(self, kind: int) -> Socket:
        """Return a new socket.

        Raises:
            NotStoodIn: it is none of the four kinds.
            ZMQError: ENOTSUP after `term`.
        """
        if self.closed:
            raise zmq.ZMQError(zmq.ENOTSUP)
        if kind not in PATTERNS:
            raise NotStoodIn(f"socket of kind {kind!r}")
        with self.post.mutex:
            self._sockets.append(Socket(self, kind))
            return self._sockets[-1]

    def left(self, socket: Socket) -> None:
        """Know that a socket was closed; the post's mutex is held."""
        self._sockets.remove(socket)
        if self._empty is not None and not self._sockets:
            self._empty.put(True)

    def term(self) -> None:
        """Have all that is done with its sockets raise ContextTerminated, and wait until they are closed."""
        with self.post.mutex:
            if self.closed:
                return
            self.closed = True
            for socket in self._sockets:
                socket.settle()
            if not self._sockets:
                return
            self._empty = Signal()
        self._empty.wait(None)
        self._empty.close()

    def destroy(self, linger: int | None = None) -> None:
        """Close all sockets, and be closed."""
        for socket in [*self._sockets]:
            socket.close(linger)
        self.term()

    def __enter__(self) -> Context:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()


class Poller:
    """What `zmq.Poller` is: waits for several sockets, and for plain descriptors beside them."""

    def __init__(self) -> None:
        self._asked: dict[Any, int] = {}

    def register(self, socket: Any, flags: int = zmq.POLLIN | zmq.POLLOUT) -> None:
        """Have `poll` look at a socket, or at something that has a descriptor.

        Raises:
            NotStoodIn: a socket is to be watched for more than POLLIN.
        """
        if isinstance(socket, Socket) and flags & ~zmq.POLLIN:
            raise NotStoodIn("waiting for anything but POLLIN")
        self._asked[socket] = flags

    modify = register

    def unregister(self, socket: Any) -> None:
        """Have `poll` look at it no more."""
        del self._asked[socket]

    def poll(self, timeout: float | None = None) -> list[tuple[Any, int]]:
        """Wait so many milliseconds, without a number for ever; return what is ready with its events.

        Raises:
            ContextTerminated: of a socket.
            ZMQError: ENOTSOCK of one that is closed.
        """
        poll, files = select.poll(), {}
        for asked, flags in self._asked.items():
            files[asked] = _descriptor(asked)
            poll.register(files[asked], sum(each for each, event in _EVENTS if flags & event & ~zmq.POLLERR))
        found = dict(poll.poll(None if timeout is None or timeout < 0 else int(timeout)))
        for asked in self._asked:
            if isinstance(asked, Socket):
                asked.check()
        ready = ((asked, _events(found.get(files[asked], 0))) for asked in self._asked)
        return [(asked, events) for asked, events in ready if events]


def install() -> Callable[[], None]:
    """Have `zmq` be the stand-in from now on; return what has it be itself again."""
    Context.post, swaps = Post(), Swaps()
    for place, kind in (("Context", Context), ("Socket", Socket), ("Poller", Poller)):
        swaps.put(zmq, place, kind)
    return swaps.undo


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Have `zmq` be the stand-in inside the block."""
    restore = install()
    try:
        yield
    finally:
        restore()


def _descriptor(asked: Any) -> int:
    if isinstance(asked, Socket):
        asked.check()
        return asked.readable.file
    return asked if isinstance(asked, int) else int(asked.fileno())


def _events(found: int) -> int:
    return sum(event for each, event in _EVENTS if found & each)
