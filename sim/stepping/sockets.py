"""TCP between the threads of one process, and waiting for descriptors, on a stepper.

A TCP socket is a Unix socket of an abstract name that has its port: what is sent is there at once and always
in the same order, and the kernel's polls work as ever. Lines and proxies (`sim.links`) make of it what
networks are. Sockets never block in the kernel; who has to wait gives the baton away.
"""

from __future__ import annotations

import errno
import os
import select
import selectors
import socket
import struct
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from typing import Any, Final

from .turns import FOREVER, Stepper

_poll, _epoll, _select = select.poll, select.epoll, select.select
_socket = socket.socket
_TIMEVAL: Final = struct.Struct("@ll")
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
_AGAIN: Final = 0.01
"""Seconds until a full queue of a listener is tried again."""
_stepper: Stepper
_ports = count(40_000)
"""Ports of who connects, and of who asks for any."""
_numbers = count(1)
open_sockets: Final[dict[str, dict[int, Socket]]] = {}
"""By host: what closes when it is killed."""


def _name(port: int) -> bytes:
    return b"\0peerpacs-%d-%d" % (os.getpid(), port)


class Socket(_socket):
    """A socket of the Internet or of Unix that takes turns."""

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        self._is_tcp = family in (-1, *_INTERNET) and fileno is None
        self._timeout: float | None = socket.getdefaulttimeout()
        self._limits: dict[int, float | None] = {socket.SO_RCVTIMEO: None, socket.SO_SNDTIMEO: None}
        self._here, self._there = 0, 0
        self._is_shut = False
        self._number = next(_numbers)
        kind = socket.SOCK_STREAM if type == -1 else type
        super().__init__(socket.AF_UNIX if self._is_tcp else family, kind, 0, fileno)
        super().setblocking(False)
        self._host = _stepper.current.host
        open_sockets.setdefault(self._host, {})[self.fileno()] = self

    def __hash__(self) -> int:
        """Return its number: a set of sockets is in the same order in each run."""
        return self._number

    @property
    def family(self) -> Any:
        """What it says it is."""
        return socket.AF_INET if self._is_tcp else super().family

    @property
    def timeout(self) -> float | None:
        """Seconds that a call may wait."""
        return self._timeout

    def gettimeout(self) -> float | None:
        return self._timeout

    def settimeout(self, value: float | None) -> None:
        self._timeout = value

    def setblocking(self, flag: bool) -> None:
        self._timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        return self._timeout != 0.0

    def setsockopt(self, level: int, optname: int, value: Any = None, optlen: int | None = None) -> None:
        if level == socket.SOL_SOCKET and optname in self._limits:
            seconds, micros = _TIMEVAL.unpack(value)
            self._limits[optname] = seconds + micros / 1e6 or None
        elif not self._is_tcp:
            super().setsockopt(level, optname, value)

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> Any:
        if self._is_tcp and level == socket.IPPROTO_TCP:
            return 0
        return (
            super().getsockopt(level, optname)
            if buflen is None
            else super().getsockopt(level, optname, buflen)
        )

    # Addresses.

    def bind(self, address: Any) -> None:
        if not self._is_tcp:
            return super().bind(address)
        self._here = address[1] or next(_ports)
        return super().bind(_name(self._here))

    def getsockname(self) -> Any:
        return ("127.0.0.1", self._here) if self._is_tcp else super().getsockname()

    def getpeername(self) -> Any:
        if not self._is_tcp:
            return super().getpeername()
        super().getpeername()
        return "127.0.0.1", self._there

    def connect(self, address: Any) -> None:
        where = _name(address[1]) if self._is_tcp else address
        until = self._until()
        while True:
            try:
                super().connect(where)
                break
            except BlockingIOError:
                _stepper.wait(min(until, _stepper.now + _AGAIN))
                if _stepper.now >= until:
                    raise TimeoutError("timed out") from None
        if self._is_tcp:
            self._here, self._there = self._here or next(_ports), address[1]

    def connect_ex(self, address: Any) -> int:
        try:
            self.connect(address)
        except OSError as error:
            return error.errno or 1
        return 0

    def accept(self) -> tuple[Socket, Any]:
        number, address = self._waiting(select.POLLIN, self._taken)
        accepted = Socket(socket.AF_UNIX, self.type, 0, fileno=number)
        if self._is_tcp:
            accepted._is_tcp, accepted._here, accepted._there = True, self._here, next(_ports)
            address = accepted.getpeername()
        return accepted, address

    def _taken(self) -> Any:
        if self._is_shut:
            # A Unix socket that does not block would say for ever that nobody comes.
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return super()._accept()  # type: ignore[misc]

    # Bytes.

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        take = partial(super().recv, bufsize, _kernel(flags))
        got: bytes = self._waiting(select.POLLIN, take, flags, socket.SO_RCVTIMEO)
        return got

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")[: nbytes or None]
        take, done = super().recv_into, 0
        while True:
            into = partial(take, view[done:], 0, _kernel(flags))
            try:
                got: int = self._waiting(select.POLLIN, into, flags, socket.SO_RCVTIMEO)
            except BlockingIOError:
                if done:
                    return done
                raise
            done += got
            if not got or done == len(view) or not flags & socket.MSG_WAITALL:
                return done

    def send(self, data: Any, flags: int = 0) -> int:
        give = partial(super().send, data, _kernel(flags))
        sent: int = self._waiting(select.POLLOUT, give, flags, socket.SO_SNDTIMEO)
        return sent

    def sendall(self, data: Any, flags: int = 0) -> None:
        view = memoryview(data).cast("B")
        while len(view):
            view = view[self.send(view, flags) :]

    def sendmsg(self, buffers: Iterable[Any], ancdata: Any = (), flags: int = 0, address: Any = None) -> int:
        give = partial(super().sendmsg, list(buffers), ancdata, _kernel(flags))
        sent: int = self._waiting(select.POLLOUT, give, flags, socket.SO_SNDTIMEO)
        return sent

    def shutdown(self, how: int) -> None:
        super().shutdown(how)
        self._is_shut = True
        # Who waits hears of it, though it be closed before their turn.
        _stepper.call(self.fileno())

    def close(self) -> None:
        open_sockets.get(self._host, {}).pop(self.fileno(), None)
        super().close()

    # Waiting.

    def _until(self, limit: int = 0) -> float:
        seconds = self._limits.get(limit) if self._timeout is None else self._timeout
        return FOREVER if seconds is None else _stepper.now + seconds

    def _waiting(self, mask: int, call: Callable[[], Any], flags: int = 0, limit: int = 0) -> Any:
        until = self._until(limit)
        while True:
            try:
                return call()
            except BlockingIOError:
                if self._timeout == 0.0 or flags & socket.MSG_DONTWAIT:
                    raise
                if not _stepper.wait(until, ((self.fileno(), mask),)):
                    if self._timeout is None:
                        raise
                    raise TimeoutError("timed out") from None


def _kernel(flags: int) -> int:
    return flags & ~(socket.MSG_WAITALL | socket.MSG_MORE) | socket.MSG_NOSIGNAL


class Poll:
    """`select.poll` that takes turns."""

    def __init__(self) -> None:
        self._poll = _poll()
        self._masks: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = select.POLLIN | select.POLLPRI | select.POLLOUT) -> None:
        """See `select.poll`."""
        number = fd if isinstance(fd, int) else fd.fileno()
        self._poll.register(number, eventmask)
        self._masks[number] = eventmask

    modify = register

    def unregister(self, fd: Any) -> None:
        """See `select.poll`."""
        number = fd if isinstance(fd, int) else fd.fileno()
        self._poll.unregister(number)
        del self._masks[number]

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """See `select.poll`; milliseconds."""
        seconds = None if timeout is None or timeout < 0 else timeout / 1000
        return list(_polled(lambda: self._poll.poll(0), seconds, tuple(self._masks.items())))


class Epoll:
    """`select.epoll` that takes turns."""

    def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
        self._epoll = _epoll()
        self.register, self.modify = self._epoll.register, self._epoll.modify
        self.unregister, self.close, self.fileno = (
            self._epoll.unregister,
            self._epoll.close,
            self._epoll.fileno,
        )

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """See `select.epoll`; seconds."""
        seconds = None if timeout is None or timeout < 0 else timeout
        own = ((self._epoll.fileno(), select.POLLIN),)
        return list(_polled(lambda: self._epoll.poll(0, maxevents), seconds, own))

    def __enter__(self) -> Epoll:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _polled(look: Callable[[], Any], seconds: float | None, masks: tuple[tuple[int, int], ...]) -> Any:
    found = look()
    if not found and seconds != 0:
        _stepper.wait(FOREVER if seconds is None else _stepper.now + seconds, masks)
        found = look()
    elif not found:
        _stepper.give_way()
        found = look()
    return found


def _selected(readers: Any, writers: Any, others: Any, timeout: float | None = None) -> Any:
    def look() -> Any:
        found = _select(readers, writers, others, 0)
        return found if any(found) else ()

    def number(each: Any) -> int:
        return each if isinstance(each, int) else int(each.fileno())

    masks = [(number(each), select.POLLIN) for each in readers]
    masks += [(number(each), select.POLLOUT) for each in writers]
    return _polled(look, timeout, tuple(masks)) or ([], [], [])


def free_port() -> int:
    """Return a port that nobody has: the same ones in each run."""
    return next(_ports)


def crash(host: str) -> None:
    """Close every socket of a machine, as its kernel does when a process was killed."""
    for each in list(open_sockets.pop(host, {}).values()):
        each.close()


def replace(stepper: Stepper) -> None:
    """Have the sockets and polls of this process take turns, for good."""
    global _stepper
    _stepper = stepper
    sockets: Any = socket
    sockets.socket = sockets.SocketType = Socket
    polls: Any = select
    polls.poll, polls.epoll, polls.select = Poll, Epoll, _selected
    kinds: Any = selectors
    kinds.PollSelector._selector_cls, kinds.EpollSelector._selector_cls = Poll, Epoll
    kinds.SelectSelector._select = staticmethod(_selected)
