"""Two hospitals for tests of fetching: alpha keeps studies, beta has none; between them real mutual TLS."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import msgspec

from catalog import Entry, Holding, PatientKey, Selection
from federation.identities import Asker, ForeignIds
from federation.lanes import Lanes
from federation.links.gate import Gate
from federation.objects import Given, ObjectService, Outside, PeerLink
from federation.owners import Owner, place_at
from federation.sourcing import Source
from federation.trust.assertion import Asker as Behalf
from federation.trust.policy import ALL, Grant, Op, Policy
from node.app import Node
from node.contracts import Outgoing
from node.grid_retriever import GridRetriever
from node.nearline import Fetches
from node.nearline_cache import CopyCache
from node.shelf import ArchiveShelf
from tests.federation.nodes import Peer, wait_for
from tests.homes import Peer as Device
from tests.homes import RawInstance, serving

MB = 1 << 20


class Hospital:
    """A node with its archive, whose objects peers may fetch as `grants` say."""

    def __init__(self, home: Path, name: str, stack: ExitStack) -> None:
        self.node: Node = stack.enter_context(serving(home / "node", node={"name": name, "node_id": name}))
        self.grants: list[Grant] = []
        self.given: list[Given] = []
        self.rest: Callable[[float], object] = lambda seconds: None
        self.peer = Peer(home / "grid", name, node_id=str(uuid.uuid4()), serve=self._serve)
        stack.callback(self.peer.close)
        self.owner = Owner(self.peer.node_id, "main").name

    def _serve(self, gate: Gate) -> Callable[[grpc.Server], None]:
        archive = self.node.archive("main")
        shelf = ArchiveShelf(archive.catalog, archive.retriever)
        self.outside = Outside(
            policy=lambda: Policy([], self.grants),
            shelf=lambda name: shelf,
            clock=time.time,
            monotonic=time.monotonic,
            rest=lambda seconds: self.rest(seconds),
            lanes=Lanes(time.monotonic),
            told=self.given.append,
        )
        return ObjectService(gate, self.outside).register

    def grant(self, other: Hospital, rate: int = 0, roles: tuple[str, ...] = ()) -> None:
        """Let another one retrieve everything."""
        peer = f"node:{other.peer.node_id}"
        self.grants.append(Grant(peer=peer, share=ALL.name, ops=(Op.RETRIEVE,), rate=rate, roles=roles))

    def store(self, sent: list[RawInstance]) -> str:
        """Store a study; return its UID."""
        assert set(Device(self.node).store(*sent)) == {0}
        entry = self.node.catalog.select(Selection(instances=(sent[0].SOPInstanceUID,)))[0]
        return entry.StudyInstanceUID

    def entries(self, study: str) -> list[Entry]:
        """Return a study's instances as another node's merged catalog names them."""
        return [_at(self.owner, each) for each in self.node.catalog.select(Selection(studies=(study,)))]


def _at(owner: bytes, entry: Entry) -> Entry:
    holding = entry.holding
    return msgspec.structs.replace(entry, holding=Holding(holding.sha256, place_at(owner), holding.size))


class Reader:
    """The node that fetches: what it takes for true of others, and its copies."""

    def __init__(self, home: Path, hospital: Hospital, stack: ExitStack, limit: int = 512 * MB) -> None:
        self.home, self.hospital = home, hospital
        self.clock = time.time
        self.sources: list[Source] = []
        self.cache = CopyCache(home / "cache", lambda: self.clock(), limit, max_age=3600.0)
        links = PeerLink(lambda node_id: hospital.peer.member.links.channel(node_id), str)
        self.keepers: list[Source] = []
        parts = (self.cache, lambda entry: list(self.sources), links, time.monotonic, "beta")
        self.fetches = Fetches(*parts, lambda entry: list(self.keepers))
        self.patient: PatientKey | None = None
        self.asker = Asker(foreign_ids=ForeignIds.KEEP)
        self.stop = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(4)]
        for thread in self._threads:
            thread.start()
        stack.callback(self.close)

    def knows(self, *owners: Hospital, is_reachable: bool = True, state: bytes = b"1") -> None:
        """Have it take these for holders of everything."""
        self.sources = [Source(each.owner, each.peer.name, is_reachable, state) for each in owners]

    def door(self, ae_title: str = "WS", request_id: str = "r1", role: str = "ae") -> GridRetriever:
        """Return the door out for one association."""
        return GridRetriever(
            self.hospital.node.retriever,
            self.fetches,
            Behalf(role=role, ae_title=ae_title, request_id=request_id),
            self.asker,
            lambda study: self.patient,
            system="BETA",
            clock=time.time,
        )

    def _work(self) -> None:
        while not self.stop.is_set():
            self.fetches.turn()

    def close(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(60)


def content(outgoing: Outgoing) -> bytes:
    """Read an instance's data set to its end."""
    data = bytearray(outgoing.size)
    assert outgoing.read_into(memoryview(data), 0) == len(data)
    outgoing.close()
    return bytes(data)


def connected(*hospitals: Hospital) -> None:
    """Make a grid of them, the first one its authority."""
    first, *others = (each.peer for each in hospitals)
    first.grid.found("CZ-MED")
    for other in others:
        first.admit(other)
    for one in (first, *others):
        wait_for(lambda one=one: one.knows(*(each for each in (first, *others) if each is not one)))


def pair(home: Path, stack: ExitStack) -> Iterator[tuple[Hospital, Reader]]:
    """Yield alpha, who grants beta everything, and beta's side of fetching."""
    alpha, beta = Hospital(home / "alpha", "alpha", stack), Hospital(home / "beta", "beta", stack)
    connected(alpha, beta)
    alpha.grant(beta)
    reader = Reader(home, beta, stack)
    reader.knows(alpha)
    yield alpha, reader
