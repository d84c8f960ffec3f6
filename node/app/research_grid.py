"""Research across sites, composed: what peers are answered, who is asked, and how each site is reached."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from catalog.statements import Stated
from federation.exports import PeerExports
from federation.trust.policy import Caller, Policy
from node.grid import Grid
from node.grid_desk import GridDesk
from node.research.counting import Counter
from node.research.everywhere import Everywhere
from node.research.gathering import Gathering, OwnSite, PeerSite, Site
from node.research.model import Export, SitePart
from node.research.ordering import Ordering
from node.research.partners import Around, Partners
from node.research.serving import Outside, Serving, admission
from node.research.withdrawing import Reach, Withdrawals

from .chores import Chore, Loop

if TYPE_CHECKING:
    from .node import Node
    from .research import Research

_PAUSE = 1.0
_OUTBOX = "outbox"


class ResearchGrid:
    """The parts of research that know of other sites; without a grid they do nothing."""

    def __init__(self, node: Node, research: Research, reach: Reach) -> None:
        self._node = node
        self._research = research
        shared = research.shared
        state, clock, audit = shared.state, shared.clock, shared.audit
        self.outbox = research.folder / _OUTBOX
        self.partners = Partners(state, research.projects, research.vault, self._around, audit, clock)
        self._serve(shared.config.grid.site or shared.config.node.name)
        self.withdrawals = Withdrawals(
            state,
            research.projects,
            research.exports,
            research.quarantine,
            self.partners,
            reach._replace(forget=self.serving.forget),
            audit,
            clock,
        )
        self._gather(shared.config.grid.site or shared.config.node.name)

    def _serve(self, site: str) -> None:
        research, shared = self._research, self._research.shared
        outside = Outside(
            self._policy,
            self._peer,
            self._stated,
            lambda *told: self.withdrawals.here(*told),
            lambda: self._grid.member().credentials.pair.leaf,
            shared.clock,
            time.monotonic,
            time.sleep,
        )
        books = research.projects, research.exports
        self.ordering = Ordering(
            *books,
            Counter(shared.state),
            research.origin,
            research.choices,
            site,
            shared.clock,
            admission(outside),
        )
        self.serving = Serving(*books, self.ordering, self.partners, self.outbox, outside)

    def _gather(self, site: str) -> None:
        research, clock = self._research, self._research.shared.clock
        self.gathering = Gathering(
            research.folder / "exports",
            research.projects,
            research.exports,
            research.vault,
            research.signer,
            research.ways(self.outbox),
            self._site,
            research.background.stopping.is_set,
            clock,
        )
        self.everywhere = Everywhere(
            research.projects, self.ordering, self.gathering, self.partners, site, clock
        )

    def loops(self) -> Iterator[Loop]:
        """Yield what wants a thread of its own."""
        yield Loop("gathering of exports", self.gathering.step, idle_pause=_PAUSE)

    def chores(self) -> Iterator[Chore]:
        """Yield what is done now and then."""
        yield Chore("research outbox", 3600.0, self.serving.tidy)
        yield Chore("withdrawals to tell", 30.0, self.withdrawals.step)
        yield Chore("withdrawals and links", 60.0, self.withdrawals.follow_links)

    @property
    def _grid(self) -> Grid:
        return self._node.grid

    def _around(self) -> Around:
        member = self._grid.member()
        return Around(
            self._grid.settings.node_id,
            lambda: member.credentials.pair.key,
            member.trust.identify,
            self._node_id,
            self._name,
            PeerExports(lambda node_id: member.links.channel(node_id), self._name),
        )

    def _policy(self) -> Policy:
        tables = self._grid.tables
        shares = [share for _, share in tables.shares.scan()]
        return Policy(shares, [grant for _, grant in tables.grants.scan()])

    def _peer(self, node_id: str) -> Caller:
        row = self._grid.tables.peers.get(node_id.encode())
        return Caller(node_id, row.site if row and row.state == "member" else "")

    def _stated(self, archive: str, study: str) -> Stated | None:
        return self._node.archive(archive).catalog.stated(study)

    def _node_id(self, peer: str) -> str:
        return GridDesk(self._grid, self._node.audit).node_id(peer)

    def _name(self, node_id: str) -> str:
        row = self._grid.tables.peers.get(node_id.encode())
        return row.name if row else node_id

    def _site(self, export: Export, part: SitePart) -> Site:
        if part.node_id == self._grid.settings.node_id:
            return OwnSite(self.serving, self._research.exports, export, part.node_id)
        asker = self.partners.asker(export.who, export.id)
        return PeerSite(self._around().calls, part.node_id, asker, part.archive)
