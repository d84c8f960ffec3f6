"""Decisions on their way to the bucket; a row each until the bucket was read back and has it."""

from __future__ import annotations

import logging
import threading

import msgspec

from catalog import Damaged
from node.state import Table

from .client import Bucket
from .reading import AGAIN, decision_id, decision_key, read_chunks
from .sealing import Key, Note, Sealed

logger = logging.getLogger(__name__)


class Outgoing(msgspec.Struct, frozen=True, array_like=True):
    """A decision the bucket does not have yet; `written` in milliseconds since 1970."""

    text: bytes
    written: int


class DecisionOutbox:
    """Sends decisions to the bucket, in the order they were made."""

    def __init__(self, bucket: Bucket, table: Table[Outgoing], key: Key | None, chunk: int) -> None:
        self._bucket = bucket
        self._table = table
        self._key = key
        self._chunk = chunk
        self._mutex = threading.Lock()
        found = sorted(table.scan(), key=lambda pair: pair[1].written)
        self._waiting = dict.fromkeys(id.decode() for id, _ in found)

    def put(self, id: str, text: bytes, written: int) -> None:
        """Queue a decision; on disk when it returns."""
        self._table.put(id.encode(), Outgoing(text, written))
        with self._mutex:
            self._waiting[id] = None

    def send(self, id: str) -> int:
        """Upload one and read it back; return how many bytes were sent.

        Raises:
            PacsError: the bucket refused or does not answer; the decision still waits.
        """
        row = self._table.get(id.encode())
        if row is None:
            return 0
        name, bound = decision_key(id), decision_id(id)
        sealed = Sealed.new(bound, len(row.text), Note("", row.written), self._key, self._chunk)
        pieces = (row.text[at * self._chunk : (at + 1) * self._chunk] for at in range(sealed.count))
        body = b"".join([sealed.header.pack(), *(sealed.seal(at, piece) for at, piece in enumerate(pieces))])
        self._bucket.put(name, body)
        if b"".join(read_chunks(self._bucket, name, bound, self._key)) != row.text:
            raise Damaged(f"The decision {id} is not in the bucket as it was sent.", AGAIN)
        self._table.delete(id.encode())
        with self._mutex:
            self._waiting.pop(id, None)
        return len(body)

    def erase(self, id: str) -> None:
        """Have neither the bucket nor the queue know a decision any more.

        Raises:
            PacsError: the bucket refused or does not answer.
        """
        self._table.delete(id.encode())
        with self._mutex:
            self._waiting.pop(id, None)
        self._bucket.delete(decision_key(id))

    def step(self) -> int:
        """Send the oldest; return how many bytes were sent, 0 when none waits."""
        with self._mutex:
            id = next(iter(self._waiting), None)
        return self.send(id) if id is not None else 0

    def count(self) -> int:
        """Return how many wait."""
        with self._mutex:
            return len(self._waiting)
