"""Grids to be asked: nodes whose catalogs are mirrored to the one that asks before each question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from catalog import Entry, Holding, Query, Selection, Unavailable
from catalog.statements import SeriesStatement
from federation.identities import NO_LINKS, Asker, ForeignIds, Links
from federation.mirror_search import MirrorSearch
from federation.proposing import MirrorPlanner
from federation.sight import Grid, Standing
from federation.union import UnionCatalog
from tests.federation.grids import Node

ANYBODY = Asker(all_issuers=True, foreign_ids=ForeignIds.KEEP)


class Seen:
    """The grid as it is seen from one node."""

    def __init__(self, here: Node, *peers: Node, asker: Asker = ANYBODY, links: Links = NO_LINKS) -> None:
        self.here = here
        self.peers = {peer.name: peer for peer in peers}
        self.down: set[bytes] = set()
        self.ages: dict[bytes, float | None] = {peer.name: 1.0 for peer in peers}
        self.hashes: dict[bytes, Any] = {}
        self.alarms: list[tuple[str, list[bytes]]] = []
        self.manifests = 0
        self.links = links
        self.search = MirrorSearch(here.mirror, here.home / "mirror.search")
        grid = Grid(
            own=here.catalog,
            mirror=here.mirror,
            planner=MirrorPlanner(here.mirror, self.search),
            standing=self.standing,
            manifest=self.manifest,
            links=lambda: self.links,
            alarm=lambda study, owners: self.alarms.append((study, owners)),
        )
        self.grid = grid
        self.catalog = UnionCatalog(grid, asker)

    def as_seen_by(self, asker: Asker) -> UnionCatalog:
        return UnionCatalog(self.grid, asker)

    def standing(self) -> Mapping[int, Standing]:
        return {
            self.here.mirror.source(name, 0): Standing(
                f"site {name.decode()}", name, name not in self.down, self.ages[name], self.hashes.get(name)
            )
            for name in self.peers
        }

    def manifest(self, owner: bytes, series: SeriesStatement) -> list[Entry]:
        if owner in self.down:
            raise Unavailable("It is down.")
        self.manifests += 1
        uids = (series.StudyInstanceUID,), (series.SeriesInstanceUID,)
        entries = self.peers[owner].catalog.select(Selection(studies=uids[0], series=uids[1]))
        return [_at(owner, entry) for entry in entries]

    def sync(self) -> None:
        for node in (self.here, *self.peers.values()):
            node.clock.now += 3
            node.publish()
        for peer in self.peers.values():
            self.here.sync(peer)

    def index(self) -> None:
        while self.search.step(self.here.clock()):
            self.here.clock.now += 1

    def find(self, query: Query, asker: Asker = ANYBODY) -> list[dict[str, Any]]:
        return list(self.as_seen_by(asker).find(query))

    def close(self) -> None:
        self.search.close()
        for node in (self.here, *self.peers.values()):
            node.stop()


def _at(owner: bytes, entry: Entry) -> Entry:
    holding = entry.holding
    return msgspec.structs.replace(entry, holding=Holding(holding.sha256, b"peer:" + owner, holding.size))
