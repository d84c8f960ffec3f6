"""What is ordered to go, as a person is told: how far it is here and at other sites, what is out of reach.

Of an erasure every site owes a receipt; of a deletion those that keep copies, once the bytes are gone here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from catalog import Verb
from federation.trust.rows import PeerRow
from node.audit import read
from node.copies.dropping import Dropping
from node.disposal import Order
from node.research.model import Standing
from node.research.senders import is_used

if TYPE_CHECKING:
    from node.app import Archive, Node
    from node.app.archive_copies import ArchiveCopies

_EMPTY: Final = (Standing.ASKED, Standing.READY, Standing.REFUSED, Standing.STANDING)
"""Exports of which nothing was made; a standing one has increments of its own."""
_HEARS_WITHIN: Final = 15.0
"""Seconds for which a node has to have been connected after an order, to have heard of it for sure."""


class Deletions:
    """One archive's, as it is at this moment."""

    def __init__(self, node: Node, archive: Archive) -> None:
        self._node = node
        self._archive = archive

    def told(self) -> dict[str, Any]:
        """Return what was ordered to go and how far it is, and what waits for a second person."""
        disposal, limit = self._archive.disposal, self._archive.limit
        orders = [
            {
                **_target(order.target),
                "decision": id,
                "verb": order.verb.value,
                "who": order.who,
                "when": order.when,
                "due": int(disposal.due(order)),
                "done": order.done,
                "outcome": order.outcome,
                "problem": disposal.why_not(id),
                **(self._erased(id, order.done) if order.verb is Verb.ERASE else self._deleted(order)),
            }
            for id, order in disposal.orders.rows()
        ]
        wishes = [
            {**_target(wish.target), "wish": id, "verb": wish.verb.value, "who": wish.who, "when": wish.when}
            for id, wish in limit.waiting()
        ]
        return {"orders": sorted(orders, key=_when), "wishes": wishes, "left_today": limit.left()}

    @cached_property
    def _copies(self) -> ArchiveCopies | None:
        copying = self._node.neighbourhood.copying
        return copying.each.get(self._archive.name) if copying.is_open else None

    @cached_property
    def _heard(self) -> dict[str, tuple[int, float]]:
        return self._copies.members.heard() if self._copies else {}

    @cached_property
    def _members(self) -> dict[str, PeerRow]:
        return {row.node_id: row for row in self._copies.members.everybody()} if self._copies else {}

    def _deleted(self, order: Order) -> dict[str, Any]:
        """Return which sites keep copies of what is gone here, and which have not heard of it."""
        if self._copies is None or (order.done and not order.is_purged):
            return {}
        found = self._copies.owing(order.target[0]) if order.is_purged else {}
        receipts = [self._receipt(node_id, row) for node_id, row in found.items()]
        return {
            "receipts": receipts,
            "owing": [row["node"] for row in receipts if row["is_owed"]],
            "unheard": list(self._unheard(order.when / 1000)),
        }

    def _unheard(self, when: float) -> Iterator[str]:
        """Yield the sites that may not know of an order; who became a member later never had what is gone."""
        for name, (since, heard) in self._heard.items():
            if since <= when and heard < when + _HEARS_WITHIN:
                yield name

    def _receipt(self, node_id: str, row: Dropping) -> dict[str, Any]:
        """Return how a keeper stands, in the words of `node.erasures`."""
        member = self._members.get(node_id)
        what = "" if row.done else f"it keeps {len(row.all())} copies of it"
        if member is None and not row.done:
            what += ", and is no member of the grid any more"
        return {
            "node": self._node.neighbourhood.copying.name(node_id),
            "site": member.site if member else "",
            "since": int(row.since * 1000),
            "done": int(row.done * 1000),
            "is_owed": not row.done and member is not None,
            "what": what,
            "copies": row.dropped,
        }

    def _erased(self, id: str, done: int) -> dict[str, Any]:
        """Return which sites owe a receipt for an erasure, and what may hold it out of reach."""
        erasing = self._node.neighbourhood.erasing
        receipts = erasing.receipts_of(self._archive).of(id) if erasing else []
        return {
            "receipts": receipts,
            "owing": [row["node"] for row in receipts if row["is_owed"]],
            "backups": list(self._backups(done)),
            "exports": list(self._exports(done)),
        }

    def _exports(self, done: int) -> Iterator[str]:
        """Yield the research sets that something may be in: ordered before, and not without any content."""
        for each in self._node.research.exports.all() if is_used(self._node.state) else ():
            is_before = not done or each.when * 1000 <= done
            if each.archive == self._archive.name and is_before and each.standing not in _EMPTY:
                yield f"{each.project} {each.id[:8]}"

    def _backups(self, done: int) -> Iterator[str]:
        before = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(done / 1000 or self._node.clock()))
        for line in read(self._node.home / "audit", "backup"):
            if line.event == "backup" and "backup" in line.detail and line.time[:19] <= before:
                yield str(line.detail["backup"])


def _target(uids: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), uids, strict=False))


def _when(order: dict[str, Any]) -> int:
    return int(order["when"])
