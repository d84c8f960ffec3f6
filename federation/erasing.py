"""Both ends of the Erasing service: what an owner erases is erased at its peers too, and receipted.

A peer erases nothing but what came from the owner that asks, so no peer can delete another's study. It keeps
the order, sealed by the owner, and gives it back to an owner that lost it with its disk.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol

from protos import erasing_pb2 as pb
from protos import erasing_pb2_grpc as services

from .links.gate import Gate

_MOST: Final = 100
"""Erasures in one call."""


def mark(decision: str, IssuerOfPatientID: str, PatientID: str) -> bytes:
    """Return by what an erased patient is known again, by those who know the identity and by nobody else."""
    return sha256("\0".join((decision, IssuerOfPatientID, PatientID)).encode()).digest()


def is_erased(target: Sequence[str], erased: Collection[bytes]) -> bool:
    """Say whether a study, series or instance is among what was erased, or part of it.

    `erased` has keys like those of a mirror's rows: UIDs, with a zero between them.
    """
    return any("\0".join(target[:depth]).encode() in erased for depth in range(1, len(target) + 1))


class Erasure(NamedTuple):
    """An owner's word that something of its own is erased."""

    decision: str
    target: tuple[str, ...]
    when: int
    """Milliseconds since 1970."""
    seal: bytes = b""
    patients: tuple[bytes, ...] = ()
    """Marks of whose it was."""

    def sealed(self, key: bytes, archive: str) -> Erasure:
        """Return it with the seal that only who has the key can make."""
        text = "\0".join((archive, self.decision, str(self.when), *self.target)).encode()
        return self._replace(seal=hmac.digest(key, text, "sha256"))

    def is_by(self, key: bytes, archive: str) -> bool:
        """Say whether whoever has the key sealed it."""
        return hmac.compare_digest(self.seal, self.sealed(key, archive).seal)


class Receipt(NamedTuple):
    """What a peer answers about one erasure."""

    decision: str
    done: int
    """Milliseconds since 1970, by its own clock; 0: not yet."""
    what: str = ""
    """Why not, or what is left that is not the owner's to erase."""


class Obeying(Protocol):
    """What a node does for owners that erase."""

    def erase(self, node_id: str, archive: str, erasures: Sequence[Erasure]) -> list[Receipt]:
        """Erase what is kept of an owner's; return how each stands."""

    def remembered(self, node_id: str, archive: str) -> list[Erasure]:
        """Return what an owner had erased here."""


class ErasingService(services.ErasingServicer):
    """Serves owners; the gate says which owner calls, and each speaks for itself alone."""

    def __init__(self, gate: Gate, obeying: Obeying) -> None:
        self._gate = gate
        self._obeying = obeying

    def register(self, server: Any) -> None:
        """Add the servicer to a server."""
        services.add_ErasingServicer_to_server(self, server)

    def Erase(self, request: pb.EraseRequest, context: Any) -> pb.EraseReply:
        """Erase what came from the caller."""
        node_id = self._gate.visitor(context).identity.node_id
        found = self._obeying.erase(node_id, request.archive, _read(request)[:_MOST])
        return pb.EraseReply(receipts=[pb.Receipt(**each._asdict()) for each in found])

    def Remember(self, request: pb.RememberRequest, context: Any) -> pb.EraseRequest:
        """Answer what the caller had erased here."""
        node_id = self._gate.visitor(context).identity.node_id
        found = self._obeying.remembered(node_id, request.archive)
        return _written(request.archive, found)


class ErasingPeer:
    """A peer at the end of a channel; `letters` turns what the channel raises into PacsErrors."""

    def __init__(
        self, channel: Any, letters: Callable[[], AbstractContextManager[None]], timeout: float = 60.0
    ) -> None:
        self._stub = services.ErasingStub(channel)
        self._letters = letters
        self._timeout = timeout

    def erase(self, archive: str, erasures: Sequence[Erasure]) -> list[Receipt]:
        """Have the peer erase what it keeps of this node's; return how each stands.

        Raises:
            PacsError: it cannot be asked.
        """
        with self._letters():
            reply = self._stub.Erase(_written(archive, erasures[:_MOST]), timeout=self._timeout)
        return [Receipt(each.decision, each.done, each.what) for each in reply.receipts]

    def remembered(self, archive: str) -> list[Erasure]:
        """Return what this node had erased there, as the peer says: the seals are still to be looked at.

        Raises:
            PacsError: it cannot be asked.
        """
        with self._letters():
            return _read(self._stub.Remember(pb.RememberRequest(archive=archive), timeout=self._timeout))


def _read(request: pb.EraseRequest) -> list[Erasure]:
    return [
        Erasure(each.decision, tuple(each.target), each.when, each.seal, tuple(each.patients))
        for each in request.erasures
    ]


def _written(archive: str, erasures: Sequence[Erasure]) -> pb.EraseRequest:
    return pb.EraseRequest(archive=archive, erasures=[pb.Erasure(**each._asdict()) for each in erasures])
