"""An object store on S3: the segments take everything in and keep what is read; the bucket keeps everything.

A `Holding.where` is "B" and the place in the spool where the object first lay. It stays the name of that
holding wherever the bytes are, so that nothing in a catalog changes when the spool drops or fetches them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from catalog import Clock, Damaged, Holding, Incoming, NotFound, Origin, OutOfSpace, PacsError, Reader
from node.sections import Encryption
from node.state import Tables
from node.storage import Item, SegmentStore
from node.storage.coverage import NOTHING, Coverage

from .checking import Checker
from .client import Bucket
from .decisions import DecisionOutbox, Outgoing
from .fetching import Fetcher
from .ledger import Ledger, Row, taken_in
from .listing import Listing
from .reading import AGAIN, BucketFile, RemoteFile, object_key, read_header
from .sealing import Key, load_key
from .settings import BucketSettings, Spool
from .settling import Settling
from .uploading import Uploader

logger = logging.getLogger(__name__)

_WORD = b"B"
_WORD_LENGTH = 10
_ROOM = 256 << 20
"""Bytes above the watermark that the cache leaves free, so that no sender waits for room to be made."""


class BucketStore:
    """Satisfies `ObjectStore`; `step` does the work in the background, from as many threads as one likes."""

    def __init__(
        self, settings: BucketSettings, spool: SegmentStore, state: Tables, key_file: Path, clock: Clock
    ) -> None:
        """Open the store; the bucket is not asked for anything yet.

        Raises:
            NotPermitted: others may read the key file.
        """
        self.settings = settings
        self._spool = spool
        self._clock = clock
        self._key: Key | None = None
        if settings.encryption is Encryption.AES_256_GCM:
            self._key = load_key(key_file)
        self._bucket = Bucket(settings.endpoint, clock)
        self._ledger = Ledger(state.table("bucket objects", Row))
        self._uploader = Uploader(self._bucket, self._ledger, spool, settings, self._key, clock)
        self._settling = Settling(self._ledger, spool, clock)
        self._fetcher = Fetcher(self._bucket, self._ledger, spool, self._settling, self._key, clock)
        bytes_of = (self._bucket, self._ledger, spool, self._fetcher, self._key)
        self._checker = Checker(*bytes_of, settings.chunk, self._forget_places)
        self.decisions = DecisionOutbox(
            self._bucket, state.table("bucket decisions", Outgoing), self._key, settings.chunk
        )
        self.listing = Listing(
            spool,
            self._bucket,
            self._ledger,
            self._key,
            _WORD,
            lambda decision: self.decisions.put(decision.id, decision.text, decision.written),
        )
        self._probed = float("-inf")

    def incoming(self) -> Incoming:
        """Return a new empty object to fill."""
        return self._spool.incoming()

    def keep(self, incoming: Incoming, origin: Origin) -> Holding:
        """Write the object into the spool; it is durable, and queued for the bucket, only after `sync`.

        Raises:
            OutOfSpace: the spool's disk is full and nothing in it may be dropped; nothing was kept.
        """
        kept = self._spool_keep(incoming, origin)
        holding = Holding(kept.sha256, _WORD + kept.where, kept.size)
        now = int(self._clock())
        self._ledger.update(kept.sha256, taken_in(holding, kept.where, origin, now))
        return holding

    def sync(self, holding: Holding) -> None:
        """Return when the object will outlive this machine as far as the settings promise.

        With a persistent spool: it is on the disk, in a segment that a start replays until its place in the
        queue is on the disk too. Otherwise: the bucket has confirmed its size and SHA-256.

        Raises:
            OutOfSpace, Unavailable, NotPermitted: it is not; what the spool has of it is uploaded later.
        """
        kept = _in_spool(holding)
        if not self._ledger.is_new(holding.sha256):
            # What the ledger says on the disk is not what a replay would make of the bytes alone.
            self._ledger.commit()
        if self.settings.spool is Spool.PASSING:
            self._uploader.finish(holding.sha256)
        with suppress(NotFound):
            self._spool.flush(kept)
        self._settling.add(kept)

    def is_safe(self, holding: Holding) -> bool:
        """Say whether the bucket has confirmed the object's size and SHA-256."""
        row = self._ledger.get(holding.sha256)
        return bool(row and row.proof and row.size == holding.size and holding.where in row.holders)

    def open(self, holding: Holding) -> Reader:
        """Open a file in the cache; fetch it first if it is only in the bucket, or read it there by ranges.

        Raises:
            NotFound: it was removed, or lost before the bucket had it.
            Damaged: what the bucket has is not what was stored; nothing of it is delivered.
            Unavailable, NotPermitted: the bucket does not answer, or refuses this node.
        """
        return BucketFile(lambda: self._open(holding))

    def verify(self, holding: Holding) -> None:
        """Read what the bucket has of a file whole, and what the cache has; a bad copy in the cache goes.

        Raises:
            NotFound: it was removed, or lost before the bucket had it.
            Damaged: what is left of it is not what was stored.
            Unavailable, NotPermitted: the bucket does not answer, or refuses this node.
        """
        self._checker.verify(holding, self._row_of(holding))

    def glance(self, holding: Holding) -> None:
        """Ask the bucket for the size and, where it keeps one, the checksum of what it confirmed.

        Raises:
            Damaged: the bucket has something else or nothing, and neither has the cache.
            Unavailable, NotPermitted: the bucket does not answer, or refuses this node.
        """
        self._checker.glance(holding)

    def lost(self) -> frozenset[bytes]:
        """Return the SHA-256 of objects that neither the spool nor the bucket has whole any more."""
        return self._ledger.lost()

    def remove(self, holding: Holding, erase: bool = False) -> None:
        """Free the bytes, in the bucket with a later `step`; with `erase` overwrite those on disk first."""
        place = _in_spool(holding).where

        def without(row: Row | None) -> Row | None:
            if row is None or holding.where not in row.holders:
                return row
            holders = tuple(each for each in row.holders if each != holding.where)
            local = tuple(each for each in row.local if each != place) if holders else ()
            return replace(row, holders=holders, local=local, proof=row.proof if holders else "")

        before = self._ledger.get(holding.sha256)
        after = self._ledger.update(holding.sha256, without)
        self._ledger.commit()
        kept = set(after.local) if after else set()
        for where in {place, *(before.local if before else ())} - kept:
            with suppress(Damaged, NotFound):
                self._spool.remove(Holding(holding.sha256, where, holding.size), erase)

    def keep_decision(self, id: str, text: bytes) -> None:
        """Write a decision beside the objects and queue it for the bucket; durable when it returns.

        Raises:
            BadRequest: the id cannot be the name of a file.
            OutOfSpace: the disk is full; nothing was kept.
            Unavailable, NotPermitted: the spool is not persistent, and the bucket did not take it.
        """
        self._spool.keep_decision(id, text)
        self.decisions.put(id, text, int(self._clock() * 1000))
        if self.settings.spool is Spool.PASSING:
            self.decisions.send(id)

    def prefetch(self, holdings: Iterable[Holding]) -> None:
        """Say what will be opened soon, in this order: the rest of a series, the priors of a study."""
        self._fetcher.prefetch(holding.sha256 for holding in holdings)

    def step(self) -> bool:
        """Do one thing that is due: fetch ahead, send, delete, drop from the cache, ask the bucket.

        Say whether there may be more to do at once. Never raises for what the bucket does.
        """
        is_busy = self._fetcher.step() or self.tend_step()
        return self.upload_step() or is_busy

    def tend_step(self) -> bool:
        """Do one thing that is due besides sending and fetching; say whether there may be more at once."""
        with suppress(PacsError):
            self.probe_step()
        self._settling.step()
        return self.evict_step()

    def behind(self) -> float:
        """Return for how many seconds the object that waits longest for the bucket has been waiting."""
        since = self._ledger.oldest()
        return 0.0 if since is None else self._clock() - since

    def upload_step(self) -> bool:
        """Send one decision, object or part, or delete one object; say whether there was something due."""
        if self._uploader.may_send:
            try:
                if sent := self.decisions.step():
                    self._uploader.succeeded(sent)
                    return True
            except PacsError as error:
                self._uploader.failed(error)
        return self._uploader.step()

    def fetch_turn(self) -> bool:
        """Fetch one object that was announced, or wait for one; for threads that do only this."""
        return self._fetcher.turn()

    def end_fetching(self) -> None:
        """Have nobody wait in `fetch_turn` any more."""
        self._fetcher.end()

    def evict_step(self) -> bool:
        """Drop one confirmed object that is too old or too much for the cache, or whose room is needed.

        Say whether there was one.
        """
        room = self._spool.space.look()
        if room.usable < min(_ROOM, room.size // 20):
            return self.drop_one()
        before = self._clock() - (self.settings.cache_age or float("inf"))
        sha256 = self._ledger.surplus(self.settings.cache_bytes, before)
        return sha256 is not None and self._evict(sha256)

    def drop_one(self) -> bool:
        """Drop the confirmed object that was read longest ago from the cache; say whether there was one."""
        sha256 = self._ledger.surplus(-1, float("-inf"))
        return sha256 is not None and self._evict(sha256)

    def probe_step(self) -> None:
        """Ask the bucket whether it is there, if it has not answered lately.

        Raises:
            Unavailable, NotPermitted: it is not, or refuses this node.
        """
        now = self._clock()
        if now - max(self._bucket.answered, self._probed) >= self.settings.probe_every:
            self._probed = now
            self._bucket.probe()

    def is_online(self, now: float) -> bool:
        """Say whether the bucket did what it was asked within the last minute."""
        return now - self._bucket.answered <= self.settings.online_for

    def away(self) -> Callable[[Holding], bool] | None:
        """Return None while the bucket answers, else what tells which objects cannot be read without it."""
        if self.is_online(self._clock()):
            return None

        def is_away(holding: Holding) -> bool:
            row = self._ledger.get(holding.sha256)
            return row is None or not row.local

        return is_away

    @property
    def trouble(self) -> str:
        """What the bucket last refused or did not answer, with the remedy; empty when all goes well."""
        return self._uploader.trouble

    def count_here(self) -> int:
        """Return how many objects can be read without the bucket."""
        return self._ledger.count_here()

    def waiting(self) -> int:
        """Return how many objects and decisions the bucket does not have yet, or still has."""
        return self._ledger.count_waiting() + self.decisions.count()

    def recover(self) -> Iterator[Item]:
        """Yield what a crash left unrecorded, as `SegmentStore.recover` does, and queue it."""
        return self.listing.from_spool(self._spool.recover())

    def scan(self, known: Coverage = NOTHING) -> Iterator[Item]:
        """Yield everything in spool and bucket, in the order it came: what a catalog is made again from.

        What is only in the bucket is known to the store afterwards. Segments of the spool that are `known`
        are passed over, and objects of which this store had a proof before that moment.

        Raises:
            Unavailable, NotPermitted: the bucket cannot be listed.
        """
        return self.listing.everything(known)

    def close(self) -> None:
        """Make everything durable and give the connections back; uploads go on at the next start."""
        self._settling.finish()
        self._spool.close()
        self._bucket.close()

    def _spool_keep(self, incoming: Incoming, origin: Origin) -> Holding:
        """Keep in the spool, dropping confirmed objects while it is full."""
        while True:
            try:
                return self._spool.keep(incoming, origin)
            except OutOfSpace:
                if not self.drop_one():
                    raise
                # Otherwise the whole cache would go before anybody looks again.
                self._spool.space.look()

    def _evict(self, sha256: bytes) -> bool:
        freed: list[bytes] = []

        def without(row: Row | None) -> Row | None:
            if row is None or not (row.proof and row.holders):
                return row
            freed.extend(row.local)
            return replace(row, local=())

        row = self._ledger.update(sha256, without)
        if row is None or not freed:
            return False
        self._ledger.commit()
        for where in freed:
            with suppress(Damaged, NotFound):
                self._spool.remove(Holding(sha256, where, row.size))
        return True

    def _row_of(self, holding: Holding) -> Row:
        row = self._ledger.get(holding.sha256) or self._adopt(holding)
        if holding.where not in row.holders or row.size != holding.size:
            raise NotFound(f"The object {holding.sha256.hex()} is not in this store any more.", AGAIN)
        return row

    def _open(self, holding: Holding) -> Reader:
        row = self._row_of(holding)
        self._ledger.touch(holding.sha256)
        for place in row.local:
            with suppress(NotFound, Damaged):
                return self._spool.open(Holding(holding.sha256, place, holding.size))
        if row.local:
            self._forget_places(holding.sha256, row.local)
        try:
            return self._open_remote(holding)
        except NotFound:
            if row.proof:
                self._fetcher.distrust(holding.sha256, Damaged("It is gone.", AGAIN))
            what = f"The bucket does not have the object {holding.sha256.hex()}, nor does the spool."
            raise NotFound(what, AGAIN) from None

    def _open_remote(self, holding: Holding) -> Reader:
        if holding.size <= self.settings.whole_below:
            with suppress(OutOfSpace):
                place = self._fetcher.fetch(holding.sha256)
                return self._spool.open(Holding(holding.sha256, place, holding.size))

        def is_there() -> bool:
            row = self._ledger.get(holding.sha256)
            return row is not None and holding.where in row.holders

        def on_damage(error: Damaged) -> None:
            self._fetcher.distrust(holding.sha256, error)

        return RemoteFile(self._bucket, holding, self._key, is_there, on_damage)

    def _forget_places(self, sha256: bytes, places: tuple[bytes, ...]) -> None:
        """The spool lost bytes: what the bucket confirmed is fetched again, of the rest a person hears."""

        def without(row: Row | None) -> Row | None:
            return row and replace(row, local=tuple(each for each in row.local if each not in places))

        row = self._ledger.update(sha256, without)
        self._ledger.commit()
        if row and not row.proof:
            logger.error("The spool lost an object (%s) before its upload. %s", sha256.hex(), AGAIN)

    def _adopt(self, holding: Holding) -> Row:
        """Return a row for an object that the state does not know, because the state was lost."""
        if not holding.where.startswith(_WORD) or len(holding.where) != _WORD_LENGTH:
            raise NotFound(f"{holding.where.hex() or 'Nowhere'} is not a place of this bucket.", AGAIN)
        sealed = read_header(self._bucket, object_key(holding.sha256), holding.sha256, self._key)
        note = sealed.note()
        row = Row(
            size=sealed.size,
            source=note.source,
            received=note.received,
            is_held=note.is_held,
            holders=(holding.where,),
        )
        self._ledger.update(holding.sha256, lambda known: known or row)
        self._ledger.commit()
        return row


def _in_spool(holding: Holding) -> Holding:
    return Holding(holding.sha256, holding.where[1:], holding.size)
