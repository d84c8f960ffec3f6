"""Multipart bodies on their way in, RFC 2046 5.1, one part after the other and never whole in memory.

Preambles, epilogues, bare line feeds and a missing last line end are taken; DICOM's parts have no
Content-Disposition and may be empty. What is searched for delimiters lies in one buffer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Protocol

from .problems import Malformed

_WINDOW: Final = 1 << 19
_PREAMBLE: Final = 1 << 16
"""Bytes before the first delimiter that are passed over."""
_LINE: Final = 8192
_MOST_HEADERS: Final = 32
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]")
"""RFC 2046 5.1.1 allows 70 characters; some clients write more."""
_BLANK: Final = b" \t"


class Source(Protocol):
    """Where the bytes come from."""

    def read_into(self, buffer: memoryview) -> int:
        """Fill some of the buffer; return how many bytes, 0 at the end."""


class Parts:
    """The parts of a multipart body: iterate, and read each before the next.

    Raises, also while parts are read:
        Malformed: it is none, or ends before its last delimiter.
    """

    def __init__(self, source: Source, boundary: str) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise Malformed("The Content-Type has no boundary that RFC 2046 allows.", "Mend the client.")
        self._source = source
        self._mark = b"\n--" + boundary.encode()
        self._buffer = bytearray(_WINDOW)
        # The first delimiter may stand at the very beginning, where no line ends.
        self._buffer[:2] = b"\r\n"
        self._start, self._end = 0, 2
        self._is_over = False
        self._is_at_part = False
        self._is_last = False

    def __iter__(self) -> Iterator[Part]:
        self._skip_preamble()
        while not self._is_last:
            part = Part(self, self._headers())
            self._is_at_part = True
            yield part
            for _ in part:
                pass

    def _skip_preamble(self) -> None:
        passed = 0
        for piece in self._until_delimiter():
            passed += len(piece)
            if passed > _PREAMBLE:
                break
        else:
            return
        raise Malformed("The body does not begin with its boundary.", "Name the boundary that is in it.")

    def content(self) -> Iterator[memoryview]:
        """Yield what is left of the current part, each piece good until the next is asked for."""
        if self._is_at_part:
            yield from self._until_delimiter()
            self._is_at_part = False

    def _until_delimiter(self) -> Iterator[memoryview]:
        """Yield what comes before the next delimiter, and pass over that."""
        view = memoryview(self._buffer)
        searched = self._start
        while True:
            found = self._buffer.find(self._mark, searched, self._end)
            if found < 0:
                # What may be the beginning of a delimiter stays.
                safe = max(self._start, self._end - len(self._mark))
                if safe > self._start and self._buffer[safe - 1] == 13:
                    safe -= 1
                if safe > self._start:
                    yield view[self._start : safe]
                    self._start = safe
                self._fill()
                searched = self._start
                continue
            end = self._end_of_delimiter(found - self._start)
            found = self._start + self._found
            if end is None:
                searched = found + 1
                continue
            has_return = found > self._start and self._buffer[found - 1] == 13
            if found - has_return > self._start:
                yield view[self._start : found - has_return]
            self._start = end
            return

    def _end_of_delimiter(self, distance: int) -> int | None:
        """Return where the delimiter's line ends; None if it only begins like one.

        The buffer may move: `distance` is from its start, and kept in `_found`.
        """
        self._found = distance
        while True:
            place = self._start + distance + len(self._mark)
            tail = bytes(self._buffer[place : min(self._end, place + 256)])
            if tail.startswith(b"--"):
                self._is_last = True
                return place + 2
            blank = len(tail) - len(tail.lstrip(_BLANK))
            rest = tail[blank:]
            if rest.startswith((b"\r\n", b"\n")):
                return place + blank + (2 if rest[0] == 13 else 1)
            is_undecided = rest in (b"", b"\r") or tail == b"-"
            if not is_undecided or len(tail) == 256:
                return None
            self._fill()

    def _fill(self) -> None:
        """Read more behind what is there."""
        if self._start:
            left = self._end - self._start
            self._buffer[:left] = self._buffer[self._start : self._end]
            self._start, self._end = 0, left
        count = self._source.read_into(memoryview(self._buffer)[self._end :])
        if not count:
            raise Malformed("The body ends before its last boundary.", "Send the whole body.")
        self._end += count

    def _headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        name = ""
        for _ in range(_MOST_HEADERS + 1):
            line = self._line()
            if not line:
                return found
            text = line.decode("latin_1")
            if text[0] in " \t" and name:
                found[name] += " " + text.strip()
                continue
            name, colon, value = text.partition(":")
            name = name.strip().lower()
            if not colon or not name:
                break
            found.setdefault(name, value.strip())
        raise Malformed("A part has headers that are none.", "Begin each part with its headers.")

    def _line(self) -> bytes:
        while True:
            end = self._buffer.find(b"\n", self._start, self._end)
            if end >= 0:
                break
            if self._end - self._start > _LINE:
                raise Malformed("A part has a header that is too long.", "Begin each part with its headers.")
            self._fill()
        line = bytes(self._buffer[self._start : end])
        is_blank = line in (b"", b"\r")
        # The end of a blank line may already belong to the delimiter of an empty part.
        self._start = end if is_blank else end + 1
        if is_blank:
            self._pass_line_end()
        return line.rstrip(b"\r")

    def _pass_line_end(self) -> None:
        while self._end - self._start < len(self._mark):
            have = self._end - self._start
            if bytes(self._buffer[self._start : self._end]) != self._mark[:have]:
                break
            self._fill()
        is_mark = self._buffer.startswith(self._mark, self._start, self._end)
        if not is_mark or self._end_of_delimiter(0) is None:
            self._start += 1


class Part:
    """One part: its headers, with names in lower case, and, by iterating once, its content."""

    def __init__(self, parts: Parts, headers: dict[str, str]) -> None:
        self.headers = headers
        self._parts = parts

    def __iter__(self) -> Iterator[memoryview]:
        return self._parts.content()
