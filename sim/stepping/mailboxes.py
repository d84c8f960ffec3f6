"""The sockets of the stand-in for pyzmq: inboxes, with a descriptor to be read while there is mail."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import zmq

from .ends import Dealer, End, Frames, Pattern, Place, Rep, Req, Router, failure

if TYPE_CHECKING:
    from .mail import Context

PATTERNS: Final[dict[int, type[Pattern]]] = {
    zmq.REQ: Req,
    zmq.REP: Rep,
    zmq.DEALER: Dealer,
    zmq.ROUTER: Router,
}
_LONGEST_PATH: Final = 107
"""Bytes of an ipc path: sun_path of unix(7) without its last zero."""
_OPTIONS: Final[dict[int, Any]] = {
    zmq.LINGER: -1,
    zmq.MAXMSGSIZE: -1,
    zmq.SNDHWM: 1000,
    zmq.RCVHWM: 1000,
    zmq.IDENTITY: b"",
    zmq.RECONNECT_IVL: 100,
    zmq.RECONNECT_IVL_MAX: 0,
    zmq.ROUTER_HANDOVER: 0,
    zmq.ROUTER_MANDATORY: 0,
    zmq.RCVTIMEO: -1,
    zmq.SNDTIMEO: -1,
    zmq.ZAP_DOMAIN: b"",
}
"""What may be set, with what it is until then; marks, linger, intervals and ZAP mean nothing."""


class NotStoodIn(zmq.ZMQError, NotImplementedError):
    """Something of ZeroMQ that the stand-in does not have."""

    def __init__(self, what: str) -> None:
        super().__init__(zmq.ENOTSUP, f"The stand-in for ZeroMQ has no {what}; use the real library")


class Signal:
    """An eventfd that can be read while it is up."""

    def __init__(self) -> None:
        self.file = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_up = False

    def put(self, is_up: bool) -> None:
        """Raise or lower it."""
        if is_up and not self._is_up:
            os.eventfd_write(self.file, 1)
        elif self._is_up and not is_up:
            os.eventfd_read(self.file)
        self._is_up = is_up

    def wait(self, milliseconds: int | None) -> bool:
        """Wait until it is up, and say whether it is."""
        poll = select.poll()
        poll.register(self.file, select.POLLIN)
        return bool(poll.poll(milliseconds))

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.file)


class Socket:
    """What `zmq.Socket` is, as far as a node of one process uses it."""

    closed = False

    def __init__(self, context: Context, kind: int) -> None:
        self.context = context
        self.type = zmq.SocketType(kind)
        self.ends: list[End] = []
        """Its connections, the next to be sent to first."""
        self.options = dict(_OPTIONS)
        self.pattern = PATTERNS[kind](self)
        self.readable, self._sendable = Signal(), Signal()
        self._post = context.post
        self._inbox: deque[tuple[End, Frames]] = deque()
        self._parts: Frames = []
        """What is left of a message that is received frame by frame."""
        self._sent: Frames = []
        """What has been sent of a message that is sent frame by frame."""
        self._last = b""

    def setsockopt(self, option: int, value: Any) -> None:
        """Set an option, of those that `_OPTIONS` has.

        Raises:
            NotStoodIn: it is another one.
        """
        self.check()
        if option not in self.options:
            raise NotStoodIn(f"option {option!r}")
        self.options[option] = value

    def getsockopt(self, option: int) -> Any:
        """Return an option, LAST_ENDPOINT or RCVMORE. Raises as `setsockopt`."""
        self.check()
        known = {**self.options, zmq.LAST_ENDPOINT: self._last, zmq.RCVMORE: int(bool(self._parts))}
        if option not in known:
            raise NotStoodIn(f"option {option!r}")
        return known[option]

    set, get = setsockopt, getsockopt

    def bind(self, url: str) -> None:
        """Let others come by a URL.

        Raises:
            NotStoodIn: it is neither inproc nor ipc.
            ZMQError: EADDRINUSE, EINVAL, ENAMETOOLONG, or what makes the file of ipc impossible.
        """
        self.check()
        place = self._place(url)
        with self._post.mutex:
            if not place[0]:
                _make_file(place[1], url)
            self._post.bind(self, place)
            self._last = url.encode()

    def connect(self, url: str) -> None:
        """Come to whoever is bound at a URL, or will be. Raises as `bind`."""
        self.check()
        place = self._place(url)
        with self._post.mutex:
            self._last = url.encode()
            end = End(self, place, is_host=False)
            self.ends.append(end)
            self._post.connect(end)
            self.settle()

    def _place(self, url: str) -> Place:
        scheme, found, rest = url.partition("://")
        if not found or not rest:
            raise failure(errno.EINVAL, url)
        if scheme == "inproc":
            return self.context.number, rest
        if scheme != "ipc" or rest.startswith(("@", "*")):
            raise NotStoodIn(f"way to {url}")
        if len(os.fsencode(rest)) > _LONGEST_PATH:
            raise failure(errno.ENAMETOOLONG, url)
        return 0, os.path.abspath(rest)

    def send(self, data: Any, flags: int = 0, copy: bool = True, track: bool = False) -> None:
        """Send a frame, as `send_multipart` when it is the last of its message."""
        self._sent.append(_frame(data))
        if not flags & zmq.SNDMORE:
            frames, self._sent = self._sent, []
            self._send(frames, flags)

    def send_multipart(self, parts: Any, flags: int = 0, copy: bool = True, track: bool = False) -> None:
        """Send a message, and wait while there is nobody whom it could go to.

        Raises:
            Again: there is nobody, with NOBLOCK at once, else after SNDTIMEO.
            ZMQError: EFSM out of turn, EHOSTUNREACH with ROUTER_MANDATORY.
        """
        self._send([_frame(part) for part in parts], flags)

    def _send(self, frames: Frames, flags: int) -> None:
        while True:
            with self._post.mutex:
                self.check()
                if self.pattern.send(frames):
                    return self.settle()
            if flags & zmq.NOBLOCK or not self._sendable.wait(self.options[zmq.SNDTIMEO]):
                raise zmq.Again()

    def recv(self, flags: int = 0, copy: bool = True, track: bool = False) -> Any:
        """Return the next frame. Raises as `recv_multipart`."""
        if not self._parts:
            self._parts = self._receive(flags)
        frame = self._parts.pop(0)
        with self._post.mutex:
            self.settle()
        return frame if copy else zmq.Frame(frame, copy=True)

    def recv_multipart(self, flags: int = 0, copy: bool = True, track: bool = False) -> Any:
        """Return the next message, and wait for it.

        Raises:
            Again: there is none, with NOBLOCK at once, else after RCVTIMEO.
            ZMQError: EFSM out of turn.
        """
        frames, self._parts = self._parts or self._receive(flags), []
        with self._post.mutex:
            self.settle()
        return frames if copy else [zmq.Frame(frame, copy=True) for frame in frames]

    def _receive(self, flags: int) -> Frames:
        while True:
            with self._post.mutex:
                self.check()
                if not self.pattern.may_take():
                    raise zmq.ZMQError(zmq.EFSM)
                if self._inbox:
                    return self.pattern.take(*self._inbox.popleft())
            if flags & zmq.NOBLOCK or not self.readable.wait(self.options[zmq.RCVTIMEO]):
                raise zmq.Again()

    def poll(self, timeout: float | None = None, flags: int = zmq.POLLIN) -> int:
        """Wait so many milliseconds for a message; return POLLIN if there is one, else 0."""
        if self.closed:
            raise zmq.ZMQError(zmq.ENOTSUP)
        if flags != zmq.POLLIN:
            raise NotStoodIn("waiting for anything but POLLIN")
        self.check()
        has_mail = self.readable.wait(None if timeout is None else int(timeout))
        self.check()
        return zmq.POLLIN if has_mail else 0

    def arrive(self, end: End, frames: Frames) -> None:
        """Take a message in; the post's mutex is held, as in all that ends call."""
        longest = self.options[zmq.MAXMSGSIZE]
        if not end.place[0] and 0 <= longest < max(map(len, frames)):
            return
        taken = self.pattern.sort(end, frames)
        if taken is not None:
            self._inbox.append((end, taken))
            self.settle()

    def lose(self, end: End, for_good: bool) -> None:
        """Wait for somebody else at the other end of ipc, or have one end less."""
        self.pattern.farewell(end)
        if end.is_host or end.place[0] or for_good:
            self.ends.remove(end)
            self.settle()
        else:
            self._post.connect(end)

    def drop(self, end: End) -> None:
        """Forget an end, and what came by it and was not read."""
        self._inbox = deque(each for each in self._inbox if each[0] is not end)
        self.pattern.farewell(end)
        self.ends.remove(end)
        self.settle()
        end.part(for_good=True)

    def settle(self) -> None:
        """Have the descriptors say how things stand."""
        is_over = self.context.closed
        has_more = bool(self._parts) or (bool(self._inbox) and self.pattern.may_take())
        self.readable.put(has_more or is_over)
        self._sendable.put(bool(self.ends) or is_over)

    def close(self, linger: int | None = None) -> None:
        """Go away; what others have not read of it they still can."""
        with self._post.mutex:
            if self.closed:
                return
            self.closed = True
            self._post.leave(self)
            for end in [*self.ends]:
                end.part()
            self.readable.close()
            self._sendable.close()
            self.context.left(self)

    def check(self) -> None:
        """Say that it can be used.

        Raises:
            ContextTerminated: its context is closed.
            ZMQError: ENOTSOCK when it is closed itself.
        """
        if self.closed:
            raise zmq.ZMQError(zmq.ENOTSOCK)
        if self.context.closed:
            raise zmq.ContextTerminated()

    def __enter__(self) -> Socket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _frame(data: Any) -> bytes:
    if isinstance(data, str):
        raise TypeError("unicode not allowed, use bytes")
    return bytes(memoryview(data))


def _make_file(path: str, url: str) -> None:
    """Put the file of an ipc socket in place of what is there; it is nothing but a file."""
    try:
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(path)
        os.mknod(path, stat.S_IFSOCK | 0o777)
    except FileExistsError:
        raise failure(errno.EADDRINUSE, url) from None
    except OSError as error:
        raise failure(error.errno or errno.EINVAL, url) from None
