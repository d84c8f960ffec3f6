"""The keeper's work: fetches from an owner what it wants kept, makes it durable, and says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from catalog import Clock, NotPermitted, OutOfSpace, Reader
from federation.copying import Order, Told
from federation.links.gate import Visitor
from federation.owners import Owner
from federation.readable import unpacked_readers
from protos.objects_pb2 import FetchRequest

from .lending import Lending
from .pulling import Fetch, Pull
from .rows import ReadersRow, StudyRow, item_of
from .store import CopyStore


class Keeping:
    """Satisfies `federation.copying.Keeper`."""

    def __init__(
        self,
        store: CopyStore,
        fetch: Fetch,
        admit: Callable[[Visitor], None],
        clock: Clock,
        told: Callable[[Visitor, Order, int, int], None] = lambda visitor, order, kept, failed: None,
    ) -> None:
        """`admit` raises NotPermitted for nodes that nothing is kept for."""
        self._store = store
        self._fetch = fetch
        self._admit = admit
        self._clock = clock
        self._told = told
        self.lending: Lending | None = None
        """What gives others than the owners what they may read; none: nobody gets anything."""

    def keep(self, visitor: Visitor, order: Order) -> Iterator[Told]:
        """Fetch what an owner wants kept; tell what is durable, and now and then nothing.

        Raises:
            NotPermitted: this node keeps nothing for that one, or not this study: the owner had it erased.
            OutOfSpace: what an owner says of the study cannot be written down.
        """
        self._admit(visitor)
        with self._store.erased.coming(order.StudyInstanceUID):
            yield from self._keep(visitor, order)

    def _keep(self, visitor: Visitor, order: Order) -> Iterator[Told]:
        store, owner, study = self._store, order.owner.name, order.StudyInstanceUID
        store.note(owner, study, order.decisions, order.statement, order.readable)
        here = tuple(at for at, item in enumerate(order.items) if store.has(owner, study, item.sha256))
        uids = ((item.SeriesInstanceUID, item.SOPInstanceUID) for item in order.items)
        refused = store.erased.refusals(owner, study, uids)
        if here or refused:
            yield Told(here, tuple(refused.items()))
        missing = sorted(set(range(len(order.items))) - set(here) - refused.keys())
        kept = failed = 0
        wanted = sum(order.items[at].size for at in missing)
        if wanted > (room := store.room()):
            what = f"There is room for {room >> 20} MB of copies here, and {wanted >> 20} MB are asked for."
            raise OutOfSpace(what, "Its admin can make some: copies.limit_mb, or a larger disk.")
        if missing:
            pull = Pull(order.owner.node_id, self._fetch, store, order, missing)
            self._fetch.spawn(f"copies of {order.owner.node_id}", partial(self._run, pull, study))
            try:
                for told in pull.durable():
                    kept, failed = kept + len(told.kept), failed + len(told.failed)
                    yield told
            finally:
                pull.cancel()
        self._told(visitor, order, kept, failed)

    def _run(self, pull: Pull, study: str) -> None:
        with self._store.erased.coming(study):
            pull.run()

    def drop(self, owner: bytes, study: str, digests: Iterable[bytes]) -> int:
        """Forget copies, all of the study if none are named; return how many there were."""
        return self._store.drop(owner, study, digests)

    def prove(self, owner: bytes, study: str, sha256: bytes, nonce: bytes) -> bytes:
        """Return what proves that a copy is whole, or nothing."""
        return self._store.prove(owner, study, sha256, nonce)

    def is_told(self, owner: bytes, study: str) -> bool:
        """Say whether what an owner said about a study is still known."""
        return self._store.is_told(owner, study)

    def listing(self, owner: bytes, after: str, only: str) -> Iterator[Order]:
        """Yield what is kept for an owner, behind a study, or of one."""
        found = [(only, self._store.study(owner, only))] if only else self._store.listing(owner, after)
        named = Owner(*owner.decode().split("/", 1))
        for study, rows in found:
            said = self._store.said(owner, study) or StudyRow()
            yield Order(named, study, tuple(map(item_of, rows)), said.decisions, said.statement)

    def give(self, owner: bytes, study: str, sha256: bytes) -> Reader:
        """Open a copy; raises NotFound, Damaged."""
        return self._store.open(owner, study, sha256)

    def allow(self, owner: bytes, readers: bytes) -> None:
        """Hear from an owner who may read what is kept for it; raises BadRequest."""
        unpacked_readers(readers)
        self._store.readers.put(owner, ReadersRow(readers=readers, said=self._clock()))

    def readable(self, visitor: Visitor, owner: Owner, study: str) -> bytes:
        """Return what another node than the owner may read of a study now, packed; or nothing."""
        return self.lending.told(visitor.caller, owner, study) if self.lending else b""

    def lend(
        self, visitor: Visitor, owner: Owner, request: FetchRequest, is_wanted: Callable[[], bool]
    ) -> Iterator[bytes]:
        """Give another node than the owner what it may read, as `ObjectService.give` does.

        Raises:
            NotPermitted: it may read nothing.
        """
        if self.lending is None:
            raise NotPermitted("Nothing that is kept here is lent.")
        return self.lending.give(visitor, owner, request, is_wanted)
