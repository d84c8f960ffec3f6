"""What spool and bucket say when nobody remembers: a catalog, and this store's own rows, are made from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from msgspec.structs import replace

from catalog import Damaged, Holding, NotFound
from node.storage import Damage, Item, Kept, KeptDecision, SegmentEnd, SegmentStore
from node.storage.coverage import NOTHING, Coverage
from node.storage.members import Kind, Member
from node.storage.replay import in_order

from .client import Bucket
from .ledger import Ledger, Row
from .reading import decision_id, decision_key, object_key, read_chunks, read_header
from .sealing import Key

_SKEW = 3_600_000
"""Milliseconds that the clocks of bucket and node may differ."""
OnDecision = Callable[[KeptDecision], None]


@dataclass(frozen=True, slots=True)
class SpoolEnd(SegmentEnd):
    """Where a segment of the spool ends now; what the bucket has confirmed is not lost with its end."""

    ledger: Ledger

    def covers(self, holding: Holding) -> bool:
        """Say whether the object lay behind the end and is nowhere else."""
        row = self.ledger.get(holding.sha256)
        is_elsewhere = bool(row and (row.proof or any(not self.is_behind(place) for place in row.local)))
        return not is_elsewhere and self.is_behind(holding.where[1:])

    def is_behind(self, place: bytes) -> bool:
        """Say whether a place in the spool is behind the end."""
        with suppress(NotFound):
            return SegmentEnd.covers(self, Holding(b"", place, 0))
        return False


class Listing:
    """Turns what lies in the spool and the bucket into items and rows."""

    def __init__(
        self,
        spool: SegmentStore,
        bucket: Bucket,
        ledger: Ledger,
        key: Key | None,
        word: bytes,
        on_decision: OnDecision,
    ) -> None:
        self._spool = spool
        self._bucket = bucket
        self._ledger = ledger
        self._key = key
        self._word = word
        self._on_decision = on_decision

    def from_spool(self, found: Iterable[Item]) -> Iterator[Item]:
        """Yield what segments say, in the store's own words, and queue what the bucket lacks."""
        for item in found:
            if isinstance(item, Kept):
                if kept := self._kept_here(item):
                    yield kept
            elif isinstance(item, SegmentEnd):
                end = SpoolEnd(item.segment, item.offset, self._ledger)
                yield end
                self._forget_behind(end)
            else:
                if isinstance(item, KeptDecision):
                    self._on_decision(item)
                yield item
        self._ledger.commit()

    def everything(self, known: Coverage = NOTHING) -> Iterator[Item]:
        """Yield what lies in the spool or in the bucket, each object and decision once, by time.

        What is `known` is passed over.
        """
        there = sorted([*self._objects(known.at), *self._decisions()], key=_time)
        self._ledger.commit()
        told: set[bytes] = set()
        for item in in_order([self.from_spool(self._spool.scan(known)), iter(there)]):
            if isinstance(item, Kept):
                if item.holding.sha256 in told:
                    continue
                told.add(item.holding.sha256)
            yield item

    def is_there(self, holding: Holding) -> bool:
        """Say whether an object can be read, as far as rows and the spool's headers tell."""
        row = self._ledger.get(holding.sha256)
        if row is None or row.proof or not row.local:
            # What has no place in the spool was confirmed, or found in the bucket when that was listed.
            return row is not None and holding.where in row.holders
        return any(self._spool.is_safe(Holding(holding.sha256, place, holding.size)) for place in row.local)

    def _kept_here(self, item: Kept) -> Kept | None:
        place, sha256 = item.holding.where, item.holding.sha256
        word = self._word + place

        def known(row: Row | None) -> Row | None:
            if row is None:
                origin = item.origin
                return Row(
                    size=item.holding.size,
                    source=origin.source,
                    received=origin.received,
                    is_held=origin.is_held,
                    holders=(word,),
                    local=(place,),
                    since=origin.received // 1000,
                )
            is_new = row.holders and place not in row.local
            return replace(row, local=(*row.local, place)) if is_new else row

        row = self._ledger.update(sha256, known)
        if row is None or not row.holders:
            # Its removal was decided, and a crash came before the spool had done it.
            self._spool.remove(item.holding)
            return None
        where = word if word in row.holders else row.holders[0]
        return Kept(Holding(sha256, where, item.holding.size), item.origin)

    def _forget_behind(self, end: SpoolEnd) -> None:
        """Drop the rows of objects whose bytes never reached the disk: nobody was told that they did."""
        lost = [
            sha256
            for sha256, row in self._ledger.rows()
            if row.holders and row.local and not row.proof and all(map(end.is_behind, row.local))
        ]
        for sha256 in lost:
            self._ledger.update(sha256, lambda row: None)

    def _objects(self, known: int) -> Iterator[Item]:
        """Yield the objects in the bucket, but those that came, and were confirmed, before `known`."""
        for name, size, written in self._bucket.keys("o/"):
            sha256 = _sha256_of(name)
            row = self._ledger.get(sha256)
            if name != object_key(sha256) or (row and not row.holders):
                continue
            is_old = written < known - _SKEW
            if row and row.proof and row.received < known and is_old:
                continue
            try:
                row = self._here_or_there(sha256, row) if row else self._from_bucket(sha256, name, size)
                if known and not is_old:
                    row = self._as_sent_last(sha256, row, name)
            except Damaged as error:
                yield Damage(0, 0, 0, f"{name} in the bucket: {error.what}", sha256)
                continue
            origin = Member(Kind.OBJECT, sha256, row.size, row.source, row.received, row.is_held)
            yield Kept(Holding(sha256, row.holders[0], row.size), origin)

    def _here_or_there(self, sha256: bytes, row: Row) -> Row:
        """Forget the places of an object that is in the bucket, and in the spool no more."""
        places = (Holding(sha256, place, row.size) for place in row.local)
        if row.proof or any(map(self._spool.is_safe, places)):
            return row
        return self._ledger.update(sha256, lambda found: found and replace(found, local=())) or row

    def _as_sent_last(self, sha256: bytes, row: Row, name: str) -> Row:
        """Take over when an object came that was deleted and sent again, after this row was written."""
        note = read_header(self._bucket, name, sha256, self._key).note()
        if note.received <= row.received:
            return row
        came = replace(row, source=note.source, received=note.received, is_held=note.is_held)
        return self._ledger.update(sha256, lambda found: came) or came

    def _from_bucket(self, sha256: bytes, name: str, size: int) -> Row:
        sealed = read_header(self._bucket, name, sha256, self._key)
        note = sealed.note()
        if sealed.length != size:
            raise Damaged(f"It has {size} bytes instead of {sealed.length}.")
        row = Row(
            size=sealed.size,
            source=note.source,
            received=note.received,
            is_held=note.is_held,
            holders=(self._word + bytes(9),),
        )
        self._ledger.update(sha256, lambda known: known or row)
        return row

    def _decisions(self) -> Iterator[Item]:
        for name, *_ in self._bucket.keys(decision_key("")):
            id = name.removeprefix(decision_key(""))
            bound = decision_id(id)
            try:
                written = read_header(self._bucket, name, bound, self._key).note().received
                yield KeptDecision(id, b"".join(read_chunks(self._bucket, name, bound, self._key)), written)
            except Damaged as error:
                yield Damage(0, 0, 0, f"{name} in the bucket: {error.what}")


def _sha256_of(name: str) -> bytes:
    """Return the SHA-256 a key names, empty when it names none."""
    with suppress(ValueError):
        return bytes.fromhex(name.rpartition("/")[2])
    return b""


def _time(item: Item) -> int:
    match item:
        case Kept():
            return item.origin.received
        case KeptDecision():
            return item.written
        case Damage() | SegmentEnd():
            return 0
