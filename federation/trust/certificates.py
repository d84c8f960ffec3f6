"""Certificates of a grid: root, intermediate, node; requests for them, lists of what is revoked (RFC 5280).

All keys are P-256. The shape is fixed: a self-signed root (pathlen 1), an intermediate that issues
(pathlen 0), a node. Who a node is stands in its certificate only: id as URI and DNS name, site and name in
the subject.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from catalog import BadRequest

from .keys import PrivateKey, PublicKey, spki
from .names import Identity, parse_spiffe, server_name, spiffe

BACKDATED: Final = 3600
"""Seconds by which NotBefore lies before the issue, for clocks that are behind."""
NODE_LIFETIME: Final = 30 * 86400
ROOT_LIFETIME: Final = 20 * 365 * 86400
INTERMEDIATE_LIFETIME: Final = 5 * 365 * 86400
_LONGEST_NAME: Final = 64
"""Characters of a common name or organisation, RFC 5280 A.1."""
_NODE_SERIAL: Final = 1 << 152
"""Serials of nodes: one byte 1, the node's UUID, three bytes for each of its certificates."""

_UNREADABLE: Final = (
    ValueError,
    TypeError,
    OverflowError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for bytes that are not what they should be."""


class Issuer(NamedTuple):
    """A certificate that may issue, with its key."""

    certificate: x509.Certificate
    key: PrivateKey


class Revoked(NamedTuple):
    """One line of a CRL: a certificate, or a node with all that was issued to it until then."""

    serial: int
    since: int
    """Seconds since 1970."""


def make_root(name: str, key: PrivateKey, now: float) -> x509.Certificate:
    """Return the self-signed root of a grid; its key is needed again only for authorities and bundles."""
    subject = _subject(f"{name} root", "")
    builder = _authority(subject, subject, key.public_key(), key.public_key(), now, 1, ROOT_LIFETIME)
    return builder.sign(key, SHA256())


def make_successor(root: Issuer, successor: x509.Certificate, now: float) -> x509.Certificate:
    """Return the certificate by which a root says that another key comes after it."""
    key, old = public_key(successor), public_key(root.certificate)
    builder = _authority(successor.subject, root.certificate.subject, key, old, now, 1, ROOT_LIFETIME)
    return builder.sign(root.key, SHA256())


def make_intermediate(root: Issuer, name: str, key: PublicKey, now: float) -> x509.Certificate:
    """Return the certificate of an online authority, whose key stays where it was made."""
    old = public_key(root.certificate)
    subject, issuer = _subject(f"{name} authority", ""), root.certificate.subject
    builder = _authority(subject, issuer, key, old, now, 0, INTERMEDIATE_LIFETIME)
    return builder.sign(root.key, SHA256())


class Node(NamedTuple):
    """What a certificate is to say about a node."""

    node_id: str
    site: str
    name: str


def make_leaf(
    issuer: Issuer, grid_id: bytes, node: Node, key: PublicKey, now: float, lifetime: float = NODE_LIFETIME
) -> x509.Certificate:
    """Return a node's certificate, for both ends of TLS, from an hour ago to `lifetime` seconds from now.

    It never outlives its issuer, so who judges it need not look at the issuer's time.
    """
    lifetime = min(lifetime, issuer.certificate.not_valid_after_utc.timestamp() - now)
    names = x509.SubjectAlternativeName(
        [
            x509.UniformResourceIdentifier(spiffe(grid_id, node.node_id)),
            x509.DNSName(server_name(node.node_id)),
        ]
    )
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    return (
        _builder(_subject(node.name, node.site), issuer.certificate.subject, key, now, lifetime)
        .serial_number(node_serial(node.node_id) + 1 + secrets.randbelow((1 << 24) - 1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(both, critical=False)
        .add_extension(names, critical=False)
        .add_extension(_authority_key(public_key(issuer.certificate)), critical=False)
        .sign(issuer.key, SHA256())
    )


def node_serial(node_id: str) -> int:
    """Return the number below all serials of this node's certificates: on a CRL it means the node itself."""
    return _NODE_SERIAL + (uuid.UUID(node_id).int << 24)


def make_request(key: PrivateKey, node: Node) -> bytes:
    """Return a PKCS#10 request, DER; its signature shows that whoever asks has the key."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_subject(node.name, node.site))
    name = x509.DNSName(server_name(node.node_id))
    named = request.add_extension(x509.SubjectAlternativeName([name]), critical=False)
    return named.sign(key, SHA256()).public_bytes(Encoding.DER)


def make_crl(issuer: Issuer, number: int, revoked: Iterable[Revoked], now: float) -> bytes:
    """Return a CRL, DER; its number only grows. It is to be renewed daily."""
    moment = datetime.fromtimestamp(now, UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(moment)
        .next_update(moment + timedelta(days=1))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_key(public_key(issuer.certificate)), critical=False)
    )
    for each in revoked:
        line = x509.RevokedCertificateBuilder().serial_number(each.serial)
        builder = builder.add_revoked_certificate(
            line.revocation_date(datetime.fromtimestamp(each.since, UTC)).build()
        )
    return builder.sign(issuer.key, SHA256()).public_bytes(Encoding.DER)


def parse(der: bytes) -> x509.Certificate:
    """Return the certificate.

    Raises:
        BadRequest: it is none, or its key is not on P-256.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
    except _UNREADABLE as error:
        raise BadRequest("What was sent as a certificate is none.") from error
    public_key(certificate)
    return certificate


class RevocationList(NamedTuple):
    """A CRL, read; its signature is for others to verify."""

    crl: x509.CertificateRevocationList
    number: int
    made: float
    """Seconds since 1970."""
    lines: tuple[Revoked, ...]


def read_crl(der: bytes) -> RevocationList:
    """Return what a CRL says.

    Raises:
        BadRequest: it cannot be read, or has no number.
    """
    try:
        crl = x509.load_der_x509_crl(der)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        lines = tuple(Revoked(each.serial_number, int(each.revocation_date_utc.timestamp())) for each in crl)
        return RevocationList(crl, number, crl.last_update_utc.timestamp(), lines)
    except _UNREADABLE as error:
        raise BadRequest("A list of revoked certificates cannot be read.") from error


def public_key(thing: x509.Certificate | x509.CertificateSigningRequest) -> PublicKey:
    """Return the key a certificate or a request is about.

    Raises:
        BadRequest: it is not on P-256.
    """
    try:
        key = thing.public_key()
    except Exception as error:  # cryptography tells of an unknown algorithm in several ways
        raise BadRequest("A certificate has a key that cannot be read.") from error
    if not isinstance(key, PublicKey) or key.curve.name != "secp256r1":
        raise BadRequest("A certificate has a key that is not on the curve P-256.")
    return key


def is_listed_by(revoked: RevocationList, authority: x509.Certificate) -> bool:
    """Say whether this authority made the CRL."""
    try:
        is_its_name = revoked.crl.issuer == authority.subject
        return is_its_name and revoked.crl.is_signature_valid(public_key(authority))
    except _UNREADABLE:
        return False


def identity_in(certificate: x509.Certificate) -> Identity:
    """Return who the certificate says it speaks for. Its chain is for others to verify.

    Raises:
        BadRequest: it is not a node's.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        grid_id, node_id = parse_spiffe(uris[0] if len(uris) == 1 else "")
        return Identity(
            grid_id,
            node_id,
            _text(certificate.subject, NameOID.ORGANIZATION_NAME),
            _text(certificate.subject, NameOID.COMMON_NAME),
            certificate.serial_number,
            int(certificate.not_valid_before_utc.timestamp()) + BACKDATED,
            int(certificate.not_valid_after_utc.timestamp()),
        )
    except _UNREADABLE as error:
        raise BadRequest("A certificate names no node.") from error


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Say whether the issuer's name and key made this certificate; nothing else is looked at."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # whatever is wrong with it, the answer is no
        return False
    return True


def to_pem(chain: Sequence[x509.Certificate]) -> bytes:
    """Return certificates one after the other, as gRPC wants them."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in chain)


def to_der(certificate: x509.Certificate) -> bytes:
    """Return the certificate's bytes."""
    return certificate.public_bytes(Encoding.DER)


def _authority(
    subject: x509.Name,
    issuer: x509.Name,
    key: PublicKey,
    signer: PublicKey,
    now: float,
    below: int,
    lifetime: int,
) -> x509.CertificateBuilder:
    return (
        _builder(subject, issuer, key, now, lifetime)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True)
        .add_extension(_usage(digital_signature=True, key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(_authority_key(signer), critical=False)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, now: float, lifetime: float
) -> x509.CertificateBuilder:
    moment = datetime.fromtimestamp(int(now), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .not_valid_before(moment - timedelta(seconds=BACKDATED))
        .not_valid_after(moment + timedelta(seconds=lifetime))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority_key(key: PublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str, site: str) -> x509.Name:
    if not name or max(len(name), len(site)) > _LONGEST_NAME:
        what = f"A name in a certificate has 1 to {_LONGEST_NAME} characters."
        raise BadRequest(what, "Use a shorter name for the grid, site or node.")
    found = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if site:
        found.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, site))
    return x509.Name(found)


def _text(subject: x509.Name, oid: x509.ObjectIdentifier) -> str:
    found = subject.get_attributes_for_oid(oid)
    return str(found[0].value) if found else ""


def spki_of(certificate: x509.Certificate) -> bytes:
    """Return the DER SubjectPublicKeyInfo of its key."""
    return spki(public_key(certificate))
