"""Objects that come back from the bucket into the cache: on demand, ahead of demand, each only once."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Final

from msgspec.structs import replace

from catalog import Clock, Damaged, PacsError
from node.storage import SegmentStore

from .client import Bucket
from .ledger import Ledger, Row
from .reading import AGAIN, object_key, read_chunks
from .sealing import Key, Note
from .settling import Settling

logger = logging.getLogger(__name__)

_TURN: Final = 60.0
"""Seconds: threads that look more often take the interpreter from those who store."""


class Fetcher:
    """Brings objects into the spool; whoever wants one that is on its way waits for it."""

    def __init__(
        self,
        bucket: Bucket,
        ledger: Ledger,
        spool: SegmentStore,
        settling: Settling,
        key: Key | None,
        clock: Clock,
    ) -> None:
        self._bucket = bucket
        self._ledger = ledger
        self._spool = spool
        self._settling = settling
        self._key = key
        self._clock = clock
        self._mutex = threading.Lock()
        self._news = threading.Condition(self._mutex)
        self._is_ending = False
        self._coming: dict[bytes, Future[bytes]] = {}
        self._wanted: OrderedDict[bytes, None] = OrderedDict()

    def prefetch(self, sha256s: Iterable[bytes]) -> None:
        """Note what will be asked for soon; `step` fetches it in this order."""
        with self._mutex:
            self._wanted.update(dict.fromkeys(sha256s))
            self._news.notify_all()

    def turn(self) -> bool:
        """Fetch one object that will be asked for, or wait a while for one; for threads that come back."""
        with self._mutex:
            if not (self._wanted or self._is_ending):
                self._news.wait(_TURN)
        return self.step()

    def end(self) -> None:
        """Have nobody wait in `turn` any more."""
        with self._mutex:
            self._is_ending = True
            self._news.notify_all()

    def step(self) -> bool:
        """Fetch one object that will be asked for; say whether there was one."""
        while True:
            with self._mutex:
                if not self._wanted:
                    return False
                sha256, _ = self._wanted.popitem(last=False)
                is_coming = sha256 in self._coming
            row = self._ledger.get(sha256)
            if row and row.holders and not row.local and not is_coming:
                try:
                    self.fetch(sha256)
                except PacsError as error:
                    logger.warning("An object (%s) was not fetched ahead: %s", sha256.hex()[:16], error)
                return True

    def fetch(self, sha256: bytes) -> bytes:
        """Return the place in the spool where the object lies now.

        Raises:
            OutOfSpace: the spool has no room.
            Damaged: the bucket has other bytes than were stored; nothing was kept.
            NotFound, Unavailable, NotPermitted: as the bucket says.
        """
        with self._mutex:
            row = self._ledger.get(sha256)
            if row and row.local:
                return row.local[0]
            coming = self._coming.get(sha256)
            is_mine = coming is None
            if coming is None:
                coming = self._coming[sha256] = Future()
        if is_mine:
            self._run(sha256, coming)
        return coming.result()

    def _run(self, sha256: bytes, coming: Future[bytes]) -> None:
        try:
            place = self._bring(sha256)
        except BaseException as error:
            with self._mutex:
                del self._coming[sha256]
            coming.set_exception(error)
            if isinstance(error, Damaged):
                self.distrust(sha256, error)
        else:
            with self._mutex:
                del self._coming[sha256]
            coming.set_result(place)

    def distrust(self, sha256: bytes, error: Damaged) -> None:
        """Take back what was said about an object that the bucket turned out not to have."""
        logger.error("The copy of %s in the bucket is damaged: %s", sha256.hex(), error)
        self._ledger.update(sha256, lambda row: row and replace(row, proof=""))
        self._ledger.commit()

    def _bring(self, sha256: bytes) -> bytes:
        incoming = self._spool.incoming()
        try:
            row = self._ledger.get(sha256)
            size = {"size": row.size} if row else {}
            for plain in read_chunks(self._bucket, object_key(sha256), sha256, self._key, **size):
                incoming.space(len(plain))[:] = plain
                incoming.filled(len(plain))
            if incoming.digest() != sha256:
                raise Damaged(f"The object {sha256.hex()} in the bucket does not have its SHA-256.", AGAIN)
            note = Note(row.source, row.received, row.is_held) if row else Note()
            kept = self._spool.keep(incoming, note)
        finally:
            incoming.discard()
        now = int(self._clock())

        def cached(row: Row | None) -> Row | None:
            if row is None or not row.holders:
                return row
            proof = row.proof or "read back"
            return replace(row, local=(*row.local, kept.where), since=now, proof=proof)

        row = self._ledger.update(sha256, cached)
        if row is None or kept.where not in row.local:
            self._spool.remove(kept)
        self._settling.add(kept)
        return kept.where
