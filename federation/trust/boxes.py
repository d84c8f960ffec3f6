"""Boxes that only one node opens: sealed to the key of its certificate, whoever carries them.

ECDH with a key made for this box alone on P-256, HKDF-SHA256 (RFC 5869), AES-256-GCM.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from catalog import Damaged

from .keys import PrivateKey, PublicKey, make_key, parse_public_key, spki

_NONCE: Final = b"\0" * 12
"""Each key is used once, so its only nonce may be fixed."""
_LENGTH: Final = 2


def seal_to(key: PublicKey, content: bytes, about: str) -> bytes:
    """Return content that only the holder of the key reads, and only with the same `about`."""
    ephemeral = make_key()
    own = spki(ephemeral.public_key())
    secret = _derived(ephemeral.exchange(ec.ECDH(), key), own, spki(key))
    return len(own).to_bytes(_LENGTH, "big") + own + AESGCM(secret).encrypt(_NONCE, content, about.encode())


def open_box(key: PrivateKey, box: bytes, about: str) -> bytes:
    """Return what was sealed to this key.

    Raises:
        Damaged: it was sealed to another key, about something else, or changed on its way.
    """
    length = int.from_bytes(box[:_LENGTH], "big")
    other, content = box[_LENGTH : _LENGTH + length], box[_LENGTH + length :]
    try:
        agreed = key.exchange(ec.ECDH(), parse_public_key(other))
        secret = _derived(agreed, other, spki(key.public_key()))
        return AESGCM(secret).decrypt(_NONCE, content, about.encode())
    except (InvalidTag, ValueError) as error:
        what = "What was sealed for this node does not open with its key."
        raise Damaged(what, "Have it sent once more.") from error


def _derived(agreed: bytes, ephemeral: bytes, receiver: bytes) -> bytes:
    return HKDF(SHA256(), 32, None, b"peerpacs box\0" + ephemeral + receiver).derive(agreed)
