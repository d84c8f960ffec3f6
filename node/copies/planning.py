"""Placing: follows an archive's change log, decides by the rules who is to have each study, and orders it.

What was ordered is a transfer, so it is tried until it is done. When rules or nodes change, the log is read
from its beginning: it is compacted, so that is every study once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

import msgspec

from catalog import Attributes, Change, Head
from catalog.order import decoded
from catalog.statements import Stated
from federation.placement import Candidate, Rules, choose
from node.transfers import Kind, Order

from .carrier import Kept, Study, lets_go, study_of
from .ledger import Follow, Ledger, Placed

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 200
_encode: Final = msgspec.msgpack.Encoder().encode


class Log(Kept, Protocol):
    """An archive's catalog with its change log."""

    def changes(self, after: int, limit: int, share: int = 0) -> list[Change]:
        """See `Catalog.changes`."""

    def head(self, share: int = 0) -> Head:
        """See `Catalog.head`."""


class Around(NamedTuple):
    """What placing needs of the node around it."""

    site: Callable[[], str]
    rules: Callable[[], Rules]
    nodes: Callable[[], list[Candidate]]
    """The members of the grid that are not lost."""
    may_hold: Callable[[Candidate, Sequence[Attributes]], bool]
    """Says whether this node's grants let one hold a study, given as the attributes of its series."""
    order: Callable[[list[Order]], object]


class Planner:
    """One archive's; `step` from one thread."""

    def __init__(self, archive: str, catalog: Log, ledger: Ledger, around: Around) -> None:
        self._archive = archive
        self._catalog = catalog
        self._ledger = ledger
        self._around = around
        places = dict(ledger.places())
        self._open: set[str] = {uid for uid, placed in places.items() if not placed.is_met}
        """Studies that somebody does not have whole, as far as is known."""
        self._told: set[str] = set()
        self._going: set[str] = {uid for uid in places if lets_go(catalog.decisions(uid))}
        self._going |= ledger.droppings.studies()
        """Studies of which something is deleted that can still be taken back: no change tells of its end."""

    def step(self) -> bool:
        """Place what changed; say whether there is more."""
        head, at = self._catalog.head(), self._ledger.follow.get(self._archive.encode()) or Follow()
        now = self._around.nodes()
        by = sha256(_encode((self._around.rules().all, sorted(now)))).digest()
        if (by, head.epoch) != (at.by, at.epoch):
            at = Follow(epoch=head.epoch, by=by)
            self._ledger.follow.put(self._archive.encode(), at)
        told = [self._told.pop() for _ in range(len(self._told))]
        changes = self._catalog.changes(at.seq, _AT_ONCE)
        self.place(told, now)
        if changes:
            self.place(dict.fromkeys(change.key.partition(b"\0")[0].decode() for change in changes), now)
            row = Follow(epoch=head.epoch, seq=changes[-1].seq, by=by)
            self._ledger.follow.put(self._archive.encode(), row)
        return len(changes) == _AT_ONCE

    def tell(self, uid: str) -> None:
        """Hear that a keeper has taken what it lacked of a study, or lost it; any thread may call."""
        self._told.add(uid)

    def look_again(self) -> None:
        """Order again what is not met: what was refused, withdrawn or found to be damaged meanwhile."""
        self.place(sorted(self._open), self._around.nodes())

    def look_at_deletions(self) -> None:
        """Have dropped elsewhere what is gone here for good."""
        self.place(sorted(self._going), self._around.nodes())

    def place(self, studies: Iterable[str], nodes: list[Candidate] | None = None) -> None:
        """Decide who is to have studies, and order what they lack."""
        if nodes is None:
            nodes = self._around.nodes()
        rules, orders = self._around.rules(), []
        for uid in studies:
            orders += self._place(uid, rules, nodes)
        if orders:
            self._around.order(orders)

    def _place(self, uid: str, rules: Rules, nodes: list[Candidate]) -> list[Order]:
        was, keepers = self._ledger.placed(uid), self._ledger.keepers(uid)
        owing = self._ledger.droppings.owing(uid)
        if not rules and was is None and not (keepers or owing):
            return []
        study, stated = study_of(self._catalog, uid), self._catalog.stated(uid)
        placed = self._decided(uid, study, stated, rules, nodes, was)
        targets = placed.nodes if placed else ()
        rows = {node_id: self._ledger.receipts(uid, node_id) for node_id in targets}
        lacking = [node_id for node_id, row in rows.items() if study.digests - row.all()]
        untold = [node_id for node_id, row in rows.items() if row.said != study.said]
        # Without any rule nobody has said how many there are to be: who lost its state drops none.
        is_said = bool(rules) or study.may_go
        surplus = [node_id for node_id in keepers if node_id not in targets and is_said]
        if placed is not None:
            placed = Placed(
                archive=placed.archive,
                rule=placed.rule,
                nodes=placed.nodes,
                lacking=placed.lacking,
                is_met=not lacking and not placed.lacking,
            )
        if placed != was:
            self._ledger.place(uid, placed)
        work = [*dict.fromkeys([*lacking, *untold, *surplus, *owing])]
        (self._open.add if work or (placed and placed.lacking) else self._open.discard)(uid)
        is_going = bool(owing) or (study.may_go and study.entries and keepers)
        (self._going.add if is_going else self._going.discard)(uid)
        return [
            Order(kind=Kind.COPY, destination=node_id, archive=self._archive, StudyInstanceUID=uid)
            for node_id in work
        ]

    def _decided(
        self,
        uid: str,
        study: Study,
        stated: Stated | None,
        rules: Rules,
        nodes: list[Candidate],
        was: Placed | None,
    ) -> Placed | None:
        if not study.entries and study.may_go:
            return None
        if stated is None:
            # All of it was rejected, or can still be taken back, or is lost here: it stays where it is.
            return was
        attributes = [
            {**decoded(stated.study.attributes), **decoded(each.attributes)} for each in stated.series
        ]
        rule = rules.of(attributes)
        if rule is None:
            return None
        able = [node for node in nodes if self._around.may_hold(node, attributes)]
        now = {*(was.nodes if was else ()), *self._ledger.keepers(uid)}
        choice = choose(uid, rule, self._around.site(), able, now)
        return Placed(archive=self._archive, rule=rule.name, nodes=choice.nodes, lacking=choice.lacking)
