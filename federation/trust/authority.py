"""The grid's authority at a node that has one: founding, issuing, revoking, and what needs the root key.

Each authority has its own key, which never leaves its node; any of them may renew and expel any node. The
root key is needed to found a grid, to add an authority and to change the root: it may lie in a safe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509

from catalog import BadRequest, Clock, Damaged, NotFound

from .bundle import Bundle, seal_bundle
from .certificates import (
    NODE_LIFETIME,
    Issuer,
    Node,
    RevocationList,
    Revoked,
    make_crl,
    make_intermediate,
    make_leaf,
    make_root,
    node_serial,
    parse,
    public_key,
    read_crl,
    spki_of,
    to_der,
    to_pem,
)
from .keys import PublicKey, key_pem, make_key, parse_key, read_secret, write_secret
from .names import Identity, grid_id_of
from .rows import Issued, PeerRow, Tables
from .sealed import key_id
from .trust import Documents, Trust, begin

ROOT_FILE: Final = "root.pem"
AUTHORITY_FILE: Final = "authority.pem"
_CRL_EVERY: Final = 12 * 3600


class Founded(NamedTuple):
    """A grid that exists since a moment."""

    trust: Trust
    authority: Authority


def write_issuer(path: Path, issuer: Issuer) -> None:
    """Keep a certificate that may issue with its key, in one file, mode 0600."""
    write_secret(path, key_pem(issuer.key) + to_pem([issuer.certificate]))


def read_issuer(path: Path) -> Issuer:
    """Return what `write_issuer` wrote.

    Raises:
        NotFound: the file is not here; a root's may be kept elsewhere.
        Damaged: it cannot be used.
    """
    content = read_secret(path)
    try:
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise Damaged(f"{path} holds no certificate.", "Restore it from a backup.") from error
    return Issuer(certificate, parse_key(content, str(path)))


def found(folder: Path, tables: Tables, name: str, clock: Clock, lifetime: float = NODE_LIFETIME) -> Founded:
    """Found a grid: make its root and first authority in `folder`, and the first bundle and CRL.

    Raises:
        BadRequest: this node is in a grid already, or the name is too long.
    """
    if next(iter(tables.documents.scan()), None) is not None or (folder / ROOT_FILE).exists():
        raise BadRequest("This node is in a grid already.", "See: peerpacs peers")
    now = clock()
    key = make_key()
    root = Issuer(make_root(name, key, now), key)
    own = make_key()
    issuer = Issuer(make_intermediate(root, name, own.public_key(), now), own)
    grid_id = grid_id_of(spki_of(root.certificate))
    root_der = to_der(root.certificate)
    bundle = Bundle(grid_id, name, 1, (root_der,), (root_der,), (to_der(issuer.certificate),))
    write_issuer(folder / ROOT_FILE, root)
    write_issuer(folder / AUTHORITY_FILE, issuer)
    crl = make_crl(issuer, 1, (), now)
    trust = begin(tables.documents, seal_bundle(bundle, root), grid_id, [crl], clock)
    return Founded(trust, Authority(issuer, trust, tables, clock, lifetime))


class Authority:
    """One intermediate, online."""

    def __init__(
        self, issuer: Issuer, trust: Trust, tables: Tables, clock: Clock, lifetime: float = NODE_LIFETIME
    ) -> None:
        self.issuer = issuer
        self._trust = trust
        self._tables = tables
        self._clock = clock
        self._lifetime = lifetime

    def issue(self, node: Node, key: PublicKey) -> tuple[bytes, ...]:
        """Return the chain of a new certificate, DER, the node's first; whoever calls has checked why."""
        now = max(self._clock(), self._trust.revoked_since(node.node_id) + 1.0)
        leaf = make_leaf(self.issuer, self._trust.grid_id, node, key, now, self._lifetime)
        serial = leaf.serial_number.to_bytes(20, "big")
        row = Issued(serial, int(leaf.not_valid_after_utc.timestamp()))
        self._tables.issued.put(node.node_id.encode() + b"/" + serial, row)
        return to_der(leaf), to_der(self.issuer.certificate)

    def renew(self, identity: Identity, key: PublicKey) -> tuple[bytes, ...]:
        """Return a new chain for whom a certificate that counts speaks for; site and name stay."""
        return self.issue(Node(identity.node_id, identity.site, identity.name), key)

    def revoke(self, node_id: str) -> PeerRow:
        """Expel a node: every certificate it has counts no more, here at once, elsewhere as gossip comes.

        Raises:
            NotFound: there is no such node.
        """
        row = self._tables.peers.get(node_id.encode())
        if row is None:
            raise NotFound(f"No node {node_id} is known here.", "List them with: peerpacs peers")
        now = self._clock()
        lines = {each.serial: each for each in self._own_lines()}
        own = self._tables.issued.scan(node_id.encode() + b"/")
        for serial in (int.from_bytes(issued.serial, "big") for _, issued in own if issued.expires > now):
            lines.setdefault(serial, Revoked(serial, int(now)))
        whole = node_serial(node_id)
        lines[whole] = Revoked(whole, int(now))
        self._publish(list(lines.values()))
        gone = PeerRow(
            node_id=node_id,
            name=row.name,
            site=row.site,
            static=row.static,
            state="revoked",
            since=int(now),
        )
        self._tables.peers.put(node_id.encode(), gone)
        return gone

    def step(self) -> None:
        """Keep the CRL fresh, and forget certificates that ended."""
        now = self._clock()
        own = self._own_list()
        if own is None or now - own.made > _CRL_EVERY:
            self._publish(self._own_lines())
        for key, issued in list(self._tables.issued.scan()):
            if issued.expires < now:
                self._tables.issued.delete(key)

    def take_over(self, other: PublicKey) -> None:
        """Expel all whom another authority did: its list counts no more when its certificate does not."""
        theirs = self._list_of(other)
        if theirs is not None:
            lines = {line.serial: line for line in (*theirs.lines, *self._own_lines())}
            self._publish(list(lines.values()))

    def succeeded_by(self, issuer: Issuer) -> None:
        """Have this node's next certificate as an authority expel all whom this one did."""
        following = Authority(issuer, self._trust, self._tables, self._clock, self._lifetime)
        following.take_over(public_key(self.issuer.certificate))

    def _own_name(self) -> bytes:
        return b"crl/" + key_id(public_key(self.issuer.certificate))

    def _own_list(self) -> RevocationList | None:
        return self._list_of(public_key(self.issuer.certificate))

    def _list_of(self, key: PublicKey) -> RevocationList | None:
        row = self._tables.documents.get(b"crl/" + key_id(key))
        return None if row is None else read_crl(row.content)

    def _own_lines(self) -> list[Revoked]:
        own = self._own_list()
        return [] if own is None else list(own.lines)

    def _publish(self, lines: list[Revoked]) -> None:
        row = self._tables.documents.get(self._own_name())
        crl = make_crl(self.issuer, 1 if row is None else row.version + 1, lines, self._clock())
        self._trust.accept(Documents(crls=(crl,)))


def certify_authority(root: Issuer, trust: Trust, request: PublicKey, name: str, now: float) -> bytes:
    """Return the certificate, DER, by which the root makes another key of the grid an authority."""
    certificate = make_intermediate(root, name, request, now)
    known = {spki_of(parse(der)) for der in trust.bundle.roots}
    if spki_of(root.certificate) not in known:
        raise BadRequest(
            "This is not a root of this grid.", f"Use the {ROOT_FILE} the grid was founded with."
        )
    return to_der(certificate)
