"""TLS as DICOM asks for it: one table of versions and cipher suites, and the contexts made from it.

The table satisfies the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12): TLS
1.2 and 1.3, in TLS 1.2 the four suites that RFC 9325 4.2 recommends. With a certificate of an RSA key it
satisfies the retired Non-Downgrading BCP 195 TLS Profile (PS3.15 B.10) too. No compression, no
renegotiation, and no resumption by ticket: in TLS 1.3 every association shows its certificates anew.
"""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path
from typing import Final, NamedTuple

HANDSHAKE: Final = 0x16
"""First byte of whatever begins TLS: ContentType handshake, RFC 8446 5.1. No PDU type has this value."""


class Suite(NamedTuple):
    """A cipher suite: its name in the IANA registry, its name in OpenSSL, and the version it is for."""

    name: str
    openssl: str
    version: ssl.TLSVersion


VERSIONS: Final = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
_1_2, _1_3 = VERSIONS
SUITES: Final = (
    Suite("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", _1_3),
    Suite("TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256", _1_3),
    Suite("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256", _1_3),
    Suite("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", _1_2),
    Suite("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256", _1_2),
    Suite("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384", _1_2),
    Suite("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384", _1_2),
)
"""What is offered and accepted, best first within a version."""


class Security(NamedTuple):
    """How a call is protected."""

    context: ssl.SSLContext
    pinned: str = ""
    """Fingerprint that the peer's certificate must have; empty = whatever the context accepts."""


_NOT_TRUSTED_THERE: Final = frozenset(
    ("TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_UNKNOWN")
)


def server_context(
    certificate: Path, key: Path, demand: ssl.VerifyMode, authorities: Path | None
) -> ssl.SSLContext:
    """Return what a listener shakes hands with; `authorities` sign the clients' certificates.

    Raises:
        OSError, ssl.SSLError: a file is missing or holds something else.
    """
    context = _profile(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key, password=_no_password)
    context.num_tickets = 0
    context.verify_mode = demand
    if authorities is not None:
        context.load_verify_locations(authorities)
    return context


def client_context(
    *, authorities: Path | None = None, own: tuple[Path, Path] | None = None
) -> ssl.SSLContext:
    """Return what a call is made with: the peer's name and chain are verified if there are `authorities`.

    `own` are the files of the certificate and key shown to a peer that asks for one.

    Raises:
        OSError, ssl.SSLError: a file is missing or holds something else.
    """
    context = _profile(ssl.PROTOCOL_TLS_CLIENT)
    if authorities is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(authorities)
    if own is not None:
        context.load_cert_chain(*own, password=_no_password)
    return context


def fingerprint(certificate: bytes) -> str:
    """Return the SHA-256 of a certificate (DER) as the device book writes it."""
    return hashlib.sha256(certificate).hexdigest()


def why_no_handshake(error: ssl.SSLError) -> tuple[str, str]:
    """Return why a client's handshake failed, and what a person can do about it."""
    reason = error.reason or ""
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "it shows no certificate", (
            "give the device a certificate of an authority in tls.authorities_file, "
            'or set tls.client_certificates = "optional" in peerpacs.toml'
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}", (
            "add the authority that signed it to tls.authorities_file, or give the device another one"
        )
    if reason in ("UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW"):
        return "it offers no TLS version above 1.1", "allow TLS 1.2 or 1.3 at the device"
    if reason in ("NO_SHARED_CIPHER", "NO_SUITABLE_SIGNATURE_ALGORITHM"):
        return "it offers no cipher suite that fits this node's certificate and PS3.15 B.12", (
            "allow ECDHE with AES-GCM at the device; one that knows RSA only needs an RSA certificate here"
        )
    if reason in _NOT_TRUSTED_THERE:
        return "it does not trust this node's certificate", (
            "make it trust the certificate in tls.certificate_file, or put one there that it trusts"
        )
    return f"the TLS handshake failed ({reason.lower().replace('_', ' ') or 'no reason given'})", (
        "compare the TLS settings of the device with CONFORMANCE.md"
    )


def why_not_secure(error: ssl.SSLError) -> tuple[str, str]:
    """Return what a peer that was called did wrong, and what a person can do about it."""
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"shows a certificate that is not accepted: {error.verify_message}", (
            "Add the authority that signed it to tls.authorities_file, or trust this one certificate: "
            "peerpacs devices edit NAME --tls pin"
        )
    if reason in ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "HTTP_REQUEST"):
        return "does not speak TLS on this port", "Check its port, or call it without TLS."
    if reason.startswith(("TLSV1_ALERT", "SSLV3_ALERT", "TLSV13_ALERT")):
        alert = reason.partition("ALERT_")[2].lower().replace("_", " ")
        return f"refuses the TLS handshake ({alert})", (
            "See that this is its TLS port and that it trusts our certificate; its log says more."
        )
    return f"does not agree on TLS ({reason.lower().replace('_', ' ') or 'no reason given'})", (
        "Compare its TLS settings with CONFORMANCE.md."
    )


def _profile(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version, context.maximum_version = VERSIONS[0], VERSIONS[-1]
    context.set_ciphers(":".join(suite.openssl for suite in SUITES if suite.version == _1_2))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def _no_password() -> str:
    """Answer OpenSSL, which would otherwise ask the terminal of a server."""
    return ""
