"""A job as a worker elsewhere carries it: device, instances and bytes are asked of the node that gave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog import Entry, PacsError, Selection
from node.contracts import Caller, Outgoing, Scope
from node.dimse.limits import Limits
from node.dimse.outgoing import Convert
from node.dimse.session import Secure
from node.forwarding import AeWay, Calling, ForwardCarrier
from node.supply import (
    Called,
    Open,
    Opened,
    Piece,
    Question,
    Tell,
    Which,
    WhoIs,
    decode_bytes,
    decode_called,
    decode_entries,
    decode_failure,
    decode_opened,
    encode,
)
from node.transfers import Outcome
from node.transfers.asking import Asking
from node.transfers.messages import Job
from node.transfers.worker import Hands


class ForwardElsewhere:
    """Carries jobs of kind DELIVER in a process that has nothing of the node but a wire to it."""

    def __init__(self, asking: Asking, limits: Limits, secure: Secure, convert: Convert) -> None:
        """`limits` are those of the associations that it opens, `secure` says how with TLS."""
        self._asking = asking
        self._limits = limits
        self._secure = secure
        self._convert = convert

    def carry(self, job: Job, hands: Hands) -> Outcome:
        """Send what is not settled yet. Raises Unavailable when the node is gone."""
        node = _Node(self._asking, job)
        called = node.called()
        # A catalog that selects and a door out are all that a carrier wants of a scope.
        doors: Any = (node, None, node)
        scope = Scope(job.order.archive, called.ae_title, *doors) if called.ae_title else None
        way = AeWay(Calling(lambda ae_title: called.device, self._limits, self._secure), self._convert)
        return ForwardCarrier(lambda order: scope, way, node).carry(job, hands)


class _Node:
    """What the node has for one job: its instances, and an audit that satisfies `Audit`."""

    def __init__(self, asking: Asking, job: Job) -> None:
        self._asking = asking
        self._job = job

    def called(self) -> Called:
        """Return whom to call, and as whom."""
        return decode_called(self.ask(WhoIs()))

    def select(self, selection: Selection) -> list[Entry]:
        """Return the job's instances, whatever is asked for: the node knows the order itself."""
        return decode_entries(self.ask(Which()))

    def open(self, entry: Entry) -> Outgoing:
        """Open an instance for sending. Raises as `Retriever.open`."""
        return _Coming(self, decode_opened(self.ask(Open(entry.SOPInstanceUID))))

    def record(self, event: str, caller: Caller | None, outcome: str, detail: Mapping[str, Any]) -> None:
        """Have the node's audit say it; a node that is gone knows from what is noted."""
        try:
            self.ask(Tell(outcome, dict(detail)))
        except PacsError:
            return

    def ask(self, question: Question) -> bytes:
        """Return the answer. Raises what the node raised, or Unavailable."""
        answer = self._asking.ask(self._job, encode(question))
        if answer.is_good:
            return answer.body
        error: PacsError = decode_failure(answer.body).error()
        raise error


@dataclass
class _Coming:
    """An instance that comes in pieces; satisfies `Outgoing`."""

    _node: _Node
    _opened: Opened
    _start: int = 0
    """Where the piece that is here begins."""
    _piece: bytes = field(default=b"")

    def __post_init__(self) -> None:
        self.SOPClassUID = self._opened.SOPClassUID
        self.SOPInstanceUID = self._opened.SOPInstanceUID
        self.TransferSyntaxUID = self._opened.TransferSyntaxUID
        self.size = self._opened.size
        self._piece = self._opened.first

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer with the data set from `offset`, as far as one piece goes."""
        if not self._start <= offset < self._start + len(self._piece):
            if offset >= self.size:
                return 0
            self._piece = decode_bytes(self._node.ask(Piece(self.SOPInstanceUID, offset)))
            self._start = offset
        part = self._piece[offset - self._start :][: len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Forget it; the node closes what was read to its end, or not asked for any more."""
        self._piece = b""
