"""Both ends of the Entrusting service: what is decided at a node is kept by its peers, which cannot read it.

A node that lost its disk, and has a backup from before, asks it back. The gate says whose words they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from catalog import BadRequest, Damaged
from protos import entrusting_pb2 as pb
from protos import entrusting_pb2_grpc as services

from .links.gate import Gate

AT_ONCE: Final = 200
"""Words of one message."""
LARGEST: Final = 1 << 20
"""Bytes of what a message carries; one word may be as long by itself."""
_NONCE: Final = 12


class Word(NamedTuple):
    """A decision by its id, sealed; nothing: it is to be forgotten."""

    id: str
    sealed: bytes


class Seal:
    """Seals what only the same node opens again. AES-256-GCM, its key by HKDF-SHA256 from a secret."""

    def __init__(self, secret: bytes, archive: str) -> None:
        about = b"peerpacs entrusted\0" + archive.encode()
        self._key = AESGCM(HKDF(SHA256(), 32, None, about).derive(secret))

    def close(self, id: str, text: bytes) -> bytes:
        """Return a decision, sealed under its id."""
        nonce = os.urandom(_NONCE)
        return nonce + self._key.encrypt(nonce, text, id.encode())

    def open(self, word: Word) -> bytes:
        """Return a decision.

        Raises:
            Damaged: this node did not seal it, or not under that id.
        """
        try:
            nonce, sealed = word.sealed[:_NONCE], word.sealed[_NONCE:]
            return self._key.decrypt(nonce, sealed, word.id.encode())
        except (InvalidTag, ValueError) as error:
            what = "A decision that a peer kept does not open with this node's key."
            raise Damaged(what, "It is left out; secrets/ may be another node's.") from error


class Keeping(Protocol):
    """What a node does for others that entrust something to it."""

    def keep(self, node_id: str, archive: str, words: Sequence[Word]) -> str:
        """Keep words of an owner, or forget them; return the name of what is kept."""

    def recall(self, node_id: str, archive: str) -> Iterator[Word]:
        """Yield what an owner entrusted."""


class EntrustingService(services.EntrustingServicer):
    """Serves owners; the gate says which owner calls, and each speaks for itself alone."""

    def __init__(self, gate: Gate, keeping: Keeping) -> None:
        self._gate = gate
        self._keeping = keeping

    def register(self, server: Any) -> None:
        """Add the servicer to a server."""
        services.add_EntrustingServicer_to_server(self, server)

    def Entrust(self, request: pb.EntrustRequest, context: Any) -> pb.EntrustReply:
        """Keep decisions of the caller."""
        node_id = self._gate.visitor(context).identity.node_id
        words = _read(request)
        if len(words) > AT_ONCE or not request.archive:
            raise BadRequest(f"What is entrusted is of an archive, and at most {AT_ONCE} decisions at once.")
        return pb.EntrustReply(shelf=self._keeping.keep(node_id, request.archive, words))

    def Recall(self, request: pb.RecallRequest, context: Any) -> Iterator[pb.EntrustRequest]:
        """Answer what the caller entrusted."""
        node_id = self._gate.visitor(context).identity.node_id
        for words in portions(self._keeping.recall(node_id, request.archive)):
            yield _written(request.archive, words)


class EntrustingPeer:
    """A peer at the end of a channel; `letters` turns what the channel raises into PacsErrors."""

    def __init__(
        self, channel: Any, letters: Callable[[], AbstractContextManager[None]], timeout: float = 60.0
    ) -> None:
        self._stub = services.EntrustingStub(channel)
        self._letters = letters
        self._timeout = timeout

    def entrust(self, archive: str, words: Sequence[Word]) -> str:
        """Have the peer keep decisions; return the name of what it keeps.

        Raises:
            PacsError: it cannot be asked.
        """
        with self._letters():
            return str(self._stub.Entrust(_written(archive, words), timeout=self._timeout).shelf)

    def recall(self, archive: str) -> Iterator[Word]:
        """Yield what this node entrusted, as the peer says: the seals are still to be opened.

        Raises:
            PacsError: it cannot be asked.
        """
        with self._letters():
            for reply in self._stub.Recall(pb.RecallRequest(archive=archive), timeout=self._timeout):
                yield from _read(reply)


def portions(words: Iterable[Word]) -> Iterator[list[Word]]:
    """Yield words in portions of a message each."""
    portion, size = list[Word](), 0
    for word in words:
        size += len(word.sealed)
        if portion and (size > LARGEST or len(portion) == AT_ONCE):
            yield portion
            portion, size = [], len(word.sealed)
        portion.append(word)
    if portion:
        yield portion


def _read(request: pb.EntrustRequest) -> list[Word]:
    return [Word(each.id, each.sealed) for each in request.decisions]


def _written(archive: str, words: Sequence[Word]) -> pb.EntrustRequest:
    found = [pb.Entrusted(id=each.id, sealed=each.sealed) for each in words]
    return pb.EntrustRequest(archive=archive, decisions=found)
