"""The node among its peers, composed: what it serves them, what it follows, and the grid's catalog."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from random import Random
from threading import Event
from typing import Any, Final

import grpc

from catalog import Availability, Clock, Level, Query, Selection, Unavailable
from catalog.statements import Stated
from federation.announcing import Announcer, Follower
from federation.catalog_service import CatalogService, QueryService, RemoteOwner
from federation.choosing import Chosen, choose
from federation.fanout import Breaker
from federation.identities import Asker
from federation.links.gate import Gate
from federation.links.roll import Standing
from federation.links.rpc import letters
from federation.links.server import Register
from federation.links.session import News, Spawn
from federation.live import LiveGrid
from federation.manifests import Manifests
from federation.mirror import Mirror
from federation.mirror_search import MirrorSearch
from federation.neighbours import Around, Followed, Lag, Neighbours
from federation.objects import PeerLink
from federation.proposing import MirrorPlanner
from federation.sight import Grid as Seen
from federation.sight import Sight
from federation.trust.assertion import pseudonym_of
from federation.trust.names import Identity
from node.archives import DEFAULT
from node.contracts import Caller, Scope
from node.grid import Grid, Membership
from node.grid_catalog import DeviceGrid, GridParts, Tallies, Tellings
from node.grid_conflicts import GridConflicts
from node.keepsake import Keepsake
from node.measures import Sample
from node.neighbour_desk import not_running
from node.patient_links import PatientLinks
from node.state import State
from protos import catalog_pb2_grpc as services
from protos import trust_pb2 as wire

from .archive import Archive
from .asking_owners import AskingOwners
from .chores import Chore, Loop
from .copying import Copying
from .departing import Departing
from .erasing import Erasing, Traces, forget_patients
from .fetching import Fetching
from .hearing import Remembering
from .lending import Helping
from .listers import Listers
from .old_pacs import OldArchives
from .sharing import Sharing

logger = logging.getLogger(__name__)
FOLDER: Final = "grid"
_TURN: Final = 0.1
"""Seconds between two looks at what peers said, and at whether a log moved."""
_CHECKED_AT_ONCE: Final = 500


class Neighbourhood:
    """Begins to exist when the node serves, and to do something when it is in a grid."""

    def __init__(
        self,
        home: Path,
        state: State,
        links: PatientLinks,
        archives: Mapping[str, Archive],
        membership: Callable[[], Grid],
        clock: Clock,
        alarm: Callable[[str, str, str], None],
        spawn: Spawn,
        old: OldArchives,
    ) -> None:
        self._home, self._state, self.links, self._archives = home, state, links, archives
        self._membership, self._clock, self._alarm, self._spawn = membership, clock, alarm, spawn
        self.old = old
        self._breakers: dict[int, Breaker] = {}
        self._sharing = Sharing(home, archives, membership, clock)
        self._is_open = False
        self.announcer: Announcer | None = None
        self.erasing: Erasing | None = None
        self.remembering: Remembering | None = None
        self.copying = Copying(home, state, archives, membership, clock, alarm, spawn)
        self.helping = Helping(archives, membership, self.copying, clock)
        self.departing = Departing(
            home, archives, membership, lambda: self.neighbours, lambda: self.fetching, self.copying, clock
        )
        self.tallies = Tallies()
        self.conflicts = GridConflicts(state, clock, lambda node_id: self.neighbours.name(node_id), alarm)

    def open(self) -> None:
        """Open the mirror, and make what stands on it."""
        folder = self._home / FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        self.mirror = Mirror(folder / "mirror", clock=self._clock)
        self.search = MirrorSearch(self.mirror, folder / "search")
        rows = self._state.table("grid-followed", Followed)
        self.neighbours = Neighbours(self.mirror, rows, self._grid.tables.peers, self._around())
        asks = partial(self._channel, asks=True)
        self._owners = AskingOwners(self.neighbours.source, self.neighbours.name, asks)
        issuer = self._issuer()
        self.old.open(folder / "old", self.mirror, issuer)
        self.fetching = Fetching(folder / "cache", self._main.shared, self.links.current)
        manifests = Manifests(self._listers().manifest)
        self.seen = Seen(
            own=self._main.catalog,
            mirror=self.mirror,
            planner=MirrorPlanner(self.mirror, self.search),
            standing=lambda: {**self.neighbours.standing(), **self.old.standing()},
            manifest=manifests,
            links=self.links.current,
            remembered=self.old.remembered(self.fetching.cache.remembered(manifests)),
            issuer=issuer,
            site=self._site,
            alarm=self.conflicts.alarm,
            kept=self._kept,
        )
        self.search.on_changed = self._check
        self._checked = self._main.catalog.head().seq
        live = LiveGrid(self.seen, self._owners.ask, self._breaker, time.monotonic)
        link = PeerLink(self._channel, self.neighbours.name)
        self.fetching.begin(self.seen, self.helping.link(link), self.old.objects)
        self.fetching.instead = self.helping.instead
        named = partial(pseudonym_of, self._sharing.secret)
        self.parts = GridParts(self.seen, live, self.tallies, Tellings(), issuer, named)
        self.copying.open(self._channel, self.neighbours.name, self.fetching)
        self.erasing = self._make_erasing()
        near = (self._channel, lambda: self._sharing.secret)
        self.remembering = Remembering(self._archives, self._state, self.links, self.erasing, *near)
        self.remembering.guard(self._sharing, self.fetching, self.copying, self.departing)
        self._is_open = True

    def _listers(self) -> Listers:
        around = (self._is_connected, self._shares, self._reach)
        return Listers(self.old.manifest, self.helping.manifest, *around, self.fetching.avoid)

    def _around(self) -> Around:
        return Around(
            self._clock,
            time.monotonic,
            self._is_connected,
            self._is_expelled,
            self._reach,
            self._spawn,
            self._alarm,
        )

    def _make_erasing(self) -> Erasing:
        parts = (self.mirror, self.search, self.fetching.cache, self.copying.store, self._state.scour)
        traces = Traces(self._archives, *parts, self.links, self._grid.settings.node_id)
        near = (self._is_connected, self._channel, lambda: self._sharing.secret, self._clock)
        return Erasing(self._archives, self._grid, self._state, traces, *near)

    def forget_patients(self, decision: str, patients: Collection[bytes]) -> None:
        """Erase the links of patients who have nothing else, and copies fetched of what is erased."""
        mirror = self.mirror if self._is_open else None
        forget_patients(self.links, self._archives, mirror, decision, patients)
        if self._is_open:
            self.fetching.sweep()

    def close(self) -> None:
        """Give everything back."""
        if self._is_open:
            self._owners.close()
            self.fetching.close()
            self.search.close()
            self.mirror.close()
            self.copying.close()

    @property
    def open_parts(self) -> GridParts:
        """What the grid is asked through; raises Unavailable while the node does not run."""
        if not self._is_open:
            raise not_running()
        return self.parts

    @property
    def _grid(self) -> Grid:
        return self._membership()

    @property
    def _main(self) -> Archive:
        return self._archives[DEFAULT]

    def _member(self) -> Membership | None:
        member = self._grid.membership
        return member if member is not None and member.is_serving else None

    def _site(self) -> str:
        member = self._grid.membership
        return member.credentials.pair.identity.site if member else self._grid.settings.name

    def _issuer(self) -> str:
        """Return whose Patient IDs are those without an issuer: the node's, or else its site's."""
        config = self._main.shared.config
        return config.node.issuer or config.grid.site or config.node.name

    # What peers are served.

    def services(self, gate: Gate) -> tuple[Register, ...]:
        """Return the servicers of the catalog and of objects."""
        book = self._sharing.book(gate)
        objects = self.fetching.service(gate, book.policy, self._archives)
        copies = self.copying.service(gate)
        self.helping.lend_through(gate, self.fetching)
        return (
            lambda server: services.add_CatalogServicer_to_server(CatalogService(book), server),
            lambda server: services.add_QueryServicer_to_server(QueryService(book), server),
            objects.register,
            copies.register,
            self.departing.service(gate).register,
            *(each.service(gate).register for each in (self.erasing, self.remembering) if each),
        )

    def news(self, gate: Gate) -> News:
        """Return what sessions say and hear of catalogs."""
        announcer = Announcer(self._sharing.book(gate), self._sessions, self._move, time.monotonic)
        self.announcer = announcer

        def heard(
            identity: Identity, heads: Iterable[wire.Head], seen: Iterable[wire.Seen], is_all: bool
        ) -> None:
            self.neighbours.heard(identity.node_id, heads, is_all)
            announcer.heard(identity, seen)

        return News(
            announcer.heads,
            lambda identity: self.neighbours.seen(identity.node_id),
            heard,
            announcer.granted,
        )

    def _sessions(self) -> dict[str, Standing]:
        member = self._member()
        return dict(member.roll.everybody()) if member else {}

    def _move(self, head: wire.Head, nodes: Iterable[str]) -> None:
        member = self._member()
        if member:
            member.links.head_moved(head, nodes)

    # How peers are reached.

    def _is_connected(self, node_id: str) -> bool:
        member = self._member()
        return member is not None and member.roll.standing(node_id) is not None

    def _is_expelled(self, node_id: str) -> bool:
        member = self._grid.membership
        return member is not None and member.trust.is_expelled(node_id)

    def _channel(self, node_id: str, *, asks: bool = False) -> grpc.Channel:
        member = self._member()
        if member is None:
            raise Unavailable("This node is in no grid.", "See: peerpacs peers")
        return member.links.channel(node_id, asks=asks)

    def _reach(self, node_id: str, archive: str) -> RemoteOwner:
        stub = services.CatalogStub(self._channel(node_id))
        return RemoteOwner(stub, archive, lambda: letters(self.neighbours.name(node_id)))

    def _shares(self, owner: bytes) -> list[int]:
        rows = map(self.neighbours.source, self.neighbours.standing())
        return [row.share for row in rows if row is not None and row.owner == owner]

    def _kept(self, owner: bytes, stated: Stated) -> Mapping[str, Availability]:
        return {} if owner in self.old.objects else self.helping.kept(owner, stated)

    def _breaker(self, source: int) -> Breaker:
        return self._breakers.setdefault(source, Breaker(Random()))

    # What goes on.

    def chores(self) -> Iterator[Chore]:
        """Yield what is done now and then."""
        yield Chore("shares", 1.0, self._sharing.state)
        yield Chore("who left", 1.0, self.departing.step)
        yield Chore("the grid beside the identity", 1.0, Keepsake(self._grid.folder, self._grid.tables).step)
        yield Chore("grid conflicts", 1.0, self._check_own)
        yield Chore("tombstones", 600.0, lambda: self._sharing.forget_tombstones(self.announcer))
        yield from self.fetching.chores()
        yield from self.copying.chores()
        yield from self.helping.chores()
        yield from self.old.chores()
        for each in (self.erasing, self.remembering):
            yield from each.chores() if each else ()

    def loops(self) -> Iterator[Loop]:
        """Yield what wants threads of its own."""
        yield Loop("grid followers", self._follow, idle_pause=_TURN)
        yield Loop("grid search", self._index, idle_pause=0.2)
        for each in (self.fetching, self.copying, self.old, self.remembering):
            yield from each.loops() if each else ()

    def _follow(self) -> bool:
        self.neighbours.step()
        if self.announcer is not None and self._member() is not None:
            self.announcer.step()
        return False

    def _check(self, studies: list[str]) -> None:
        """Look whether studies are in conflict that somebody states anew."""
        if studies:
            sight = Sight(self.seen, Asker(), Query(level=Level.STUDY, keys={}))
            self.conflicts.check(sight, studies, self._chosen)

    def _chosen(self, study: str) -> Chosen:
        return choose(self.seen, Asker(), Selection(studies=(study,)))

    def _check_own(self) -> None:
        changes = self._main.catalog.changes(self._checked, _CHECKED_AT_ONCE)
        if changes:
            self._checked = changes[-1].seq
            self._check(list(dict.fromkeys(change.key.partition(b"\0")[0].decode() for change in changes)))

    def _index(self) -> bool:
        return self.search.step(self._clock()) > 0

    def hear(self, stop: Event) -> None:
        """Return when this node may serve, see `Remembering.hear`."""
        if self.remembering:
            self.remembering.hear(stop)

    # What people ask.

    def lags(self, node_id: str) -> list[Lag]:
        """Return how far this node is with a peer's catalog; nothing while it does not run."""
        return self.neighbours.lags(node_id) if self._is_open else []

    def followers(self, node_id: str) -> list[Follower]:
        """Return how far a peer is with this node's catalog."""
        return self.announcer.followers(node_id) if self.announcer else []

    def leave(self, who: str, is_forced: bool) -> dict[str, Any]:
        """Go out of the grid; raises Unavailable while the node does not run."""
        if not self._is_open:
            raise not_running()
        return self.departing.leave(who, is_forced=is_forced)

    def allow(self, node_id: str) -> int:
        """Let studies vanish that a peer states no more; raises Unavailable while the node does not run."""
        if not self._is_open:
            raise not_running()
        return self.neighbours.allow(node_id)

    # What devices are given.

    def scope(self, ae_title: str) -> Scope:
        """Return what the grid's AE title opens."""
        archive = self._main

        def seen_by(caller: Caller) -> Scope:
            grid = DeviceGrid(self.parts, caller)
            retriever = self.fetching.door(archive.retriever, grid)
            return own._replace(catalog=grid, retriever=retriever, grid=grid, insight=None)

        own = archive.scope(ae_title)._replace(seen_by=seen_by)
        return own

    def samples(self) -> Iterator[Sample]:
        """Yield what `/metrics` shows of peers."""
        yield from self.tallies.samples()
        yield from self.fetching.samples()
        yield from self.copying.samples()
        own = self._grid.settings.node_id
        for _, row in self._grid.tables.peers.scan():
            if row.node_id == own or row.state != "member":
                continue
            yield Sample("peer_up", int(self._is_connected(row.node_id)), (row.name,))
            for lag in self.neighbours.lags(row.node_id):
                yield Sample("peer_changes_behind", lag.behind, (row.name,))
                if lag.seconds is not None:
                    yield Sample("peer_lag_seconds", lag.seconds, (row.name,))
