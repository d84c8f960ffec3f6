"""A node that leaves of its own will: an authority's word that it did, and receipts from the others."""

from __future__ import annotations

from typing import Final

import msgspec

from catalog import BadRequest, NotPermitted

from .certificates import Issuer, parse, public_key
from .credentials import Pair
from .names import check_node_id
from .sealed import look_inside, seal, verify
from .trust import Trust

KIND: Final = "departure"
RECEIPT: Final = "receipt"


class Departure(msgspec.Struct, frozen=True, array_like=True):
    """Who left, and when."""

    node_id: str
    at: int
    """Seconds since 1970."""


class Receipt(msgspec.Struct, frozen=True, array_like=True):
    """What a node dropped of one that left."""

    node_id: str
    """Who dropped it."""
    owner: str
    """Who left."""
    at: int
    """Seconds since 1970."""
    studies: int = 0
    """Whose rows were mirrored."""
    copies: int = 0
    """Objects that were kept for the owner, by its rules."""
    copy_bytes: int = 0
    cached: int = 0
    """Objects that had been fetched to be looked at."""


_encode: Final = msgspec.msgpack.Encoder().encode
_departure: Final = msgspec.msgpack.Decoder(Departure).decode
_receipt: Final = msgspec.msgpack.Decoder(Receipt).decode


def depart(node_id: str, now: float, authority: Issuer) -> bytes:
    """Return an authority's word that a node left."""
    return seal(KIND, _encode(Departure(node_id, int(now))), authority.key)


def read_departure(document: bytes, trust: Trust) -> Departure:
    """Return who left.

    Raises:
        BadRequest: it cannot be read.
        NotPermitted: no authority in force says so.
    """
    sealed = look_inside(KIND, document)
    verify(sealed, [public_key(each) for each in trust.authorities()])
    try:
        found = _departure(sealed.body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRequest("That a node left cannot be read.") from error
    check_node_id(found.node_id)
    return found


def sign_receipt(receipt: Receipt, pair: Pair) -> bytes:
    """Return the receipt with this node's signature."""
    return seal(RECEIPT, _encode(receipt), pair.key)


def read_receipt(document: bytes, certificate: bytes, trust: Trust, owner: str) -> Receipt:
    """Return what another node says that it dropped of `owner`.

    Raises:
        BadRequest: it cannot be read.
        NotPermitted: whoever signed it is no member, or it is about somebody else.
    """
    identity = trust.identify(certificate)
    sealed = look_inside(RECEIPT, document)
    verify(sealed, [public_key(parse(certificate))])
    try:
        found = _receipt(sealed.body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadRequest("A receipt cannot be read.") from error
    if (found.node_id, found.owner) != (identity.node_id, owner):
        raise NotPermitted(f"{identity.name} gave a receipt that is not about this.")
    return found
