"""Bodies of answers: single parts, ranges of them, and multipart/related, made while they are sent.

Pieces lie in one buffer that is used again, so that an answer of any length takes the memory of one piece.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol, cast

from catalog import Damaged, NotFound
from node.contracts import InFile, Outgoing, Place
from node.storage import file_meta

_PIECE: Final = 1 << 20
_END: Final = b"\r\n"


class Readable(Protocol):
    """Bytes of a known number that can be read from anywhere."""

    @property
    def size(self) -> int:
        """How many there are."""

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; return how many bytes there were."""

    def place(self) -> Place | None:
        """Return where its first byte lies, if all of it is in one piece in a file."""

    def close(self) -> None:
        """Give back what reading took."""


class FilePiece:
    """Some bytes of a file as a piece of a body: they are sent, never read."""

    def __init__(self, place: Place, start: int, size: int) -> None:
        self.descriptor = place.descriptor
        self.offset = place.offset + start
        self._is_there = place.is_there
        self._size = size

    def __len__(self) -> int:
        return self._size

    def check(self) -> None:
        """Make sure, after they were sent, that it were these bytes.

        Raises:
            NotFound: the object was removed meanwhile.
        """
        if not self._is_there():
            raise NotFound("The object was removed while it was sent.", "Ask again.")

    def read(self) -> Iterator[bytes]:
        """Yield the bytes, for a connection that cannot send files."""
        for start in range(0, self._size, _PIECE):
            yield os.pread(self.descriptor, min(_PIECE, self._size - start), self.offset + start)


Piece = bytes | memoryview | FilePiece


@lru_cache(maxsize=64)
def _may_lie_in_a_file(kind: type) -> bool:
    """Say it once for each class: asking a protocol takes longer than answering."""
    return issubclass(kind, InFile)


def _place_of(outgoing: Outgoing) -> Place | None:
    return cast(InFile, outgoing).place() if _may_lie_in_a_file(type(outgoing)) else None


class Bytes:
    """Bytes in memory; satisfies `Readable`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; return how many bytes there were."""
        piece = self._data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)

    def place(self) -> None:
        """In memory."""

    def close(self) -> None:
        """Nothing was taken."""


class Part10:
    """An instance as a DICOM file, PS3.10 7; satisfies `Readable`."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._meta = file_meta(outgoing.SOPClassUID, outgoing.SOPInstanceUID, outgoing.TransferSyntaxUID)
        self._outgoing = outgoing
        self.size = len(self._meta) + outgoing.size

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; return how many bytes there were."""
        piece = self._meta[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        if len(piece) == len(buffer):
            return len(piece)
        inside = max(0, offset - len(self._meta))
        return len(piece) + self._outgoing.read_into(buffer[len(piece) :], inside)

    def place(self) -> Place | None:
        """Return where the file begins: what is stored has the very same File Meta Information."""
        found = _place_of(self._outgoing)
        return found and found._replace(offset=found.offset - len(self._meta))

    def close(self) -> None:
        """Close the instance."""
        self._outgoing.close()


class Window:
    """Some of the bytes of an instance, from `start` on; satisfies `Readable`."""

    def __init__(self, whole: Outgoing, start: int, size: int) -> None:
        self._whole = whole
        self._start = start
        self.size = size

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; return how many bytes there were."""
        left = max(0, self.size - offset)
        return self._whole.read_into(buffer[:left], self._start + offset) if left else 0

    def place(self) -> Place | None:
        """Return where the first of them lies."""
        found = _place_of(self._whole)
        return found and found._replace(offset=found.offset + self._start)

    def close(self) -> None:
        """Nothing: the whole is its opener's to close."""


class Owned:
    """What closes with it more than itself; satisfies `Readable`."""

    def __init__(self, content: Readable, give_back: Callable[[], None]) -> None:
        self.size = content.size
        self.read_into = content.read_into
        self.place = content.place
        self._content = content
        self._give_back = give_back

    def close(self) -> None:
        """Close the content, and give back the rest."""
        self._content.close()
        self._give_back()


class Single:
    """One part alone, or a range of it; satisfies `Stream`."""

    def __init__(self, content: Readable, start: int = 0, size: int | None = None) -> None:
        self._content = content
        self._start = start
        self.size = content.size if size is None else size

    def __iter__(self) -> Iterator[Piece]:
        place = self._content.place()
        if place and self.size:
            return iter((FilePiece(place, self._start, self.size),))
        buffer = memoryview(bytearray(min(_PIECE, self.size)))
        return _pieces(self._content, buffer, 0, self._start, self.size)

    def close(self) -> None:
        """Close the part."""
        self._content.close()


def _pieces(
    content: Readable, buffer: memoryview, filled: int, start: int, size: int
) -> Iterator[memoryview]:
    """Yield what is in the buffer up to `filled`, and then `size` bytes of the content from `start` on."""
    done = 0
    while done < size:
        count = content.read_into(buffer[filled : filled + size - done], start + done)
        if not count and filled < len(buffer):
            raise Damaged("What was being sent is shorter than it was.", "Ask again; see the node's log.")
        yield buffer[: filled + count]
        done, filled = done + count, 0
    if filled:
        yield buffer[:filled]


@dataclass(slots=True)
class Part:
    """One part of a multipart/related body; `open` is called when its turn comes."""

    media_type: str
    location: str
    open: Callable[[], Readable]
    size: int | None
    """Length in bytes, None where only opening tells."""


class Related:
    """A multipart/related body, RFC 2387; satisfies `Stream`.

    The boundary is drawn anew for each body and long, so that no data holds it but by a miracle.
    """

    def __init__(
        self, root: str, parts: Sequence[Part], give_back: Callable[[], None] = lambda: None
    ) -> None:
        """Take the parts and the media type of the first; `give_back` is called in the end."""
        self._boundary = secrets.token_hex(20)
        self._parts = parts
        self._give_back = give_back
        self.media_type = f'multipart/related; type="{root}"; boundary="{self._boundary}"'

    @property
    def size(self) -> int | None:
        """Length in bytes, if all parts know theirs."""
        total = len(self._closing)
        for number, part in enumerate(self._parts):
            if part.size is None:
                return None
            total += len(self._opening(part, number)) + part.size
        return total

    def __iter__(self) -> Iterator[Piece]:
        buffer = memoryview(b"")
        for number, part in enumerate(self._parts):
            content = part.open()
            try:
                opening = self._opening(part, number)
                place = content.place()
                if place and content.size:
                    yield opening
                    yield FilePiece(place, 0, content.size)
                    continue
                buffer = buffer or memoryview(bytearray(_PIECE))
                buffer[: len(opening)] = opening
                yield from _pieces(content, buffer, len(opening), 0, content.size)
            finally:
                content.close()
        yield self._closing

    def close(self) -> None:
        """Give back what the parts took."""
        self._give_back()

    @property
    def _closing(self) -> bytes:
        return f"\r\n--{self._boundary}--\r\n".encode()

    def _opening(self, part: Part, number: int) -> bytes:
        lines = [f"--{self._boundary}", f"Content-Type: {part.media_type}"]
        if part.size is not None:
            lines.append(f"Content-Length: {part.size}")
        if part.location:
            lines.append(f"Content-Location: {part.location}")
        start = _END if number else b""
        return start + "\r\n".join([*lines, "", ""]).encode()
