"""What a worker elsewhere is given for its job: whom to call, which instances, and their bytes.

It asks the node that gave it the job, over the wire of the transfers. The node answers from the one door out,
so what leaves is corrected as ever, and answers nothing but what the job under the lease is about.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock
from typing import Any, Final

import msgspec

from catalog import BadRequest, Clock, Entry, NotFound, PacsError
from node.contracts import Audit, Device, Outgoing, Scope
from node.forwarding import selection_of
from node.processes import Failure
from node.transfers import Order

logger = logging.getLogger(__name__)

PIECE: Final = 4 << 20
"""Bytes of an instance in one answer at most."""
_AT_ONCE: Final = 4
"""Instances that are open for one job: one is sent, one is made ready."""
_IDLE: Final = 120.0
"""Seconds without a question after which nothing is kept open for a job."""


class WhoIs(msgspec.Struct, frozen=True, array_like=True, tag="who"):
    """Whom the job goes to, and as whom; answered with a `Called`."""


class Called(msgspec.Struct, frozen=True, array_like=True):
    """The destination's row in the device book, and the AE title of the archive, which is empty for none."""

    device: Device | None
    ae_title: str


class Which(msgspec.Struct, frozen=True, array_like=True, tag="which"):
    """The job's instances as they are now; answered with a list of `Entry`."""


class Open(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """An instance of the job; answered with an `Opened`."""

    SOPInstanceUID: str


class Opened(msgspec.Struct, frozen=True, array_like=True):
    """What leaves of an instance, and the first piece of its data set."""

    SOPClassUID: str
    SOPInstanceUID: str
    TransferSyntaxUID: str
    size: int
    first: bytes


class Piece(msgspec.Struct, frozen=True, array_like=True, tag="piece"):
    """More of an open instance's data set; answered with its bytes."""

    SOPInstanceUID: str
    offset: int


class Tell(msgspec.Struct, frozen=True, array_like=True, tag="tell"):
    """What the audit is to say of the job; answered with nothing."""

    outcome: str
    detail: dict[str, Any]


Question = WhoIs | Which | Open | Piece | Tell
encode: Final = msgspec.msgpack.Encoder().encode
decode_question: Final = msgspec.msgpack.Decoder(Question).decode
decode_called: Final = msgspec.msgpack.Decoder(Called).decode
decode_entries: Final = msgspec.msgpack.Decoder(list[Entry]).decode
decode_opened: Final = msgspec.msgpack.Decoder(Opened).decode
decode_bytes: Final = msgspec.msgpack.Decoder(bytes).decode
decode_failure: Final = msgspec.msgpack.Decoder(Failure).decode


class _Given:
    """What was answered under one lease: its instances, and those that are open."""

    def __init__(self, now: float) -> None:
        self.lock = Lock()
        self.asked = now
        self.entries: dict[str, Entry] = {}
        self.open: dict[str, Outgoing] = {}

    def close(self) -> None:
        with self.lock:
            while self.open:
                self.open.popitem()[1].close()


class Supply:
    """The node's side; any number of threads may have questions answered."""

    def __init__(
        self,
        scope_of: Callable[[Order], Scope | None],
        device_of: Callable[[str], Device | None],
        audit: Audit,
        clock: Clock,
    ) -> None:
        self._scope_of = scope_of
        self._device_of = device_of
        self._audit = audit
        self._clock = clock
        self._lock = Lock()
        self._given: dict[str, _Given] = {}

    def answer(self, order: Order | None, lease: str, question: bytes) -> tuple[bytes, bool]:
        """Return the answer, and whether it is a good one; a bad one is a `Failure` for the other side."""
        try:
            if order is None:
                raise NotFound("This job is not that worker's any more.")
            return encode(self._answer(order, lease, decode_question(question))), True
        except PacsError as error:
            return encode(Failure.of(error)), False
        except msgspec.MsgspecError:
            told = BadRequest(
                "The worker asks what this node does not understand.", "Are both of one version?"
            )
            return encode(Failure.of(told)), False
        except Exception as error:
            logger.exception("A worker's question failed in a way nobody foresaw")
            return encode(Failure("Unavailable", f"The node failed ({type(error).__name__}).", "")), False

    def _answer(self, order: Order, lease: str, question: Question) -> object:
        scope = self._scope_of(order)
        match question:
            case WhoIs():
                return Called(self._device_of(order.destination), scope.ae_title if scope else "")
            case Tell():
                self._audit.record("forward", None, question.outcome, question.detail)
                return None
        if scope is None:
            raise NotFound(f"There is no archive {order.archive!r} here any more.")
        given = self._of(lease)
        with given.lock:
            match question:
                case Which():
                    found = scope.catalog.select(selection_of(order))
                    given.entries = {entry.SOPInstanceUID: entry for entry in found}
                    return found
                case Open():
                    return self._open(scope, given, question.SOPInstanceUID)
                case Piece():
                    return self._piece(scope, given, question.SOPInstanceUID, question.offset)

    def _open(self, scope: Scope, given: _Given, SOPInstanceUID: str) -> Opened:
        outgoing = self._outgoing(scope, given, SOPInstanceUID)
        first = _read(outgoing, 0)
        uids = outgoing.SOPClassUID, outgoing.SOPInstanceUID, outgoing.TransferSyntaxUID
        if len(first) == outgoing.size:
            given.open.pop(SOPInstanceUID).close()
        return Opened(*uids, outgoing.size, first)

    def _piece(self, scope: Scope, given: _Given, SOPInstanceUID: str, offset: int) -> bytes:
        outgoing = self._outgoing(scope, given, SOPInstanceUID)
        piece = _read(outgoing, offset)
        if offset + len(piece) >= outgoing.size:
            given.open.pop(SOPInstanceUID).close()
        return piece

    def _outgoing(self, scope: Scope, given: _Given, SOPInstanceUID: str) -> Outgoing:
        if SOPInstanceUID not in given.open:
            entry = given.entries.get(SOPInstanceUID)
            if entry is None:
                raise NotFound(f"{SOPInstanceUID} is not of this job.")
            while len(given.open) >= _AT_ONCE:
                given.open.pop(next(iter(given.open))).close()
            given.open[SOPInstanceUID] = scope.retriever.open(entry)
        return given.open[SOPInstanceUID]

    def _of(self, lease: str) -> _Given:
        now = self._clock()
        with self._lock:
            over = [key for key, given in self._given.items() if abs(now - given.asked) > _IDLE]
            gone = [self._given.pop(key) for key in over]
            given = self._given.setdefault(lease, _Given(now))
            given.asked = now
        for each in gone:
            each.close()
        return given

    def close(self) -> None:
        """Close what is open for anybody."""
        while self._given:
            self._given.popitem()[1].close()


def _read(outgoing: Outgoing, offset: int) -> bytes:
    """Read a piece whole; less than it should be only where the instance ends."""
    piece = memoryview(bytearray(max(0, min(PIECE, outgoing.size - offset))))
    done = 0
    while done < len(piece) and (step := outgoing.read_into(piece[done:], offset + done)):
        done += step
    return bytes(piece[:done])
