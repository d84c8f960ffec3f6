"""What the node does in the bucket: uploads, their confirmation, deletions; one request or part a step.

Whatever interrupts an upload in parts, the next try seals the same bytes again and goes on behind the last
part whose SHA-256 is still the same. An object is confirmed when the server, which was seen to refuse wrong
bytes, took these under their SHA-256, or else when they were read back, opened, and hashed to their name.
What was confirmed is written down with the next commit of the ledger: who forgets it sends it once more.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import islice

from msgspec.structs import replace

from catalog import Clock, Damaged, Holding, NotFound, PacsError
from node.sections import Confirm
from node.storage import SegmentStore

from .client import Bucket
from .ledger import Ledger, Row
from .reading import object_key, read_whole
from .sealing import Key, Note, Sealed, sealed_length
from .settings import BucketSettings

logger = logging.getLogger(__name__)

_SEND_AGAIN = "Send it again from where it came, or fetch it from a peer that has a copy."


class SpoolLost(Exception):
    """The spool does not have the bytes it took, so there is nothing to upload."""


class Job:
    """What is being done about one object, by one thread at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.work: Iterator[int] | None = None
        self.failures = 0


class Uploader:
    """Works off what waits in the ledger."""

    def __init__(
        self,
        bucket: Bucket,
        ledger: Ledger,
        spool: SegmentStore,
        settings: BucketSettings,
        key: Key | None,
        clock: Clock,
    ) -> None:
        self._bucket = bucket
        self._ledger = ledger
        self._spool = spool
        self._settings = settings
        self._key = key
        self._clock = clock
        self._mutex = threading.Lock()
        self._jobs: dict[bytes, Job] = {}
        self._failures = 0
        self._not_before = 0.0
        self._paced_until = 0.0
        self.trouble = ""
        """What went wrong with the last try, in sentences; empty after one that went well."""

    @property
    def may_send(self) -> bool:
        """Whether neither a failure nor the pace asks to wait."""
        return self._clock() >= max(self._not_before, self._paced_until)

    def step(self) -> bool:
        """Send one object or part, or delete one object; say whether there was something to do now."""
        if not self.may_send:
            return False
        for sha256 in self._ledger.waiting(self._clock()):
            job = self._job(sha256)
            if job.lock.acquire(blocking=False):
                try:
                    self._advance(sha256, job)
                except PacsError as error:
                    self._wait_after(sha256, job, error)
                finally:
                    job.lock.release()
                return True
        return False

    def finish(self, sha256: bytes) -> None:
        """Return when the bucket has confirmed the object, sending it here and now if nobody else does.

        Raises:
            PacsError: the bucket refused or does not answer; the object still waits for its upload.
        """
        job = self._job(sha256)
        with job.lock:
            while (row := self._ledger.get(sha256)) and row.is_waiting:
                try:
                    self._advance(sha256, job)
                except PacsError as error:
                    self._wait_after(sha256, job, error)
                    raise
        if row is None or not row.proof:
            raise NotFound(f"The object {sha256.hex()} was lost before its upload.", _SEND_AGAIN)

    def succeeded(self, sent: int) -> None:
        """Note that the bucket took so many bytes."""
        now = self._clock()
        self._failures, self._not_before, self.trouble = 0, 0.0, ""
        if self._settings.bytes_per_second:
            self._paced_until = max(self._paced_until, now) + sent / self._settings.bytes_per_second

    def failed(self, error: PacsError) -> None:
        """Leave the bucket alone for a while, longer each time."""
        self._failures += 1
        pause = min(2.0 ** min(self._failures - 1, 16), self._settings.longest_pause)
        self._not_before = self._clock() + pause
        self.trouble = f"{error}"
        if self._failures == 1:
            text = "%s %d objects wait in the spool; the next try is in %d s."
            logger.error(text, error, self._ledger.count_waiting(), pause)

    def _job(self, sha256: bytes) -> Job:
        with self._mutex:
            return self._jobs.setdefault(sha256, Job())

    def _advance(self, sha256: bytes, job: Job) -> None:
        if job.work is None:
            job.work = self._work(sha256)
        try:
            sent = next(job.work, None)
        except SpoolLost as error:
            job.work = None
            self._give_up(sha256, error)
            return
        except BaseException:
            job.work = None
            raise
        if sent is not None:
            self.succeeded(sent)
            return
        job.work = None
        with self._mutex:
            self._jobs.pop(sha256, None)

    def _wait_after(self, sha256: bytes, job: Job, error: PacsError) -> None:
        if not isinstance(error, NotFound | Damaged):
            self.failed(error)
            return
        # The upload was forgotten, or the bucket has something else: this one begins anew, others go on.
        logger.warning("The upload of %s begins again: %s", sha256.hex()[:16], error.what)
        self._ledger.update(sha256, lambda row: row and replace(row, upload="", parts=(), salt=b""))
        job.failures += 1
        pause = min(2.0 ** min(job.failures - 1, 16), self._settings.longest_pause)
        self._ledger.postpone(sha256, self._clock() + pause)

    def _give_up(self, sha256: bytes, error: SpoolLost) -> None:
        logger.error("An object (%s) cannot be uploaded: %s %s", sha256.hex(), error, _SEND_AGAIN)
        self._ledger.update(sha256, lambda row: row and replace(row, local=(), proof=""))
        self._ledger.commit()

    def _work(self, sha256: bytes) -> Iterator[int]:
        """Do what the row asks for; each step tells how many bytes were sent."""
        row = self._ledger.get(sha256)
        if row is None or not row.is_waiting:
            return
        if not row.holders:
            yield from self._delete(sha256, row)
            return
        if sealed_length(row.size, self._settings.chunk) <= self._settings.multipart_above:
            sealed = self._new(sha256, row, b"")
            body = _gathered(sealed.header.pack(), self._sealed_chunks(sha256, row, sealed))
            digest = self._bucket.put_to_confirm(object_key(sha256), body)
            sent = len(body)
            del body
            yield sent
        else:
            yield from self._send_parts(sha256, row)
            digest = b""
        proof = yield from self._confirm(sha256, row)
        self._ledger.update(sha256, _confirmed(row, proof, digest))

    def _new(self, sha256: bytes, row: Row, salt: bytes) -> Sealed:
        return Sealed.new(sha256, row.size, _note(row), self._key, self._settings.chunk, salt)

    def _delete(self, sha256: bytes, row: Row) -> Iterator[int]:
        key = object_key(sha256)
        if row.upload:
            self._bucket.abort(key, row.upload)
        self._bucket.delete(key)
        yield 0
        self._ledger.update(sha256, lambda row: row if row and row.holders else None)

    def _send_parts(self, sha256: bytes, row: Row) -> Iterator[int]:
        key, per_part = object_key(sha256), max(self._settings.part // self._settings.chunk, 1)
        salt, upload, done = row.salt, row.upload, list(row.parts)
        sealed = self._new(sha256, row, salt)
        if not upload:
            upload, done = self._bucket.begin(key), []
            self._note_parts(sha256, sealed, upload, done)
        chunks = self._sealed_chunks(sha256, row, sealed)
        for number in range(-(-sealed.count // per_part)):
            head = sealed.header.pack() if number == 0 else b""
            count = min(per_part, sealed.count - number * per_part)
            data = _gathered(head, islice(chunks, count))
            digest = hashlib.sha256(data).digest()
            if number < len(done):
                if done[number][1] != digest:
                    raise Damaged("An upload that was begun does not match the object.", "It begins anew.")
                continue
            done.append((self._bucket.put_part(key, upload, number + 1, data), digest))
            self._note_parts(sha256, sealed, upload, done)
            sent = len(data)
            # One part at a time in memory.
            del data
            yield sent
        for _ in chunks:
            pass
        self._bucket.complete(key, upload, done)
        yield 0

    def _note_parts(self, sha256: bytes, sealed: Sealed, upload: str, done: list[tuple[str, bytes]]) -> None:
        salt, parts = sealed.header.salt, tuple(done)
        self._ledger.update(sha256, lambda row: row and replace(row, salt=salt, upload=upload, parts=parts))
        self._ledger.commit()

    def _sealed_chunks(self, sha256: bytes, row: Row, sealed: Sealed) -> Iterator[bytes]:
        """Yield each chunk from the spool; before the end is told the whole must have its SHA-256."""
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(min(sealed.chunk, row.size)))
        try:
            reader = self._spool.open(Holding(sha256, row.local[0], row.size))
            with closing(reader):
                for index in range(sealed.count):
                    plain = buffer[: reader.read_into(buffer, index * sealed.chunk)]
                    digest.update(plain)
                    if index == sealed.count - 1 and digest.digest() != sha256:
                        raise SpoolLost("its bytes in the spool changed before it was uploaded.")
                    yield sealed.seal(index, plain)
        except PacsError as error:
            raise SpoolLost(f"the spool lost it before it was uploaded ({error.what})") from error

    def _confirm(self, sha256: bytes, row: Row) -> Generator[int, None, str]:
        """Return how it is known that the bucket has the object.

        Raises:
            Damaged: it has something else.
        """
        key, expected = object_key(sha256), sealed_length(row.size, self._settings.chunk)
        if self._settings.confirm is Confirm.CHECKSUM and self._bucket.verifies_sha256:
            found, _ = self._bucket.head(key)
            if found != expected:
                raise Damaged(
                    f"{found} bytes lie in the bucket instead of {expected}.", "They are sent again."
                )
            return "checksum"
        for _ in read_whole(self._bucket, sha256, self._key, row.size):
            pass
        yield 0
        return "read back"


def _note(row: Row) -> Note:
    return Note(row.source, row.received, row.is_held)


def _confirmed(sent: Row, proof: str, digest: bytes) -> Callable[[Row | None], Row | None]:
    """Return the change of a row that was `sent` whole.

    Nothing is proved if it was removed meanwhile, or came again, of which the bucket has to know.
    """

    def change(row: Row | None) -> Row | None:
        if row is None:
            return None
        holds = row.holders and _note(row) == _note(sent)
        return replace(
            row, proof=proof if holds else "", salt=b"", upload="", parts=(), sealed=digest if holds else b""
        )

    return change


def _gathered(head: bytes, chunks: Iterator[bytes]) -> bytearray:
    """Return them as one, never holding more than that and a chunk."""
    whole = bytearray(head)
    for chunk in chunks:
        whole += chunk
    return whole
