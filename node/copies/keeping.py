"""The keeper's work: fetches from an owner what it wants kept, makes it durable, and says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from catalog import Clock, OutOfSpace, Reader
from federation.copying import CopyItem, Order, Told
from federation.links.gate import Visitor
from federation.owners import Owner

from .pulling import Fetch, Pull
from .store import CopyRow, CopyStore, StudyRow


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
            pull = Pull(order.owner.node_id, self._fetch, store, order, missing)
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
