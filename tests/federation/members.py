"""Grids for tests: an authority and nodes with real keys, real LMDB tables and a clock the test moves."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path

from federation.trust.authority import Authority, found
from federation.trust.certificates import NODE_LIFETIME, Node, make_request
from federation.trust.credentials import Credentials, write_pair
from federation.trust.enrolment import Applicant, Pending, Registrar, mac_of
from federation.trust.keys import PrivateKey, make_key
from federation.trust.rows import PeerRow, Tables
from federation.trust.ticket import Ticket, key_of
from federation.trust.trust import Documents, Trust, Versions, begin
from node.state import State

ADDRESS = "alpha.example:7444"
NONCE = b"n" * 16


@dataclass
class Hand:
    """A clock that a test sets."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Member:
    """A node with a certificate: what a home holds of it."""

    node_id: str
    name: str
    site: str
    folder: Path
    clock: Hand
    state: State
    tables: Tables
    trust: Trust
    credentials: Credentials


@dataclass
class Grid:
    """A grid and the desk of its authority."""

    folder: Path
    clock: Hand
    trust: Trust
    authority: Authority
    registrar: Registrar
    tables: Tables
    state: State
    lifetime: float = NODE_LIFETIME
    members: list[Member] = field(default_factory=list)

    def node(self, name: str, clock: Hand | None = None) -> Member:
        """Return a new member of a site of the same name, with trust and tables of its own."""
        clock = clock or self.clock
        folder, node_id, key = self.folder / name, str(uuid.uuid4()), make_key()
        state = State(folder / "state")
        tables = Tables(state.table)
        write_pair(folder, key, self.authority.issue(Node(node_id, name, name), key.public_key()))
        documents = self.trust.newer_than(Versions())
        trust = begin(tables.documents, documents.bundle, self.trust.grid_id, documents.crls, clock)
        row = PeerRow(node_id=node_id, name=name, site=name)
        self.tables.peers.put(node_id.encode(), row)
        member = Member(node_id, name, name, folder, clock, state, tables, trust, Credentials(folder, clock))
        self.members.append(member)
        return member

    def tell(self, member: Member) -> None:
        """Give a member the documents it lacks."""
        lacking = self.trust.newer_than(member.trust.versions())
        member.trust.accept(lacking if isinstance(lacking, Documents) else Documents())

    def close(self) -> None:
        """Close every table."""
        for member in self.members:
            member.state.close()
        self.state.close()


def make_grid(folder: Path, name: str = "CZ-MED", lifetime: float = NODE_LIFETIME) -> Grid:
    """Found a grid in this folder."""
    clock = Hand()
    state = State(folder / "state")
    tables = Tables(state.table)
    trust, authority = found(folder / "identity", tables, name, clock, lifetime)
    registrar = Registrar(authority, trust, tables, clock)
    return Grid(folder, clock, trust, authority, registrar, tables, state, lifetime)


@dataclass
class Joiner:
    """Somebody with a ticket and a key."""

    ticket: Ticket
    key: PrivateKey = field(default_factory=make_key)
    node_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def csr(self) -> bytes:
        """Return its request."""
        return make_request(self.key, Node(self.node_id, "", "brno"))

    def ask(self, grid: Grid, secret: bytes = b"", csr: bytes = b"", signed: bytes = b"") -> Pending:
        """Hand in the request, with what the test changed."""
        asked = csr or self.csr()
        mac = mac_of(key_of(secret or self.ticket.secret), signed or asked, NONCE)
        return grid.registrar.ask(self.ticket.token_id, NONCE, asked, mac, Applicant("Brno"))


def invited(grid: Grid, site: str = "HOSP-B", template: str = "peer", replacing: str = "") -> Joiner:
    """Return somebody who has a ticket for a day."""
    ticket = grid.registrar.invite(ADDRESS, site, template, 86400, "admin", replacing)
    return Joiner(ticket, node_id=replacing) if replacing else Joiner(ticket)
