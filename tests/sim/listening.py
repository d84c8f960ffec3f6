"""A port at which a test answers as it likes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """Have a thread serve each connection to a port until the block is left."""
    server = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def attend(connection: socket.socket) -> None:
        with connection:
            try:
                serve(connection)
            except OSError:
                return

    def listen() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=attend, args=(connection,)))
            threads[-1].start()

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        listener.join()
        for each in threads:
            each.join()
