"""A connection over TLS: encrypted between memory and memory, so that the socket stays an ordinary one.

OpenSSL allows one thread at a time in a connection, but while one thread waits for the peer others must send.
So nothing waits inside TLS: records are moved by the plain calls of `Connection` with the kernel's
timeouts, and a lock is held only while bytes in memory are encrypted or decrypted.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from .transport import Buffer, Closed, Connection, Silent

RAW: Final = 1 << 17
"""Bytes of records that are read at once."""
SLICE: Final = 1 << 16
"""Bytes that are encrypted before they are sent: so few that memory for them is found in the heap."""


class TlsLayer:
    """The TLS state of one connection between two buffers of records; any thread may use it."""

    def __init__(self, context: ssl.SSLContext, *, server_name: str | None = None) -> None:
        """Begin as the server, or as a client of `server_name`."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        is_server = server_name is None
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, is_server, server_name)
        self._lock = threading.Lock()
        self.is_established = False

    def feed(self, records: Buffer) -> None:
        """Take what came from the peer."""
        with self._lock:
            self._incoming.write(records)

    @property
    def has_output(self) -> bool:
        """Whether TLS itself has something to say, a key update for instance."""
        return bool(self._outgoing.pending)

    def output(self) -> bytes:
        """Return the records that wait to be sent."""
        with self._lock:
            return self._outgoing.read() if self._outgoing.pending else b""

    def shake(self) -> bool:
        """Go on with the handshake; say whether it is over.

        Raises:
            ssl.SSLError: it failed; `output` tells the peer.
        """
        with self._lock, contextlib.suppress(ssl.SSLWantReadError):
            self._ssl.do_handshake()
            self.is_established = True
        return self.is_established

    def decrypt(self, view: memoryview) -> int | None:
        """Fill the view from records that are here; return the count, 0 at the end, None if more must come.

        Raises:
            Closed: the records are not what the peer encrypted.
        """
        try:
            with self._lock:
                return int(self._ssl.read(len(view), view))
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return 0
        except ssl.SSLError as error:
            raise Closed(f"TLS failed: {error.reason or error}") from None

    def everything(self) -> bytes:
        """Return all that can be decrypted now; raises as `decrypt`."""
        parts = []
        view = memoryview(bytearray(16384))
        while count := self.decrypt(view):
            parts.append(bytes(view[:count]))
        return b"".join(parts)

    def encrypt(self, data: Buffer) -> bytes:
        """Return data as records, behind those that wait to be sent.

        Raises:
            Closed: this connection has broken.
        """
        view = memoryview(data)
        try:
            with self._lock:
                while view:
                    view = view[self._ssl.write(view) :]
                return self._outgoing.read()
        except ssl.SSLError as error:
            raise Closed(f"TLS failed: {error.reason or error}") from None

    def farewell(self) -> bytes:
        """Return the close_notify that says nothing was cut off, RFC 8446 6.1, with all that waits."""
        with self._lock:
            with contextlib.suppress(ssl.SSLError):
                self._ssl.unwrap()
            return self._outgoing.read()

    def certificate(self) -> bytes:
        """Return the certificate the peer showed (DER), nothing if it showed none."""
        with self._lock:
            return self._ssl.getpeercert(binary_form=True) or b""

    def __str__(self) -> str:
        return f"{self._ssl.version()} {(self._ssl.cipher() or ('',))[0]}"


class SecureConnection(Connection):
    """A `Connection` whose bytes are encrypted; the same promises, one thread reads and any thread sends."""

    def __init__(self, sock: socket.socket, timeout: float, layer: TlsLayer) -> None:
        """Take over a connected socket and its TLS state; `timeout` as in `set_timeout`."""
        super().__init__(sock, timeout)
        self.layer = layer
        self._raw = memoryview(bytearray(RAW))
        self._gathered = memoryview(bytearray(SLICE))
        self._sending = threading.Lock()
        self._unsent = b""
        """Records that the kernel did not take at once."""

    @property
    def security(self) -> str:
        """How the connection is protected: version and cipher suite, as OpenSSL names them."""
        return str(self.layer)

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Send all buffers.

        Raises:
            Closed, Silent: the peer is gone or takes nothing.
        """
        with self._sending:
            self._send_unsent()
            for part in self._slices(buffers):
                self._send_all(self.layer.encrypt(part))

    def send_some(self, buffers: Sequence[Buffer]) -> list[Buffer]:
        """Send what the kernel takes at once and return the rest, at most a slice; records are kept here."""
        with self._sending:
            if self._unsent:
                self._unsent = self._try(self._unsent)
            if self._unsent:
                return list(buffers)
            data = b"".join(buffers)
            self._unsent = self._try(self.layer.encrypt(data[:SLICE]))
            return [data[SLICE:]] if len(data) > SLICE else []

    def has_input(self, seconds: float = 0.0) -> bool:
        """Say whether there is something to read (the end counts), waiting at most so long for it.

        Half a record, or one that carries nothing, is no input.
        """
        deadline = time.monotonic() + seconds
        while not self._look():
            left = max(0.0, deadline - time.monotonic())
            if not self._poll.poll(left * 1000):
                return False
            try:
                count = self.sock.recv_into(self._raw, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                return True
            if not count:
                return True
            self.layer.feed(self._raw[:count])
        return True

    def close(self) -> None:
        """Tell the peer that nothing was cut off, if it listens, and give the socket back."""
        with contextlib.suppress(OSError):
            self.sock.send(self._unsent + self.layer.farewell(), socket.MSG_DONTWAIT)
        super().close()

    def shake_hands(self) -> None:
        """Go through the handshake, as a client and blocking.

        Raises:
            ssl.SSLError: it failed.
            Closed, Silent: the peer is gone, or says nothing.
        """
        try:
            while not self.layer.shake():
                self._send_all(self.layer.output())
                self.layer.feed(self._raw[: super()._receive(self._raw, 0)])
        except ssl.SSLError:
            with contextlib.suppress(Closed, Silent):
                self._send_all(self.layer.output())
            raise
        self._send_all(self.layer.output())

    def _look(self) -> bool:
        """Say whether something is decrypted; what can be is."""
        if self._end > self._start:
            return True
        self._start = self._end = 0
        try:
            count = self.layer.decrypt(self._ahead)
        except Closed:
            return True
        self._end = count or 0
        return count is not None

    def _receive(self, view: memoryview, flags: int) -> int:
        while True:
            count = self.layer.decrypt(view)
            if count:
                return count
            if count == 0:
                raise Closed("the peer closed the connection")
            if self.layer.has_output:
                with self._sending:
                    self._send_unsent()
                    self._send_all(self.layer.output())
            self.layer.feed(self._raw[: super()._receive(self._raw, 0)])

    def _slices(self, buffers: Sequence[Buffer]) -> Iterator[memoryview]:
        """Yield what the buffers hold in full slices, so that records are full; each is gone at the next."""
        gathered, used = self._gathered, 0
        for buffer in buffers:
            view = memoryview(buffer)
            while view:
                step = min(len(view), SLICE - used)
                gathered[used : used + step] = view[:step]
                used += step
                view = view[step:]
                if used == SLICE:
                    yield gathered
                    used = 0
        if used:
            yield gathered[:used]

    def _send_unsent(self) -> None:
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            self._send_all(unsent)

    def _send_all(self, records: bytes) -> None:
        super().send([records])

    def _try(self, records: bytes) -> bytes:
        try:
            return records[self.sock.send(records, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return records
        except OSError as error:
            raise Closed(str(error)) from None
