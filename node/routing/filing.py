"""Files in a bucket: `prefix/STUDY/SERIES/INSTANCE.dcm`, each a Part 10 file that any program can read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from catalog import Damaged, MoreNeeded, NotPermitted, PacsError, Unavailable, scan
from node.bucket.client import Bucket
from node.contracts import Outgoing, StoreResult
from node.dimse.delivery import Pair
from node.storage import file_meta

_HEAD: Final = 1 << 18
_WHOLE: Final = 64 << 20
"""Bytes up to which a file goes in one request."""
_PART: Final = 16 << 20


class FileDelivery:
    """Satisfies `Sending` for one bucket; a file counts when the server compared its checksum."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.last_word: PacsError | None = None
        """Why nothing more can be written."""

    def expect(self, pairs: Iterable[Pair]) -> None:
        """A bucket takes everything."""

    def prepare(self, outgoing: Outgoing) -> None:
        """It is read when it goes."""

    def begin(self, outgoing: Outgoing) -> None:
        """Write a file.

        Raises:
            Unavailable: the bucket does not answer, refuses the credentials, or is full.
            Damaged, NotFound: the instance's bytes cannot be read.
        """
        key = key_of(outgoing)
        try:
            if outgoing.size <= _WHOLE:
                self._bucket.put(key, _meta(outgoing) + _read(outgoing, 0, outgoing.size))
            else:
                self._put_large(key, outgoing)
        except NotPermitted as error:
            # Keys are mended, and then it goes on.
            self.last_word = Unavailable(error.what, error.next)
            raise self.last_word from error
        except Unavailable as error:
            self.last_word = error
            raise

    def _put_large(self, key: str, outgoing: Outgoing) -> None:
        upload = self._bucket.begin(key)
        parts: list[tuple[str, bytes]] = []
        pending, offset = _meta(outgoing), 0
        while pending or offset < outgoing.size:
            piece = _read(outgoing, offset, min(_PART, outgoing.size - offset))
            offset += len(piece)
            pending += piece
            parts.append(_sent(self._bucket, key, upload, len(parts) + 1, pending))
            pending = b""
        self._bucket.complete(key, upload, parts)

    def end(self, is_unwanted: Callable[[], bool] = bool) -> StoreResult:
        """It is there."""
        return StoreResult(0)

    def close(self, *, release: bool = True) -> None:
        """Give the connections back."""
        self._bucket.close()


def _sent(bucket: Bucket, key: str, upload: str, number: int, data: bytes) -> tuple[str, bytes]:
    from hashlib import sha256

    return bucket.put_part(key, upload, number, data), sha256(data).digest()


def _meta(outgoing: Outgoing) -> bytes:
    return file_meta(outgoing.SOPClassUID, outgoing.SOPInstanceUID, outgoing.TransferSyntaxUID)


def _read(outgoing: Outgoing, offset: int, length: int) -> bytes:
    data = bytearray(length)
    view, at = memoryview(data), 0
    while at < length:
        count = outgoing.read_into(view[at:], offset + at)
        if not count:
            raise Damaged("An instance ended before its end.", "See: peerpacs verify")
        at += count
    return bytes(data)


def key_of(outgoing: Outgoing) -> str:
    """Return where an instance goes, by what it says itself: it may have left with other UIDs."""
    limit = min(_HEAD, outgoing.size)
    while True:
        head = _read(outgoing, 0, limit)
        try:
            header = scan(memoryview(head), outgoing.TransferSyntaxUID, outgoing.size)
        except MoreNeeded:
            limit = min(outgoing.size, 4 * limit)
            continue
        return f"{header.StudyInstanceUID}/{header.SeriesInstanceUID}/{header.SOPInstanceUID}.dcm"


def instances_there(bucket: Bucket, StudyInstanceUID: str) -> set[str]:
    """Return the SOP Instance UIDs that a bucket has of a study. Raises as `Bucket`."""
    keys = bucket.keys(f"{StudyInstanceUID}/")
    return {key.rpartition("/")[2].removesuffix(".dcm") for key, _, _ in keys}
