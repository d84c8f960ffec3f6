"""Which members of the grid there are for copies: connected, lost, at which site, and what each may keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from math import inf
from typing import Final

from catalog import Attributes, Clock
from federation.placement import Candidate
from federation.trust.policy import Caller, Op, Policy
from federation.trust.rows import PeerRow
from node.grid import Grid

from .ledger import Ledger

_CHANGES_ITS_MIND: Final = 600.0
"""Seconds after which a node that wanted to leave, and did not, counts again."""
_TOLD: Final = (Op.CATALOG, Op.HOST_REPLICAS)
"""What makes a node hear of what becomes of a study."""


class Members:
    """The members as they are at each moment, for one archive."""

    def __init__(
        self, grid: Callable[[], Grid], ledger: Ledger, clock: Clock, archive: str, lost_after: float
    ) -> None:
        """Who was not connected for `lost_after` seconds counts as lost."""
        self._grid = grid
        self._ledger = ledger
        self._clock = clock
        self._archive = archive
        self._lost_after = lost_after
        self._leaving: dict[str, float] = {}

    def leaves(self, node_id: str) -> None:
        """Hear that a node wants to leave: for a while nothing is to be kept there."""
        self._leaving[node_id] = self._clock() + _CHANGES_ITS_MIND

    def connected(self) -> list[str]:
        """Return the nodes with a live session."""
        member = self._grid().membership
        return [*member.roll.everybody()] if member is not None and member.is_serving else []

    def instances(self) -> dict[str, int]:
        """Return the nodes with a live session, each with a number that is another after every start."""
        member = self._grid().membership
        return {} if member is None else {each: member.roll.instance_of(each) for each in self.connected()}

    def site(self) -> str:
        """Return this node's own site."""
        member, settings = self._grid().membership, self._grid().settings
        site = member.credentials.pair.identity.site if member else settings.site
        return site or settings.name

    def site_of(self, node_id: str) -> str:
        """Return a member's site; nothing for who is none any more, or lost."""
        row = self._grid().tables.peers.get(node_id.encode())
        return row.site if row and row.state == "member" and node_id not in self.lost() else ""

    def everybody(self) -> list[PeerRow]:
        """Return the other members, lost or not."""
        own, rows = self._grid().settings.node_id, self._grid().tables.peers.scan()
        return [row for _, row in rows if row.state == "member" and row.node_id != own]

    def heard(self) -> dict[str, tuple[int, float]]:
        """Return by name of each member that hears of the archive's studies since when it is one, and when it
        was last connected.

        In seconds since 1970; endless of who is connected now, 0 of who never was.
        """
        now, policy = {*self.connected()}, self.policy()

        def is_told(row: PeerRow) -> bool:
            caller = Caller(row.node_id, row.site)
            found = chain.from_iterable(policy.permissions(caller, op, None) for op in _TOLD)
            return any(each.share.archive == self._archive for each in found)

        return {
            row.name: (
                row.since,
                inf if row.node_id in now else self._ledger.heard.get(row.node_id.encode()) or 0.0,
            )
            for row in self.everybody()
            if is_told(row)
        }

    def candidates(self) -> list[Candidate]:
        """Return the other members that are not lost and do not leave."""
        now = self._clock()
        lost = {*self.lost(), *(each for each, until in [*self._leaving.items()] if now < until)}
        return [Candidate(row.node_id, row.site) for row in self.everybody() if row.node_id not in lost]

    def counted(self) -> set[str]:
        """Return the ids of the candidates."""
        return {each.node_id for each in self.candidates()}

    def lost(self) -> list[str]:
        """Return the nodes that count as lost."""
        before = self._clock() - self._lost_after
        # Who was never there since this ledger began is lost in its time as well.
        last = {**dict(self._ledger.awaited.scan()), **dict(self._ledger.heard.scan())}
        return [key.decode() for key, heard in last.items() if heard < before]

    def may_hold(self, node: Candidate, study: Sequence[Attributes]) -> bool:
        """Say whether this node's grants let one keep a study, given as the attributes of its series."""
        found = self.policy().permissions(Caller(node.node_id, node.site), Op.HOST_REPLICAS, None)
        return any(each.share.archive == self._archive and all(map(each.admits, study)) for each in found)

    def has_left(self, node_id: str) -> bool:
        """Say whether a node is in this grid no more of its own will, or this one is in none."""
        row = self._grid().tables.peers.get(node_id.encode())
        return self._grid().membership is None or (row is not None and row.state == "left")

    def may_go(self, node_id: str) -> str:
        """Say why nothing goes to a node at this hour; nothing if it does."""
        row = self._grid().tables.peers.get(node_id.encode())
        if row is None or row.state != "member":
            return f"{node_id} is no member of this grid any more."
        caller, policy = Caller(row.node_id, row.site), self.policy()
        if policy.permissions(caller, Op.HOST_REPLICAS, self._clock()):
            return ""
        if later := policy.permissions(caller, Op.HOST_REPLICAS, None):
            return f"Copies go to {row.name} within the hours {later[0].grant.hours} only."
        return f"{row.name} may not keep copies of this node's studies: peerpacs grants add."

    def policy(self) -> Policy:
        """Return this node's shares and grants as they are now."""
        tables = self._grid().tables
        shares = [share for _, share in tables.shares.scan()]
        return Policy(shares, [grant for _, grant in tables.grants.scan()])
