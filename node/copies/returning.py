"""What keepers have comes home: to heal what is damaged, and to make an archive whole that lost its disk.

Everything goes through the one door in, with the sender and the time that it had. What a person decided to be
gone is not brought back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from catalog import Clock, Damaged, Decision, Entry, Head, Holding, Incoming, PacsError
from federation.copying import CopyItem, CopyLink, Order
from federation.owners import Owner
from node.damage import Damage
from node.ingest import NodeIngest
from node.reception import Origin, read_header
from node.storage import read_meta
from node.storage.elsewhere import is_elsewhere

from .carrier import lets_go
from .ledger import Follow, Ledger
from .pulling import Fetch, Pull
from .rows import CopyRow, item_of
from .slimming import away_of
from .store import Arrived

logger = logging.getLogger(__name__)

_META: Final = 1 << 16
_AGAIN: Final = 300.0
"""Seconds after which a damaged object is asked for again that nobody could give."""
_AT_ONCE: Final = 256
_read_decision: Final = msgspec.msgpack.Decoder(Decision).decode


class Catalog(Protocol):
    """The archive's catalog, as much of it as is needed here."""

    def whereabouts(self, SOPInstanceUID: str, sha256: bytes) -> Holding | None:
        """Return where these bytes of the instance lie now, whatever was decided about them."""

    def decisions(self, StudyInstanceUID: str) -> list[Decision]:
        """Return the decisions that touch the study, oldest first."""

    def versions(self, target: tuple[str, ...]) -> list[Entry]:
        """Return every stored version of a study."""

    def head(self, share: int = 0) -> Head:
        """See `Catalog.head`."""


class Home(NamedTuple):
    """One archive, as what comes home needs it."""

    owner: Owner
    catalog: Catalog
    ingest: NodeIngest
    damaged: Callable[[], Iterable[Damage]]
    issuer_of: Callable[[str], str]
    decide: Callable[[Decision], None]
    """Keeps a decision that was made before, and applies it."""
    place: Callable[[str], None]
    """Has it looked at who is to have a study."""


class _Door:
    """Satisfies `Target`: what comes goes through the door in."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def incoming(self, owner: bytes, study: str, sha256: bytes, size: int) -> Incoming:
        return self._home.ingest.store.incoming()

    def keep(self, owner: bytes, study: str, arrived: Sequence[Arrived]) -> dict[int, PacsError]:
        refused: dict[int, PacsError] = {}
        for number, (incoming, row) in enumerate(arrived):
            try:
                self._keep(incoming, row)
            except PacsError as error:
                refused[number] = error
            except Exception as error:
                # One that no parser foresaw is as little a reason to leave the others there.
                what = f"It cannot be read: {type(error).__name__}."
                refused[number] = Damaged(what, "It stays where it is kept.")
        return refused

    def _keep(self, incoming: Incoming, row: CopyRow) -> None:
        meta = read_meta(bytes(incoming.head(_META)))
        header = read_header(incoming, meta.TransferSyntaxUID, meta.offset)
        origin = Origin(row.source, row.received, False)
        issuer = self._home.issuer_of(row.source)
        there = self._home.catalog.whereabouts(row.SOPInstanceUID, row.holding.sha256)
        is_away = there is not None and is_elsewhere(there)
        self._home.ingest.keep(incoming, header, meta.TransferSyntaxUID, origin, issuer, is_away=is_away)


class Returning:
    """Brings an archive's objects home; `step` from one thread."""

    def __init__(
        self,
        home: Home,
        ledger: Ledger,
        link: CopyLink,
        connected: Callable[[], list[str]],
        fetch: Fetch,
        clock: Clock,
        told: Callable[[str, str, int], None] = lambda what, node_id, count: None,
    ) -> None:
        """`told` hears how many objects came home from whom, and why."""
        self._home = home
        self._ledger = ledger
        self._link = link
        self._connected = connected
        self._fetch = fetch._replace(begin=self._begin)
        self._clock = clock
        self._told = told
        self._tried: dict[bytes, float] = {}

    def _begin(self, node_id: str, asker: Any, request: Any, timeout: float, *, patient: bool) -> Any:
        return self._link.give_back(node_id, self._home.owner.name, request, timeout)

    def _bring(self, node_id: str, study: str, items: Sequence[CopyItem]) -> int:
        """Bring objects home; return how many came."""
        count = 0
        for start in range(0, len(items), _AT_ONCE):
            order = Order(self._home.owner, study, tuple(items[start : start + _AT_ONCE]))
            indexes = list(range(len(order.items)))
            pull = Pull(node_id, self._fetch, _Door(self._home), order, indexes)
            self._fetch.spawn(f"copies from {node_id}", pull.run)
            try:
                for told in pull.durable():
                    count += len(told.kept)
                    for at, error in told.failed:
                        logger.warning("%s does not come home: %s", order.items[at].SOPInstanceUID, error)
            finally:
                pull.cancel()
        return count

    # What is damaged.

    def heal_step(self) -> bool:
        """Bring whole bytes of what is damaged here; say whether any came."""
        now, healed = self._clock(), 0
        for damage in self._home.damaged():
            sha256 = damage.holding.sha256
            if now - self._tried.get(sha256, float("-inf")) < _AGAIN:
                continue
            self._tried[sha256] = now
            healed += self._heal(damage)
        return healed > 0

    def _heal(self, damage: Damage) -> int:
        study, sha256 = damage.StudyInstanceUID, damage.holding.sha256
        there = set(self._connected())
        for node_id in self._ledger.holders(study, sha256):
            if node_id not in there:
                continue
            item = CopyItem(
                damage.SeriesInstanceUID, damage.SOPInstanceUID, "", "", sha256, damage.holding.size, "", 0
            )
            if self._bring(node_id, study, [item]):
                self._tried.pop(sha256, None)
                self._told("healed", node_id, 1)
                return 1
        return 0

    def found(self) -> None:
        """Ask at once for everything that is damaged: a holder has come back."""
        self._tried.clear()

    # What is lost.

    def recover_step(self) -> bool:
        """Ask one keeper that was not asked since the log began for everything that is not here any more.

        Say whether one was asked.

        Raises:
            PacsError: it broke off; it is asked again.
        """
        epoch = self._home.catalog.head().epoch
        for node_id in self._connected():
            key = f"recovered\0{self._home.owner.archive}\0{node_id}".encode()
            known = self._ledger.follow.get(key)
            if known is None or known.epoch != epoch:
                self._recover(node_id)
                self._ledger.follow.put(key, Follow(epoch=epoch))
                return True
        return False

    def _recover(self, node_id: str) -> None:
        came = 0
        for study, items, decisions in self._listed(node_id):
            for decision in decisions:
                self._home.decide(decision)
            if lets_go(self._home.catalog.decisions(study)):
                continue
            catalog = self._home.catalog
            self._ledger.claimed(study, node_id, [each.sha256 for each in items])
            lost = [each for each in items if catalog.whereabouts(each.SOPInstanceUID, each.sha256) is None]
            came += self._bring(node_id, study, lost)
            self._ledger.recount(study, partial(self._away_of, study))
            self._home.place(study)
        if came:
            self._told("recovered", node_id, came)
            logger.warning("%d objects that were lost here came home.", came)

    # What lies at other sites alone.

    def fetch_back(self, study: str) -> int:
        """Bring home what lies at other sites alone of a study; return how many objects came.

        Raises:
            PacsError: a keeper broke off.
        """
        came = 0
        for node_id in self._connected():
            has = self._ledger.receipts(study, node_id).all()
            entries = self._home.catalog.versions((study,)) if has else []
            away = [each for each in entries if is_elsewhere(each.holding) and each.holding.sha256 in has]
            came += self._bring(node_id, study, list(map(item_of, away)))
        self._ledger.recount(study, partial(self._away_of, study))
        return came

    def _away_of(self, study: str) -> int:
        return away_of(self._home.catalog.versions((study,)))

    def _listed(self, node_id: str) -> Iterator[tuple[str, list[CopyItem], list[Decision]]]:
        """Yield what a keeper has of each study, one study at a time, and the decisions not known here."""
        study = ""
        items: list[CopyItem] = []
        decisions: list[bytes] = []
        for order in self._link.listing(node_id, self._home.owner.archive):
            if study and order.StudyInstanceUID != study:
                yield study, items, self._unknown(study, decisions)
                items, decisions = [], []
            study = order.StudyInstanceUID
            items += order.items
            decisions += order.decisions
        if study:
            yield study, items, self._unknown(study, decisions)

    def _unknown(self, study: str, told: Sequence[bytes]) -> list[Decision]:
        known = {each.id for each in self._home.catalog.decisions(study)}
        found = []
        for each in told:
            try:
                decision = _read_decision(each)
            except (PacsError, msgspec.MsgspecError):
                logger.error("A decision that a keeper has cannot be read.")
                continue
            if decision.id not in known:
                found.append(decision)
        return found
