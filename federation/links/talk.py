"""What is said over sessions once both sides know each other: heartbeats, news, and the end of it.

Everything here happens in the threads that read sessions, or in `step`; nothing waits for the wire.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from catalog import Clock, NotPermitted, PacsError
from federation.trust.credentials import Credentials
from federation.trust.departure import read_departure
from federation.trust.names import Identity
from federation.trust.rows import Departed, PeerRow, Tables
from federation.trust.trust import Trust
from protos import trust_pb2 as wire

from . import gossip
from .channels import Channels
from .gate import Gate
from .roll import FEATURES, HEARTBEAT, PROTOCOL, Roll, Standing
from .session import SILENT, Conversation, News, Own, Spawn

logger = logging.getLogger(__name__)


class Talk:
    """All live sessions of one node, whoever dialed."""

    def __init__(
        self,
        own: Own,
        credentials: Credentials,
        trust: Trust,
        tables: Tables,
        roll: Roll,
        gate: Gate,
        channels: Channels,
        spawn: Spawn,
        clock: Clock,
        monotonic: Clock,
        dial_back: Callable[[str, str], None],
        news: News = SILENT,
    ) -> None:
        """`dial_back` is handed a door's address and a token, and may take its time."""
        self.own, self.credentials, self.trust, self.tables = own, credentials, trust, tables
        self.roll, self.gate, self.channels, self.spawn = roll, gate, channels, spawn
        self.clock, self.monotonic = clock, monotonic
        self._dial_back, self._news = dial_back, news
        self._live: dict[str, Conversation] = {}
        self._lock = threading.Lock()
        self._revision = int(clock() * 1000)
        self._relays: tuple[str, ...] = ()
        self._acted_on = trust.generation

    @property
    def own_id(self) -> str:
        """This node's id."""
        return self.credentials.pair.identity.node_id

    def hello(self, to: Identity | None) -> wire.Hello:
        """Return this node's Hello; who is dialed is not known yet, so the news come with a heartbeat."""
        identity = self.credentials.pair.identity
        return wire.Hello(
            node_id=identity.node_id,
            grid_id=self.trust.grid_id,
            site=identity.site,
            instance=self.roll.instance,
            now_ms=int(self.clock() * 1000),
            features=FEATURES,
            protocol=PROTOCOL,
            versions=gossip.versions_message(self.trust),
            heads=self._news.heads(to) if to else (),
            seen=self._news.seen(to) if to else (),
            member=gossip.member_message(self.myself()),
        )

    def myself(self) -> PeerRow:
        """Return this node as others hear of it."""
        identity, own = self.credentials.pair.identity, self.own
        return PeerRow(
            node_id=identity.node_id,
            name=identity.name,
            site=identity.site,
            addresses=own.addresses,
            ae_titles=own.ae_titles,
            is_dial_only=own.is_dial_only,
            is_authority=own.is_authority,
            revision=self._revision,
            relays=self._relays,
            door=own.door,
            desk=own.desk,
        )

    def enter(self, session: Conversation, standing: Standing, hello: wire.Hello) -> None:
        """Take a session in whose Hello was accepted, in place of an older one of the same node."""
        node_id = standing.identity.node_id
        session.standing = standing
        with self._lock:
            before, self._live[node_id] = self._live.get(node_id), session
        if before is not None:
            before.end()
        gossip.learn(
            self.tables.peers, self.trust, hello.member, self.own_id, self.clock(), standing.identity
        )
        members = [gossip.member_message(row) for _, row in self.tables.peers.scan() if row.state == "member"]
        gone = [row.document for _, row in self.tables.departed.scan()]
        session.send(directory=wire.Directory(members=members, departures=gone))
        self._beat(session)
        self._heard(session, hello.versions, hello.heads, hello.seen, is_all=False)
        self._find_relays()

    def read(self, session: Conversation, messages: Iterable[wire.LinkMessage]) -> None:
        """Work on what the other side says until it ends, or may not go on."""
        standing = session.standing
        assert standing is not None
        try:
            for message in messages:
                self.trust.check(standing.identity)
                self.roll.heard(standing)
                self._work(session, standing, message)
                if session.is_over:
                    break
        except NotPermitted as error:
            logger.warning("The session with %s is cut: %s", standing.identity.node_id, error)
        finally:
            session.end()

    def leave(self, session: Conversation) -> None:
        """Forget a session that is over."""
        session.end()
        standing = session.standing
        if standing is None:
            return
        self.roll.leave(standing)
        with self._lock:
            if self._live.get(standing.identity.node_id) is session:
                del self._live[standing.identity.node_id]
        self._find_relays()

    def _work(self, session: Conversation, standing: Standing, message: wire.LinkMessage) -> None:
        node_id, kind = standing.identity.node_id, message.WhichOneof("kind")
        if kind == "heartbeat":
            beat = message.heartbeat
            self.roll.told_time(standing, beat.now_ms / 1000)
            if beat.HasField("granted"):
                session.granted = tuple(beat.granted.ops[: gossip.MOST])
            self._heard(session, beat.versions, beat.heads, beat.seen, is_all=True)
        elif kind == "moved":
            self._news.heard(standing.identity, [message.moved.head], (), False)
        elif kind == "documents":
            if gossip.take(self.trust, message.documents):
                self.trust_changed()
        elif kind == "directory":
            self._learn(node_id, message.directory.members)
            for document in message.directory.departures[: gossip.MOST]:
                self.take_departure(document)
        elif kind == "dial_back":
            row = self.tables.peers.get(node_id.encode())
            if row is not None and row.door:
                door, token = row.door, message.dial_back.token
                self.spawn("dial back", lambda: self._try_to_dial_back(door, token))

    def _try_to_dial_back(self, door: str, token: str) -> None:
        try:
            self._dial_back(door, token)
        except PacsError as error:
            logger.warning("A peer that waits for this node to dial back waits in vain: %s", error)

    def _heard(
        self,
        session: Conversation,
        versions: wire.Versions,
        heads: Iterable[wire.Head],
        seen: Iterable[wire.Seen],
        *,
        is_all: bool,
    ) -> None:
        session.theirs = versions
        self._give(session)
        assert session.standing is not None
        self._news.heard(session.standing.identity, heads, seen, is_all)

    def _learn(self, source: str, members: Iterable[wire.Member]) -> None:
        news = [
            member
            for member in list(members)[: gossip.MOST]
            if gossip.learn(self.tables.peers, self.trust, member, self.own_id, self.clock())
        ]
        if news:
            self._tell(wire.Directory(members=news), besides=source)

    def take_departure(self, document: bytes) -> None:
        """Keep that a node left, if an authority says so and it is news, and pass it on."""
        try:
            departure = read_departure(document, self.trust)
        except PacsError as error:
            logger.warning("That a node left is not believed: %s", error)
            return
        row = self.tables.peers.get(departure.node_id.encode())
        known = self.tables.departed.get(departure.node_id.encode())
        is_back = row is not None and row.state == "member" and row.since > departure.at
        if departure.node_id == self.own_id or is_back or (known and known.document == document):
            return
        self.tables.departed.put(departure.node_id.encode(), Departed(document))
        self._tell(wire.Directory(departures=[document]))

    def _find_relays(self) -> None:
        """Tell everybody who forwards to this node, if it can only dial out."""
        if not self.own.is_dial_only:
            return
        rows = (self.tables.peers.get(node_id.encode()) for node_id in list(self._live))
        relays = tuple(sorted(row.door for row in rows if row is not None and row.door))
        if relays != self._relays:
            self._relays, self._revision = relays, max(self._revision + 1, int(self.clock() * 1000))
            self._tell(wire.Directory(members=[gossip.member_message(self.myself())]))

    def _tell(self, directory: wire.Directory, besides: str = "") -> None:
        for node_id, session in list(self._live.items()):
            if node_id != besides:
                session.send(directory=directory)

    def trust_changed(self) -> None:
        """Act on newer documents at once: cut who counts no more, and pass the news on."""
        self._acted_on = self.trust.generation
        self._expel()
        self.gate.step()
        self.channels.refresh()
        for session in list(self._live.values()):
            self._give(session)
        self._cut()

    def _expel(self) -> None:
        """Count who was expelled as no member; where it was reached stays, for it may be let in again."""

        def expel(row: PeerRow | None) -> PeerRow | None:
            if row is None or row.state != "member" or not self.trust.is_expelled(row.node_id, row.since):
                return row
            return replace(row, state="revoked", since=self.trust.revoked_since(row.node_id))

        for key, row in list(self.tables.peers.scan()):
            if expel(row) != row:
                logger.info("The node %s was expelled; it is no member any more.", row.node_id)
                self.tables.peers.change({key: expel})

    def _give(self, session: Conversation) -> None:
        """Send the documents that the other side lacks."""
        documents = gossip.lacking(self.trust, session.theirs)
        if documents is not None:
            session.theirs = gossip.versions_message(self.trust)
            session.send(documents=documents)

    def _cut(self) -> None:
        self.channels.drop_expelled()
        for node_id, session in list(self._live.items()):
            assert session.standing is not None
            try:
                self.trust.check(session.standing.identity)
            except NotPermitted as error:
                logger.warning("The session with %s is cut: %s", node_id, error)
                session.end()
                self.channels.drop(node_id)

    def _beat(self, session: Conversation) -> None:
        assert session.standing is not None
        identity = session.standing.identity
        session.sent = self.monotonic()
        session.send(
            heartbeat=wire.Heartbeat(
                now_ms=int(self.clock() * 1000),
                versions=gossip.versions_message(self.trust),
                heads=self._news.heads(identity),
                seen=self._news.seen(identity),
                granted=wire.Granted(ops=self._news.granted(identity)),
            )
        )

    def step(self) -> None:
        """Send the heartbeats that are due, end what is dead or not trusted any more."""
        self.trust.refresh()
        if self.trust.generation != self._acted_on:
            self.trust_changed()
        self.gate.step()
        self._cut()
        for node_id, session in list(self._live.items()):
            standing = session.standing
            if standing is None or not self.roll.is_current(standing):
                session.end()
                self.channels.drop(node_id)
                self.leave(session)
            elif self.monotonic() - session.sent >= HEARTBEAT:
                self._beat(session)

    def session(self, node_id: str) -> Conversation | None:
        """Return the live session with a node, or None."""
        return self._live.get(node_id) if self.roll.standing(node_id) else None

    def send(self, node_id: str, **content: Any) -> bool:
        """Send one message to a node; say whether it is connected."""
        session = self.session(node_id)
        if session is None:
            return False
        session.send(**content)
        return True

    def close(self) -> None:
        """End all sessions."""
        for session in list(self._live.values()):
            session.end()
