"""A small SCU on a bare socket, so that what is measured is the server and not the client.

One association, one operation at a time, everything read into one reused buffer and data sets dropped where
nobody asked for them: an answer costs the client a few microseconds and an instance of any size no memory.
It knows nothing of the node's own engine, which it is there to measure.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from hashlib import sha256
from types import TracebackType
from typing import Final, NamedTuple, Self

from .pdu import (
    MAXIMUM_LENGTH,
    RELEASE_RQ,
    REQUEST,
    Aborted,
    Address,
    Closed,
    Command,
    ProtocolError,
    associate_rq,
    decode_command,
    encode_command,
    encode_uid,
    encode_us,
    fragments,
    p_data,
    read_associate_ac,
    status_of,
    value,
)
from .phantoms import Instance
from .secure import Secure
from .wire import Wire

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
VERIFICATION: Final = "1.2.840.10008.1.1"
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
COMMITMENT: Final = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
_IN_ONE_PIECE: Final = 4096
PENDING: Final = (0xFF00, 0xFF01)
_ERROR_COMMENT: Final = 0x0902
_ALERT: Final = 0x15
"""What begins an alert of TLS (RFC 8446 5.1), and no PDU."""


class Retrieved(NamedTuple):
    """What a C-GET brought: instances, bytes of their data sets, the final status."""

    instances: int
    size: int
    status: int


class Moved(NamedTuple):
    """What the final response of a C-MOVE says: sub-operations by how they ended, and the status."""

    completed: int
    failed: int
    warning: int
    status: int
    is_counted: bool = True
    """Whether it says how many were completed, which it need not (PS3.7 9.1.4.1)."""


class Association:
    """One association, open while the object is used as a context manager.

    Proposes Implicit VR Little Endian for the SOP classes of `services`, and Explicit VR, in which phantoms
    are written, for those it `sends` or, in the SCP role, `receives`; with another transfer syntax if it
    is named with them. `is_relational` proposes relational queries; `secure` has all of it encrypted.

    Raises:
        ProtocolError: the peer rejected the association or accepted no presentation context.
        OSError: nobody listens there, or nothing came for `timeout` seconds, or too little to speak of.
    """

    def __init__(
        self,
        address: Address,
        services: Iterable[str] = (),
        sends: Iterable[str | tuple[str, str]] = (),
        receives: Iterable[str | tuple[str, str]] = (),
        calling: str = "BENCHSCU",
        timeout: float = 120.0,
        is_relational: bool = False,
        secure: Secure | None = None,
    ) -> None:
        connected = socket.create_connection((address.host, address.port), timeout)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wire = Wire(secure.wrap(connected, address.host) if secure else connected, timeout)
        self._view = memoryview(bytearray(1 << 18))
        self._start = self._end = 0
        self._fragments: list[tuple[int, int, memoryview]] = []
        pairs = [(uid, IMPLICIT) for uid in services]
        pairs += [(each, EXPLICIT) if isinstance(each, str) else each for each in (*sends, *receives)]
        proposed = {2 * n + 1: context for n, context in enumerate(dict.fromkeys(pairs))}
        taken = dict.fromkeys(each if isinstance(each, str) else each[0] for each in receives)
        relational = services if is_relational else ()
        try:
            self._wire.sendall(associate_rq(address, calling, proposed, taken, relational))
            accepted, self._peer_maximum = read_associate_ac(self._read_pdu())
        except (Closed, Aborted, ssl.SSLError, ConnectionError) as error:
            self._wire.close()
            raise ProtocolError(_unanswered(error, secure, address.host)) from error
        except BaseException:
            self._wire.close()
            raise
        self._contexts = {pair: id for id, pair in proposed.items() if id in accepted}
        if not self._contexts:
            self._wire.close()
            raise ProtocolError(f"{address.ae_title} accepted none of {sorted({uid for uid, _ in pairs})}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._wire.begin()
                self._wire.sendall(RELEASE_RQ)
                self._read_pdu()
        finally:
            self._wire.close()

    def echo(self) -> int:
        """Return the status of a C-ECHO."""
        command = {
            0x0002: encode_uid(VERIFICATION),
            0x0100: encode_us(0x0030),
            0x0110: encode_us(1),
            0x0800: encode_us(0x0101),
        }
        self._send(self._context(VERIFICATION), command)
        return status_of(self._read_command()[1])

    def find(self, identifier: bytes) -> list[bytes]:
        """Return the Identifiers of all matches (Implicit VR), asked in Study Root with `identifier`.

        Raises:
            ProtocolError: the final status was not 0000.
        """
        command = {0x0002: encode_uid(STUDY_ROOT_FIND), 0x0100: encode_us(0x0020), **REQUEST}
        self._send(self._context(STUDY_ROOT_FIND), command, identifier)
        answers: list[bytes] = []
        while True:
            received = self._read_command()[1]
            status = status_of(received)
            if status not in PENDING:
                break
            answer = bytearray()
            self._read_data_set(answer.extend)
            answers.append(bytes(answer))
            self._wire.went_on()
        if status:
            comment = received.get(_ERROR_COMMENT, b"").decode("ascii", "replace").strip(" \0")
            said = f', and said "{comment}"' if comment else ""
            raise ProtocolError(f"C-FIND ended with status {status:04X}{said}.")
        return answers

    def store(self, instance: Instance) -> int:
        """Return the status of a C-STORE; the data set is streamed."""
        command = {0x0002: encode_uid(instance.SOPClassUID), 0x0100: encode_us(0x0001), **REQUEST}
        context = self._context(instance.SOPClassUID, instance.TransferSyntaxUID)
        self._send(context, {**command, 0x1000: encode_uid(instance.SOPInstanceUID)})
        pieces = instance.data_set()
        for piece in pieces[:-1]:
            self._send_data_set(context, piece, is_last=False)
        self._send_data_set(context, pieces[-1], is_last=True)
        self._wire.begin()
        return status_of(self._read_command()[1])

    def move(self, identifier: bytes, destination: str, expected: int = 0) -> Moved:
        """Have it sent to the AE by C-MOVE in Study Root; the sub-operations are counted by the peer.

        Who does not say how far it came has more time where more bytes are `expected`.
        """
        command = {0x0002: encode_uid(STUDY_ROOT_MOVE), 0x0100: encode_us(0x0021), **REQUEST}
        title = destination.encode("ascii")
        command[0x0600] = title + b" " * (len(title) % 2)
        self._send(self._context(STUDY_ROOT_MOVE), command, identifier)
        self._wire.begin(expected)
        ended = 0
        while True:
            _, received = self._read_command()
            if received.get(0x0800) != encode_us(0x0101):
                self._read_data_set(lambda part: None)
            completed, failed, warning = (
                int.from_bytes(received.get(tag, b""), "little") for tag in (0x1021, 0x1022, 0x1023)
            )
            if completed + failed + warning > ended:
                ended = completed + failed + warning
                self._wire.begin(expected)
            if (status := status_of(received)) not in PENDING:
                return Moved(completed, failed, warning, status, 0x1021 in received)

    def get(self, identifier: bytes, digests: list[str] | None = None) -> Retrieved:
        """Receive by C-GET in Study Root, keeping nothing but SHA-256 digests if they are wanted."""
        command = {0x0002: encode_uid(STUDY_ROOT_GET), 0x0100: encode_us(0x0010), **REQUEST}
        self._send(self._context(STUDY_ROOT_GET), command, identifier)
        count = size = 0
        while True:
            context, received = self._read_command()
            if received[0x0100] != encode_us(0x0001):
                if (status := status_of(received)) not in PENDING:
                    return Retrieved(count, size, status)
                continue
            digest = sha256()
            size += self._read_data_set((lambda part: None) if digests is None else digest.update)
            count += 1
            self._wire.went_on()
            if digests is not None:
                digests.append(digest.hexdigest())
            response = {0x0002: received[0x0002], 0x0100: encode_us(0x8001), 0x0120: received[0x0110]}
            response |= {0x0800: encode_us(0x0101), 0x0900: encode_us(0), 0x1000: received[0x1000]}
            self._wire.sendall(p_data(context, 0x03, encode_command(response)))

    def commit(self, request: bytes) -> tuple[int, bytes]:
        """Ask for commitment, wait for the result, acknowledge it; return Event Type ID and its data set.

        Raises:
            ProtocolError: the request was refused.
        """
        command = {0x0003: encode_uid(COMMITMENT), 0x0100: encode_us(0x0130), 0x0110: encode_us(1)}
        command |= {0x0800: encode_us(0), 0x1001: encode_uid(COMMITMENT_INSTANCE), 0x1008: encode_us(1)}
        self._send(self._context(COMMITMENT), command, request)
        wanted = value(request, "TransactionUID")
        is_taken, told = False, None
        while told is None or not is_taken:
            context, received = self._read_command()
            if received[0x0100] == encode_us(0x0100):
                result = self._take_report(context, received)
                # It may be of an earlier request, which had its end meanwhile (PS3.4 J.3.3).
                if value(result, "TransactionUID") == wanted:
                    told = int.from_bytes(received[0x1002], "little"), result
            elif status := status_of(received):
                raise ProtocolError(f"N-ACTION ended with status {status:04X}.")
            else:
                is_taken = True
                self._wire.begin()
        return told

    def _take_report(self, context: int, report: dict[int, bytes]) -> bytes:
        """Acknowledge an N-EVENT-REPORT; return its data set."""
        result = bytearray()
        self._read_data_set(result.extend)
        answer = {0x0002: encode_uid(COMMITMENT), 0x0100: encode_us(0x8100), 0x0120: report[0x0110]}
        answer |= {0x0800: encode_us(0x0101), 0x0900: encode_us(0)}
        self._wire.sendall(p_data(context, 0x03, encode_command(answer)))
        return bytes(result)

    def _context(self, sop_class: str, syntax: str = "") -> int:
        for (uid, transfer), id in self._contexts.items():
            if uid == sop_class and syntax in ("", transfer):
                return id
        raise ProtocolError(f"The peer did not accept a presentation context for {sop_class}.")

    def _send(self, context: int, command: Command, identifier: bytes = b"") -> None:
        message = p_data(context, 0x03, encode_command(command))
        self._wire.begin()
        if len(identifier) > _IN_ONE_PIECE:
            self._wire.sendall(message)
            self._send_data_set(context, memoryview(identifier), is_last=True)
        else:
            self._wire.sendall(message + p_data(context, 0x02, identifier) if identifier else message)
        self._wire.begin()

    def _send_data_set(self, context: int, data: memoryview, is_last: bool) -> None:
        step = min(self._peer_maximum or MAXIMUM_LENGTH, MAXIMUM_LENGTH) - 6
        for start in range(0, len(data), step):
            part = data[start : start + step]
            control = 0x02 if is_last and start + step >= len(data) else 0x00
            header = struct.pack(">BBIIBB", 0x04, 0, len(part) + 6, len(part) + 2, context, control)
            self._wire.send_both(header, part)

    def _read_command(self) -> tuple[int, dict[int, bytes]]:
        """Presentation context and elements of the next command set; its data set is not read yet."""
        encoded = bytearray()
        context = self._read_fragments(encoded.extend, is_command=True)[0]
        return context, decode_command(bytes(encoded))

    def _read_data_set(self, take: Callable[[memoryview], None]) -> int:
        """Hand over the fragments of one data set; return its length in bytes."""
        return self._read_fragments(take, is_command=False)[1]

    def _read_fragments(self, take: Callable[[memoryview], None], is_command: bool) -> tuple[int, int]:
        """Read until the last fragment. A peer may put several PDVs in a PDU (PS3.8 Annex E)."""
        length = 0
        while True:
            while not self._fragments:
                self._fragments = list(fragments(self._read_pdu()))[::-1]
            context, control, part = self._fragments.pop()
            if bool(control & 0x01) != is_command:
                raise ProtocolError("A command fragment came where a data set was due, or the reverse.")
            take(part)
            length += len(part)
            if control & 0x02:
                return context, length

    def _read_pdu(self) -> tuple[int, memoryview]:
        """Type and variable field of the next PDU, in the buffer until the next call."""
        header = self._receive(6)
        pdu_type, length = header[0], int.from_bytes(header[2:6], "big")
        if pdu_type == _ALERT:
            raise ProtocolError("It speaks TLS at that port. Say --tls, or name its port without TLS.")
        if pdu_type == 0x07:
            raise Aborted("The peer aborted the association.")
        if length > len(self._view):
            raise ProtocolError(f"A PDU of {length} bytes came; {MAXIMUM_LENGTH} were agreed.")
        return pdu_type, self._receive(length)

    def _receive(self, length: int) -> memoryview:
        """Return the next bytes. As much as has come is taken from the kernel at once."""
        if self._end - self._start < length:
            self._fill(length)
        view = self._view[self._start : self._start + length]
        self._start += length
        return view

    def _fill(self, length: int) -> None:
        rest = self._end - self._start
        self._view[:rest] = self._view[self._start : self._end]
        self._start, self._end = 0, rest
        while self._end < length:
            count = self._wire.recv_into(self._view[self._end :])
            if not count:
                raise Closed("The peer closed the connection in the middle of a PDU.")
            self._end += count


def _unanswered(error: Exception, secure: Secure | None, host: str) -> str:
    """Say why a request for an association had no answer."""
    if secure and isinstance(error, ssl.SSLError):
        return secure.why(error, host)
    doubt = (
        "does it trust our certificate (--tls-cert)"
        if secure
        else "does it take DICOM at that port, without TLS"
    )
    return f"It closed the connection when it was asked for an association: {doubt}?"
