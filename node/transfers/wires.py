"""ZeroMQ sockets between the queue and its workers: inproc, ipc or tcp by the URL alone.

In process nobody else can listen, and an ipc socket is a file that only the node's user may open. Over tcp
both sides prove by CURVE keys who they are, and everything is encrypted; without keys tcp is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Final, NamedTuple

import zmq
from zmq.utils import z85

from catalog import BadRequest, Busy, NotFound

from .messages import LONGEST

_LINGER: Final = 500
_ZAP: Final = "inproc://zeromq.zap.01"
"""Where libzmq asks who may come in (ZeroMQ RFC 27)."""


class Keys(NamedTuple):
    """CURVE keys in Z85; a worker is given both of its own, and of the node's only the public one."""

    server_public: str
    worker_public: str
    worker_secret: str
    server_secret: str = ""


def make_keys(path: Path, guest: str = "worker.key") -> Keys:
    """Return the node's keys, made when there are none; the file `guest` beside them is for the workers."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        (server_public, server_secret), (public, secret) = zmq.curve_keypair(), zmq.curve_keypair()
        keys = Keys(server_public.decode(), public.decode(), secret.decode(), server_secret.decode())
        _write(path.with_name(guest), keys._replace(server_secret=""))
        _write(path, keys)
    return read_keys(path)


def read_keys(path: Path) -> Keys:
    """Return the keys that a file holds.

    Raises:
        NotFound: there is no such file.
        BadRequest: it holds something else.
    """
    try:
        return Keys(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise NotFound(
            f"There is no key file {path}.", f"Copy {path.name} from the node's secrets."
        ) from None
    except (ValueError, TypeError) as error:
        raise BadRequest(f"{path} is no key file: {error}.", "Copy it again.") from None


def _write(path: Path, keys: Keys) -> None:
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(file, "w") as out:
        json.dump(keys._asdict(), out)
        out.flush()
        os.fsync(file)
    part.replace(path)


def listen(context: Any, url: str, keys: Keys | None = None) -> tuple[Any, str]:
    """Return a socket that others can come to, and its URL with the port that was taken.

    Raises:
        BadRequest: tcp without keys, or a URL that is none.
        Busy: something listens there.
    """
    socket = _socket(context, zmq.ROUTER)
    socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    try:
        if url.startswith("tcp:"):
            keys = _demand(keys, url)
            socket.curve_secretkey, socket.curve_publickey = (
                keys.server_secret.encode(),
                keys.server_public.encode(),
            )
            socket.curve_server = True
            socket.setsockopt(zmq.ZAP_DOMAIN, b"transfers")
        socket.bind(url)
        if url.startswith("ipc://"):
            Path(url.removeprefix("ipc://")).chmod(0o600)
    except zmq.ZMQError as error:
        socket.close(0)
        kind = Busy if error.errno == zmq.EADDRINUSE else BadRequest
        raise kind(f"{url} cannot be listened at: {error}.", "Name another address.") from None
    except BaseException:
        socket.close(0)
        raise
    return socket, socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()


def reach(context: Any, url: str, name: str, keys: Keys | None = None) -> Any:
    """Return a socket that leads to the queue, under a name of its own. Raises as `listen`."""
    socket = _socket(context, zmq.DEALER)
    socket.setsockopt(zmq.IDENTITY, name.encode())
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
    try:
        come_to(socket, url, keys)
    except BaseException as error:
        socket.close(0)
        if isinstance(error, zmq.ZMQError):
            raise BadRequest(f"{url} is no address of a queue: {error}.", "See transfers.listen.") from None
        raise
    return socket


def come_to(socket: Any, url: str, keys: Keys | None) -> None:
    """Connect a socket, over tcp as one that has the worker's keys.

    Raises:
        BadRequest: tcp without keys.
        ZMQError: the URL is none.
    """
    if url.startswith("tcp:"):
        if keys is None:
            raise BadRequest(
                f"Only who shows a key is let in at {url}.",
                "Copy secrets/worker.key of the node's home, and name the copy: --key worker.key",
            )
        socket.curve_serverkey = keys.server_public.encode()
        socket.curve_publickey, socket.curve_secretkey = (
            keys.worker_public.encode(),
            keys.worker_secret.encode(),
        )
    socket.connect(url)


def _socket(context: Any, kind: int) -> Any:
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, _LINGER)
    socket.setsockopt(zmq.MAXMSGSIZE, LONGEST)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    return socket


def _demand(keys: Keys | None, url: str) -> Keys:
    if keys is None:
        raise BadRequest(f"{url} would be open to everybody.", "Who comes over tcp needs keys.")
    return keys


class Doorkeeper:
    """Lets in over tcp who has the worker's key, and nobody else; one for each ZeroMQ context."""

    def __init__(self, context: Any, keys: Keys) -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_ZAP)
        self._known = z85.decode(keys.worker_public)
        self.refused = 0
        """How many knocked with another key."""

    def step(self) -> None:
        """Answer those who knock."""
        with contextlib.suppress(zmq.Again):
            while True:
                version, number, _, _, _, mechanism, *credentials = self.socket.recv_multipart(zmq.NOBLOCK)
                is_known = (mechanism, credentials) == (b"CURVE", [self._known])
                self.refused += not is_known
                answer = [b"200", b"OK", b"worker"] if is_known else [b"400", b"unknown key", b""]
                self.socket.send_multipart([version, number, *answer, b""])

    def close(self) -> None:
        """Answer nobody any more."""
        self.socket.close()
