"""Keyed UIDs, pseudonyms and date shifts that agree wherever the same project key is used.

Nothing is looked up or remembered: each new value is an HMAC of the old one, so two sites that share a
key agree without talking, a third party cannot confirm a guess, and another key unlinks everything.
Whoever holds the key can enumerate likely PatientIDs; recipients must never get it.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
import unicodedata
import uuid
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path

_NAMESPACE = uuid.UUID("6d2a1f9e-3c47-5b8a-9f10-7e5c8d4b2a61")
KEY_BYTES = 32


class ProjectKey:
    """A project's name and its 256-bit key; ValueError if the key is shorter or the name unusable."""

    def __init__(self, name: str, secret: bytes) -> None:
        if len(secret) < KEY_BYTES:
            raise ValueError("A project key has at least 256 bits (64 hexadecimal digits).")
        if not name or len(name) > 24 or not name.replace("-", "").isalnum() or not name.isascii():
            raise ValueError("A project name has 1 to 24 letters, digits and hyphens.")
        self.name = name.upper()
        self._uid_key, self._pid_key, self._date_key, self._accession_key, self._scan_key = (
            _expand(secret, purpose) for purpose in ("uid", "pid", "date", "accession", "scan")
        )
        self.uid = lru_cache(maxsize=1 << 16)(self._uid)

    def __reduce__(self) -> tuple[type, tuple[str, bytes]]:
        raise TypeError("A project key is not pickled; give its file to the process that needs it.")

    @cached_property
    def key_id(self) -> str:
        """Tells keys apart without revealing them; may be recorded."""
        return hmac.digest(self._scan_key, b"key id", "sha256").hex()[:16]

    def _uid(self, uid: str) -> str:
        """The new UID under root 2.25, at most 44 characters (PS3.5 B.2)."""
        keyed = hmac.digest(self._uid_key, b"uid\0" + uid.strip("\0 ").encode(), "sha256")
        return f"2.25.{uuid.uuid5(_NAMESPACE, keyed.hex()).int}"

    def subject(self, identity: str) -> str:
        """The PatientID and PatientName that stand for this identity."""
        return f"{self.name}-{_text(self._pid_key, identity)}"

    def accession(self, number: str) -> str:
        """A pseudonymous AccessionNumber of 16 characters."""
        return _text(self._accession_key, number)

    def shift_days(self, identity: str, min_weeks: int, max_weeks: int) -> int:
        """Days to add to every date of this subject: whole weeks, backwards, never 0."""
        number = int.from_bytes(hmac.digest(self._date_key, identity.encode(), "sha256")[:8], "big")
        return -7 * (min_weeks + number % (max_weeks - min_weeks + 1))

    def blind(self, value: bytes) -> str:
        """A value as the confidential record may hold it."""
        return hmac.digest(self._scan_key, b"value\0" + value, "sha256").hex()[:32]

    def seal(self, content: bytes) -> str:
        """Proof, to holders of the key, that this key's engine wrote exactly `content`."""
        return hmac.digest(self._scan_key, b"seal\0" + content, "sha256").hex()[:32]


def read_key(path: Path) -> ProjectKey:
    """The key in a file of one line: the project's name and 64 hexadecimal digits; ValueError if not."""
    words = path.read_text(encoding="ascii", errors="replace").split()
    if len(words) != 2:
        raise ValueError(f"{path.name} is no project key: it needs a name and 64 hexadecimal digits.")
    return ProjectKey(words[0], bytes.fromhex(words[1]))


def make_key(path: Path, name: str) -> ProjectKey:
    """A new random key in a new file that only its owner can read; FileExistsError if there is one."""
    secret = secrets.token_bytes(KEY_BYTES)
    key = ProjectKey(name, secret)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(f"{key.name} {secret.hex()}\n")
    return key


def identity_of(issuer: str, patient_id: str, *, strips_zeros: bool = False) -> str:
    """The canonical subject identity (issuer, PatientID); "" if there is no PatientID."""
    parts = [unicodedata.normalize("NFKC", part).strip(" \0").casefold() for part in (issuer, patient_id)]
    if strips_zeros:
        parts[1] = parts[1].lstrip("0") or parts[1]
    return "\0".join(parts) if parts[1] else ""


def _expand(secret: bytes, purpose: str) -> bytes:
    """HKDF-SHA256 (RFC 5869) with an empty salt, one block."""
    extracted = hmac.digest(b"\0" * 32, secret, "sha256")
    return hmac.digest(extracted, b"peerpacs anonymizer " + purpose.encode() + b"\1", "sha256")


def _text(key: bytes, value: str) -> str:
    return base64.b32encode(hmac.digest(key, value.encode(), sha256)).decode()[:16]
