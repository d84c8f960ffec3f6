"""Whom this node trusts at this moment: the newest bundle and CRLs it has, its judgement on a certificate."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography import x509

from catalog import BadRequest, Clock, NotFound, NotPermitted

from .bundle import KIND, Bundle, open_bundle
from .certificates import (
    identity_in,
    is_issued_by,
    is_listed_by,
    node_serial,
    parse,
    public_key,
    read_crl,
    to_pem,
)
from .names import Identity, spoken
from .publication import KIND as PUBLICATION
from .publication import version_of
from .rows import Document, Rows
from .sealed import key_id, look_inside, verify

logger = logging.getLogger(__name__)

CRL_STALE: Final = 86400
"""Seconds after which an authority's CRL is too old to go unmentioned."""
_BUNDLE: Final = b"bundle"
_CRL: Final = b"crl/"
_PUBLICATION: Final = b"publication"
_CACHED: Final = 4096


class Versions(NamedTuple):
    """What a node has of the documents that travel by gossip."""

    bundle: int = 0
    publication: int = 0
    crls: tuple[tuple[bytes, int], ...] = ()
    """(authority's key id, CRL number)."""


class Documents(NamedTuple):
    """Some of those documents."""

    bundle: bytes = b""
    crls: tuple[bytes, ...] = ()
    publication: bytes = b""


class Trust:
    """The judgement of one node; many threads may ask at once."""

    def __init__(self, documents: Rows[Document], grid_id: bytes, clock: Clock) -> None:
        """`grid_id` is what the node joined or founded.

        Raises:
            NotFound: no bundle is here yet.
        """
        self.grid_id = grid_id
        self.generation = 0
        """Grows whenever a document has become another."""
        self._documents = documents
        self._clock = clock
        self._read: dict[bytes, Document] = {}
        self._identities: dict[bytes, Identity] = {}
        self._issued: dict[str, int] = {}
        self._bundle: Bundle | None = None
        self.refresh()
        if self._bundle is None:
            raise NotFound("This node is not in a grid yet.", "Join one: peerpacs join TICKET")

    @property
    def bundle(self) -> Bundle:
        """The newest bundle."""
        assert self._bundle is not None
        return self._bundle

    def refresh(self) -> bool:
        """Take in what other processes of this node wrote; say whether anything is new."""
        found = dict(self._documents.scan())
        if found == self._read:
            return False
        bundle = self._bundle
        if (row := found.get(_BUNDLE)) is not None and row != self._read.get(_BUNDLE):
            bundle = open_bundle(row.content, self.grid_id, None)
        lists = {
            key[len(_CRL) :]: read_crl(row.content) for key, row in found.items() if key.startswith(_CRL)
        }
        self._revoked = {line.serial: line.since for each in lists.values() for line in each.lines}
        self._made = {key: each.made for key, each in lists.items()}
        self._bundle, self._read, self._identities = bundle, found, {}
        self.generation += 1
        return True

    def roots_pem(self) -> bytes:
        """Return the roots in force, for TLS."""
        return to_pem([parse(der) for der in self.bundle.roots])

    def authorities(self) -> list[x509.Certificate]:
        """Return the authorities in force."""
        return [parse(der) for der in self.bundle.authorities]

    def identify(self, der: bytes) -> Identity:
        """Return who a certificate speaks for, and that it counts at this moment.

        Raises:
            BadRequest: it is not a node's certificate.
            NotPermitted: it is of another grid, not valid now, or revoked; the letter says which.
        """
        digest = sha256(der).digest()
        identity = self._identities.get(digest)
        if identity is None:
            identity = self._recognise(parse(der))
            if len(self._identities) >= _CACHED:
                self._identities = {}
            self._identities[digest] = identity
        self.check(identity)
        self._issued[identity.node_id] = max(self._issued.get(identity.node_id, 0), identity.issued)
        return identity

    def _recognise(self, certificate: x509.Certificate) -> Identity:
        identity = identity_in(certificate)
        if identity.grid_id != self.grid_id:
            what = f"That node is of the grid {spoken(identity.grid_id)}, this one of {spoken(self.grid_id)}."
            raise NotPermitted(what, "Nodes of different grids do not speak to each other.")
        if any(is_issued_by(certificate, authority) for authority in self.authorities()):
            return identity
        raise NotPermitted(f"The certificate of {identity.node_id} is not from an authority of this grid.")

    def check(self, identity: Identity) -> None:
        """Judge a known identity again; cheap enough for every message.

        Raises:
            NotPermitted: the certificate is revoked, ended, or has not begun.
        """
        if self.is_revoked(identity):
            what = f"{identity.name} ({identity.node_id}) was expelled from this grid, or left it."
            raise NotPermitted(what, "Its admin may ask an admin of the grid for a new invitation.")
        now = self._clock()
        if now > identity.expires:
            raise NotPermitted(
                f"The certificate of {identity.name} ended on {_day(identity.expires)} by this node's clock, "
                f"which says {_day(now)}.",
                "It renews itself while it reaches an authority; within 14 days: peerpacs join, and approve.",
            )
        if now < identity.issued - 3600:
            raise NotPermitted(
                f"The certificate of {identity.name} begins on {_day(identity.issued)} by this node's clock, "
                f"which says {_day(now)}.",
                "One of the two clocks is wrong: timedatectl set-ntp true",
            )

    def is_revoked(self, identity: Identity) -> bool:
        """Say whether a CRL names this certificate, or its node after the certificate was issued."""
        revoked = self._revoked
        if identity.serial in revoked:
            return True
        since = revoked.get(node_serial(identity.node_id))
        return since is not None and identity.issued <= since

    def revoked_since(self, node_id: str) -> int:
        """Return when this node was expelled, seconds since 1970, or 0."""
        return self._revoked.get(node_serial(node_id), 0)

    def is_expelled(self, node_id: str, joined: int = 0) -> bool:
        """Say whether this node was expelled and, as far as is known here, has not come back since.

        `joined` is when it is known to have been let in, in seconds since 1970: none of its certificates may
        have been seen since this node started.
        """
        since = self.revoked_since(node_id)
        return bool(since) and max(self._issued.get(node_id, 0), joined) <= since

    def stale_lists(self) -> float:
        """Return the age in seconds of the oldest CRL of an authority in force; 0 when each is fresh."""
        now = self._clock()
        ids = [key_id(public_key(each)) for each in self.authorities()]
        oldest = max((now - self._made.get(each, 0) for each in ids), default=0.0)
        return oldest if oldest > CRL_STALE else 0.0

    def versions(self) -> Versions:
        """Return what this node has."""
        rows = self._read
        crls = [(key[len(_CRL) :], row.version) for key, row in rows.items() if key.startswith(_CRL)]
        publication = rows.get(_PUBLICATION)
        version = publication.version if publication else 0
        return Versions(self.bundle.version, version, tuple(sorted(crls)))

    def newer_than(self, theirs: Versions) -> Documents:
        """Return what somebody lacks who has that."""
        rows, crls = self._read, dict(theirs.crls)
        bundle = rows[_BUNDLE].content if self.bundle.version > theirs.bundle else b""
        lists = [
            row.content
            for key, row in rows.items()
            if key.startswith(_CRL) and row.version > crls.get(key[len(_CRL) :], 0)
        ]
        publication = rows.get(_PUBLICATION)
        is_newer = publication is not None and publication.version > theirs.publication
        return Documents(bundle, tuple(lists), publication.content if publication and is_newer else b"")

    def accept(self, documents: Documents) -> bool:
        """Keep what is newer and rightly signed; say whether anything was.

        What is older is passed over, what is wrong is logged: gossip never fails.
        """
        if documents.bundle:
            self._try("bundle", self.accept_bundle, documents.bundle)
        for crl in documents.crls:
            self._try("list of revoked certificates", self.accept_crl, crl)
        if documents.publication:
            self._try("publication", self._accept_publication, documents.publication)
        return self.refresh()

    def _try(self, what: str, accept: Callable[[bytes], None], document: bytes) -> None:
        try:
            accept(document)
        except (NotPermitted, BadRequest) as error:
            logger.warning("A %s that a peer sent is not used: %s", what, error)

    def accept_bundle(self, document: bytes) -> None:
        """Keep a bundle; see `open_bundle` for what is raised."""
        if look_inside(KIND, document) and document == self._documents_content(_BUNDLE):
            return
        bundle = open_bundle(document, self.grid_id, self._bundle)
        keep_document(self._documents, _BUNDLE, document, bundle.version, self._clock())
        self.refresh()

    def accept_crl(self, document: bytes) -> None:
        """Keep a CRL that an authority in force signed.

        Raises:
            BadRequest: it cannot be read.
            NotPermitted: nobody in force signed it.
        """
        crl = read_crl(document)
        for authority in self.authorities():
            if is_listed_by(crl, authority):
                name = _CRL + key_id(public_key(authority))
                keep_document(self._documents, name, document, crl.number, self._clock())
                self.refresh()
                return
        raise NotPermitted("A list of revoked certificates is signed by no authority of this grid.")

    def _accept_publication(self, document: bytes) -> None:
        sealed = look_inside(PUBLICATION, document)
        verify(sealed, [public_key(each) for each in self.authorities()])
        keep_document(self._documents, _PUBLICATION, document, version_of(sealed.body), self._clock())

    def publication(self) -> bytes:
        """Return the newest publication as it travels, or nothing."""
        return self._documents_content(_PUBLICATION)

    def _documents_content(self, key: bytes) -> bytes:
        row = self._read.get(key)
        return b"" if row is None else row.content


def keep_document(rows: Rows[Document], key: bytes, content: bytes, version: int, now: float) -> None:
    """Write a verified document, unless a newer one came in between."""

    def newest(there: Document | None) -> Document:
        if there is not None and there.version >= version:
            return there
        return Document(content, version, int(now * 1000))

    rows.change({key: newest})


def begin(rows: Rows[Document], bundle: bytes, grid_id: bytes, crls: Iterable[bytes], clock: Clock) -> Trust:
    """Return the trust of a node that was just founded or admitted.

    Raises:
        NotPermitted: the bundle is not that grid's.
    """
    opened = open_bundle(bundle, grid_id, None)
    keep_document(rows, _BUNDLE, bundle, opened.version, clock())
    trust = Trust(rows, grid_id, clock)
    trust.accept(Documents(crls=tuple(crls)))
    return trust


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
