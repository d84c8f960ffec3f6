"""Certificates as files: a self-signed one for a new node, and what a person wants to know of any."""

from __future__ import annotations

import contextlib
import os
import socket
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from catalog import BadRequest
from node.sections import Config, TlsSection

LASTS: Final = 730
"""Days that a certificate we make is valid: time to plan its successor, too little to forget how."""
WARN: Final = 30 * 86400.0
"""Seconds before its end from which on a certificate is spoken of."""
_EARLIER: Final = timedelta(hours=1)
"""Clocks of devices that are a little behind shall accept a new certificate."""


class Certificate(NamedTuple):
    """What a person wants to know of a certificate."""

    subject: str
    names: tuple[str, ...]
    """Host names and addresses it is for."""
    ends: float
    """Unix seconds."""
    fingerprint: str
    """SHA-256 in hexadecimal digits."""


class Files:
    """Where the TLS files of a node are."""

    def __init__(self, home: Path, tls: TlsSection) -> None:
        """Take paths that are absolute, or within the home folder."""
        self.certificate = home / tls.certificate_file
        self.key = home / tls.key_file
        self.authorities = home / tls.authorities_file

    @classmethod
    def within(cls, folder: Path) -> Files:
        """Return the files of a folder that is like `tls` of a home."""
        files = cls.__new__(cls)
        files.certificate = folder / "node.crt"
        files.key = folder / "node.key"
        files.authorities = folder / "authorities.crt"
        return files


def ensure_certificate(home: Path, config: Config, now: float) -> bool:
    """Make the node's certificate and key if it has neither; say whether that was done.

    Raises:
        BadRequest: it has one of them only.
    """
    files = Files(home, config.tls)
    if files.certificate.exists() and files.key.exists():
        return False
    hosts = own_hosts(config.tls.host or config.dicom.host)
    make_certificate(files.certificate, files.key, config.node.name, hosts, now)
    return True


def make_certificate(certificate: Path, key: Path, name: str, hosts: tuple[str, ...], now: float) -> None:
    """Write a self-signed certificate (P-256, valid for `LASTS` days) and its key, readable by nobody else.

    Raises:
        BadRequest: one of the files exists: what a person put there is never overwritten.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64] or "PeerPACS")])
    start = datetime.fromtimestamp(now, UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _EARLIER)
        .not_valid_after(start + timedelta(days=LASTS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(key, pem, 0o600)
    try:
        _write(certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)
    except BaseException:
        key.unlink()
        raise


def own_hosts(listens_on: str) -> tuple[str, ...]:
    """Return the names and addresses under which this machine is called, as far as it knows them itself."""
    name = socket.gethostname()
    found = [name, socket.getfqdn()]
    with contextlib.suppress(OSError):
        found += [str(item[4][0]) for item in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    if listens_on not in ("", "0.0.0.0", "::"):
        found.append(listens_on)
    hosts = dict.fromkeys((*found, "localhost", "127.0.0.1", "::1"))
    return tuple(host for host in hosts if host.isascii() and "%" not in host)


def describe(path: Path) -> Certificate:
    """Return what the first certificate of a PEM file says.

    Raises:
        BadRequest: there is no file, or no certificate in it.
    """
    try:
        loaded = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.", "Put the certificate there.") from None
    except ValueError:
        raise BadRequest(f"{path} holds no certificate in PEM.", "Put one there.") from None
    try:
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = tuple(str(name.value) for name in names)
    except (x509.ExtensionNotFound, ValueError):
        hosts = ()
    return Certificate(
        loaded.subject.rfc4514_string(),
        hosts,
        loaded.not_valid_after_utc.timestamp(),
        loaded.fingerprint(hashes.SHA256()).hex(),
    )


def how_long(ends: float, now: float) -> str:
    """Return when a certificate ends or ended, in words."""
    day = f"{datetime.fromtimestamp(ends, UTC):%Y-%m-%d}"
    days = int((ends - now) // 86400)
    return f"ended on {day}" if ends <= now else f"ends on {day}, in {days} days"


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        what = f"{path} exists already, and it is never overwritten."
        raise BadRequest(
            what, "Move it away, or put the other one of certificate and key beside it."
        ) from None
