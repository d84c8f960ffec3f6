"""How the command line reaches a running node: JSON over a ZeroMQ socket in the home folder.

`run/lock` says whether anybody works on the home: a node, or one command on its own. A running node
answers verbs at the address that `run/endpoint` names; only its own user can open that.
"""

from __future__ import annotations

import contextlib
import fcntl
import inspect
import logging
import os
import shutil
import struct
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec
import zmq

import catalog
from catalog import BadRequest, Busy, PacsError, Unavailable
from node.bell import Bell

logger = logging.getLogger(__name__)

Handlers = Mapping[str, Callable[..., Any]]
"""What may be asked: verbs, each a function that takes and returns what JSON can say."""
_LONGEST_SOCKET: Final = 100
"""Bytes of a Unix socket's path that every system allows (sun_path is 108 on Linux, 104 elsewhere)."""
_LONGEST_REQUEST: Final = 1 << 24
_MISUNDERSTOOD: Final = "The request was not understood"
_RESTART: Final = "Restart the node, so that it runs what is installed; if it does, please report this."
_BEAT: Final = 0.2
_LOOK: Final = 1.0
"""Seconds between two looks at whether the node that is asked is still there."""
_WHOLE_FILE: Final = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
"""A write lock on all of a file: struct flock of fcntl(2), for locks of the open file description."""


class Request(msgspec.Struct, frozen=True):
    """A verb and what it is told."""

    verb: str
    arguments: dict[str, Any] = {}


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the verb returned, or the two sentences and the class of what went wrong."""

    value: Any = None
    error: str = ""
    what: str = ""
    next: str = ""


class Told(dict[str, Any]):
    """An object of an answer: what an older node does not tell is an error that says so, and no KeyError."""

    def __missing__(self, key: str) -> Any:
        """Say that the answer lacks a field.

        Raises:
            PacsError: always.
        """
        raise PacsError(
            f"This node runs an older version than this command: it does not tell {key!r}.", _RESTART
        )


class HomeLock:
    """The right to work on a home folder; held until closed, and by nobody after its process died."""

    def __init__(self, home: Path, purpose: str) -> None:
        """Take the lock; `purpose` names the holder for others: "node" or a command.

        Raises:
            Busy: somebody else works on this home.
        """
        folder = _run_folder(home)
        self._file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        except OSError:
            holder = os.pread(self._file, 200, 0).decode(errors="replace")
            os.close(self._file)
            remedy = "Wait until it has finished, or stop it."
            raise Busy(f"{holder or 'Another process'} works on {home} at the moment.", remedy) from None
        # What a killed node left here would have commands wait for an answer that never comes.
        (folder / "endpoint").unlink(missing_ok=True)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"A {purpose} (process {os.getpid()})".encode(), 0)

    def close(self) -> None:
        """Let others work on the home."""
        os.close(self._file)

    def __enter__(self) -> HomeLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_running(home: Path) -> bool:
    """Say whether a node runs on this home and answers commands, or is about to."""
    try:
        lock = os.open(home / "run" / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # Asked for without being taken: a lock held for a moment could turn a node away that starts now.
        found = fcntl.fcntl(lock, fcntl.F_OFD_GETLK, _WHOLE_FILE)
        is_held = struct.unpack_from("h", found)[0] != fcntl.F_UNLCK
        return is_held and os.pread(lock, 200, 0).startswith(b"A node ")
    finally:
        os.close(lock)


class ControlServer:
    """Answers the verbs of `handlers`, one at a time, on the thread that calls `serve` or `step`."""

    def __init__(self, home: Path, handlers: Handlers) -> None:
        self._handlers = handlers
        self._bell = Bell()
        self.wake = self._bell.ring
        """Has `serve` look at whether it was told to stop; any thread may call."""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _LONGEST_REQUEST)
        folder = _run_folder(home)
        self._private: str | None = None
        path = folder / "control"
        if len(os.fsencode(path)) > _LONGEST_SOCKET:
            self._private = tempfile.mkdtemp(prefix="peerpacs-")
            path = Path(self._private) / "control"
        self._path = path
        self._socket.bind(f"ipc://{path}")
        path.chmod(0o600)
        self._endpoint = folder / "endpoint"
        self._endpoint.write_text(f"ipc://{path}")

    def step(self, timeout: float = 0.0) -> bool:
        """Answer one request if one comes within the seconds given; say whether one did."""
        if not self._bell.wait(timeout, self._socket):
            return False
        self._socket.send(msgspec.json.encode(self._answer(self._socket.recv()), enc_hook=str))
        return True

    def serve(self, stop: threading.Event) -> None:
        """Answer until `stop` is set."""
        while not stop.is_set():
            self.step(_BEAT)

    def close(self) -> None:
        """Take no more requests and remove the socket."""
        self._endpoint.unlink(missing_ok=True)
        self._socket.close()
        self._context.term()
        self._bell.close()
        with contextlib.suppress(OSError):
            self._path.unlink()
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)

    def _answer(self, message: bytes) -> Reply:
        try:
            request = msgspec.json.decode(message, type=Request)
            handler = self._handlers.get(request.verb)
            if handler is None:
                raise BadRequest(
                    f"This node does not know {request.verb!r}: it runs an older version.", _RESTART
                )
            inspect.signature(handler).bind(**request.arguments)
            return Reply(value=handler(**request.arguments))
        except PacsError as error:
            return Reply(error=type(error).__name__, what=error.what, next=error.next)
        except (msgspec.MsgspecError, TypeError) as error:
            return Reply(error="BadRequest", what=f"{_MISUNDERSTOOD}: {error}.")
        except Exception as error:
            logger.exception("A command failed in a way nobody foresaw")
            what = f"The node failed to do that ({type(error).__name__})."
            return Reply(error="PacsError", what=what, next="Its log says where; please report it.")


def ask(home: Path, verb: str, timeout: float = 30.0, **arguments: Any) -> Any:
    """Return what the node that runs on this home answers to a verb.

    Raises:
        Unavailable: it does not answer within the seconds given.
        PacsError: what it refused, of the class it was refused with.
    """
    context = zmq.Context()
    socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.LINGER, 0)
    try:
        socket.connect((home / "run" / "endpoint").read_text())
        socket.send(msgspec.json.encode(Request(verb, arguments), enc_hook=str))
        _await(home, socket, timeout)
        reply = msgspec.json.decode(socket.recv(), type=Reply)
    except FileNotFoundError:
        raise _silent(home, "yet") from None
    except zmq.ZMQError as error:
        raise _silent(home, f"({error})") from error
    finally:
        socket.close()
        context.term()
    if reply.error:
        kind = getattr(catalog, reply.error, PacsError)
        raise kind(reply.what, reply.next or (_RESTART if reply.what.startswith(_MISUNDERSTOOD) else ""))
    return _told(reply.value)


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        return Told((key, _told(each)) for key, each in value.items())
    return [_told(each) for each in value] if isinstance(value, list) else value


def _await(home: Path, socket: zmq.Socket[bytes], timeout: float) -> None:
    """Wait for an answer; one that is under way comes although the node ends."""
    left = timeout
    while not socket.poll(int(1000 * min(_LOOK, left))):
        if not is_running(home) and not socket.poll(0):
            what = f"The node on {home} ended before it answered."
            raise Unavailable(what, "Start it, and look how far it came; its log may say why it ended.")
        left -= _LOOK
        if left <= 0:
            raise _silent(home, f"for {timeout:.0f} s")


def _silent(home: Path, how: str) -> Unavailable:
    what = f"The node on {home} has started, but does not answer {how}."
    return Unavailable(what, "It may be starting or stopping: try again, then look into its log.")


def _run_folder(home: Path) -> Path:
    folder = home / "run"
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    return folder
