"""The door: one port that many nodes are reached through, sorted by the name in the TLS ClientHello.

The node's own name goes to its grid port. The name of a node that can only dial out has that node asked,
over its session, to dial back; the two connections are spliced. TLS runs from end to end: the door sees
names, sizes and times, nothing else. A connection dialed back begins with a ClientHello too, for a name that
is a one-time token, so that all that crosses port 443 looks alike.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from catalog import Busy, Clock, PacsError
from federation.trust.names import node_of_server_name

from .dialing import dial
from .splicing import Splicer
from .tls import LONGEST, NotTls, client_hello, hello_size, server_name_in

logger = logging.getLogger(__name__)

_BACK: Final = ".back.grid.internal"
_PATIENCE: Final = 10.0
"""Seconds for a ClientHello to arrive, and for a node to dial back."""
_MOST_WAITING: Final = 256
_QUEUE: Final = 128


class _Waiting(NamedTuple):
    connection: socket.socket
    read: bytes
    until: float


class Door:
    """The listening side; its work is done by a `Splicer`'s thread."""

    def __init__(
        self,
        splicer: Splicer,
        own_id: str,
        grid_port: int,
        ask_to_dial_back: Callable[[str, str], bool],
        monotonic: Clock,
    ) -> None:
        """`ask_to_dial_back` tells a node (its id) a token; False when it has no session."""
        self._splicer = splicer
        self._own_id = own_id
        self._grid_port = grid_port
        self._ask = ask_to_dial_back
        self._monotonic = monotonic
        self._reading: dict[socket.socket, tuple[bytearray, float]] = {}
        self._waiting: dict[str, _Waiting] = {}

    def listen(self, host: str, port: int) -> int:
        """Open the door; return its port.

        Raises:
            Busy: the port is taken.
        """
        try:
            listener = socket.create_server((host, port), backlog=_QUEUE)
        except OSError as error:
            what = f"Port {port} on {host} cannot be opened for forwarding: {error.strerror}."
            raise Busy(what, "Choose another one in peerpacs.toml, section [grid].") from error
        self._splicer.soon(lambda: self._splicer.watch(listener, self._accept))
        return int(listener.getsockname()[1])

    def step(self) -> None:
        """Give up on who said nothing, and on nodes that did not dial back."""
        self._splicer.soon(self._expire)

    def _expire(self) -> None:
        now = self._monotonic()
        for connection, (_, until) in list(self._reading.items()):
            if now > until:
                self._refuse(connection)
        for token, waiting in list(self._waiting.items()):
            if now > waiting.until:
                del self._waiting[token]
                waiting.connection.close()

    def _accept(self, listener: socket.socket, events: int) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            if len(self._reading) + len(self._waiting) >= _MOST_WAITING:
                connection.close()
                return
            self._reading[connection] = (bytearray(), self._monotonic() + _PATIENCE)
            self._splicer.watch(connection, self._read)

    def _read(self, connection: socket.socket, events: int) -> None:
        data, _ = self._reading[connection]
        try:
            chunk = connection.recv(LONGEST)
            data += chunk
            size = hello_size(bytes(data[:LONGEST]))
            if size:
                self._splicer.forget(connection)
                del self._reading[connection]
                self._route(connection, bytes(data), size)
            elif not chunk:
                self._refuse(connection)
        except BlockingIOError:
            return
        except (OSError, NotTls, PacsError) as error:
            logger.info("A connection to the door is closed: %s", error)
            self._refuse(connection)

    def _refuse(self, connection: socket.socket) -> None:
        self._splicer.forget(connection)
        self._reading.pop(connection, None)
        connection.close()

    def _route(self, connection: socket.socket, data: bytes, size: int) -> None:
        name = server_name_in(data)
        if name.endswith(_BACK):
            waiting = self._waiting.pop(name.removesuffix(_BACK), None)
            if waiting is None:
                raise NotTls("Nobody waits for this connection any more.")
            self._splicer.splice(waiting.connection, connection, waiting.read, data[size:])
            return
        node_id = node_of_server_name(name)
        if node_id == self._own_id:
            self._splicer.splice(connection, dial(f"127.0.0.1:{self._grid_port}"), data)
            return
        token = secrets.token_hex(16)
        if not node_id or not self._ask(node_id, token):
            raise NotTls(f"No node called {node_id or name[:80]!r} is connected here.")
        self._waiting[token] = _Waiting(connection, data, self._monotonic() + _PATIENCE)


def dial_back(splicer: Splicer, door: str, token: str, grid_port: int, proxy: str = "") -> None:
    """Connect to a door that asked for it, and let what comes reach this node's own grid port.

    Raises:
        Unavailable: the door cannot be reached.
    """
    outside = dial(door, proxy)
    try:
        outside.sendall(client_hello(token + _BACK))
        inside = dial(f"127.0.0.1:{grid_port}")
    except BaseException:
        outside.close()
        raise
    splicer.splice(outside, inside)
