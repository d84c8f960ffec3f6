"""The invitation to a grid as one line that can be printed, read out and typed: `pp1-host:port-h3vd9...`.

base32(grid_id[16] | token_id[8] | secret[16] | crc[2]); the CRC also covers the address in front of it. The
grid's name is in it so that the joiner checks the grid before it sends anything.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from hashlib import sha256
from typing import Final, NamedTuple

from catalog import BadRequest

from .names import GRID_ID_SIZE

TOKEN_SIZE: Final = 8
SECRET_SIZE: Final = 16
_VERSION: Final = "pp1"
_SIZE: Final = GRID_ID_SIZE + TOKEN_SIZE + SECRET_SIZE + 2
_LETTERS: Final = 68
_LONGEST: Final = 400
_MISREAD: Final = str.maketrans("018", "olb")
"""Digits that base32 does not have, and what they were before somebody read them out."""
_ADDRESS: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+):([0-9]{1,5})")
_AGAIN: Final = "Copy it again from where it was shown, or ask for a new one: peerpacs invite"


class Ticket(NamedTuple):
    """What the inviting admin hands over; the secret is kept nowhere else."""

    address: str
    """host:port at which the grid's authority takes requests."""
    grid_id: bytes
    token_id: bytes
    secret: bytes


def make_ticket(address: str, grid_id: bytes) -> Ticket:
    """Return a ticket with a new token and a new secret.

    Raises:
        BadRequest: the address is not host:port.
    """
    if not is_address(address):
        raise BadRequest(f"{address!r} is no address to join at.", "Name one like pacs.example.org:7444")
    token, secret = secrets.token_bytes(TOKEN_SIZE), secrets.token_bytes(SECRET_SIZE)
    return Ticket(address.lower(), grid_id, token, secret)


def is_address(text: str) -> bool:
    """Say whether this is host:port (an IPv6 host in brackets)."""
    match = _ADDRESS.fullmatch(text.lower())
    return match is not None and 0 < int(match[2]) < 65536


def key_of(secret: bytes) -> bytes:
    """Return what the authority keeps of a secret, and with which both sides authenticate."""
    return sha256(b"peerpacs ticket\0" + secret).digest()


def write(ticket: Ticket) -> str:
    """Return the ticket as text."""
    content = ticket.grid_id + ticket.token_id + ticket.secret
    content += _crc(ticket.address, content)
    letters = base64.b32encode(content).decode().rstrip("=").lower()
    return f"{_VERSION}-{ticket.address}-{letters}"


def read(text: str) -> Ticket:
    """Return the ticket that was pasted, typed or wrapped over lines.

    Raises:
        BadRequest: it is no ticket, or something in it was changed on the way.
    """
    flat = re.sub(r"\s+", "", text[: 2 * _LONGEST]).lower()
    version, _, rest = flat.partition("-")
    address, _, letters = rest.rpartition("-")
    if version != _VERSION or len(flat) > _LONGEST:
        raise BadRequest("This is not a ticket to a grid: it does not begin with pp1-.", _AGAIN)
    if not is_address(address):
        raise BadRequest("The address in this ticket is not host:port.", _AGAIN)
    content = _bytes(letters.translate(_MISREAD))
    body, crc = content[:-2], content[-2:]
    if crc != _crc(address, body):
        raise BadRequest("This ticket was changed on its way: its checksum is wrong.", _AGAIN)
    grid, token = body[:GRID_ID_SIZE], body[GRID_ID_SIZE : GRID_ID_SIZE + TOKEN_SIZE]
    return Ticket(address, grid, token, body[GRID_ID_SIZE + TOKEN_SIZE :])


def _bytes(letters: str) -> bytes:
    try:
        content = base64.b32decode(letters.upper() + "=" * (-len(letters) % 8))
    except (binascii.Error, ValueError) as error:
        raise BadRequest("This ticket has characters that no ticket has.", _AGAIN) from error
    if len(letters) != _LETTERS or len(content) != _SIZE or _spelled(content) != letters:
        raise BadRequest("This ticket is not whole.", _AGAIN)
    return content


def _spelled(content: bytes) -> str:
    return base64.b32encode(content).decode().rstrip("=").lower()


def _crc(address: str, content: bytes) -> bytes:
    return binascii.crc_hqx(address.encode() + b"\0" + content, 0xFFFF).to_bytes(2, "big")
