"""The trust bundle: a grid's roots and authorities, signed by a root, and how one bundle follows another.

The grid is named after its founding root. Each later root is certified by the one before, so the bundle's
lineage leads from the name to whom one may trust today. To change the root: publish old and new, wait until
all nodes have that, issue below the new one, publish without the old one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import msgspec
from cryptography import x509

from catalog import BadRequest, NotPermitted

from .certificates import Issuer, is_issued_by, parse, public_key, spki_of, to_der
from .names import grid_id_of, spoken
from .sealed import look_inside, seal, verify

KIND: Final = "bundle"
_LONGEST: Final = 64
"""Roots or authorities in one bundle."""


class Bundle(msgspec.Struct, frozen=True, array_like=True):
    """Whom a grid trusts; certificates are DER."""

    grid_id: bytes
    name: str
    version: int
    lineage: tuple[bytes, ...]
    """The founding root, then each later root's key as certified by the root before it."""
    roots: tuple[bytes, ...]
    """Self-signed certificates of the roots in force."""
    authorities: tuple[bytes, ...]
    """Intermediates in force: only what they issued counts."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Bundle).decode


def seal_bundle(bundle: Bundle, root: Issuer) -> bytes:
    """Return the bundle as it travels."""
    return seal(KIND, _encode(bundle), root.key)


def check_lineage(grid_id: bytes, lineage: tuple[bytes, ...]) -> list[x509.Certificate]:
    """Return the roots a grid has had, first the founding one.

    Raises:
        NotPermitted: they do not lead from the grid's name to the last root.
    """
    if not 0 < len(lineage) <= _LONGEST:
        raise NotPermitted("A trust bundle names no root.")
    roots = [parse(der) for der in lineage]
    if grid_id_of(spki_of(roots[0])) != grid_id or not is_issued_by(roots[0], roots[0]):
        found = spoken(grid_id_of(spki_of(roots[0])))
        what = f"That is the grid {found}, not {spoken(grid_id)}."
        raise NotPermitted(what, "Check the address, and that nobody stands between: do not go on.")
    for before, after in pairwise(roots):
        if not is_issued_by(after, before):
            raise NotPermitted("A root of this grid was not certified by the one before it.")
    return roots


def open_bundle(document: bytes, grid_id: bytes, current: Bundle | None) -> Bundle:
    """Return a bundle that may take the place of the current one.

    Raises:
        BadRequest: it cannot be read.
        NotPermitted: it is of another grid, is not newer, drops history, or is not signed by a root that
            the current bundle leads to.
    """
    sealed = look_inside(KIND, document)
    try:
        bundle = _decode(sealed.body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRequest("A trust bundle cannot be read.") from error
    lineage = check_lineage(grid_id, bundle.lineage)
    first = 0
    if current is not None:
        first = _first_in_force(bundle, current)
    by_key = {spki_of(certificate): number for number, certificate in enumerate(lineage)}
    roots = [parse(der) for der in bundle.roots[: _LONGEST + 1]]
    places = [by_key.get(spki_of(root), -1) for root in roots]
    if not roots or min(places) < first or not all(is_issued_by(root, root) for root in roots):
        raise NotPermitted("A trust bundle names a root that its lineage does not lead to.")
    verify(sealed, [public_key(root) for root in roots])
    _check_authorities(bundle, roots)
    return bundle


def _first_in_force(bundle: Bundle, current: Bundle) -> int:
    """Return the place in the lineage before which a root is no longer trusted."""
    if bundle.grid_id != current.grid_id or bundle.version <= current.version:
        raise NotPermitted(f"Version {bundle.version} of the trust bundle is not newer than what is here.")
    if bundle.lineage[: len(current.lineage)] != current.lineage:
        raise NotPermitted("A trust bundle tells another history of this grid's roots.")
    keys = [spki_of(parse(der)) for der in current.lineage]
    return min(keys.index(spki_of(parse(der))) for der in current.roots)


def _check_authorities(bundle: Bundle, roots: list[x509.Certificate]) -> None:
    if bundle.grid_id != grid_id_of(spki_of(parse(bundle.lineage[0]))) or len(bundle.authorities) > _LONGEST:
        raise NotPermitted("A trust bundle contradicts itself.")
    for der in bundle.authorities:
        authority = parse(der)
        if not any(is_issued_by(authority, root) for root in roots) or not _may_issue(authority):
            raise NotPermitted("A trust bundle names an authority that none of its roots certified.")


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return limits.ca and limits.path_length == 0


def with_successor(bundle: Bundle, root: Issuer, successor: Issuer, certified: x509.Certificate) -> bytes:
    """Return the next bundle, sealed, in which the old root and its successor are both trusted.

    `certified` is the successor's key as certified by the root (`make_successor`).
    """
    following = Bundle(
        bundle.grid_id,
        bundle.name,
        bundle.version + 1,
        (*bundle.lineage, to_der(certified)),
        (*bundle.roots, to_der(successor.certificate)),
        bundle.authorities,
    )
    return seal_bundle(following, root)


def with_authorities(bundle: Bundle, root: Issuer, authorities: tuple[bytes, ...]) -> bytes:
    """Return the next bundle, sealed by one of its roots, with these authorities in force."""
    following = msgspec.structs.replace(bundle, version=bundle.version + 1, authorities=authorities)
    return seal_bundle(following, root)


def without_root(bundle: Bundle, root: Issuer, old: x509.Certificate) -> bytes:
    """Return the next bundle, sealed by the remaining root, in which the old one and its own count no more.

    Raises:
        BadRequest: no root would be left.
    """
    roots = tuple(der for der in bundle.roots if der != to_der(old))
    if not roots or roots == bundle.roots:
        raise BadRequest("A grid cannot be without a root.", "Publish the new root first.")
    left = [parse(der) for der in roots]
    kept = tuple(der for der in bundle.authorities if any(is_issued_by(parse(der), each) for each in left))
    following = msgspec.structs.replace(bundle, version=bundle.version + 1, roots=roots, authorities=kept)
    return seal_bundle(following, root)
