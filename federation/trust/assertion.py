"""Who is behind a call: a JWS (RFC 7515, ES256) that the asking node signs and the owner verifies and keeps.

It says on whose behalf a node asks; it never authenticates the node, TLS does. The node's certificate is in
the header (x5c), so that the statement can still be verified when the audit is read, and after a rotation.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cryptography.x509 import Certificate

from catalog import BadRequest, NotPermitted

from .certificates import parse, public_key, to_der
from .credentials import Pair
from .keys import PublicKey, is_signed, sign
from .names import Identity, spiffe
from .trust import Trust

VALID: Final = 300
"""Seconds an assertion counts, each way: clocks of two nodes may differ by as much."""
_LONGEST: Final = 8192
_CERTIFICATES: Final = 128
"""So many are kept as they were read, and as they are sent."""
_PLAIN: Final = re.compile(r"[\x20-\x7e]{0,64}")
_PADDED: Final = re.compile(r"[A-Za-z0-9_-]*")


class Asker(NamedTuple):
    """On whose behalf a node asks."""

    pseudonym: str = ""
    """A keyed hash of the user at the asking node, which alone can tell who it was."""
    role: str = "node"
    """One of ROLES in `names.py`."""
    purpose: str = "operation"
    """Purpose of use, like treatment, payment, research, operation."""
    ae_title: str = ""
    request_id: str = ""
    """One id that the audits of both nodes carry."""


def pseudonym_of(key: bytes, user: str) -> str:
    """Return what stands for a user; `key` is the asking node's own."""
    return hmac.digest(key, b"user\0" + user.encode(), "sha256")[:12].hex() if user else ""


def make_assertion(pair: Pair, asker: Asker, audience: str, now: float) -> str:
    """Return the compact JWS with which a node asks `audience` (a node_id)."""
    claims = {
        "iss": spiffe(pair.identity.grid_id, pair.identity.node_id),
        "aud": audience,
        "iat": int(now),
        "exp": int(now) + VALID,
        "jti": asker.request_id,
        "sub": asker.pseudonym,
        "role": asker.role,
        "purpose": asker.purpose,
        "aet": asker.ae_title,
    }
    signed = f"{_header(pair.chain[0])}.{_pack(claims)}"
    return f"{signed}.{_text(sign(pair.key, signed.encode()))}"


@lru_cache(_CERTIFICATES)
def _header(certificate: Certificate) -> str:
    x5c = [base64.b64encode(to_der(certificate)).decode()]
    return _pack({"alg": "ES256", "typ": "JWT", "x5c": x5c})


@lru_cache(_CERTIFICATES)
def _key_in(der: bytes) -> PublicKey:
    return public_key(parse(der))


def verify_assertion(trust: Trust, text: str, caller: Identity, own_id: str, now: float) -> Asker:
    """Return on whose behalf `caller`, whom TLS authenticated, asks.

    Raises:
        BadRequest: it is no assertion.
        NotPermitted: it is of another node, for another node, not of this time, or not rightly signed.
    """
    parts = text.split(".") if len(text) <= _LONGEST else []
    if len(parts) != 3:
        raise BadRequest("The assertion of a call cannot be read.")
    header, claims, signature = _unpack(parts[0]), _unpack(parts[1]), _raw(parts[2])
    chain = header.get("x5c")
    if header.get("alg") != "ES256" or "crit" in header or not isinstance(chain, list) or not chain:
        raise NotPermitted("The assertion of a call is not signed in the one way that counts (ES256).")
    der = _certificate(chain[0])
    identity = trust.identify(der)
    signed = f"{parts[0]}.{parts[1]}".encode()
    if not is_signed(_key_in(der), signature, signed):
        raise NotPermitted("The assertion of a call has a wrong signature.")
    issuer = spiffe(identity.grid_id, identity.node_id)
    if identity.node_id != caller.node_id or claims.get("iss") != issuer or claims.get("aud") != own_id:
        raise NotPermitted("The assertion of a call was made by or for another node.")
    _check_time(claims, now)
    return _asker(claims)


def _check_time(claims: dict[str, Any], now: float) -> None:
    made, ends = claims.get("iat"), claims.get("exp")
    if type(made) is not int or type(ends) is not int or not 0 < ends - made <= VALID:
        raise BadRequest("The assertion of a call says no time at which it counts.")
    if not made - VALID <= now <= ends:
        what = f"The assertion of a call was made {abs(now - made):.0f} s {'ago' if now > made else 'ahead'}."
        raise NotPermitted(what, "Compare the clocks of both nodes: timedatectl set-ntp true")


def _asker(claims: dict[str, Any]) -> Asker:
    found = [claims.get(name) for name in ("sub", "role", "purpose", "aet", "jti")]
    if not all(isinstance(each, str) and _PLAIN.fullmatch(each) for each in found):
        raise BadRequest("The assertion of a call says something that is not plain text.")
    return Asker(*(str(each) for each in found))


def _pack(content: dict[str, Any]) -> str:
    return _text(json.dumps(content, separators=(",", ":")).encode())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _raw(text: str) -> bytes:
    try:
        if not _PADDED.fullmatch(text):
            raise BadRequest("The assertion of a call cannot be read.")
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise BadRequest("The assertion of a call cannot be read.") from error


def _unpack(text: str) -> dict[str, Any]:
    try:
        content = json.loads(_raw(text))
    except (ValueError, RecursionError) as error:
        raise BadRequest("The assertion of a call cannot be read.") from error
    if not isinstance(content, dict):
        raise BadRequest("The assertion of a call cannot be read.")
    return content


def _certificate(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest("The certificate in an assertion cannot be read.") from error
