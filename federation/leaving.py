"""The Members service: a node asks whether it may leave, and is given receipts for what is dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from federation.links.gate import Gate
from federation.links.rpc import letters
from federation.trust.credentials import Pair
from federation.trust.departure import Receipt, read_receipt, sign_receipt
from federation.trust.names import Identity
from federation.trust.trust import Trust
from protos import trust_pb2 as wire
from protos import trust_pb2_grpc as services

_DEADLINE = 300.0
_ANSWER = 30.0


class LeaveService(services.MembersServicer):
    """Serves those who leave."""

    def __init__(
        self,
        gate: Gate,
        alone: Callable[[Identity], int],
        drop: Callable[[Identity], Receipt],
        pair: Callable[[], Pair],
    ) -> None:
        """`alone` says how many bytes lie at one alone, `drop` forgets all of one, `pair` is our own."""
        self._gate, self._alone, self._drop, self._pair = gate, alone, drop, pair

    def register(self, server: grpc.Server) -> None:
        """Add the servicer to a server."""
        services.add_MembersServicer_to_server(self, server)

    def Farewell(self, request: wire.FarewellRequest, context: Any) -> wire.FarewellReply:
        """Say how much of this node lies at the caller alone, and have it go elsewhere."""
        return wire.FarewellReply(alone=self._alone(self._gate.visitor(context).identity))

    def Leave(self, request: wire.LeaveRequest, context: Any) -> wire.LeaveReply:
        """Drop everything of the caller, which TLS and the gate have recognised."""
        receipt = self._drop(self._gate.visitor(context).identity)
        pair = self._pair()
        return wire.LeaveReply(receipt=sign_receipt(receipt, pair), certificate=pair.leaf)


def alone_here(channel: grpc.Channel, name: str) -> int:
    """Tell a node that this one wants to leave; return how many of its bytes lie here alone.

    Raises:
        PacsError: it does not answer, or is too old to know the question.
    """
    with letters(name):
        reply = services.MembersStub(channel).Farewell(wire.FarewellRequest(), timeout=_ANSWER)
    return int(reply.alone)


def ask_to_drop(channel: grpc.Channel, name: str, trust: Trust, owner: str) -> Receipt:
    """Tell a node that this one leaves; return its receipt.

    Raises:
        PacsError: it does not answer, or its receipt is none.
    """
    with letters(name):
        reply: wire.LeaveReply = services.MembersStub(channel).Leave(wire.LeaveRequest(), timeout=_DEADLINE)
    return read_receipt(reply.receipt, reply.certificate, trust, owner)
