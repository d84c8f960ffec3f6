"""Erasures across the grid: which sites still owe a receipt, and what this node erases for its peers.

Every site owes it from the moment of the order until it has said that nothing is left there. It is asked when
the owner's own bytes are gone, whenever it is connected, so who was away carries it out on its return.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from catalog import Clock, Decision, PacsError, Verb
from federation.erasing import Erasure, Receipt
from node.contracts import Audit
from node.disposal import Orders
from node.state import Tables

logger = logging.getLogger(__name__)

_AGAIN: Final = 2000
"""Milliseconds between two times that a site is asked for a receipt."""


_GONE: Final = "it gave no receipt and is no member of the grid any more"
_READ: Final = "its rows are being read just now"
_SET_BACK: Final = "it was set back to a time before, and is asked again"
_NOT_ASKED: Final = "it has not been asked yet"


class Owed(Struct, frozen=True, array_like=True):
    """A site's receipt for one erasure, by the decision's id and the node's; owed until `done`."""

    name: str
    site: str
    since: int
    """Milliseconds since 1970 by this node's clock, as `done`."""
    done: int = 0
    what: str = ""
    """What the site said last: why it is not done, or what is left that is its own."""


class Site(NamedTuple):
    """A node of the grid that may have something to erase."""

    node_id: str
    name: str
    site: str
    is_connected: bool


class _Peer(Protocol):
    def erase(self, archive: str, erasures: Sequence[Erasure]) -> list[Receipt]: ...

    def remembered(self, archive: str) -> list[Erasure]: ...


class Receipts:
    """The owner's side, for one archive."""

    def __init__(
        self,
        archive: str,
        tables: Tables,
        orders: Orders,
        sites: Callable[[], Iterable[Site]],
        peer: Callable[[str], _Peer],
        take: Callable[[Decision], object],
        key: Callable[[], bytes],
        audit: Audit,
        clock: Clock,
    ) -> None:
        """`take` makes an erasure effective that only a peer still knew; `key` seals what is ordered."""
        self._archive = archive
        self._table = tables.table("erasure receipts", Owed)
        self._orders = orders
        self._sites = sites
        self._peer = peer
        self._take = take
        self._key = key
        self._audit = audit
        self._clock = clock
        self._asked: dict[str, int] = {}
        self._remembered: set[str] = set()

    def step(self) -> None:
        """Ask the sites that are connected and owe a receipt."""
        now = int(self._clock() * 1000)
        for site in self._sites():
            if not site.is_connected:
                self._remembered.discard(site.node_id)
                continue
            try:
                self._ask(site, now)
            except PacsError as error:
                logger.info("%s could not be asked about erasures: %s", site.name, error.what)

    def of(self, id: str) -> list[dict[str, object]]:
        """Return how each site stands with one erasure."""
        prefix, order = id.encode() + b"\0", self._orders.of(id)
        if order is None or (order.done and not order.is_purged):
            return []
        members = {site.node_id: site for site in self._sites()}
        # Who has no row yet owes it like the others: nobody may read that nothing is owed.
        rows = {id: Owed(each.name, each.site, order.when, what=_NOT_ASKED) for id, each in members.items()}
        rows |= {key[len(prefix) :].decode(): row for key, row in self._table.scan(prefix)}
        return [
            {
                "node": row.name,
                "site": row.site,
                "since": row.since,
                "done": row.done,
                "is_owed": not row.done and node_id in members,
                "what": row.what if row.done or node_id in members else _GONE,
            }
            for node_id, row in sorted(rows.items())
        ]

    def _ask(self, site: Site, now: int) -> None:
        if site.node_id not in self._remembered:
            self.relearn(site)
        owing = list(self._owing(site, now))
        if not owing or now - self._asked.get(site.node_id, 0) < _AGAIN:
            return
        self._asked[site.node_id] = now
        for receipt in self._peer(site.node_id).erase(self._archive, owing):
            key = _key(receipt.decision, site.node_id)
            row = self._table.get(key)
            if row is None:
                continue
            self._table.put(key, replace(row, done=now if receipt.done else 0, what=receipt.what))
            if receipt.done:
                logger.info("%s erased what it had by decision %s.", site.name, receipt.decision)
                detail = {"decision": receipt.decision, "node_id": site.node_id, "site": site.site}
                self._audit.record("receipt", None, "erased", detail)

    def _owing(self, site: Site, now: int) -> Iterator[Erasure]:
        """Yield what a site owes; what was erased a moment ago is noted first."""
        for id, order in self._orders.erasures():
            if not order.is_purged:
                continue
            key = _key(id, site.node_id)
            row = self._table.get(key)
            if row is None:
                self._table.put(key, Owed(site.name, site.site, now))
            if row is None or not row.done:
                erasure = Erasure(id, order.target, order.when, patients=order.patients)
                yield erasure.sealed(self._key(), self._archive)

    def note(self) -> None:
        """Have every member, connected or not, owe what was erased."""
        now = int(self._clock() * 1000)
        for site in self._sites():
            for _ in self._owing(site, now):
                pass

    def relearn(self, site: Site) -> None:
        """Erase again what a site remembers and this node does not: an old backup was put back here.

        Or there: then it owes again what it does not remember.

        Raises:
            PacsError: it cannot be asked.
        """
        known = {id for id, _ in self._orders.erasures()}
        remembered = self._peer(site.node_id).remembered(self._archive)
        self._owe_again(site, known - {each.decision for each in remembered})
        for erasure in remembered:
            if erasure.decision in known or not erasure.is_by(self._key(), self._archive):
                continue
            logger.warning("%s remembers an erasure that this node lost; it is done again.", site.name)
            decision = Decision(
                id=erasure.decision,
                verb=Verb.ERASE,
                target=erasure.target,
                reason=f"erased before, as {site.name} remembers",
                who="grid",
                when=erasure.when,
            )
            self._take(decision)
            self._audit.record("receipt", None, "erased again", {"decision": erasure.decision})
        self._remembered.add(site.node_id)

    def _owe_again(self, site: Site, forgotten: Collection[str]) -> None:
        for id in forgotten:
            row = self._table.get(_key(id, site.node_id))
            if row is not None and row.done:
                logger.warning("%s does not remember an erasure; it is asked for it again.", site.name)
                self._table.put(_key(id, site.node_id), replace(row, done=0, what=_SET_BACK))


class Kept(Struct, frozen=True, array_like=True):
    """An erasure that an owner had done here, by owner and decision."""

    target: tuple[str, ...]
    when: int
    seal: bytes
    done: int = 0


class Traces(Protocol):
    """Where something of a peer's study may be kept on this node."""

    def still(self, owner: tuple[str, str], target: tuple[str, ...]) -> str:
        """Return why there may still be something of it, or nothing."""

    def drop_copies(self, owner: tuple[str, str], target: tuple[str, ...]) -> int:
        """Remove copies of an owner's objects; return how many."""

    def forget_patients(self, decision: str, patients: Collection[bytes]) -> None:
        """Erase the links of patients who have nothing else, by the decision and their marks."""

    def own(self, target: tuple[str, ...]) -> int:
        """Return how many instances this node holds of it as its own."""

    def scour(self) -> bool:
        """Leave nothing of deleted rows in any database; False: try again."""


class Obedience:
    """The peer's side: satisfies `Obeying`."""

    def __init__(self, tables: Tables, traces: Traces, audit: Audit, clock: Clock) -> None:
        self._table = tables.table("erased for others", Kept)
        self._traces = traces
        self._audit = audit
        self._clock = clock
        known: dict[bytes, set[bytes]] = {}
        for key, row in self._table.scan():
            known.setdefault(key.partition(b"\0")[0], set()).add(_target_key(row.target))
        self._erased = {owner: frozenset(keys) for owner, keys in known.items()}

    def erased(self, owner: bytes) -> Collection[bytes]:
        """Return what an owner had erased here, as `federation.erasing.is_erased` asks; any thread may ask.

        What was on its way when the erasure came, or is told by an owner set back to a time before it, is
        not to be taken in again.
        """
        return self._erased.get(owner, ())

    def _remember(self, owner: bytes, target: tuple[str, ...]) -> None:
        # Another set, as somebody may be looking through the old one.
        self._erased[owner] = self._erased.get(owner, frozenset()) | {_target_key(target)}

    def erase(self, node_id: str, archive: str, erasures: Sequence[Erasure]) -> list[Receipt]:
        """Erase what is kept of an owner's; return how each stands."""
        owner = node_id, archive
        still = {each.decision: self._clear(owner, each) for each in erasures}
        if not all(still.values()) and not self._traces.scour():
            still = {decision: why or _READ for decision, why in still.items()}
        return [self._receipt(owner, each, still[each.decision]) for each in erasures]

    def remembered(self, node_id: str, archive: str) -> list[Erasure]:
        """Return what an owner had erased here."""
        start = f"{node_id}/{archive}\0".encode()
        found = self._table.scan(start)
        return [Erasure(key[len(start) :].decode(), row.target, row.when, row.seal) for key, row in found]

    def _clear(self, owner: tuple[str, str], erasure: Erasure) -> str:
        """Remove what can be seen of it; return why there may still be something, or nothing."""
        key = "/".join(owner).encode() + b"\0" + erasure.decision.encode()
        if self._table.get(key) is None:
            self._table.put(key, Kept(erasure.target, erasure.when, erasure.seal))
        self._remember("/".join(owner).encode(), erasure.target)
        # What comes before it is written down is found by the one or the other.
        still = self._traces.still(owner, erasure.target)
        try:
            self._traces.drop_copies(owner, erasure.target)
        except PacsError as error:
            return error.what
        except OSError as error:
            return f"its disk refuses: {error.strerror or error}"
        if not still:
            self._traces.forget_patients(erasure.decision, erasure.patients)
        return still

    def _receipt(self, owner: tuple[str, str], erasure: Erasure, still: str) -> Receipt:
        if still:
            return Receipt(erasure.decision, 0, still)
        study, own = erasure.target[0], self._traces.own(erasure.target)
        what = f"it holds {own} instances of it as its own, which only its own admin erases" if own else ""
        key = "/".join(owner).encode() + b"\0" + erasure.decision.encode()
        row, now = self._table.get(key), int(self._clock() * 1000)
        if row is not None and not row.done:
            self._table.put(key, replace(row, done=now))
            detail = {
                "decision": erasure.decision,
                "node_id": owner[0],
                "StudyInstanceUID": erasure.target[0],
            }
            self._audit.record("erasure", None, "own copy stays" if own else "done", detail)
            if own:
                logger.warning("A peer erased study %s; here %s.", study, what)
        return Receipt(erasure.decision, now, what)


def _target_key(target: tuple[str, ...]) -> bytes:
    return "\0".join(target).encode()


def _key(decision: str, node_id: str) -> bytes:
    return f"{decision}\0{node_id}".encode()
