"""An association that another process of this node serves: its PDUs pass through here, as they are.

Only one process of a node knows its peers. What calls an AE title that a gateway does not open itself is
handed to that process over a Unix socket, TLS taken off, with the address it came from.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from typing import Final

from .pdu import HEADER
from .transport import AHEAD, Closed, Connection, Ended

_LENGTH: Final = struct.Struct(">I")
_PIECE: Final = 1 << 16
_LONGEST_HEAD: Final = 1024


def relay(connection: Connection, received: bytes, address: str, path: str) -> None:
    """Pass an association to who listens at `path`, until either side ends it.

    Raises:
        OSError: nobody listens there.
    """
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(path)
        head = json.dumps({"address": address}).encode()
        other.sendall(_LENGTH.pack(len(head)) + head + received)
        back = threading.Thread(target=_back, args=(other, connection), name="dimse relay", daemon=True)
        back.start()
        try:
            _forth(connection, other)
        except (Ended, OSError):
            pass  # whoever serves it hears that by the end of what comes
        finally:
            _end(other)
            back.join()


def _forth(connection: Connection, other: socket.socket) -> None:
    while True:
        header = connection.read(HEADER.size)
        other.sendall(header)
        left = HEADER.unpack(header)[1]
        while left:
            piece = connection.read(min(left, AHEAD))
            other.sendall(piece)
            left -= len(piece)


def _back(other: socket.socket, connection: Connection) -> None:
    try:
        while data := other.recv(_PIECE):
            connection.send([data])
    except (Ended, OSError):
        pass
    finally:
        _end(other)
        connection.shut()


def _end(other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


def take(other: socket.socket, timeout: float) -> tuple[str, bytes]:
    """Return the address that a relayed association came from, and its A-ASSOCIATE-RQ.

    Raises:
        Closed: what came is no relayed association.
    """
    other.settimeout(timeout)
    [length] = _LENGTH.unpack(_exactly(other, _LENGTH.size))
    if length > _LONGEST_HEAD:
        raise Closed("it is not from a gateway")
    address = str(json.loads(_exactly(other, length))["address"])
    header = _exactly(other, HEADER.size)
    return address, header + _exactly(other, HEADER.unpack(header)[1])


def _exactly(other: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        piece = other.recv(length - len(found))
        if not piece:
            raise Closed("it ended too early")
        found += piece
    return found
