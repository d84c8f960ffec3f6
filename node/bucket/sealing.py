"""What a file looks like in the bucket: a header of 512 bytes, then chunks, each with a tag of 16 bytes.

With encryption the chunks are AES-256-GCM (NIST SP 800-38D) under a key of the file's own, derived by HKDF
(RFC 5869) from the node's key and 32 random bytes of the header; without it the tag is a truncated SHA-256.
Either way the tag covers the chunk's number, whether it is the last, and which object this is, so a range can
be read and trusted, and bytes that were cut off, moved, exchanged or flipped are noticed. The object's origin
is sealed in the header, so a catalog can be made again from a bucket alone.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from catalog import Damaged, NotPermitted

HEADER: Final = 512
TAG: Final = 16
_MAGIC: Final = b"PPB1"
_FIXED: Final = struct.Struct(">4sB8s32sIQH")
"""Magic, mode, key id, salt, bytes per chunk, bytes of the file, bytes of the sealed note behind it."""
_NOTE_INDEX: Final = 0xFFFFFFFF
"""The note is sealed like a chunk of this number, which no file has."""
_PLAIN, _AES = 0, 1
_AGAIN: Final = "It is not delivered. Fetch it from a peer that has a copy, or send it again."


class Key(NamedTuple):
    """The node's key for a bucket; `id` is written into every header, so that keys can be changed."""

    id: bytes
    secret: bytes


class Note(msgspec.Struct, array_like=True):
    """What the header says besides the bytes: an object's origin, or a decision's time."""

    source: str = ""
    received: int = 0
    """Milliseconds since 1970."""
    is_held: bool = False


def load_key(path: Path) -> Key:
    """Read the key file, or make it (mode 0600) where there is none.

    Raises:
        NotPermitted: others may read it.
        Damaged: it holds no key.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return _read_key(path)
    with os.fdopen(fd, "w") as file:
        file.write(f"{secrets.token_hex(8)} {secrets.token_hex(32)}\n")
        file.flush()
        os.fsync(file.fileno())
    return _read_key(path)


def _read_key(path: Path) -> Key:
    if path.stat().st_mode & 0o077:
        what = f"Others than the node's own user may read the key {path}."
        raise NotPermitted(what, f"Run `chmod 600 {path}`; nothing was read from it.")
    try:
        id, secret = (bytes.fromhex(word) for word in path.read_text().split())
    except ValueError:
        id = secret = b""
    if (len(id), len(secret)) != (8, 32):
        raise Damaged(f"{path} holds no key for the bucket.", "Put the key back from the node's backup.")
    return Key(id, secret)


@dataclass(frozen=True, slots=True)
class Header:
    """The first bytes of a sealed file, as written; `note` is still sealed."""

    mode: int
    key_id: bytes
    salt: bytes
    chunk: int
    size: int
    note: bytes

    def pack(self) -> bytes:
        """Return the 512 bytes."""
        fixed = (_MAGIC, self.mode, self.key_id, self.salt, self.chunk, self.size, len(self.note))
        return (_FIXED.pack(*fixed) + self.note).ljust(HEADER, b"\0")

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        """Read it back.

        Raises:
            Damaged: this is not the beginning of a sealed file.
        """
        if len(data) >= HEADER and data.startswith(_MAGIC):
            _, mode, key_id, salt, chunk, size, length = _FIXED.unpack_from(data)
            if mode in (_PLAIN, _AES) and chunk and length <= HEADER - _FIXED.size:
                return cls(mode, key_id, salt, chunk, size, data[_FIXED.size : _FIXED.size + length])
        raise Damaged("What lies in the bucket does not begin as a file this node wrote.", _AGAIN)


class Sealed:
    """One file and its sealed form; knows where each chunk lies and whether it is what was written."""

    def __init__(self, object_id: bytes, header: Header, key: Key | None) -> None:
        """Take a header that was written or read.

        Raises:
            NotPermitted: it was sealed with a key that this node does not have.
        """
        self._id = object_id
        self.header = header
        self.size = header.size
        self.chunk = header.chunk
        self.count = max(-(-header.size // header.chunk), 1)
        self.length = sealed_length(header.size, header.chunk)
        """Bytes in the bucket."""
        self._cipher = None
        if header.mode == _AES:
            if key is None or key.id != header.key_id:
                what = (
                    f"The file was sealed with the key {header.key_id.hex()}, which this node does not have."
                )
                raise NotPermitted(what, "Put that key file back from the node's backup.")
            self._cipher = _cipher_of(key, header.salt, object_id)

    @classmethod
    def new(
        cls, object_id: bytes, size: int, note: Note, key: Key | None, chunk: int, salt: bytes = b""
    ) -> Sealed:
        """Begin a sealed file; with the same salt it comes out the same, byte for byte."""
        salt = salt or secrets.token_bytes(32)
        mode, key_id = (_AES, key.id) if key else (_PLAIN, bytes(8))
        bare = cls(object_id, Header(mode, key_id, salt, chunk, size, b""), key)
        note = Note(_shortened(note.source), note.received, note.is_held)
        sealed_note = bare._seal(_NOTE_INDEX, False, msgspec.msgpack.encode(note))
        bare.header = Header(mode, key_id, salt, chunk, size, sealed_note)
        return bare

    def note(self) -> Note:
        """Return the origin in the header.

        Raises:
            Damaged: the header is not the one that was written for this object.
        """
        return msgspec.msgpack.decode(self._open(_NOTE_INDEX, False, self.header.note), type=Note)

    def seal(self, index: int, plain: bytes | memoryview) -> bytes:
        """Return chunk `index` with its tag."""
        return self._seal(index, index == self.count - 1, plain)

    def open(self, index: int, sealed: bytes | memoryview) -> bytes:
        """Return the plain bytes of chunk `index`.

        Raises:
            Damaged: they are not what was written there.
        """
        return self._open(index, index == self.count - 1, sealed)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Return where the chunks `first` up to and with `last` lie in the bucket: (offset, length)."""
        start = HEADER + first * (self.chunk + TAG)
        return start, min(HEADER + (last + 1) * (self.chunk + TAG), self.length) - start

    def _bound(self, index: int, is_last: bool) -> bytes:
        """Return what a chunk is tied to; the size among it, so that the header cannot lie about it."""
        return self._id + struct.pack(">IBQI", index, is_last, self.size, self.chunk)

    def _seal(self, index: int, is_last: bool, plain: bytes | memoryview) -> bytes:
        bound = self._bound(index, is_last)
        if self._cipher:
            encrypted: bytes = self._cipher.encrypt(_nonce(self.header.salt, index), plain, bound)
            return encrypted
        return bytes(plain) + _plain_tag(bound, plain)

    def _open(self, index: int, is_last: bool, sealed: bytes | memoryview) -> bytes:
        bound = self._bound(index, is_last)
        if self._cipher:
            from cryptography.exceptions import InvalidTag

            try:
                decrypted: bytes = self._cipher.decrypt(_nonce(self.header.salt, index), sealed, bound)
                return decrypted
            except (InvalidTag, ValueError):
                raise self._damaged(index) from None
        plain = bytes(sealed[:-TAG])
        if not hmac.compare_digest(_plain_tag(bound, plain), bytes(sealed[-TAG:])):
            raise self._damaged(index)
        return plain

    def _damaged(self, index: int) -> Damaged:
        part = "header" if index == _NOTE_INDEX else f"chunk {index}"
        return Damaged(f"The {part} of {self._id.hex()} in the bucket is not what was written.", _AGAIN)


def sealed_length(size: int, chunk: int) -> int:
    """Return how many bytes a file of `size` takes in the bucket."""
    return HEADER + size + TAG * max(-(-size // chunk), 1)


def _cipher_of(key: Key, salt: bytes, object_id: bytes):  # type: ignore[no-untyped-def]
    """Return AES-256-GCM under the key of this one file: nonces can then never meet between files."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = HKDF(SHA256(), 32, salt, b"peerpacs bucket " + object_id).derive(key.secret)
    return AESGCM(derived)


def _nonce(salt: bytes, index: int) -> bytes:
    return salt[:8] + index.to_bytes(4, "big")


def _plain_tag(bound: bytes, plain: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(bound)
    digest.update(plain)
    return digest.digest()[:TAG]


def _shortened(source: str) -> str:
    """At most 200 bytes, never half a character, so that the note fits into the header."""
    return source.encode()[:200].decode("utf-8", "ignore")
