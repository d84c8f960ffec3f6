"""Keys: ECDSA on P-256, because gRPC refuses Ed25519 certificates; in files that only the node may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from catalog import Damaged, NotFound

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey

_ES256: Final = ec.ECDSA(SHA256())
_HALF: Final = 32
"""Bytes of each of the two numbers of a P-256 signature."""


def make_key() -> PrivateKey:
    """Return a new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def spki(key: PublicKey) -> bytes:
    """Return the DER SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(key: PrivateKey, data: bytes) -> bytes:
    """Return the ES256 signature (RFC 7518 3.4): r and s, 32 bytes each."""
    r, s = utils.decode_dss_signature(key.sign(data, _ES256))
    return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")


def is_signed(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Say whether `signature` is what `sign` made of the data with this key."""
    if len(signature) != 2 * _HALF:
        return False
    r, s = int.from_bytes(signature[:_HALF], "big"), int.from_bytes(signature[_HALF:], "big")
    try:
        key.verify(utils.encode_dss_signature(r, s), data, _ES256)
    except InvalidSignature:
        return False
    return True


def key_pem(key: PrivateKey) -> bytes:
    """Return the key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def parse_key(pem: bytes, where: str) -> PrivateKey:
    """Return the key of a PEM text; `where` is said when there is none.

    Raises:
        Damaged: there is no P-256 key in it.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise Damaged(f"{where} holds no key that can be read.", "Restore it from a backup.") from error
    if not isinstance(key, PrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Damaged(f"{where} holds a key that is not on the curve P-256.", "Restore it from a backup.")
    return key


def parse_public_key(der: bytes) -> PublicKey:
    """Return the public key of a SubjectPublicKeyInfo.

    Raises:
        Damaged: it is not a P-256 key.
    """
    try:
        key = serialization.load_der_public_key(der)
    except ValueError as error:
        raise Damaged("A public key cannot be read.") from error
    if not isinstance(key, PublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Damaged("A public key is not on the curve P-256.")
    return key


def write_secret(path: Path, content: bytes) -> None:
    """Put a file in place, whole or not at all, that only its owner may read (mode 0600)."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_secret(path: Path) -> bytes:
    """Return the content of a file that `write_secret` wrote.

    Raises:
        NotFound: there is none.
        Damaged: somebody else on this machine may read it, so it is no secret any more.
    """
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"There is no {path}.") from error
    if mode & 0o077:
        remedy = f"If nobody has copied it: chmod 600 {path}. Otherwise have the node's key renewed."
        raise Damaged(f"Others on this machine may read {path}, so it is not used.", remedy)
    return content
