"""The one room for encryption at rest in research: sealed files, the signing key, and the escrow of two.

AES-256-GCM with keys derived by HKDF-SHA256 (RFC 5869) from a secret of the node, fresh for every file. The
escrow is sealed to public keys (X25519) of persons: its secret is split so that any two of them, and no
single one, can put it together (Shamir's scheme over GF(256)).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from catalog import BadRequest, Damaged, NotPermitted

_MAGIC: Final = b"PPR1"
_SALT: Final = 16
_NONCE: Final = b"\0" * 12
"""Each key is used once, so its only nonce may be fixed."""


class Vault:
    """Seals and opens what only this node may read; its secret is made when it is first needed."""

    def __init__(self, secret_file: Path) -> None:
        self._file = secret_file

    def seal(self, content: bytes, about: str) -> bytes:
        """Return the content sealed; it opens only with the same `about`."""
        salt = secrets.token_bytes(_SALT)
        return _MAGIC + salt + AESGCM(self._key(salt)).encrypt(_NONCE, content, about.encode())

    def open(self, sealed: bytes, about: str) -> bytes:
        """Return what was sealed.

        Raises:
            Damaged: it is not what was sealed here.
        """
        salt, box = sealed[4 : 4 + _SALT], sealed[4 + _SALT :]
        try:
            if sealed[:4] != _MAGIC:
                raise InvalidTag
            return AESGCM(self._key(salt)).decrypt(_NONCE, box, about.encode())
        except InvalidTag:
            what = "A sealed file of research cannot be opened: its bytes or the node's secret changed."
            raise Damaged(what, f"Restore {self._file.name} and the file from a backup.") from None

    def write(self, path: Path, content: bytes, about: str) -> None:
        """Write a sealed file, whole or not at all, for its owner only."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = path.with_name(f".{path.name}.new")
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(self.seal(content, about))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)

    def read(self, path: Path, about: str) -> bytes:
        """Return what a sealed file holds. Raises as `open`."""
        return self.open(path.read_bytes(), about)

    def derived(self, purpose: bytes) -> bytes:
        """Return a key of this node for a purpose, always the same."""
        return _derived(_secret(self._file), b"", purpose)

    def _key(self, salt: bytes) -> bytes:
        return _derived(_secret(self._file), salt, b"peerpacs research vault")


class Signer:
    """Signs manifests with an Ed25519 key of the node, made when it is first needed."""

    def __init__(self, key_file: Path) -> None:
        self._file = key_file

    @property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(_secret(self._file))

    @property
    def public(self) -> str:
        """The public key in hexadecimal digits."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, content: bytes) -> str:
        """Return the signature in hexadecimal digits."""
        return self._key.sign(content).hex()


def is_signed(public: str, signature: str, content: bytes) -> bool:
    """Say whether the signature is that of the content by the key."""
    from cryptography.exceptions import InvalidSignature

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True


class Escrow(msgspec.Struct, frozen=True, kw_only=True):
    """What is sealed to persons: the box, and for each of them a share of its secret."""

    project: str
    box: bytes
    shares: dict[str, tuple[int, bytes, bytes]]
    """By holder: the share's number, an ephemeral public key, the sealed share."""


def seal_escrow(project: str, content: bytes, holders: Mapping[str, str]) -> Escrow:
    """Return content that any two of the holders open together.

    Raises:
        BadRequest: there are fewer than two holders, or a public key is none.
    """
    if len(holders) < 2:
        raise BadRequest("An escrow that two people open together needs two holders.", "Name another.")
    secret, slope = secrets.token_bytes(32), secrets.token_bytes(32)
    shares = {}
    for number, (name, public) in enumerate(sorted(holders.items()), 1):
        share = bytes(s ^ _times(a, number) for s, a in zip(secret, slope, strict=True))
        ephemeral = X25519PrivateKey.generate()
        key = _agreed(ephemeral, _public(public), project)
        sealed = AESGCM(key).encrypt(_NONCE, share, f"{project}/{name}".encode())
        shares[name] = (number, ephemeral.public_key().public_bytes_raw(), sealed)
    box = AESGCM(_derived(secret, b"", b"peerpacs escrow box")).encrypt(_NONCE, content, project.encode())
    return Escrow(project=project, box=box, shares=shares)


def open_escrow(escrow: Escrow, keys: Mapping[str, X25519PrivateKey]) -> bytes:
    """Return the content, with the private keys of at least two holders.

    Raises:
        NotPermitted: fewer than two of the keys belong to holders.
    """
    shares: dict[int, bytes] = {}
    for name, key in keys.items():
        if name not in escrow.shares:
            continue
        number, ephemeral, sealed = escrow.shares[name]
        agreed = _agreed(key, X25519PublicKey.from_public_bytes(ephemeral), escrow.project)
        try:
            shares[number] = AESGCM(agreed).decrypt(_NONCE, sealed, f"{escrow.project}/{name}".encode())
        except InvalidTag:
            raise NotPermitted(
                f"That is not the key of {name}.", "Name the file that belongs to it."
            ) from None
    if len(shares) < 2:
        raise NotPermitted("The escrow opens with the keys of two holders together.", "Name a second key.")
    (one, first), (two, second) = next(combinations(sorted(shares.items()), 2))
    secret = _line_at_zero(one, first, two, second)
    opened = AESGCM(_derived(secret, b"", b"peerpacs escrow box"))
    return opened.decrypt(_NONCE, escrow.box, escrow.project.encode())


def check_holder(public: str) -> None:
    """Make sure that a text is a holder's public key.

    Raises:
        BadRequest: it is not.
    """
    _public(public)


def make_holder(path: Path, passphrase: str) -> str:
    """Write a person's private key, locked with a passphrase, into a new file; return the public key.

    Raises:
        FileExistsError: there is a file already.
    """
    key = X25519PrivateKey.generate()
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encode()),
    )
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(locked)
    return key.public_key().public_bytes_raw().hex()


def read_holder(content: bytes, passphrase: str) -> X25519PrivateKey:
    """Return a person's private key.

    Raises:
        NotPermitted: the passphrase is wrong, or it is no such key.
    """
    try:
        key = serialization.load_pem_private_key(content, passphrase.encode())
    except (ValueError, TypeError):
        raise NotPermitted("A holder's key does not open.", "Check the passphrase and the file.") from None
    if not isinstance(key, X25519PrivateKey):
        raise NotPermitted("That file is no key of an escrow's holder.", "Name the one that was made for it.")
    return key


def _secret(path: Path) -> bytes:
    try:
        return bytes.fromhex(path.read_text("ascii"))
    except FileNotFoundError:
        pass
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(beside, path)
    except FileExistsError:
        pass
    finally:
        beside.unlink()
    return bytes.fromhex(path.read_text("ascii"))


def _derived(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt or None, purpose).derive(secret)


def _agreed(private: X25519PrivateKey, public: X25519PublicKey, project: str) -> bytes:
    return _derived(private.exchange(public), b"", b"peerpacs escrow share " + project.encode())


def _public(text: str) -> X25519PublicKey:
    try:
        return X25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError:
        raise BadRequest("That is no public key of a holder.", "It has 64 hexadecimal digits.") from None


def _times(a: int, b: int) -> int:
    """Multiply in GF(256) with the polynomial 0x11B."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def _inverse(a: int) -> int:
    result, power = 1, a
    for _ in range(7):
        power = _times(power, power)
        result = _times(result, power)
    return result


def _line_at_zero(one: int, first: bytes, two: int, second: bytes) -> bytes:
    over = _inverse(one ^ two)
    weight_one, weight_two = _times(two, over), _times(one, over)
    return bytes(_times(a, weight_one) ^ _times(b, weight_two) for a, b in zip(first, second, strict=True))
