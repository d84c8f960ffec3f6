"""The border to the web server (cheroot): requests with limits, answers that go to the socket uncopied.

cheroot is used as it is but for what would let one client take the node from the others: headers have a
deadline, bodies are read by `node.web.body`, and large pieces of an answer are sent from the buffer they are
in.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Final

from cheroot import server as cheroot
from cheroot import wsgi
from cheroot.errors import FatalSSLAlert
from cheroot.makefile import StreamReader
from cheroot.workers import threadpool

from catalog import Damaged

from .body import Body
from .streams import FilePiece, Piece

logger = logging.getLogger(__name__)
BODY: Final = "peerpacs.body"
"""The key under which a request's environment has its `Body`."""
_HEADER_SECONDS: Final = 15.0
_SMALL: Final = 16384
"""Pieces up to this size are not worth a packet of their own."""
_PLAIN: Final = b"This port speaks https: write https:// before the address.\n"
_PLAIN_REFUSAL: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_PLAIN), _PLAIN)
)
_NEXT: Final = 5
"""Milliseconds for which a thread stays with a connection it has answered, if no other one needs it."""


class _Deadline(socket.SocketIO):
    """Reads with a deadline, if there is one, however many pieces what is waited for comes in."""

    def __init__(self, sock: socket.socket, patience: float) -> None:
        super().__init__(sock, "rb")
        self._connection = sock
        self.deadline: float | None = None
        self._patience = patience

    def readinto(self, buffer: Any) -> int | None:
        if self.deadline is None:
            return super().readinto(buffer)
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(min(left, self._patience))
        try:
            return super().readinto(buffer)
        finally:
            self._connection.settimeout(self._patience)


class _Reader(StreamReader):
    _read_buf: bytes
    _read_pos: int

    def __init__(self, sock: socket.socket, patience: float) -> None:
        super().__init__(sock, "rb", 16384)
        self._raw = self.limited = _Deadline(sock, patience)
        self._connection = sock

    def has_data(self) -> bool:
        """Say whether something can be read without the socket becoming ready: TLS decrypts whole records."""
        if super().has_data():  # type: ignore[no-untyped-call]
            return True
        return isinstance(self._connection, ssl.SSLSocket) and self._connection.pending() > 0

    def readline(self, size: int | None = -1) -> bytes:
        """Read a line, by one look where the buffer has all of it: headers nearly always come together."""
        if self._read_pos == len(self._read_buf):
            self.peek(1)
        start = self._read_pos
        end = self._read_buf.find(b"\n", start) + 1
        if not end or 0 <= (-1 if size is None else size) < end - start:
            return bytes(super().readline(size))
        self._read_pos = end
        return bytes(self._read_buf[start:end])


class _Writer:
    """Writes at once; while `is_followed`, what is written waits for what will follow without delay."""

    def __init__(self, sock: socket.socket) -> None:
        self._connection = sock
        self._more = 0 if _is_tls(sock) else socket.MSG_MORE
        self.is_followed = False
        self.bytes_written = 0

    def write(self, data: bytes | memoryview) -> None:
        self._connection.sendall(data, self._more if self.is_followed else 0)
        self.bytes_written += len(data)


class Connection(cheroot.HTTPConnection):
    """One connection whose reader knows deadlines."""

    def __init__(self, server: Any, sock: Any, makefile: Any = None) -> None:
        super().__init__(server, sock)
        self.rfile = _Reader(sock, server.timeout)
        self.wfile = _Writer(sock)
        self._is_shaken = not _is_tls(sock)
        self._coming = select.poll()
        self._coming.register(sock, select.POLLIN)

    def communicate(self) -> bool:
        """Serve a request, and those that come right behind it; meanwhile the server knows of it."""
        self.server.serving.add(self)
        try:
            is_kept = (self._is_shaken or self._shake()) and self._serve()
            while is_kept and self._is_next_near():
                is_kept = self._serve()
            return is_kept
        finally:
            self.server.serving.discard(self)

    def _serve(self) -> bool:
        return bool(super().communicate())  # type: ignore[no-untyped-call]

    def _is_next_near(self) -> bool:
        """Say whether the next request is here or comes at once, unless others wait for the thread."""
        pool = self.server.requests
        if not self.server.ready or pool.qsize or not pool.idle:
            return False
        return self.rfile.has_data() or bool(self._coming.poll(_NEXT))

    def _shake(self) -> bool:
        """Work the TLS handshake here, on a thread with a deadline, so that nobody waits for who is slow."""
        self.socket.settimeout(_HEADER_SECONDS)
        try:
            self.socket.do_handshake()
        except OSError as error:
            why = error.reason if isinstance(error, ssl.SSLError) else type(error).__name__
            logger.info("A TLS handshake at the web port failed: %s", why)
            if why == "HTTP_REQUEST":
                _refuse_plain(self.socket.fileno())
            return False
        self.socket.settimeout(self.server.timeout)
        self._is_shaken = True
        return True


def _refuse_plain(descriptor: int) -> None:
    """Tell who speaks HTTP to a port with TLS what to do; a browser would say no more than: cut off."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as plain:
        plain.setblocking(False)
        plain.sendall(_PLAIN_REFUSAL)
        plain.shutdown(socket.SHUT_WR)
        # What was sent and not read would have the connection reset, and the answer with it.
        while plain.recv(_SMALL):
            pass


class _Headers(cheroot.HeaderReader):
    """Leaves out headers with an underscore, which WSGI could not tell from those with a dash."""

    def _allow_header(self, key_name: bytes) -> bool:
        return b"_" not in key_name


class Request(cheroot.HTTPRequest):
    """One request; what could be understood in two ways is refused (RFC 9112 6.3)."""

    header_reader = _Headers()

    def parse_request(self) -> None:
        """Read the request line and the headers."""
        limited = self.conn.rfile.limited
        limited.deadline = time.monotonic() + _HEADER_SECONDS
        try:
            super().parse_request()
        finally:
            limited.deadline = None
        if self.ready and not self._has_one_length():
            self.ready = False
            self.simple_response("400 Bad Request", "The length of the body is not certain.")

    def _has_one_length(self) -> bool:
        told = self.inheaders.get(b"Content-Length", b"0").strip()
        is_both = b"Content-Length" in self.inheaders and b"Transfer-Encoding" in self.inheaders
        is_twice = self.inheaders.get(b"Transfer-Encoding", b"").lower().count(b"chunked") > 1
        return told.isdigit() and len(told) < 19 and not is_both and not is_twice

    def respond(self) -> None:
        """Call the application and write what it answers."""
        length = None if self.chunked_read else int(self.inheaders.get(b"Content-Length", 0))
        self.rfile = Body(self.conn.rfile, self.conn.socket, length, self.server.longest_body)
        self.server.gateway(self).respond()
        if self.ready:
            self.ensure_headers_sent()
        if self.chunked_write:
            self.conn.wfile.write(b"0\r\n\r\n")

    def send_headers(self) -> None:
        """Send the headers, after what is left of the request's body was dropped."""
        if not self.rfile.drain():
            self.close_connection = True
        super().send_headers()


Connection.RequestHandlerClass = Request


class Gateway(wsgi.Gateway_10):
    """Hands requests to the application, and its answers to the socket."""

    def __init__(self, req: Any) -> None:
        super().__init__(req)
        self.env[BODY] = req.rfile
        self.env["wsgi.input_terminated"] = True

    def respond(self) -> None:
        """Process the request; a piece may be any bytes-like object, good until the next one is asked for."""
        try:
            self._respond()
        finally:
            self.req.server.leave(self.env)

    def _respond(self) -> None:
        answer = self.req.server.wsgi_app(self.env, self.start_response)
        try:
            is_empty = self.req.method == b"HEAD"
            for piece in () if is_empty else answer:
                if len(piece):
                    self._send(piece)
        finally:
            if hasattr(answer, "close"):
                answer.close()
        self.req.ensure_headers_sent()
        if self.remaining_bytes_out and not is_empty:
            # Less came than was announced: only the end of the connection can say so.
            self.req.close_connection = True

    def _send(self, piece: Piece) -> None:
        request, size = self.req, len(piece)
        connection, writer, left = request.conn.socket, request.conn.wfile, self.remaining_bytes_out
        writer.is_followed = True
        request.ensure_headers_sent()
        if request.chunked_write:
            writer.write(b"%x\r\n" % size)
        writer.is_followed = request.chunked_write or (size < _SMALL and left is not None and size < left)
        if isinstance(piece, FilePiece):
            self._send_file(connection, piece)
        else:
            writer.write(piece)
        writer.is_followed = False
        if request.chunked_write:
            writer.write(b"\r\n")
        if left is not None:
            self.remaining_bytes_out = left - size

    def _send_file(self, connection: socket.socket, piece: FilePiece) -> None:
        if _is_tls(connection):
            for part in piece.read():
                connection.sendall(part)
        else:
            ready = select.poll()
            ready.register(connection, select.POLLOUT)
            place, end = piece.offset, piece.offset + len(piece)
            while place < end:
                try:
                    sent = os.sendfile(connection.fileno(), piece.descriptor, place, end - place)
                except BlockingIOError:
                    if not ready.poll(1000 * self.req.server.timeout):
                        raise TimeoutError("timed out") from None
                    continue
                if not sent:
                    raise Damaged("A segment is cut off.", "Run: peerpacs rebuild")
                place += sent
        piece.check()


def _is_tls(connection: socket.socket) -> bool:
    return isinstance(connection, ssl.SSLSocket)


class Securing:
    """What cheroot calls an SSL adapter: wraps each connection by the context of that moment."""

    def __init__(self, context: Callable[[], ssl.SSLContext]) -> None:
        self._context = context

    def bind(self, sock: socket.socket) -> socket.socket:
        """Leave the listening socket as it is."""
        return sock

    def wrap(self, sock: socket.socket) -> tuple[socket.socket, dict[str, Any]]:
        """Return the connection before its handshake, which the thread works that serves it."""
        try:
            secured = self._context().wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError as error:
            raise FatalSSLAlert(type(error).__name__) from None
        return secured, {}

    makefile = None
    """Connections make their own files."""


class _Pool(threadpool.ThreadPool):
    """Threads that do not keep a process alive which has nothing else to do."""

    def _spawn_worker(self) -> threading.Thread:
        worker: threading.Thread = threadpool.WorkerThread(self.server)  # type: ignore[no-untyped-call]
        worker.name = worker.name.replace("Thread", "web")
        worker.daemon = True
        worker.start()
        return worker


class Server(wsgi.Server):
    """The server with our connections and our log."""

    ConnectionClass = Connection

    def __init__(
        self,
        address: tuple[str, int],
        application: Any,
        *,
        threads: int,
        timeout: int,
        longest_body: int | None = None,
        leave: Callable[[dict[str, Any]], None] = lambda environ: None,
    ) -> None:
        """`leave` is told of every request that is over, by its environment."""
        super().__init__(
            address,
            application,
            numthreads=threads,
            server_name="PeerPACS",
            request_queue_size=128,
            timeout=timeout,
        )
        self.serving: set[Connection] = set()
        """The connections with a request under way."""
        self.longest_body = longest_body
        self.leave = leave
        self.gateway = Gateway
        self.requests = _Pool(self, min=threads)
        self.keep_alive_conn_limit = 512

    def cut_off(self) -> None:
        """End every connection with a request under way, in the middle of it."""
        for connection in tuple(self.serving):
            with contextlib.suppress(OSError):
                # Not by the socket's own method: for TLS that forgets the keys first, and what a thread is
                # about to send would leave in the clear.
                socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)

    def process_conn(self, conn: Any) -> None:
        """Have a thread serve a connection; one that has not said anything yet waits without a thread."""
        if conn.last_used is None:
            self.put_conn(conn)
        else:
            super().process_conn(conn)

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        """Log where it happened, and never with what: a message could quote a request."""
        if traceback:
            logger.error("A web request failed (%s); its connection was closed.", trail())
        elif level >= logging.WARNING:
            logger.warning("The web server says: %s", msg[:200])


def trail(error: BaseException | None = None) -> str:
    """Return the kind of an error and where it came from, without what it says."""
    error = error or sys.exc_info()[1]
    if error is None:
        return "unknown"
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = (f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} at {' > '.join(places)}"
