"""Signed documents that travel from node to node, so that it does not matter who hands them over."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

import msgspec

from catalog import BadRequest, NotPermitted

from .keys import PrivateKey, PublicKey, is_signed, sign, spki

_encode: Final = msgspec.msgpack.Encoder().encode
LARGEST: Final = 4 << 20
"""Bytes of a sealed document; one message carries it."""


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """A body, what kind it is, and who signed both."""

    kind: str
    body: bytes
    key_id: bytes
    signature: bytes


_decode: Final = msgspec.msgpack.Decoder(Sealed).decode


def key_id(key: PublicKey) -> bytes:
    """Return the SHA-256 of the key's SubjectPublicKeyInfo."""
    return sha256(spki(key)).digest()


def seal(kind: str, body: bytes, key: PrivateKey) -> bytes:
    """Return the document, signed."""
    return _encode(Sealed(kind, body, key_id(key.public_key()), sign(key, _signed(kind, body))))


def look_inside(kind: str, document: bytes) -> Sealed:
    """Return a document of this kind without verifying anything.

    Raises:
        BadRequest: it is not such a document.
    """
    if len(document) > LARGEST:
        raise BadRequest(f"A {kind} of {len(document)} bytes is larger than any that this grid has.")
    try:
        sealed = _decode(document)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRequest(f"What was sent as the grid's {kind} cannot be read.") from error
    if sealed.kind != kind:
        raise BadRequest(f"What was sent as the grid's {kind} is a {sealed.kind[:20]!r}.")
    return sealed


def verify(sealed: Sealed, signers: Iterable[PublicKey]) -> PublicKey:
    """Return which of these keys signed the document.

    Raises:
        NotPermitted: none of them did.
    """
    for key in signers:
        if key_id(key) == sealed.key_id and is_signed(
            key, sealed.signature, _signed(sealed.kind, sealed.body)
        ):
            return key
    raise NotPermitted(f"The grid's {sealed.kind} is signed by nobody who may sign it; it is not used.")


def _signed(kind: str, body: bytes) -> bytes:
    return b"peerpacs\0" + kind.encode() + b"\0" + body
