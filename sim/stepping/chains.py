"""Whether a chain of certificates leads to roots, as TLS judges it; that its key is there is believed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from federation.trust.certificates import is_issued_by, to_der


class Shown(NamedTuple):
    """What a chain that counts says of who showed it."""

    leaf: bytes
    """PEM."""
    names: tuple[str, ...]


class _Led(NamedTuple):
    shown: Shown
    since: float
    until: float


def judge(chain: bytes, roots: bytes, name: str = "") -> Shown:
    """Return who showed this chain (PEM), whose path to one of the roots (PEM) counts now.

    Raises:
        ConnectionError: it leads to none, or does not count now, or is not for this name.
    """
    led = _follow(chain, roots)
    if led is None:
        raise ConnectionError("the certificate shown leads to no root that counts here")
    if not led.since <= time.time() <= led.until:
        raise ConnectionError("a certificate shown does not count at this time")
    if name and name.lower() not in led.shown.names:
        raise ConnectionError(f"the certificate shown is not one of {name}")
    return led.shown


def leaf_of(chain: bytes) -> bytes:
    """Return the first certificate of a chain (PEM) as DER, or nothing where there is none."""
    found = _parsed(chain)
    return to_der(found[0]) if found else b""


def _parsed(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem) if pem.strip() else []
    except ValueError as error:
        raise ConnectionError("what is shown is no certificate") from error


@lru_cache(maxsize=1024)
def _follow(chain: bytes, roots: bytes) -> _Led | None:
    shown, anchors = _parsed(chain), _parsed(roots)
    path = _path(shown[0], shown[1:], anchors) if shown else None
    if path is None:
        return None
    since = max(each.not_valid_before_utc.timestamp() for each in path)
    until = min(each.not_valid_after_utc.timestamp() for each in path)
    return _Led(Shown(path[0].public_bytes(Encoding.PEM), _names(path[0])), since, until)


def _path(
    certificate: x509.Certificate, between: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate]
) -> list[x509.Certificate] | None:
    """Return a certificate with those above it up to an anchor; one that is an anchor needs none above it."""
    if certificate in anchors:
        return [certificate]
    for anchor in anchors:
        if is_issued_by(certificate, anchor):
            return [certificate, anchor]
    for number, issuer in enumerate(between):
        if is_issued_by(certificate, issuer):
            above = _path(issuer, [*between[:number], *between[number + 1 :]], anchors)
            if above is not None:
                return [certificate, *above]
    return None


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(each.lower() for each in found.get_values_for_type(x509.DNSName))
