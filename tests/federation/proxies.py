"""What stands between nodes in tests: an HTTP proxy that connects, and a wire that is listened to."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Proxy:
    """A small HTTP proxy: CONNECT only, a thread for each direction; keeps all that crosses it."""

    def __init__(self, forward_to: tuple[str, int] | None = None) -> None:
        """With `forward_to`, a plain forwarder to that address: nobody says CONNECT."""
        self.connected: list[str] = []
        self.crossed = bytearray()
        self._forward_to = forward_to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, ValueError):
            target = self._forward_to or self._asked(client)
            server = socket.create_connection(target)
            self._sockets.append(server)
            if self._forward_to is None:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            threading.Thread(target=self._pump, args=(server, client), daemon=True).start()
            self._pump(client, server)

    def _asked(self, client: socket.socket) -> tuple[str, int]:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        method, where, _ = head.split(b" ", 2)
        if method != b"CONNECT":
            client.sendall(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            raise ValueError(head)
        self.connected.append(where.decode())
        host, _, port = where.decode().rpartition(":")
        return host, int(port)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(1 << 16):
                self.crossed += chunk
                target.sendall(chunk)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close everything."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
