"""The body of a request: from the socket into a caller's buffer, never more in memory than that.

The server's own readers take a whole chunk of chunked coding, however long, into memory; these do not. Slow
senders are given up on, so that none of them keeps a thread for itself.
"""

from __future__ import annotations

import re
import socket
import time
from typing import Any, Final

from .problems import Malformed, TooLarge, TooSlow

_GRACE: Final = 20.0
"""Seconds for which a body may be as slow as it likes; a lone hiccup of the network is not an attack."""
_SLOWEST: Final = 4096
"""Bytes a second that a body must come with from then on, on the average."""
_LINE: Final = 1024
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_DRAINED: Final = 16 << 20
"""Bytes of an unread body that are read and dropped, so that its sender hears the answer."""


class Body:
    """A request's body, read once from its beginning to its end.

    `length` is its Content-Length, None for chunked coding (RFC 9112 7.1). `taken` counts the bytes read.
    """

    def __init__(self, rfile: Any, connection: Any, length: int | None, limit: int | None = None) -> None:
        self.length = length
        self.taken = 0
        self._limit = limit
        self._rfile = rfile
        self._socket: socket.socket = connection
        self._left = length or 0
        """Bytes of the body, or of the current chunk, still to come."""
        self._is_chunked = length is None
        self._is_over = length == 0
        self._began = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self._is_over

    def read_into(self, buffer: memoryview) -> int:
        """Fill some of the buffer; return how many bytes, 0 at the end.

        Raises:
            Malformed: the body ends early, or its chunks are none.
            TooLarge: it is, or becomes, longer than this node takes.
            TooSlow: it comes too slowly.
        """
        if self._is_chunked and not self._left and not self._is_over:
            self._begin_chunk()
        if self._is_over or not len(buffer):
            return 0
        self._check_length()
        self._check_pace()
        count = self._receive(buffer[: self._left])
        if not count:
            raise Malformed("The body ends before its announced end.", "Send the request again.")
        self.taken += count
        self._left -= count
        if not self._left:
            if self._is_chunked:
                self._end_chunk()
            else:
                self._is_over = True
        return count

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, b"" at the end. Raises as `read_into`."""
        data = bytearray(min(size, 1 << 20))
        return bytes(data[: self.read_into(memoryview(data))])

    def read_all(self, limit: int) -> bytes | None:
        """Return the whole body, or None if it has more than `limit` bytes. Raises as `read_into`."""
        found = bytearray()
        while part := self.read(65536):
            found += part
            if len(found) > limit:
                return None
        return bytes(found)

    def drain(self) -> bool:
        """Read and drop what is left, within limits; say whether that was all of it."""
        buffer = memoryview(bytearray(65536))
        dropped = 0
        # Closing on what is left would lose the answer, and who sent too much, of all, is to hear why.
        self._limit = None
        try:
            while not self._is_over and dropped <= _DRAINED:
                dropped += self.read_into(buffer)
        except (Malformed, TooSlow, OSError):
            return False
        return self._is_over

    def _receive(self, buffer: memoryview) -> int:
        try:
            if self._rfile.has_data():
                # What came with the headers, or with the length of the chunk.
                part: bytes = self._rfile.read1(len(buffer))
                buffer[: len(part)] = part
                return len(part)
            return self._socket.recv_into(buffer)
        except TimeoutError:
            raise TooSlow("The body stopped coming.", "Send the request again.") from None

    def _check_length(self) -> None:
        if self._limit is not None and max(self.taken + self._left, self.length or 0) > self._limit:
            what = f"The body is longer than the {self._limit} bytes that this node takes at once."
            raise TooLarge(what, "Send it in portions, or have web.max_upload_mb raised.")

    def _check_pace(self) -> None:
        seconds = time.monotonic() - self._began
        if seconds > _GRACE and self.taken < (seconds - _GRACE) * _SLOWEST:
            raise TooSlow(
                f"The body came with less than {_SLOWEST} bytes a second.", "Send it over a better line."
            )

    def _begin_chunk(self) -> None:
        line = self._line()
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise Malformed("The chunks of the body are out of step.", "Mend the client.")
        self._left = int(match[1], 16)
        if not self._left:
            for _ in range(64):
                if self._line() == b"\r\n":
                    self._is_over = True
                    return
            raise Malformed("The body has too many trailers.", "Mend the client.")

    def _end_chunk(self) -> None:
        if self._line() != b"\r\n":
            raise Malformed("The chunks of the body are out of step.", "Mend the client.")

    def _line(self) -> bytes:
        self._check_pace()
        try:
            line: bytes = self._rfile.readline(_LINE)
        except TimeoutError:
            raise TooSlow("The body stopped coming.", "Send the request again.") from None
        if not line:
            raise Malformed("The body ends before its announced end.", "Send the request again.")
        return line
