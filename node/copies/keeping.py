"""The keeper's work: fetches from an owner what it wants kept, makes it durable, and says so.

One thread fetches while the other makes durable what came meanwhile, all of it with one sync.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from catalog import (
    Clock,
    Damaged,
    Decision,
    Entry,
    Holding,
    Incoming,
    OutOfSpace,
    PacsError,
    Reader,
    Unavailable,
)
from federation.copying import CopyItem, Order, Told
from federation.lanes import BULK
from federation.links.gate import Visitor
from federation.links.session import Spawn
from federation.objects import Wanted, receive, request_of
from federation.owners import Owner
from federation.trust.assertion import Asker

from .store import RESUMED_ABOVE, Arrived, CopyRow, CopyStore, StudyRow, is_whole

_SIGN: Final = 2.0
"""Seconds after which an owner is told that the work goes on."""
_AHEAD: Final = 32 << 20
"""Bytes that may be here without being durable."""
_SMALL_AT_ONCE: Final = 128
_LARGE_AT_ONCE: Final = 8
"""Objects of one call to the owner."""
_SLOWEST: Final = 64 << 10
"""Bytes per second below which a fetch is over its time."""


class Fetch(NamedTuple):
    """How the keeper reaches owners."""

    begin: Callable[..., Any]
    """As `PeerLink.fetch`."""
    letters: Callable[[str], Any]
    spawn: Spawn


class Keeping:
    """Satisfies `federation.copying.Keeper`."""

    def __init__(
        self,
        store: CopyStore,
        fetch: Fetch,
        admit: Callable[[Visitor], None],
        clock: Clock,
        told: Callable[[Visitor, Order, int, int], None] = lambda visitor, order, kept, failed: None,
        reads: Callable[[Visitor, Owner, StudyRow], bool] = lambda visitor, owner, row: False,
    ) -> None:
        """`admit` raises NotPermitted for nodes that nothing is kept for."""
        self._store = store
        self._fetch = fetch
        self._admit = admit
        self._clock = clock
        self._told = told
        self._reads = reads

    def keep(self, visitor: Visitor, order: Order) -> Iterator[Told]:
        """Fetch what an owner wants kept; tell what is durable, and now and then nothing.

        Raises:
            NotPermitted: this node keeps nothing for that one.
            OutOfSpace: what an owner says of the study cannot be written down.
        """
        self._admit(visitor)
        store, owner, study = self._store, order.owner.name, order.StudyInstanceUID
        store.note(owner, study, order.decisions, order.statement)
        here = tuple(at for at, item in enumerate(order.items) if store.has(owner, study, item.sha256))
        if here:
            yield Told(here)
        missing = sorted(set(range(len(order.items))) - set(here))
        kept = failed = 0
        wanted = sum(order.items[at].size for at in missing)
        if wanted > (room := store.room()):
            what = f"There is room for {room >> 20} MB of copies here, and {wanted >> 20} MB are asked for."
            raise OutOfSpace(what, "Its admin can make some: copies.limit_mb, or a larger disk.")
        if missing:
            pull = _Pull(self._fetch, store, order, missing)
            self._fetch.spawn(f"copies of {order.owner.node_id}", pull.run)
            try:
                for told in pull.durable():
                    kept, failed = kept + len(told.kept), failed + len(told.failed)
                    yield told
            finally:
                pull.cancel()
        self._told(visitor, order, kept, failed)

    def drop(self, owner: bytes, study: str, digests: Iterable[bytes]) -> int:
        """Forget copies, all of the study if none are named; return how many there were."""
        return self._store.drop(owner, study, digests)

    def prove(self, owner: bytes, study: str, sha256: bytes, nonce: bytes) -> bytes:
        """Return what proves that a copy is whole, or nothing."""
        return self._store.prove(owner, study, sha256, nonce)

    def listing(self, owner: bytes, after: str, only: str) -> Iterator[Order]:
        """Yield what is kept for an owner, behind a study, or of one."""
        found = [(only, self._store.study(owner, only))] if only else self._store.listing(owner, after)
        named = Owner(*owner.decode().split("/", 1))
        for study, rows in found:
            said = self._store.said(owner, study) or StudyRow()
            yield Order(named, study, tuple(map(_item, rows)), said.decisions, said.statement)

    def give(self, owner: bytes, study: str, sha256: bytes) -> Reader:
        """Open a copy; raises NotFound, Damaged."""
        return self._store.open(owner, study, sha256)

    def may_read(self, visitor: Visitor, owner: Owner, study: str) -> bool:
        """Say whether a node other than the owner may read its copies of a study here."""
        said = self._store.said(owner.name, study)
        return said is not None and self._reads(visitor, owner, said)


def _item(row: CopyRow) -> CopyItem:
    return CopyItem(
        row.SeriesInstanceUID,
        row.SOPInstanceUID,
        row.SOPClassUID,
        row.TransferSyntaxUID,
        row.holding.sha256,
        row.holding.size,
        row.source,
        row.received,
    )


def _row(item: CopyItem) -> CopyRow:
    return CopyRow(
        SeriesInstanceUID=item.SeriesInstanceUID,
        SOPInstanceUID=item.SOPInstanceUID,
        SOPClassUID=item.SOPClassUID,
        TransferSyntaxUID=item.TransferSyntaxUID,
        holding=Holding(item.sha256, b"", item.size),
        source=item.source,
        received=item.received,
    )


class _Pull:
    """One fetch from an owner: `run` in a thread of its own, `durable` in the one that answers the owner."""

    def __init__(self, fetch: Fetch, store: CopyStore, order: Order, missing: list[int]) -> None:
        self._fetch = fetch
        self._store = store
        self._order = order
        self._left = missing
        self._lock = threading.Condition()
        self._came: list[tuple[int, Arrived]] = []
        self._waiting = 0
        """Bytes in `_came`."""
        self._failed: list[tuple[int, PacsError]] = []
        self._told: set[int] = set()
        self._is_over = self._is_unwanted = False
        self._call: Any = None

    # The thread that fetches.

    def run(self) -> None:
        """Fetch everything, in the order asked for."""
        problem: PacsError | None = None
        try:
            for indexes in _calls(self._order, self._left):
                if not self._is_unwanted:
                    self._take(indexes)
        except PacsError as error:
            problem = error
        except Exception as error:
            problem = Unavailable(f"What its owner sends cannot be read: {type(error).__name__}.")
        finally:
            self._end(problem or Unavailable("Its owner ended its answer too early."))

    def _end(self, error: PacsError) -> None:
        with self._lock:
            settled = {at for at, _ in self._came} | {at for at, _ in self._failed} | self._told
            self._failed += [(at, error) for at in self._left if at not in settled]
            self._is_over = True
            self._lock.notify_all()

    def _take(self, indexes: list[int]) -> None:
        order, fetch = self._order, self._fetch
        landing = _Landing(self, self._store, [(at, order.items[at]) for at in indexes])
        try:
            wanted = [
                Wanted(_entry(order, order.items[at]), offset)
                for at, offset in zip(indexes, landing.begun(), strict=True)
            ]
            request = request_of(order.owner.archive, wanted, BULK)
            timeout = 60.0 + sum(order.items[at].size for at in indexes) / _SLOWEST
            with fetch.letters(order.owner.node_id):
                self._call = fetch.begin(order.owner.node_id, Asker(), request, timeout, patient=True)
                try:
                    receive(self._call, landing)
                finally:
                    self._call.cancel()
        finally:
            landing.close()

    def arrived(self, at: int, incoming: Incoming) -> None:
        """Hear that an object came; wait while too much is not durable yet."""
        row = _row(self._order.items[at])
        if not is_whole(incoming, row):
            incoming.discard()
            self.failed(at, Damaged("What came are not the bytes that its owner named.", "It is sent again."))
            return
        with self._lock:
            self._came.append((at, Arrived(incoming, row)))
            self._waiting += row.holding.size
            self._lock.notify_all()
            self._lock.wait_for(lambda: self._waiting <= _AHEAD or self._is_unwanted)

    def failed(self, at: int, error: PacsError) -> None:
        """Hear that an object does not come."""
        with self._lock:
            self._failed.append((at, error))
            self._lock.notify_all()

    # The thread that answers.

    def durable(self) -> Iterator[Told]:
        """Yield what is durable, as it becomes so, until all is."""
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._came or self._failed or self._is_over, _SIGN)
                came, self._came = self._came, []
                failed, self._failed = self._failed, []
                self._told |= {at for at, _ in came} | {at for at, _ in failed}
                is_last = self._is_over and not came and not failed
            if is_last:
                return
            yield self._kept(came, failed)

    def _kept(self, came: list[tuple[int, Arrived]], failed: list[tuple[int, PacsError]]) -> Told:
        order = self._order
        try:
            if came:
                self._store.keep(order.owner.name, order.StudyInstanceUID, [each for _, each in came])
        except PacsError as error:
            return Told((), (*failed, *((at, error) for at, _ in came)))
        finally:
            for _, each in came:
                each.incoming.discard()
            with self._lock:
                self._waiting -= sum(each.row.holding.size for _, each in came)
                self._lock.notify_all()
        return Told(tuple(at for at, _ in came), tuple(failed))

    def cancel(self) -> None:
        """Want nothing more of it."""
        with self._lock:
            self._is_unwanted = True
            self._lock.notify_all()
        if self._call is not None:
            self._call.cancel()


def _entry(order: Order, item: CopyItem) -> Entry:
    return Entry(
        StudyInstanceUID=order.StudyInstanceUID,
        SeriesInstanceUID=item.SeriesInstanceUID,
        SOPInstanceUID=item.SOPInstanceUID,
        SOPClassUID=item.SOPClassUID,
        TransferSyntaxUID=item.TransferSyntaxUID,
        holding=Holding(item.sha256, b"", item.size),
        received=item.received,
        source=item.source,
    )


def _calls(order: Order, indexes: Sequence[int]) -> Iterator[list[int]]:
    """Yield the indexes in portions of one call each; of large objects few, since each has its file open."""
    portion: list[int] = []
    large = 0
    for at in indexes:
        is_large = order.items[at].size > RESUMED_ABOVE
        if portion and (len(portion) >= _SMALL_AT_ONCE or large + is_large > _LARGE_AT_ONCE):
            yield portion
            portion, large = [], 0
        portion.append(at)
        large += is_large
    if portion:
        yield portion


class _Landing:
    """Where the objects of one call go; satisfies `Receiver`."""

    def __init__(self, pull: _Pull, store: CopyStore, items: Sequence[tuple[int, CopyItem]]) -> None:
        self._pull = pull
        self._store = store
        self._items = items
        self._early: dict[int, Incoming] = {}
        self._current: Incoming | None = None
        self._left = 0

    def begun(self) -> Iterator[int]:
        """Yield how much of each object is here; what came of a large one before is taken up."""
        for index, (_, item) in enumerate(self._items):
            if item.size > RESUMED_ABOVE:
                self._early[index] = self._store.incoming(item.sha256, item.size)
            yield self._early[index].size if index in self._early else 0

    def begin(self, index: int, size: int, corrections: list[Decision], system: str) -> None:
        """Hear that an object comes."""
        _, item = self._items[index]
        if size != item.size:
            raise Damaged("Its owner sends another length than it named.", "It is fetched again.")
        self._current = self._early.pop(index, None) or self._store.incoming(item.sha256, item.size)
        self._left = size - self._current.size

    def data(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self._current is None or len(piece) > self._left:
            raise Damaged("Its owner sends bytes that nobody asked for.", "They are not taken.")
        self._current.space(len(piece))[:] = piece
        self._current.filled(len(piece))
        self._left -= len(piece)

    def end(self, index: int) -> None:
        """Hear that it is whole, as its owner says."""
        incoming, self._current = self._current, None
        if incoming is not None:
            self._pull.arrived(self._items[index][0], incoming)

    def failed(self, index: int, error: PacsError) -> None:
        """Hear that it does not come."""
        self._drop_current()
        self._pull.failed(self._items[index][0], error)

    def _drop_current(self) -> None:
        if self._current is not None:
            self._current.discard()
            self._current = None

    def close(self) -> None:
        """Let go what did not come to its end; of a large object the file stays."""
        self._drop_current()
        for incoming in self._early.values():
            incoming.discard()
