"""This node in its grid: the parts of federation put together, live from founding or joining on."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from catalog import BadRequest, Clock, NotFound, PacsError, Unavailable
from federation.links.channels import Channels
from federation.links.discovery import Discovery, own_addresses
from federation.links.door import Door, dial_back
from federation.links.enrolling import Enrolling, Probing, Renewing
from federation.links.gate import Gate, Visit
from federation.links.joining import LOOK_AGAIN, Joiner, Waiting
from federation.links.links import Links
from federation.links.roll import Alarm, Roll
from federation.links.rpc import MAX_CONNECTION_AGE, letters
from federation.links.server import GridServer, Register
from federation.links.session import SILENT, News, Own, Spawn
from federation.links.splicing import Splicer
from federation.links.talk import Talk
from federation.trust import office
from federation.trust.authority import found
from federation.trust.certificates import NODE_LIFETIME, Node, make_request
from federation.trust.credentials import NODE_FILE, Credentials, check_admission, write_pair
from federation.trust.enrolment import Applicant, Registrar
from federation.trust.keys import make_key
from federation.trust.rows import Tables
from federation.trust.ticket import Ticket
from federation.trust.trust import Documents, Trust
from protos import trust_pb2 as wire
from protos import trust_pb2_grpc as services

logger = logging.getLogger(__name__)

IDENTITY: Final = "identity"
_RENEW_DEADLINE: Final = 20.0


class Settings(NamedTuple):
    """What the configuration says about the grid."""

    node_id: str
    name: str
    site: str = ""
    """Of a node that founds a grid; whoever joins is told its site by the invitation."""
    ae_titles: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 0
    """0: the system chooses; -1: no peer can dial in."""
    join_port: int = 0
    door_port: int = -1
    """As `port`."""
    addresses: tuple[str, ...] = ()
    """host:port at which others reach this node; empty: host and port."""
    join_address: str = ""
    """host:port that stands in tickets; empty: host and join_port."""
    door_address: str = ""
    """host:port at which others reach the door; empty: host and its port."""
    is_dial_only: bool = False
    proxy: str = ""
    discovery: bool = False
    lifetime: float = NODE_LIFETIME
    max_age: float = MAX_CONNECTION_AGE


class Outside(NamedTuple):
    """What a grid needs of the node around it."""

    clock: Clock
    monotonic: Clock
    spawn: Spawn
    audit: Callable[[Visit], None]
    alarm: Callable[[Alarm], None]
    stop: threading.Event
    news: Callable[[Gate], News] = lambda gate: SILENT
    services: Callable[[Gate], tuple[Register, ...]] = lambda gate: ()
    """Servicers of the catalog and of objects, which ask the gate who calls."""


class Grid:
    """Membership: nothing until the node founds or joins; then servers, sessions and channels."""

    def __init__(self, home: Path, settings: Settings, tables: Tables, outside: Outside) -> None:
        self.folder = home / IDENTITY
        self.settings = settings
        self.tables = tables
        self._outside = outside
        self.membership: Membership | None = None
        self._is_serving = False
        if (self.folder / NODE_FILE).exists():
            try:
                self._open()
            except NotFound as error:
                logger.error("state/ knows nothing of this node's grid any more; it works alone. %s", error)

    def start(self) -> None:
        """Serve and connect, now or from the moment the node is in a grid.

        Raises:
            Busy: a port is taken.
        """
        if self.membership is not None:
            self.membership.start()
        self._is_serving = True

    @property
    def node(self) -> Node:
        """The node as a request for a certificate names it."""
        return Node(self.settings.node_id, "", self.settings.name)

    def member(self) -> Membership:
        """Return the node's membership.

        Raises:
            NotFound: it is in no grid.
        """
        if self.membership is None and (waiting := self.joiner().waiting()) is not None:
            raise NotFound(f"This node is in no grid yet: it asked {waiting.site}.", LOOK_AGAIN)
        if self.membership is None:
            remedy = "Found one with the first invitation: peerpacs invite; or: peerpacs join TICKET"
            raise NotFound("This node is in no grid.", remedy)
        return self.membership

    def found(self, name: str) -> None:
        """Found a grid with this node as its authority.

        Raises:
            BadRequest: the node is in a grid already, or the name is too long.
        """
        settings, clock = self.settings, self._outside.clock
        trust, authority = found(self.folder, self.tables, name, clock, settings.lifetime)
        key = make_key()
        node = Node(settings.node_id, settings.site or settings.name, settings.name)
        write_pair(self.folder, key, authority.issue(node, key.public_key()))
        logger.info("This node founded the grid %s.", trust.grid_id.hex())
        self._open()

    def joiner(self) -> Joiner:
        """Return what takes this node into a grid."""
        return Joiner(self.folder, self.node, self.tables, self._outside.clock, self.settings.proxy)

    def ask(self, ticket: Ticket) -> Waiting:
        """Ask to join with a ticket.

        Raises:
            BadRequest: the node is in a grid already.
            PacsError: the request was refused, or nobody answers there.
        """
        if self.membership is not None and self.membership.credentials.days_left() > 0:
            if ticket.grid_id != self.membership.trust.grid_id:
                raise BadRequest("This node is in another grid.", "A node is in one grid.")
            raise BadRequest("This node is in that grid already.", "See: peerpacs peers")
        return self.joiner().ask(ticket, self.applicant())

    def applicant(self) -> Applicant:
        """Return what this node says of itself when it asks."""
        own = self.settings
        return Applicant(own.name, own.ae_titles, own.addresses, own.is_dial_only)

    def collect(self) -> bool:
        """Look how the request stands; say whether the node is in the grid now.

        Raises:
            NotFound: no request waits.
            NotPermitted: it was denied.
        """
        joiner = self.joiner()
        waiting = joiner.waiting()
        if waiting is None:
            raise NotFound("No request of this node waits.", "Begin with: peerpacs join TICKET")
        if joiner.collect(waiting) is None:
            return False
        if self.membership is not None:
            self.membership.close()
        self._open()
        return True

    def _open(self) -> None:
        membership = Membership(self.folder, self.settings, self.tables, self._outside)
        if self._is_serving:
            membership.start()
        self.membership = membership

    def step(self) -> None:
        """Do what is due."""
        if self.membership is not None and self._is_serving:
            self.membership.step()
            if office.has_changed(self.folder, self.membership.trust, self.membership.authority):
                self.membership.close()
                self._open()

    def close(self) -> None:
        """End everything."""
        if self.membership is not None:
            self.membership.close()


class Membership:
    """A node that has a certificate: listening, connected, renewing."""

    def __init__(self, folder: Path, settings: Settings, tables: Tables, outside: Outside) -> None:
        self.settings, self.tables, self.outside = settings, tables, outside
        clock = outside.clock
        self.credentials = Credentials(folder, clock)
        identity = self.credentials.pair.identity
        self.trust = Trust(tables.documents, identity.grid_id, clock)
        self.instance = secrets.randbits(63) | 1
        self.roll = Roll(
            identity.node_id, identity.grid_id, self.instance, clock, outside.monotonic, outside.alarm
        )
        self.gate = Gate(self.trust, identity.node_id, clock, outside.audit, self.roll)
        self.channels = Channels(
            self.credentials, self.trust, self.instance, clock, outside.audit, settings.proxy
        )
        self.authority = office.holder(folder, self.trust, tables, clock, settings.lifetime)
        self.registrar = Registrar(self.authority, self.trust, tables, clock) if self.authority else None
        self.splicer = Splicer()
        self.ports: dict[str, int] = {}
        self._alarmed: dict[str, float] = {}
        self._servers: list[GridServer] = []
        self._links: Links | None = None
        self._nearby: Discovery | None = None

    @property
    def links(self) -> Links:
        """The sessions.

        Raises:
            Unavailable: the node does not run.
        """
        if self._links is None:
            raise Unavailable("This node does not run, so it is connected with nobody.", "peerpacs run")
        return self._links

    @property
    def is_serving(self) -> bool:
        """Whether `start` was called."""
        return self._links is not None

    def start(self) -> None:
        """Take the ports, serve, and begin to dial.

        Raises:
            Busy: a port is taken.
        """
        self._servers = self._bind()
        self._links = self._connect()
        self.outside.spawn("splicer", lambda: self.splicer.serve(self.outside.stop))
        for server in self._servers:
            server.start()
        if self.settings.discovery:
            self._discover()

    def _discover(self) -> None:
        """Announce this node on the local network and look for others; without it the grid works as well."""
        try:
            self._nearby = Discovery(self.trust.grid_id, self.settings.node_id, self.instance)
            packed = [each.packed for each in own_addresses(self.settings.host)]
            self._nearby.begin(packed, self.ports["grid"])
        except PacsError as error:
            logger.warning("%s", error)

    def _seen_nearby(self, node_id: str) -> tuple[str, ...]:
        return () if self._nearby is None else self._nearby.addresses(node_id)

    def _bind(self) -> list[GridServer]:
        """Take the ports: for peers, for who wants to join, and the door."""
        settings, now, wait = self.settings, self.outside.monotonic, self.outside.stop.wait
        peers = GridServer(self.credentials, self.trust, now, wait, gate=self.gate, max_age=settings.max_age)
        desk = GridServer(self.credentials, self.trust, now, wait, gate=None, threads=16)
        # A node that listens for nobody still needs the port behind the door, for itself alone.
        host = settings.host if settings.port >= 0 else "127.0.0.1"
        self.ports["grid"] = peers.bind(host, max(settings.port, 0))
        if settings.join_port >= 0:
            self.ports["join"] = desk.bind(settings.host, settings.join_port)
        return [peers, desk]

    def _connect(self) -> Links:
        """Make what runs over the ports, now that their numbers are known."""
        settings, outside, (peers, desk) = self.settings, self.outside, self._servers
        grid = self.ports["grid"]
        self.door = Door(
            self.splicer,
            settings.node_id,
            grid,
            lambda node_id, token: self.links.ask_to_dial_back(node_id, token),
            outside.monotonic,
        )
        if settings.door_port >= 0:
            self.ports["door"] = self.door.listen(settings.host, settings.door_port)
        talk = Talk(
            self._own(),
            self.credentials,
            self.trust,
            self.tables,
            self.roll,
            self.gate,
            self.channels,
            outside.spawn,
            outside.clock,
            outside.monotonic,
            lambda door, token: dial_back(self.splicer, door, token, grid, settings.proxy),
            outside.news(self.gate),
        )
        links = Links(talk, self._seen_nearby)
        peers.add(links.register)
        probing: Probing = Probing(self.credentials, self.trust, outside.clock)
        if self.authority is not None and self.registrar is not None:
            peers.add(Renewing(self.gate, self.trust, self.authority).register)
            probing = Enrolling(
                self.credentials, self.trust, self.tables, self.registrar, outside.clock, talk.myself
            )
        desk.add(probing.register)
        for register in outside.services(self.gate):
            peers.add(register)
        return links

    def _own(self) -> Own:
        settings, ports = self.settings, self.ports
        machine = own_addresses(settings.host)
        here = tuple(f"{each}:{ports['grid']}" for each in machine)
        is_dial_only = settings.is_dial_only or settings.port < 0
        return Own(
            () if is_dial_only else settings.addresses or here,
            settings.ae_titles,
            is_dial_only,
            self.authority is not None,
            settings.door_address or f"{machine[0]}:{ports['door']}" if "door" in ports else "",
            settings.join_address or f"{machine[0]}:{ports['join']}" if "join" in ports else "",
        )

    def step(self) -> None:
        """Do what is due: sessions, renewal, lists of what is revoked, and telling a person."""
        self.links.step()
        self.door.step()
        if self.authority is not None and self.registrar is not None:
            self.authority.step()
            self.registrar.step()
        if self.credentials.is_due():
            self.renew()
        self._tell()

    def renew(self) -> bool:
        """Have another key certified by whichever authority can be reached; say whether one was."""
        key, identity = make_key(), self.credentials.pair.identity
        chain: tuple[bytes, ...] = ()
        if self.authority is not None:
            chain = self.authority.renew(identity, key.public_key())
        else:
            chain = self._renewed_elsewhere(make_request(key, Node(identity.node_id, "", identity.name)))
        if chain:
            check_admission(self.trust, chain, identity.node_id, key)
            self.credentials.replace(key, chain)
            self.channels.refresh()
            logger.info("This node's certificate was renewed.")
        return bool(chain)

    def _renewed_elsewhere(self, csr: bytes) -> tuple[bytes, ...]:
        for _, row in list(self.tables.peers.scan()):
            if not row.is_authority or row.state != "member":
                continue
            try:
                stub = services.EnrollStub(self.links.channel(row.node_id))
                with letters(row.name):
                    issued = stub.Renew(wire.RenewRequest(csr=csr), timeout=_RENEW_DEADLINE)
                self.trust.accept(Documents(bundle=issued.bundle, crls=tuple(issued.crls)))
                return tuple(issued.chain)
            except PacsError as error:
                logger.warning("%s did not renew this node's certificate: %s", row.node_id, error)
        return ()

    def _tell(self) -> None:
        """Tell a person, once a day each, what cannot go on like this."""
        own, now = self.settings.node_id, self.outside.clock()
        told = {"certificate": self.credentials.alarm(), "authority": office.alarm(self.authority, now)}
        if age := self.trust.stale_lists():
            told["revocation"] = (
                f"The grid's list of expelled nodes is {age / 3600:.0f} hours old: no authority was reached."
            )
        for kind, what in told.items():
            if what and now - self._alarmed.get(kind, 0.0) > 86400:
                self._alarmed[kind] = now
                self.outside.alarm(Alarm(kind, own, what, "See: peerpacs peers"))

    def close(self) -> None:
        """End sessions, servers and channels; what serves nobody has no more than a splicer."""
        if self._nearby is not None:
            self._nearby.close()
        if self._links is None:
            self.splicer.close()
            return
        self._links.close()
        for server in self._servers:
            server.stop()
        self.channels.close()
