"""Objects of an old PACS: it moves them to an AE title of ours, and what arrives there is kept as copies.

What is asked for of one series together goes in one C-MOVE; many of a series, and it is moved whole. A copy
is a Part 10 file like a stored one, limited in bytes, never stated as held, and gone with its statement.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from hashlib import sha256
from threading import Condition
from typing import Final

from catalog import (
    Clock,
    Entry,
    Header,
    Holding,
    MoreNeeded,
    NotPermitted,
    PacsError,
    Unavailable,
    Unreadable,
    scan,
)
from catalog.statements import SeriesStatement
from federation.owners import holder_of, place_at
from node.contracts import Caller, StoreResult
from node.dimse.commands import HIGH, LOW, MEDIUM
from node.grid_retriever import Fetching
from node.listing import CLASS, INSTANCE, RAISE, value, where
from node.nearline_cache import CopyCache
from node.nearline_copy import Copy, Part, Said
from node.nearline_way import Wish
from node.storage import file_meta

from .reaching import Reach

_TURN: Final = 1.0
_LISTEN: Final = 0.25
"""Seconds after which whoever waits is asked whether the object is still wanted."""
_WHOLE: Final = 12
"""Objects of one series that are asked for together from which on the series is moved whole."""
_REMEMBERED: Final = 5000
"""Series whose instances are remembered ..."""
_FRESH: Final = 600.0
"""... for so many seconds."""
_HEAD: Final = 1 << 20
_GUESS: Final = "1.2.840.10008.1.2.1"
"""What it is stored in is known when it is here; until then, Explicit VR Little Endian."""
_PROCESSING_FAILURE: Final = 0x0110
_OUT_OF_RESOURCES: Final = 0xA700
_CANNOT_UNDERSTAND: Final = 0xC000
_Series = tuple[str, str]


class _Way:
    """One object on its way."""

    def __init__(self, entry: Entry, priority: int) -> None:
        self.entry = entry
        self.wishes: set[Wish] = set()
        self.priority = priority
        self.is_moving = False
        self.is_over = False
        self.error: PacsError | None = None

    @property
    def series(self) -> _Series:
        return self.entry.StudyInstanceUID, self.entry.SeriesInstanceUID


class OldObjects:
    """The objects of one old PACS; satisfies `Fetching` for them, and `Ingest` for what it sends."""

    def __init__(self, owner: bytes, reach: Reach, cache: CopyCache, clock: Clock) -> None:
        """`owner` is the name under which the mirror states what it has."""
        self.owner = owner
        self.cache = cache
        self._reach = reach
        self._clock = clock
        self._lock = Condition()
        self._ways: dict[str, _Way] = {}
        """By SOP Instance UID, until they are over."""
        self._here: OrderedDict[_Series, dict[str, Entry]] = OrderedDict()
        """The copies of series that were looked at, by SOP Instance UID."""
        self._manifests: OrderedDict[tuple[str, bytes], tuple[float, list[Entry]]] = OrderedDict()

    def manifest(self, series: SeriesStatement) -> list[Entry]:
        """Return the instances of a series; their SHA-256 is a mere name until they are here.

        Raises:
            Unavailable: the old PACS does not say what there is.
        """
        study, uid = series.StudyInstanceUID, series.SeriesInstanceUID
        name, now = (uid, series.digest), self._clock()
        known = self._manifests.get(name)
        if known is None or not 0 <= now - known[0] < _FRESH:
            with self._reach.asking(self._reach.pacs.patience) as listing:
                found = [self._entry(study, uid, each) for each in listing.instances(study, uid)]
            if listing.cut:
                # Part of a series would be taken for all of it.
                raise Unavailable(listing.cut, RAISE)
            known = self._manifests[name] = now, found
            while len(self._manifests) > _REMEMBERED:
                self._manifests.popitem(last=False)
        here = self._copies(study, uid)
        return [here.get(entry.SOPInstanceUID, entry) for entry in known[1] if entry.SOPInstanceUID]

    def _entry(self, study: str, series: str, found: dict[str, dict[str, object]]) -> Entry:
        uid = value(found, INSTANCE)
        return Entry(
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            SOPInstanceUID=uid,
            SOPClassUID=value(found, CLASS),
            TransferSyntaxUID=_GUESS,
            holding=Holding(sha256(self.owner + uid.encode()).digest(), place_at(self.owner), 0),
            received=0,
            source=self._reach.pacs.name,
            InstanceNumber=value(found, "00200013"),
        )

    # What retrievers ask.

    def expect(self, entries: Iterable[Entry], wish: Wish, priority: int) -> None:
        """See `Fetching.expect`."""
        wanted = [entry for entry in entries if self._copy(entry) is None]
        with self._lock:
            for entry in wanted:
                self._begin(entry, wish, priority)

    def get(self, entry: Entry, wish: Wish, priority: int = 0) -> Copy:
        """See `Fetching.get`.

        Raises:
            Unavailable: the old PACS did not send it; the sentence says what it answered.
            Unwanted: the wish says so.
        """
        self._reach.check()
        for _ in range(2):
            copy = self._open(entry)
            if copy is not None:
                return copy
            with self._lock:
                way = self._begin(entry, wish, priority)
            while not self._is_over(way):
                wish.check()
            if way.error is not None:
                raise way.error
        raise Unavailable("There is no room for what is fetched.", "Raise its cache_mb in peerpacs.toml.")

    def leave(self, wish: Wish) -> None:
        """Give up what nobody else wants; a C-MOVE that has begun goes on."""
        with self._lock:
            for way in list(self._ways.values()):
                if wish in way.wishes:
                    way.wishes.discard(wish)
                    if not way.wishes and not way.is_moving:
                        self._over(way, Unavailable("Nobody wants it any more."))

    def _is_over(self, way: _Way) -> bool:
        """Wait a moment for an object; say whether it is over."""
        with self._lock:
            return self._lock.wait_for(lambda: way.is_over, _LISTEN)

    def _copy(self, entry: Entry) -> Entry | None:
        """Return the entry of an object's copy; None while there is none."""
        found = self._copies(entry.StudyInstanceUID, entry.SeriesInstanceUID).get(entry.SOPInstanceUID)
        return found if found is not None and self.cache.has(self.owner, found) else None

    def _copies(self, study: str, series: str) -> dict[str, Entry]:
        """Return the copies of a series; their folder is read once, and what arrives later is added."""
        name = study, series
        with self._lock:
            if (known := self._here.get(name)) is not None:
                self._here.move_to_end(name)
                return known
        read = {entry.SOPInstanceUID: entry for entry in self.cache.entries(self.owner, study, series)}
        with self._lock:
            known = self._here.setdefault(name, {})
            known |= {uid: entry for uid, entry in read.items() if uid not in known}
            while len(self._here) > _REMEMBERED:
                self._here.popitem(last=False)
            return known

    def _open(self, entry: Entry) -> Copy | None:
        known = entry if self.cache.has(self.owner, entry) else self._copy(entry)
        return self.cache.open(self.owner, known) if known else None

    def _begin(self, entry: Entry, wish: Wish, priority: int) -> _Way:
        """Have one object come; the lock is held."""
        way = self._ways.setdefault(entry.SOPInstanceUID, _Way(entry, priority))
        way.wishes.add(wish)
        way.priority = min(way.priority, priority)
        self._lock.notify_all()
        return way

    # The work.

    def turn(self) -> bool:
        """Have what is most urgent moved here, or wait a while for something to do."""
        with self._lock:
            ready = [way for way in self._ways.values() if not way.is_moving]
            if not ready:
                self._lock.wait(_TURN)
                return False
            first = min(ready, key=lambda way: way.priority)
            ways = [way for way in ready if way.series == first.series]
            for way in ways:
                way.is_moving = True
        try:
            self._move(first.series, ways)
        except PacsError as error:
            self._end(ways, error)
        except BaseException:
            self._end(ways, Unavailable(f"{self._reach.pacs.name} could not be fetched from."))
            raise
        return True

    def _move(self, series: _Series, ways: list[_Way]) -> None:
        urgency = min(way.priority for way in ways)
        priority = HIGH if urgency <= 1 else MEDIUM if urgency == 2 else LOW
        name = self._reach.pacs.name
        if len(ways) >= _WHOLE:
            moved = self._reach.move(where(*series), priority)
            self._end(ways, _unsent(name, moved.status, moved.comment))
            return
        for way in ways:
            moved = self._reach.move(where(*series, way.entry.SOPInstanceUID), priority)
            self._end([way], _unsent(name, moved.status, moved.comment))

    def _end(self, ways: Iterable[_Way], error: PacsError) -> None:
        """Let those know that did not come."""
        with self._lock:
            for way in ways:
                if not way.is_over:
                    self._over(way, error)
            self._lock.notify_all()

    def _over(self, way: _Way, error: PacsError | None) -> None:
        way.is_over, way.error = True, error
        self._ways.pop(way.entry.SOPInstanceUID, None)

    # What it sends.

    def begin(
        self, caller: Caller, SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str, *, is_held: bool
    ) -> Arriving:
        """Start to take in one object; see `Ingest.begin`.

        Raises:
            NotPermitted: somebody else sends it.
        """
        if caller.ae_title != self._reach.pacs.ae_title:
            what = f"{self._reach.pacs.receive_as} takes only what {self._reach.pacs.ae_title} sends."
            raise NotPermitted(what, "Send to another AE title of this node.")
        return Arriving(self, (SOPClassUID, SOPInstanceUID, TransferSyntaxUID))

    def arrived(self, uids: tuple[str, str, str], header: Header, part: Part) -> None:
        """Keep a whole object, and let those know that wait for it.

        Raises:
            OutOfSpace: the disk is full.
        """
        entry = Entry(
            StudyInstanceUID=header.StudyInstanceUID,
            SeriesInstanceUID=header.SeriesInstanceUID,
            SOPInstanceUID=uids[1],
            SOPClassUID=uids[0],
            TransferSyntaxUID=uids[2],
            holding=Holding(part.digest(), place_at(self.owner), part.length),
            received=int(self._clock() * 1000),
            source=self._reach.pacs.name,
            InstanceNumber=header.InstanceNumber,
            NumberOfFrames=header.NumberOfFrames,
            Rows=header.Rows,
            Columns=header.Columns,
        )
        part.finish(Said(self.owner, entry, (), "", b""))
        with self._lock:
            if (known := self._here.get((entry.StudyInstanceUID, entry.SeriesInstanceUID))) is not None:
                known[uids[1]] = entry
            way = self._ways.get(uids[1])
            if way is not None:
                self._over(way, None)
            self._lock.notify_all()

    def part(self, SOPInstanceUID: str) -> Part:
        """Return a place for an object to come in."""
        stub = Entry(
            StudyInstanceUID="",
            SeriesInstanceUID="",
            SOPInstanceUID=SOPInstanceUID,
            SOPClassUID="",
            TransferSyntaxUID="",
            holding=Holding(b"", b"", 0),
            received=0,
            source="",
        )
        return self.cache.part(stub)


def _unsent(name: str, status: int, comment: str) -> Unavailable:
    said = f"{status:04X} {comment}".strip()
    return Unavailable(f"{name} says that it sent it ({said}), but it did not come.", "Look at its log.")


class Arriving:
    """One object that an old PACS sends; satisfies `Reception`."""

    def __init__(self, objects: OldObjects, uids: tuple[str, str, str]) -> None:
        self._objects = objects
        self._uids = uids
        self._part = objects.part(uids[1])
        self._part.write(file_meta(*uids))
        self._head = bytearray()
        self._size = 0
        self._space = bytearray()

    def space(self, length: int) -> memoryview:
        """Return a writable view of `length` bytes."""
        self._space = bytearray(length)
        return memoryview(self._space)

    def filled(self, length: int) -> None:
        """Take them."""
        piece = bytes(self._space[:length])
        if len(self._head) < _HEAD:
            self._head += piece
        self._size += length
        self._part.write(piece)

    def finish(self) -> StoreResult:
        """Keep it as a copy."""
        try:
            header = scan(memoryview(self._head), self._uids[2], self._size)
            self._objects.arrived(self._uids, header, self._part)
        except (Unreadable, MoreNeeded):
            self._part.discard()
            return StoreResult(_CANNOT_UNDERSTAND, "Its header cannot be read")
        except PacsError as error:
            self._part.discard()
            return StoreResult(_OUT_OF_RESOURCES if error.retry else _PROCESSING_FAILURE, error.what[:64])
        return StoreResult(0, StudyInstanceUID=header.StudyInstanceUID)

    def abandon(self) -> None:
        """Forget it."""
        self._part.discard()


class Everywhere:
    """Satisfies `Fetching` for what lies at peers and in old PACS alike."""

    def __init__(self, peers: Fetching, old: Mapping[bytes, Fetching]) -> None:
        self._peers = peers
        self._old = old

    def expect(self, entries: Iterable[Entry], wish: Wish, priority: int) -> None:
        """See `Fetching.expect`."""
        by_owner: dict[bytes, list[Entry]] = {}
        for entry in entries:
            owner = holder_of(entry)
            by_owner.setdefault(owner if owner in self._old else b"", []).append(entry)
        for owner, some in by_owner.items():
            self._old.get(owner, self._peers).expect(some, wish, priority)

    def get(self, entry: Entry, wish: Wish, priority: int = 0) -> Copy:
        """See `Fetching.get`."""
        return self._old.get(holder_of(entry), self._peers).get(entry, wish, priority)

    def leave(self, wish: Wish) -> None:
        """See `Fetching.leave`."""
        for each in (self._peers, *self._old.values()):
            each.leave(wish)
