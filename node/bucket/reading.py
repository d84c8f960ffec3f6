"""Files read from the bucket: whole, with everything checked, or by ranges of whole chunks."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from catalog import Damaged, Holding, NotFound, Reader

from .client import Bucket
from .sealing import HEADER, TAG, Header, Key, Sealed

_ALL: Final = 1 << 50
_AT_ONCE: Final = 2 << 20
"""A file of so many bytes is read in one piece: each further read costs more than the bytes do."""
_AHEAD: Final = 8
"""Chunks read at once when a reader goes on where it stopped."""
AGAIN: Final = "Send it again from where it came, or fetch it from a peer that has a copy."


def object_key(sha256: bytes) -> str:
    """Return the key of an object in the bucket."""
    name = sha256.hex()
    return f"o/{name[:2]}/{name}"


def decision_key(id: str) -> str:
    """Return the key of a decision in the bucket."""
    return f"decisions/{id}"


def decision_id(id: str) -> bytes:
    """Return what a decision's chunks are tied to, as an object's are to its SHA-256."""
    return hashlib.sha256(b"decision " + id.encode()).digest()


def read_header(bucket: Bucket, name: str, object_id: bytes, key: Key | None) -> Sealed:
    """Read only the header of a file.

    Raises:
        Damaged: it is not one.
        NotFound: there is no such file.
    """
    return Sealed(object_id, Header.unpack(bucket.read(name, 0, HEADER)), key)


def read_chunks(
    bucket: Bucket, name: str, object_id: bytes, key: Key | None, size: int = _ALL
) -> Iterator[bytes]:
    """Yield the plain chunks of a whole file, each once it proved to be what was written.

    `size` is how many plain bytes are expected, if that is known.

    Raises:
        Damaged: bytes are missing, too many, moved or changed.
        NotFound: there is no such file.
    """
    is_small = size <= _AT_ONCE
    with closing(
        io.BytesIO(bucket.whole(name, 2 * _AT_ONCE)) if is_small else bucket.stream(name, 0, _ALL)
    ) as stream:
        sealed = Sealed(object_id, Header.unpack(stream.read(HEADER)), key)
        for index in range(sealed.count):
            _, length = sealed.span(index, index)
            yield sealed.open(index, stream.read(length))
        if stream.read(1):
            raise Damaged(f"{name} in the bucket is longer than it was.", AGAIN)


def read_whole(bucket: Bucket, sha256: bytes, key: Key | None, size: int = _ALL) -> Iterator[bytes]:
    """Yield an object like `read_chunks`; at the end the whole had its SHA-256.

    Raises:
        Damaged: it is not what was stored.
        NotFound: the bucket does not have it.
    """
    digest = hashlib.sha256()
    for plain in read_chunks(bucket, object_key(sha256), sha256, key, size):
        digest.update(plain)
        yield plain
    if digest.digest() != sha256:
        raise Damaged(f"The object {sha256.hex()} in the bucket does not have its SHA-256.", AGAIN)


class RemoteFile:
    """Satisfies `Reader` without a place on the disk; keeps a few chunks in memory."""

    def __init__(
        self,
        bucket: Bucket,
        holding: Holding,
        key: Key | None,
        is_there: Callable[[], bool],
        on_damage: Callable[[Damaged], None],
    ) -> None:
        """Open the object in the bucket; `is_there` says whether it was removed meanwhile.

        `on_damage` hears of bytes that are not what was stored, before the reader does.

        Raises:
            NotFound: the bucket does not have it.
            Unavailable: the bucket does not answer.
        """
        self._bucket = bucket
        self._name = object_key(holding.sha256)
        self._is_there = is_there
        self._on_damage = on_damage
        self._sealed = read_header(bucket, self._name, holding.sha256, key)
        self.size = self._sealed.size
        if self.size != holding.size:
            raise Damaged(f"{self._name} in the bucket has another size than was stored.", AGAIN)
        self._first = 0
        self._window: list[bytes] = []

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; return how many bytes there were.

        Raises:
            Damaged: the bucket has other bytes than were stored; none of them is in the buffer.
            NotFound: the object was removed meanwhile.
        """
        if not self._is_there():
            raise NotFound("The object was removed while it was read.", AGAIN)
        wanted = max(min(len(buffer), self.size - offset), 0)
        got = 0
        while got < wanted:
            index, start = divmod(offset + got, self._sealed.chunk)
            last = (offset + wanted - 1) // self._sealed.chunk
            part = memoryview(self._chunk(index, last))[start : start + wanted - got]
            buffer[got : got + len(part)] = part
            got += len(part)
        return got

    def close(self) -> None:
        """Forget what is in memory."""
        self._window = []

    def _chunk(self, index: int, last: int) -> bytes:
        behind = self._first + len(self._window)
        if not self._first <= index < behind:
            ahead = _AHEAD if self._window and index == behind else 1
            until = min(max(index + ahead - 1, last), index + _AHEAD - 1, self._sealed.count - 1)
            try:
                self._window = self._fetch(index, until)
            except Damaged as error:
                self._on_damage(error)
                raise
            self._first = index
        return self._window[index - self._first]

    def _fetch(self, first: int, last: int) -> list[bytes]:
        start, length = self._sealed.span(first, last)
        sealed = memoryview(self._bucket.read(self._name, start, length))
        step = self._sealed.chunk + TAG
        pieces = (sealed[at * step : (at + 1) * step] for at in range(last - first + 1))
        return [self._sealed.open(first + at, piece) for at, piece in enumerate(pieces)]


class BucketFile:
    """Satisfies `Reader`; when the cache drops the file in the middle, it is opened where it is now."""

    def __init__(self, reopen: Callable[[], Reader]) -> None:
        self._reopen = reopen
        self._reader = reopen()
        self.size = self._reader.size

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; return how many bytes there were."""
        try:
            return self._reader.read_into(buffer, offset)
        except NotFound:
            self._reader.close()
            self._reader = self._reopen()
            return self._reader.read_into(buffer, offset)

    def close(self) -> None:
        """Give back what reading took; twice is harmless."""
        self._reader.close()
