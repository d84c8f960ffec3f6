"""A peer made of bytes, for saying what no library would say."""

from __future__ import annotations

import socket
import ssl
import struct
from types import TracebackType

from node.contracts import Service
from node.dimse.commands import Command, encode_command

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
RELEASE_RQ = bytes.fromhex("05000000000400000000")
RELEASE_RP = bytes.fromhex("06000000000400000000")
ABORT = bytes.fromhex("07000000000400000000")


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def context(id: int, abstract: str, *syntaxes: str) -> bytes:
    parts = item(0x30, abstract.encode()) + b"".join(item(0x40, syntax.encode()) for syntax in syntaxes)
    return item(0x20, bytes((id, 0, 0, 0)) + parts)


def associate(
    *contexts: bytes,
    called: bytes = b"ALPHA",
    calling: bytes = b"RAW",
    version: int = 1,
    application: str = "1.2.840.10008.3.1.1.1",
    max_pdu: int = 16384,
    more: bytes = b"",
) -> bytes:
    """Return an A-ASSOCIATE-RQ; Verification alone unless contexts are given."""
    contexts = contexts or (context(1, VERIFICATION, IMPLICIT),)
    user = item(0x50, item(0x51, struct.pack(">I", max_pdu)) + item(0x52, b"1.2.3") + more)
    body = struct.pack(">Hxx16s16s32x", version, called.ljust(16), calling.ljust(16))
    body += item(0x10, application.encode()) + b"".join(contexts) + user
    return b"\x01\0" + struct.pack(">I", len(body)) + body


def p_data(context_id: int, flags: int, data: bytes) -> bytes:
    return struct.pack(">BxIIBB", 4, len(data) + 6, len(data) + 2, context_id, flags) + data


def echo_request(message_id: int = 1) -> bytes:
    command = Command(CommandField=0x30, MessageID=message_id, AffectedSOPClassUID=VERIFICATION)
    return p_data(1, 3, encode_command(command))


class Raw:
    """A raw connection with a deadline."""

    tls: ssl.SSLContext | None = None
    """Set while the tests of the plain port run over TLS."""

    def __init__(self, port: int, *, ask: bytes = b"") -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 60)
        if self.tls is not None:
            self.sock = self.tls.wrap_socket(self.sock, server_hostname="127.0.0.1")
        if ask:
            self.sock.sendall(ask)
            assert self.pdu()[0] == 2

    def __enter__(self) -> Raw:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def pdu(self) -> tuple[int, bytes]:
        """Return type and body of the next PDU; type 0 is the end of the connection."""
        header = self._read(6)
        if len(header) < 6:
            return 0, b""
        return header[0], self._read(struct.unpack(">I", header[2:])[0])

    def is_open(self) -> bool:
        """Say whether an echo is answered."""
        self.send(echo_request())
        return self.pdu()[0] == 4

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            try:
                part = self.sock.recv(length - len(data))
            except ConnectionResetError:
                break
            if not part:
                break
            data += part
        return data


def everything(service: Service) -> bool:
    """Allow every service: for negotiations that are not about rights."""
    return True
