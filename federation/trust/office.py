"""Further authorities: a node makes a key, whoever has the root key certifies it, it takes office.

The root key may lie in a safe and comes to no node. An authority's certificate counts for five years; its
node asks for the next one in the same way. Each learns who is in office by the trust bundle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509

from catalog import BadRequest, Clock, NotFound

from .authority import AUTHORITY_FILE, ROOT_FILE, Authority, certify_authority, read_issuer, write_issuer
from .bundle import with_authorities, with_successor, without_root
from .certificates import (
    NODE_LIFETIME,
    Issuer,
    is_issued_by,
    make_root,
    make_successor,
    parse,
    public_key,
    spki_of,
    to_der,
)
from .keys import key_pem, make_key, parse_key, parse_public_key, read_secret, spki, write_secret
from .rows import Tables
from .sealed import key_id
from .trust import Documents, Trust

NEXT_FILE: Final = "authority-next.pem"
SOON: Final = 180 * 86400
"""Seconds before its end at which people are told of an authority's certificate."""
_ID: Final = 8


class Office(NamedTuple):
    """An authority in force, for a person."""

    id: str
    name: str
    ends: int
    """Seconds since 1970."""
    root: str
    """The id of the root that certified it."""


def ask(folder: Path) -> bytes:
    """Make the key of an authority to be, or find the one that waits; return the public one (SPKI, DER)."""
    path = folder / NEXT_FILE
    if not path.exists():
        write_secret(path, key_pem(make_key()))
    return spki(parse_key(read_secret(path), str(path)).public_key())


def root_at(path: Path) -> Issuer:
    """Return the grid's root with its key.

    Raises:
        NotFound: it is not in this file.
    """
    try:
        return read_issuer(path)
    except NotFound as error:
        remedy = f"Name it with --root: the {ROOT_FILE} the grid was founded with, out of its safe."
        raise NotFound(error.what, remedy) from error


def certify(root: Issuer, trust: Trust, request: bytes, name: str, now: float) -> None:
    """Have a key be an authority of the grid, from when a node hears of it.

    Raises:
        BadRequest: the root is none of this grid's, or the name is too long.
        Damaged: the request is no P-256 key.
    """
    der = certify_authority(root, trust, parse_public_key(request), name, now)
    trust.accept(Documents(bundle=with_authorities(trust.bundle, root, (*trust.bundle.authorities, der))))


def dismiss(root: Issuer, trust: Trust, own: Authority, id: str) -> Office:
    """Have an authority, and every certificate it issued, count no more; whom it expelled, `own` expels.

    Raises:
        NotFound: none in force has this id.
        BadRequest: it is the last one, or the root is none of this grid's.
    """
    bundle = trust.bundle
    office = next((each for each in in_force(trust) if each.id == id), None)
    if office is None:
        raise NotFound(f"No authority has the id {id!r}.", "List them with: peerpacs authority")
    left = tuple(der for der in bundle.authorities if id_of(parse(der)) != id)
    if not left:
        raise BadRequest("A grid cannot be without an authority.", "First: peerpacs authority add")
    _check_root(root, trust)
    gone = next(parse(der) for der in bundle.authorities if id_of(parse(der)) == id)
    own.take_over(public_key(gone))
    trust.accept(Documents(bundle=with_authorities(bundle, root, left)))
    return office


def in_force(trust: Trust) -> list[Office]:
    """Return the authorities whose certificates count."""
    roots = [parse(der) for der in trust.bundle.roots]
    found = [parse(der) for der in trust.bundle.authorities]
    return [
        Office(
            id_of(each),
            _name_of(each),
            int(_ends(each)),
            next((id_of(root) for root in roots if is_issued_by(each, root)), ""),
        )
        for each in found
    ]


def begin_root(root: Issuer, trust: Trust, into: Path, now: float) -> None:
    """Make the successor of the grid's root, keep it in a file, and have the grid trust both.

    Raises:
        BadRequest: the file is there already, or the root is none of this grid's.
    """
    if into.exists():
        raise BadRequest(f"{into} is there already.", "Name another file for the new root's key.")
    _check_root(root, trust)
    key = make_key()
    successor = Issuer(make_root(trust.bundle.name, key, now), key)
    write_issuer(into, successor)
    certified = make_successor(root, successor.certificate, now)
    trust.accept(Documents(bundle=with_successor(trust.bundle, root, successor, certified)))


def end_root(root: Issuer, trust: Trust, own: Authority, leaf: bytes) -> None:
    """Have the grid trust this root alone, and only authorities below it; whom others expelled, `own` expels.

    Raises:
        BadRequest: it is no root of this grid or the only one, no authority would be left, or the own
            certificate, `leaf`, would count no more.
    """
    _check_root(root, trust)
    bundle, kept = trust.bundle, id_of(root.certificate)
    left = [each.id for each in in_force(trust) if each.root == kept]
    if not left:
        remedy = "First: peerpacs authority ask, and authority add with the new root's key."
        raise BadRequest("The grid would be without an authority.", remedy)
    if issuer_of(trust, leaf) not in left:
        what = "The old root stands behind this node's own certificate, which would count no more."
        raise BadRequest(what, "At every node, while both count: peerpacs authority renew")
    if id_of(own.issuer.certificate) not in left:
        raise BadRequest("This node's authority lies below the old root.", "First: peerpacs authority ask")
    for gone in (parse(der) for der in bundle.authorities):
        if id_of(gone) not in left:
            own.take_over(public_key(gone))
    for der in bundle.roots:
        if id_of(parse(der)) != kept:
            trust.accept(Documents(bundle=without_root(trust.bundle, root, parse(der))))


def _check_root(root: Issuer, trust: Trust) -> None:
    if spki_of(root.certificate) not in {spki_of(parse(der)) for der in trust.bundle.roots}:
        raise BadRequest("This is not a root of this grid.", f"Use the {ROOT_FILE} it was founded with.")


def issuer_of(trust: Trust, leaf: bytes) -> str:
    """Return the id of the authority that issued a node's certificate (DER); empty for none in force."""
    certificate = parse(leaf)
    found = (parse(der) for der in trust.bundle.authorities)
    return next((id_of(each) for each in found if is_issued_by(certificate, each)), "")


def holder(
    folder: Path, trust: Trust, tables: Tables, clock: Clock, lifetime: float = NODE_LIFETIME
) -> Authority | None:
    """Return the authority that this node is, if its key is here and in office."""
    try:
        issuer = read_issuer(folder / AUTHORITY_FILE)
    except NotFound:
        return None
    authority = Authority(issuer, trust, tables, clock, lifetime)
    return authority if is_in_office(trust, authority) else None


def is_in_office(trust: Trust, authority: Authority) -> bool:
    """Say whether what it issues counts."""
    return to_der(authority.issuer.certificate) in trust.bundle.authorities


def has_changed(folder: Path, trust: Trust, authority: Authority | None) -> bool:
    """Take office if that was asked for and the bundle says so; say whether anything changed."""
    if authority is not None and not is_in_office(trust, authority):
        return True
    path = folder / NEXT_FILE
    if not path.exists():
        return False
    key = parse_key(read_secret(path), str(path))
    own = spki(key.public_key())
    certified = next((each for each in map(parse, trust.bundle.authorities) if spki_of(each) == own), None)
    if certified is None:
        return False
    if authority is not None:
        authority.succeeded_by(Issuer(certified, key))
    write_issuer(folder / AUTHORITY_FILE, Issuer(certified, key))
    path.unlink()
    return True


def alarm(authority: Authority | None, now: float) -> str:
    """Return what a person must know of the end of this node's authority, or nothing."""
    if authority is None or (left := _ends(authority.issuer.certificate) - now) > SOON:
        return ""
    what = f"This node's certificate as an authority of the grid ends in {max(left, 0) / 86400:.0f} days."
    return f"{what} Ask for the next one: peerpacs authority ask"


def _ends(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def id_of(certificate: x509.Certificate) -> str:
    """Return how people name an authority: the first letters of its key's hash."""
    return key_id(parse_public_key(spki_of(certificate))).hex()[:_ID]


def _name_of(certificate: x509.Certificate) -> str:
    [common] = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(common.value).removesuffix(" authority")
