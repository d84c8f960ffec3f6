"""Copies that help others than their owner, composed: who may read ours, what is lent and borrowed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from catalog import Availability, Clock, Entry, PacsError, Unavailable
from catalog.statements import SeriesStatement, Stated
from federation.links.gate import Gate, Visitor
from federation.objects import PeerLink, kept_for
from federation.owners import owner_of
from federation.readable import Readers, packed_readers
from federation.sourcing import Source
from federation.trust.assertion import Asker
from federation.trust.names import Identity
from federation.trust.policy import Caller, Op
from node.archives import DEFAULT
from node.copies.borrowing import Around, Borrowing, HomeLink
from node.copies.lending import Lending, ahead_of_utc
from node.grid import Grid

from .archive import Archive
from .chores import Chore
from .copying import Copying
from .fetching import Fetching

_TELL: Final = 2.0
_TELL_AGAIN: Final = 6 * 3600.0
"""Seconds after which keepers are told anew, though nothing changed: what they were told ends some day."""


class Helping:
    """Of one node, between its copies and its grid."""

    def __init__(
        self, archives: Mapping[str, Archive], grid: Callable[[], Grid], copying: Copying, clock: Clock
    ) -> None:
        self._archives, self._grid, self._copying, self._clock = archives, grid, copying, clock
        self._told: dict[str, tuple[int, bytes, float]] = {}
        self._keepers: dict[str, bool] = {}
        self._lending: Lending | None = None
        around = Around(
            self._own_id,
            lambda node_id: self._site_of(node_id),
            lambda: self._copying.members.connected(),
            self._ask,
            time.monotonic,
        )
        self._borrowing = Borrowing(around)

    def _own_id(self) -> str:
        return self._grid().settings.node_id

    def _identity(self) -> Identity:
        member = self._grid().membership
        if member is None:
            raise Unavailable("This node is in no grid.", "See: peerpacs peers")
        return member.credentials.pair.identity

    def _site_of(self, node_id: str) -> str:
        members = self._copying.members
        return members.site() if node_id == self._own_id() else members.site_of(node_id)

    # What is lent.

    def lend_through(self, gate: Gate, fetching: Fetching) -> None:
        """Give others what owners let them read, as soon as the node is served."""
        self._lending = Lending(self._copying.store, self._clock, gate, fetching.outside, self._is_member)
        self._copying.keeping.lending = self._lending

    def _is_member(self, node_id: str) -> bool:
        row = self._grid().tables.peers.get(node_id.encode())
        return row is not None and row.state == "member"

    def _visitor(self, asker: Asker) -> Visitor:
        return Visitor(self._identity(), asker, "own")

    def _lend(self, asker: Asker, request: Any, is_wanted: Callable[[], bool]) -> Iterator[bytes]:
        if self._lending is None:
            raise Unavailable("This node lends no copies yet.")
        return self._lending.give(self._visitor(asker), kept_for(request.archive), request, is_wanted)

    # What is borrowed.

    def link(self, peers: PeerLink) -> HomeLink:
        """Return what calls peers, and this node where it keeps copies itself."""
        return HomeLink(peers, self._own_id, self._lend)

    def _ask(self, node_id: str, owner: bytes, study: str, timeout: float) -> bytes:
        if node_id != self._own_id():
            return self._copying.link.readable(node_id, owner, study, timeout)
        if self._lending is None or self._grid().membership is None:
            return b""
        return self._lending.told(self._visitor(Asker()).caller, owner_of(owner), study)

    def kept(self, owner: bytes, stated: Stated) -> Mapping[str, Availability]:
        """Return how the series of an owner that does not answer can be had."""
        return self._borrowing.kept(owner, stated)

    def manifest(self, owner: bytes, series: SeriesStatement) -> list[Entry]:
        """Return the instances of a series of an owner that does not answer, if a keeper tells."""
        return self._borrowing.manifest(owner, series)

    def instead(self, away: Source, entry: Entry) -> Iterable[Source]:
        """Yield who gives an object instead of its owner."""
        return self._borrowing.sources(away, entry)

    # Who may read our copies elsewhere.

    def chores(self) -> Iterator[Chore]:
        """Yield what is done now and then."""
        if self._copying.is_open:
            yield Chore("who may read copies", _TELL, self._tell)

    def _readers(self) -> Readers:
        policy, main = self._copying.members.policy(), self._archives[DEFAULT]
        shares = tuple(share for share in policy.shares.values() if share.archive == DEFAULT)
        names = {share.name for share in shares}
        grants = tuple(
            replace(grant, ops=(Op.RETRIEVE,))
            for grant in policy.grants
            if Op.RETRIEVE in grant.ops and grant.share in names
        )
        named = {grant.share for grant in grants}
        own = tuple(share for share in shares if share.name in named and share.number)
        ahead = ahead_of_utc(self._clock())
        return Readers(shares=own, grants=grants, system=main.retriever.system, ahead=ahead)

    def _tell(self) -> None:
        """Tell each keeper that is there, if it does not know it as it is now."""
        readers, now = self._readers(), self._clock()
        data = packed_readers(readers)
        for node_id, instance in self._copying.members.instances().items():
            known = self._told.get(node_id)
            if known is not None and known[:2] == (instance, data) and 0 <= now - known[2] < _TELL_AGAIN:
                continue
            if not self._is_keeper(node_id):
                continue
            try:
                self._copying.link.allow(node_id, DEFAULT, data)
            except PacsError:
                continue
            self._told[node_id] = instance, data, now
            detail = {"node_id": node_id, "readers": len(readers.grants)}
            self._archives[DEFAULT].shared.audit.record("readers told", None, "ok", detail)

    def _is_keeper(self, node_id: str) -> bool:
        """Say whether a node may keep copies, or has some from when it might."""
        row = self._grid().tables.peers.get(node_id.encode())
        caller = Caller(node_id, row.site if row else "")
        if self._copying.members.policy().permissions(caller, Op.HOST_REPLICAS, None):
            self._keepers[node_id] = True
        elif node_id not in self._keepers:
            self._keepers[node_id] = any(True for _ in self._copying.ledger.studies_at(node_id))
        return self._keepers[node_id]
