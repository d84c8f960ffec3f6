"""DICOM over TLS to a PACS under test: whom to trust, what to show, and what a failed handshake means.

Versions and cipher suites are those of PS3.15 B.12, from the table by which the node makes its own calls.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node.dimse.tls import client_context

from .pdu import ProtocolError

PLAIN: Final = "If it has no port for TLS, leave --tls and its like out; else name that port."
_EXPIRED, _NOT_YET = 10, 9
"""X509_V_ERR_CERT_HAS_EXPIRED and _NOT_YET_VALID of OpenSSL."""
_OTHER_NAME: Final = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH."""


class Secure:
    """How associations are encrypted.

    Without `authorities` those count that this machine trusts. With them, a PACS shows a certificate that is
    signed by one of them and has the name by which it is called, or one that is among them itself: that is
    trusted whatever names it has, because those of devices often have none. `own` are certificate and key
    that are shown to a PACS that asks who calls.

    Raises:
        ValueError: a file has not in it what it should; the text says which.
    """

    def __init__(self, authorities: Path | None = None, own: tuple[Path, Path] | None = None) -> None:
        self._context = _trusting(authorities)
        self._listed = _certificates(authorities) if authorities else set()
        self._has_own = own is not None
        if own:
            _show(self._context, *own)

    def wrap(self, connected: socket.socket, host: str) -> ssl.SSLSocket:
        """Return the connection encrypted, with a peer that is trusted.

        Raises:
            ProtocolError: it is not trusted, or does not speak TLS; the text says what to do.
            TimeoutError: it did not come to an end in time.
        """
        try:
            secured = self._context.wrap_socket(connected, server_hostname=host)
        except (ssl.SSLError, ConnectionError) as error:
            connected.close()
            raise ProtocolError(self.why(error, host)) from error
        if self._listed and secured.getpeercert(binary_form=True) not in self._listed:
            shown = secured.getpeercert() or {}
            names = [str(pair[1]) for pair in shown.get("subjectAltName", ())]
            if not any(_is_for(host, name) for name in names):
                secured.close()
                raise ProtocolError(_not_for(host, names))
        return secured

    def why(self, error: OSError, host: str) -> str:
        """Say why TLS did not come about, and what a person can do."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return _not_trusted(error, host)
        if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError):
            return f"It closed the connection when TLS began. {PLAIN}"
        reason = error.reason or ""
        words = reason.lower().replace("_", " ") or str(error)
        if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
            return f"It does not speak TLS at that port. {PLAIN}"
        if "CERTIFICATE_REQUIRED" in reason or (reason.endswith("HANDSHAKE_FAILURE") and not self._has_own):
            return (
                "It refuses the TLS handshake. If it wants to know who calls, give a certificate that it "
                f"trusts: --tls-cert and --tls-key. {PLAIN}"
            )
        if "UNKNOWN_CA" in reason or "CERTIFICATE" in reason:
            return (
                f"It does not accept our certificate ({words}). Have it trust the CA that signed it, or give "
                "another one: --tls-cert and --tls-key."
            )
        if "PROTOCOL" in reason or "VERSION" in reason or "HANDSHAKE_FAILURE" in reason:
            return (
                f"It agrees to no TLS version and cipher suite of PS3.15 B.12 ({words}). Allow it TLS 1.2 or "
                "1.3 with ECDHE and AES-GCM."
            )
        return f"It does not speak TLS with us there: {words}."


def _trusting(authorities: Path | None) -> ssl.SSLContext:
    try:
        context = client_context(authorities=authorities)
    except (OSError, ssl.SSLError):
        raise ValueError(f"{authorities} has no certificate as PEM.") from None
    if authorities:
        # The name is looked at afterwards, where it matters; a listed certificate needs no other above it.
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    else:
        context.check_hostname = True
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_default_certs()
    return context


def _certificates(file: Path) -> set[bytes]:
    return {each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(file.read_bytes())}


def _show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"{key} is not the key of {certificate}.") from None
        raise ValueError(
            f"{certificate} and {key} are no certificate and key as PEM, or the key is encrypted: "
            "openssl pkey -in KEY -out PLAIN writes it without a password."
        ) from None


def _is_for(host: str, name: str) -> bool:
    """Say whether a name of a certificate is that of a host; `*.` stands for one label (RFC 9525 6.3)."""
    with contextlib.suppress(ValueError):
        return ip_address(host) == ip_address(name.strip())
    host, name = host.lower().rstrip("."), name.lower()
    return host == name or (name.startswith("*.") and host.partition(".")[2] == name[2:] != "")


def _not_for(host: str, names: Iterable[str]) -> str:
    told = ", ".join(list(names)[:5]) or "nobody by name"
    return (
        f"Its certificate is for {told}, and not for {host}. Call it by a name that is in it, or trust this "
        "one certificate: --tls-ca with a file that has it."
    )


def _not_trusted(error: ssl.SSLCertVerificationError, host: str) -> str:
    if error.verify_code in _OTHER_NAME:
        return _not_for(host, ["another name"])
    if error.verify_code in (_EXPIRED, _NOT_YET):
        return (
            f"Its certificate is not valid today: {error.verify_message}. Look at the clock of this machine; "
            "if it is right, the PACS needs a new certificate."
        )
    return (
        f"Its certificate is not trusted: {error.verify_message}. Name the CA that signed it, or the "
        "certificate itself: --tls-ca."
    )
