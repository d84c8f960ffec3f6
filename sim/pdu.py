"""PDUs (PS3.8), command sets (PS3.7) and identifiers as bytes: as much of them as one SCU needs."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from pydicom.datadict import tag_for_keyword

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
MAXIMUM_LENGTH: Final = 131072

_ADDRESS: Final = re.compile(r"([^@\\]{1,16})@(?:(.+):)?(\d{1,5})")

Command = Mapping[int, bytes]
"""Elements of group 0000 by element number, as encoded."""


class Address(NamedTuple):
    """Where an Application Entity listens; on this machine if no host is said."""

    ae_title: str
    port: int
    host: str = "127.0.0.1"

    @classmethod
    def read(cls, text: str) -> Address:
        """Read `AE@host:port`, or `AE@port` for this machine.

        Raises:
            ValueError: it is not of this form.
        """
        matched = _ADDRESS.fullmatch(text.strip())
        if not matched or not 0 < int(matched[3]) < 65536:
            raise ValueError(
                f"{text!r} is not an address. Write AE@host:port, for example ORTHANC@pacs:4242."
            )
        return cls(matched[1], int(matched[3]), (matched[2] or "127.0.0.1").strip("[]"))

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


class ProtocolError(Exception):
    """The peer refused, broke off, or answered what PS3.7 and PS3.8 do not allow here."""


class Closed(ProtocolError):
    """The peer closed the connection in the middle."""


class Aborted(ProtocolError):
    """The peer sent an A-ABORT."""


RELEASE_RQ: Final = struct.pack(">BBII", 0x05, 0, 4, 0)


def encode_us(value: int) -> bytes:
    return struct.pack("<H", value)


def encode_uid(uid: str) -> bytes:
    return uid.encode("ascii") + b"\0" * (len(uid) % 2)


REQUEST: Final = {0x0110: encode_us(1), 0x0700: encode_us(0), 0x0800: encode_us(0x0000)}
"""MessageID, Priority MEDIUM, CommandDataSetType: there is one (PS3.7 Annex E)."""


def status_of(command: Command) -> int:
    if 0x0900 not in command:
        raise ProtocolError("A request came where a response was due.")
    return int.from_bytes(command[0x0900], "little")


def encode_command(command: Command) -> bytes:
    """A command set: group 0000 in Implicit VR Little Endian (PS3.7 6.3.1)."""
    body = b"".join(struct.pack("<HHI", 0, tag, len(v)) + v for tag, v in sorted(command.items()))
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def decode_command(data: bytes) -> dict[int, bytes]:
    command, at = {}, 0
    while at + 8 <= len(data):
        _, element, length = struct.unpack_from("<HHI", data, at)
        command[element] = data[at + 8 : at + 8 + length]
        at += 8 + length
    return command


def p_data(context: int, control: int, data: bytes) -> bytes:
    return struct.pack(">BBIIBB", 0x04, 0, len(data) + 6, len(data) + 2, context, control) + data


def fragments(pdu: tuple[int, memoryview]) -> Iterator[tuple[int, int, memoryview]]:
    pdu_type, field = pdu
    if pdu_type != 0x04:
        raise ProtocolError(f"A PDU of type {pdu_type:02X} came where P-DATA was due.")
    at = 0
    while at < len(field):
        if at + 6 > len(field):
            raise ProtocolError("A P-DATA came whose parts are longer than it is.")
        length, context, control = struct.unpack_from(">IBB", field, at)
        yield context, control, field[at + 6 : at + 4 + length]
        at += 4 + length


def item(item_type: int, value: bytes) -> bytes:
    return struct.pack(">BBH", item_type, 0, len(value)) + value


def associate_rq(
    address: Address,
    calling: str,
    proposed: Mapping[int, tuple[str, str]],
    receives: Iterable[str],
    relational: Iterable[str] = (),
) -> bytes:
    """A-ASSOCIATE-RQ (PS3.8 Table 9-11); `proposed` is context id → abstract and transfer syntax.

    What it `receives` gets the SCP role by role selection (PS3.7 Table D.3-9); for those that are
    `relational`, relational queries are proposed (PS3.4 C.5.1).
    """
    contexts = b"".join(
        item(0x20, bytes((id, 0, 0, 0)) + item(0x30, abstract.encode()) + item(0x40, transfer.encode()))
        for id, (abstract, transfer) in proposed.items()
    )
    user = item(0x51, struct.pack(">I", MAXIMUM_LENGTH)) + item(0x52, b"2.25.1642172182192202212222232242")
    for uid in receives:
        user += item(0x54, struct.pack(">H", len(uid)) + uid.encode() + b"\0\1")
    for uid in relational:
        user += item(0x56, struct.pack(">H", len(uid)) + uid.encode() + b"\1")
    field = struct.pack(">HH16s16s32x", 1, 0, address.ae_title.encode().ljust(16), calling.encode().ljust(16))
    field += item(0x10, APPLICATION_CONTEXT.encode()) + contexts + item(0x50, user)
    return struct.pack(">BBI", 0x01, 0, len(field)) + field


_REJECTIONS: Final = {
    (1, 3): " because it does not recognize our AE title (--calling)",
    (1, 7): " because it does not recognize the AE title that it was called by",
    (3, 1): " because it has too much to do",
    (3, 2): " because it has as many associations as it may",
}
"""Source and reason → what they mean (PS3.8 Table 9-21)."""


def read_associate_ac(pdu: tuple[int, memoryview]) -> tuple[set[int], int]:
    """Accepted presentation context ids and the peer's Maximum Length, PS3.8 Table 9-17."""
    pdu_type, field = pdu
    if pdu_type == 0x03:
        numbers = tuple(field[1:4])
        why = _REJECTIONS.get((field[2], field[3]), "")
        raise ProtocolError(f"The association was rejected{why}: result, source, reason {numbers}.")
    if pdu_type != 0x02:
        raise ProtocolError(f"A PDU of type {pdu_type:02X} came where A-ASSOCIATE-AC was due.")
    accepted, maximum = set(), 0
    for item_type, value in items(field[68:]):
        if item_type == 0x21 and bytes(value[2:3]) == b"\0":
            accepted.add(value[0])
        elif item_type == 0x50:
            maximum = next((int.from_bytes(v, "big") for t, v in items(value) if t == 0x51), 0)
    return accepted, maximum


def items(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield data[at], data[at + 4 : at + 4 + length]
        at += 4 + length


def identifier(level: str, **keys: str) -> bytes:
    """An Identifier in Implicit VR Little Endian: the level and keys by keyword, ASCII only."""
    elements = []
    for keyword, value in {"QueryRetrieveLevel": level, **keys}.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"{keyword} is not the keyword of a Data Element.")
        padding = b"\0" if keyword.endswith("UID") else b" "
        encoded = value.encode("ascii") + padding * (len(value) % 2)
        elements.append((tag, struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(encoded)) + encoded))
    return b"".join(element for _, element in sorted(elements))


def value(identifier: bytes, keyword: str) -> str:
    """The value of a key in an Identifier without sequences, padding removed; empty if it is not there."""
    wanted, at = tag_for_keyword(keyword), 0
    while at + 8 <= len(identifier):
        group, element, length = struct.unpack_from("<HHI", identifier, at)
        if (group << 16) + element == wanted:
            return identifier[at + 8 : at + 8 + length].decode("latin_1").strip("\0 ")
        at += 8 + length
    return ""
