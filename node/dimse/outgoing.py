"""An instance on its way to a socket: one buffer, PDU headers between its parts, one call per buffer.

What lies in memory already is sent from there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from catalog import Damaged
from node.contracts import InMemory, Outgoing

from .association import Association
from .negotiation import Context
from .pdu import P_DATA, P_DATA_TF
from .transport import Buffer

BUFFER: Final = 1 << 20
Convert = Callable[[Outgoing, Collection[str]], Outgoing | None]
"""Takes an instance and the transfer syntaxes its receiver accepted; returns it in one of them, or None."""


class Sender:
    """Sends one instance after the other; the next may be loaded while the last one's answer is awaited."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(BUFFER))
        self._loaded: Outgoing | None = None
        self._part = self._buffer[:0]
        """What is to be sent next of it: in the buffer, or where it lies in memory."""

    def load(self, outgoing: Outgoing) -> None:
        """Read the first part of an instance, unless that was done.

        Raises:
            Damaged: it is shorter than it should be.
        """
        if self._loaded is not outgoing:
            self._loaded = None
            self._part = self._next(outgoing, 0)
            self._loaded = outgoing

    def send(self, association: Association, context: Context, command: bytes, outgoing: Outgoing) -> None:
        """Send a C-STORE-RQ and the data set as stored, whole before anybody else sends.

        Raises:
            Damaged: it ended early; before the first byte went out, or the association must be aborted.
            Closed, Silent
        """
        self.load(outgoing)
        self._loaded = None
        size, fragment = outgoing.size, association.fragment
        with association.lock:
            buffers = association.message(context, command)
            sent, part, self._part = 0, self._part, self._buffer[:0]
            while True:
                is_last = sent + len(part) >= size
                usable = len(part) if is_last else len(part) // fragment * fragment
                buffers += _parts(context.id, fragment, part[:usable], is_last)
                association.connection.send(buffers)
                sent += usable
                if is_last:
                    return
                buffers = []
                part = self._next(outgoing, sent)

    def _next(self, outgoing: Outgoing, offset: int) -> memoryview:
        """Return the data set from an offset on, as far as one call sends it."""
        held = outgoing.view() if isinstance(outgoing, InMemory) else None
        if held is not None:
            if len(held) != outgoing.size:
                raise Damaged(f"Instance {outgoing.SOPInstanceUID} is not as long as it should be.")
            return held[offset : offset + BUFFER]
        return self._buffer[: self._read(outgoing, offset, self._buffer)]

    def _read(self, outgoing: Outgoing, offset: int, buffer: memoryview) -> int:
        count = min(outgoing.size - offset, len(buffer))
        done = 0
        while done < count:
            step = outgoing.read_into(buffer[done:count], offset + done)
            if not step:
                raise Damaged(f"Instance {outgoing.SOPInstanceUID} ends early.")
            done += step
        return count


def _parts(context_id: int, fragment: int, part: memoryview, is_last: bool) -> list[Buffer]:
    """Return a part of a data set with PDU headers between its pieces."""
    count = len(part)
    parts: list[Buffer] = []
    header: Buffer = P_DATA.pack(P_DATA_TF, fragment + 6, fragment + 2, context_id, 0)
    whole = (count - 1) // fragment if is_last and count else count // fragment
    for start in range(0, whole * fragment, fragment):
        parts += (header, part[start : start + fragment])
    if is_last:
        rest = count - whole * fragment
        parts.append(P_DATA.pack(P_DATA_TF, rest + 6, rest + 2, context_id, 2))
        parts.append(part[count - rest : count])
    return parts
