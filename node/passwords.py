"""Passwords and secrets: what is kept of them is a hash, and nothing that could be used in their place."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from threading import BoundedSemaphore
from typing import Final

from catalog import BadRequest, Busy
from federation.trust.words import word_list

SHORTEST: Final = 12
_LONGEST: Final = 256
_COST: Final = (15, 8, 3)
"""log2 N, r and p of scrypt (RFC 7914): 32 MB and a few hundred milliseconds for whoever guesses."""
_MEMORY: Final = 80 << 20
_AT_ONCE: Final = BoundedSemaphore(2)
"""So that a flood of guesses takes neither the memory nor both cores."""
_PATIENCE: Final = 5.0


def hashed(password: str) -> str:
    """Return what is kept of a password: scrypt with its parameters, a fresh salt and the result."""
    salt = secrets.token_bytes(16)
    return "$".join(("scrypt", *map(str, _COST), salt.hex(), _scrypt(password, salt, _COST).hex()))


def is_right(password: str, kept: str) -> bool:
    """Say whether this is the password; takes as long for no account (an empty `kept`) as for any.

    Raises:
        Busy: too many are being tried at this moment.
    """
    if not kept:
        _scrypt(password, bytes(16), _COST)
        return False
    _, n, r, p, salt, wanted = kept.split("$")
    found = _scrypt(password, bytes.fromhex(salt), (int(n), int(r), int(p)))
    return hmac.compare_digest(found, bytes.fromhex(wanted))


def check_new(password: str, name: str) -> None:
    """Make sure that a password is one that nobody guesses at once.

    Raises:
        BadRequest: it is too short, too long, or made of one character or the account's name.
    """
    if not SHORTEST <= len(password) <= _LONGEST:
        what = f"A password has {SHORTEST} to {_LONGEST} characters; this one has {len(password)}."
        raise BadRequest(what, "Take four words that do not belong together.")
    if len(set(password)) < 5 or name.lower() in password.lower():
        raise BadRequest("That password is easily guessed.", "Take four words that do not belong together.")


def one_time() -> str:
    """Return a password for one first visit, easy to read out: four words and a number (50 bits)."""
    words = [secrets.choice(word_list()) for _ in range(4)]
    return "-".join((*words, f"{secrets.randbelow(90) + 10}"))


def fingerprint(secret: str) -> str:
    """Return what is kept of a secret that was drawn from 256 bits, which needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _scrypt(password: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    if not _AT_ONCE.acquire(timeout=_PATIENCE):
        raise Busy("Too many people log in at this moment.", "Try again in a few seconds.")
    try:
        n, r, p = cost
        # What is longer than a password can be is cut: hashing it would only cost.
        word = password.encode("utf-8", "surrogatepass")[: 4 * _LONGEST]
        return hashlib.scrypt(word, salt=salt, n=1 << n, r=r, p=p, maxmem=_MEMORY, dklen=32)
    finally:
        _AT_ONCE.release()
