"""An established association: DIMSE messages in P-DATA-TF PDUs, release and abort (PS3.8 9.2 from Sta6).

One thread reads. Any thread may send whole messages; a lock keeps them apart. The peer's PDVs are parsed
where they lie: a data set goes from the socket into whatever memory its receiver offers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from .commands import N_EVENT_REPORT_RQ, RESPONSE, Command, decode_command
from .negotiation import Context
from .pdu import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    HEADER,
    INVALID_PARAMETER,
    P_DATA,
    P_DATA_TF,
    PDV,
    RELEASE_REQUEST,
    RELEASE_RESPONSE,
    RELEASE_RP,
    RELEASE_RQ,
    UNEXPECTED_PDU,
    UNRECOGNIZED_PDU,
    Violation,
    encode_abort,
)
from .transport import Buffer, Closed, Connection, Ended, Silent

MAX_COMMAND: Final = 65536
MAX_FRAGMENT: Final = 1 << 20
_COMMAND: Final = 1
_LAST: Final = 2
_REPORT_ANSWER: Final = N_EVENT_REPORT_RQ | RESPONSE
_SLACK: Final = 64
_RELEASING: Final = 5.0
"""Seconds in which a peer may go on sending although we asked for the release."""
"""Some senders count their PDU headers twice or not at all; nothing is lost by reading a little more."""


class Released(Ended):
    """The peer sent A-RELEASE-RQ; it is due its A-RELEASE-RP."""


class Aborted(Ended):
    """The peer sent A-ABORT."""

    def __init__(self, source: int, reason: int) -> None:
        super().__init__(f"the peer aborted the association (source {source}, reason {reason})")


class Association:
    """Messages on accepted presentation contexts; `peer_max_pdu` 0 means that the peer takes any length."""

    def __init__(
        self, connection: Connection, contexts: Mapping[int, Context], max_pdu: int, peer_max_pdu: int
    ) -> None:
        if 0 < peer_max_pdu < 14:
            raise Violation(INVALID_PARAMETER, "the peer takes no PDU that could hold anything")
        self.connection = connection
        self.contexts = contexts
        self.fragment = min(peer_max_pdu - 6, MAX_FRAGMENT) & ~1 if peer_max_pdu else MAX_FRAGMENT
        self.lock = threading.Lock()
        self.on_report_answer: Callable[[Command], None] | None = None
        """Is given the answers to notifications that were sent beside what the reading thread serves."""
        self._longest = max_pdu + _SLACK
        self._left = 0
        """Bytes of the current P-DATA-TF that were not read yet."""

    def receive_command(self, idle: float = 0.0) -> tuple[Context, Command]:
        """Return the next command set; its data set, if any, must be read before the next call.

        `idle` seconds of silence are allowed before it, none means as long as any other silence.

        Raises:
            Released, Aborted, Violation, Closed, Silent
        """
        if idle and not self._left:
            self._await(idle)
        context_id, flags, length = self._next_pdv()
        data = b""
        while True:
            if not flags & _COMMAND:
                raise Violation(INVALID_PARAMETER, "a data set came where a command was due")
            if len(data) + length > MAX_COMMAND:
                raise Violation(INVALID_PARAMETER, "the command set is too long")
            data += self.connection.read(length)
            if flags & _LAST:
                break
            following, flags, length = self._next_pdv()
            if following != context_id:
                raise Violation(INVALID_PARAMETER, "a command set changes its presentation context")
        try:
            return self._context(context_id), decode_command(data)
        except ValueError as error:
            raise Violation(INVALID_PARAMETER, str(error)) from None

    def took_answer(self, context: Context, command: Command) -> bool:
        """Hand over a response to a notification, its data set dropped; say whether the command was one."""
        if command.CommandField != _REPORT_ANSWER:
            return False
        if command.has_data_set:
            self.skip_data_set(context)
        if self.on_report_answer:
            self.on_report_answer(command)
        return True

    def next_fragment(self, context: Context) -> tuple[int, bool]:
        """Return the length of the data set's next fragment and whether it is the last; read it then."""
        context_id, flags, length = self._next_pdv()
        if flags & _COMMAND or context_id != context.id:
            raise Violation(INVALID_PARAMETER, "a data set is interrupted by another message")
        return length, bool(flags & _LAST)

    def receive_data_set(self, context: Context, limit: int) -> bytes | None:
        """Return a small data set, or None if it was longer than `limit` (and was dropped)."""
        data: bytearray | None = bytearray()
        is_last = False
        while not is_last:
            length, is_last = self.next_fragment(context)
            if data is not None and len(data) + length <= limit:
                data += self.connection.read(length)
            else:
                data = None
                self.connection.skip(length)
        return None if data is None else bytes(data)

    def skip_data_set(self, context: Context) -> None:
        """Read a data set and drop it."""
        is_last = False
        while not is_last:
            length, is_last = self.next_fragment(context)
            self.connection.skip(length)

    def message(self, context: Context, command: bytes, data: bytes | None = None) -> list[Buffer]:
        """Return a message as the PDUs to send; command and data set never share one."""
        buffers = fragments(context.id, _COMMAND, command, self.fragment)
        if data is not None:
            buffers += fragments(context.id, 0, data, self.fragment)
        return buffers

    def send(self, context: Context, command: bytes, data: bytes | None = None) -> None:
        """Send one message."""
        with self.lock:
            self.connection.send(self.message(context, command, data))

    def release(self) -> None:
        """Release as the requestor; return when the peer agreed: PS3.8 9.2 Sta7 to Sta12 with collision.

        Raises:
            Aborted, Violation, Closed, Silent
        """
        with self.lock:
            self.connection.send([RELEASE_REQUEST])
        deadline = time.monotonic() + _RELEASING
        while True:
            kind, length = HEADER.unpack(self.connection.read(6))
            if kind == P_DATA_TF and length <= self._longest and time.monotonic() < deadline:
                self.connection.skip(length)
            elif kind == RELEASE_RQ and length == 4:
                self.connection.skip(4)
                self.connection.send([RELEASE_RESPONSE])
            elif kind == RELEASE_RP and length == 4:
                self.connection.skip(4)
                return
            else:
                self._raise_for(kind, length)

    def abort(self, source: int = 0, reason: int = 0) -> None:
        """Send A-ABORT, if it can be sent; never raises."""
        is_ours = self.lock.acquire(timeout=0.02)
        try:
            if is_ours and self.connection.is_writable():
                self.connection.send([encode_abort(source, reason)])
        except (Closed, Silent):
            pass
        finally:
            if is_ours:
                self.lock.release()

    def _await(self, idle: float) -> None:
        deadline = time.monotonic() + idle
        while True:
            try:
                return self.connection.await_input(6)
            except Silent:
                if time.monotonic() >= deadline:
                    raise

    def _context(self, context_id: int) -> Context:
        context = self.contexts.get(context_id)
        if context is None:
            raise Violation(INVALID_PARAMETER, "a message came on a context that was not accepted")
        return context

    def _next_pdv(self) -> tuple[int, int, int]:
        if not self._left:
            self._next_pdu()
        length, context_id, flags = PDV.unpack(self.connection.read(6))
        self._left -= length + 4
        if length < 2 or self._left < 0 or 0 < self._left < 6:
            raise Violation(INVALID_PARAMETER, "a presentation data value does not fit its PDU")
        return context_id, flags, length - 2

    def _next_pdu(self) -> None:
        kind, length = HEADER.unpack(self.connection.read(6))
        if kind != P_DATA_TF:
            self._raise_for(kind, length)
        if not 6 <= length <= self._longest:
            raise Violation(INVALID_PARAMETER, f"a P-DATA-TF of {length} bytes came")
        self._left = length

    def _raise_for(self, kind: int, length: int) -> None:
        if kind in (RELEASE_RQ, RELEASE_RP, ABORT):
            if length != 4:
                raise Violation(INVALID_PARAMETER, f"PDU {kind:02X} has a wrong length")
            body = self.connection.read(4)
            if kind == RELEASE_RQ:
                raise Released
            if kind == ABORT:
                raise Aborted(body[2], body[3])
        if kind in (RELEASE_RP, ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA_TF):
            raise Violation(UNEXPECTED_PDU, f"PDU {kind:02X} came at the wrong time")
        raise Violation(UNRECOGNIZED_PDU, f"unknown PDU {kind:02X}")


def fragments(context_id: int, kind: int, data: Buffer, limit: int) -> list[Buffer]:
    """Return data as P-DATA-TF PDUs of one fragment each, at most `limit` bytes; kind 1 is a command."""
    length = len(data)
    if length <= limit:
        return [P_DATA.pack(P_DATA_TF, length + 6, length + 2, context_id, kind | _LAST), data]
    view = memoryview(data)
    buffers: list[Buffer] = []
    for start in range(0, length, limit):
        part = view[start : start + limit]
        flags = kind | _LAST if start + limit >= length else kind
        buffers += P_DATA.pack(P_DATA_TF, len(part) + 6, len(part) + 2, context_id, flags), part
    return buffers
