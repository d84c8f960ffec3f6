"""How grids, nodes and those who ask are named: in certificates, in TLS, and for people.

A grid is the first 16 bytes of the SHA-256 of its founding root's SubjectPublicKeyInfo, for ever. A node is
the UUID that `peerpacs init` made; it outlives every key. Addresses play no part in trust.
"""

from __future__ import annotations

import base64
import re
import uuid
from hashlib import sha256
from typing import Final, NamedTuple

from catalog import BadRequest

DOMAIN: Final = "node.grid.internal"
"""Below it every node has a name that only TLS ever sees."""
ROLES: Final = {"ae": "a device", "user": "a person over the web", "node": "the node itself"}
"""In which role something is asked of a peer, as the assertion of a call names it, and in words."""
GRID_ID_SIZE: Final = 16
_SPIFFE: Final = re.compile(r"spiffe://([0-9a-f]{32})/node/([0-9a-f-]{36})")


class Identity(NamedTuple):
    """Who a certificate speaks for, after its chain was verified."""

    grid_id: bytes
    node_id: str
    site: str
    """The failure domain, as the grid's authority wrote it: a node cannot choose it by itself."""
    name: str
    serial: int
    issued: int
    """Seconds since 1970; NotBefore lies an hour earlier, for clocks that are behind."""
    expires: int
    """Seconds since 1970."""


def grid_id_of(spki: bytes) -> bytes:
    """Return the name of the grid that was founded with this root key (DER SubjectPublicKeyInfo)."""
    return sha256(spki).digest()[:GRID_ID_SIZE]


def spoken(grid_id: bytes) -> str:
    """Return the short form of a grid's name that people compare, like `h3vd-9wkc`."""
    text = base64.b32encode(grid_id)[:8].decode().lower()
    return f"{text[:4]}-{text[4:]}"


def spiffe(grid_id: bytes, node_id: str) -> str:
    """Return the URI that stands in a node's certificate."""
    return f"spiffe://{grid_id.hex()}/node/{node_id}"


def parse_spiffe(uri: str) -> tuple[bytes, str]:
    """Return (grid_id, node_id).

    Raises:
        BadRequest: it is not the URI of a node.
    """
    match = _SPIFFE.fullmatch(uri)
    if match is None:
        raise BadRequest(f"{uri!r} does not name a node of a grid.")
    return bytes.fromhex(match[1]), check_node_id(match[2])


def server_name(node_id: str) -> str:
    """Return the DNS name that TLS checks, whatever the address."""
    return f"{node_id}.{DOMAIN}"


def node_of_server_name(name: str) -> str:
    """Return the node_id of a `server_name`, or nothing."""
    first, _, rest = name.lower().partition(".")
    try:
        return check_node_id(first) if rest == DOMAIN else ""
    except BadRequest:
        return ""


def check_node_id(text: str) -> str:
    """Return the node's id in its one spelling.

    Raises:
        BadRequest: it is not a UUID.
    """
    try:
        spelled = str(uuid.UUID(text))
    except ValueError:
        spelled = ""
    if not spelled or spelled != text.lower():
        raise BadRequest(f"{text!r} is not the id of a node.", "Ids of nodes are UUIDs; see: peerpacs peers")
    return spelled
