"""Command sets, PS3.7 Annex E.1: always Implicit VR Little Endian, so a table and two loops do."""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec

C_STORE_RQ: Final = 0x0001
C_GET_RQ: Final = 0x0010
C_FIND_RQ: Final = 0x0020
C_MOVE_RQ: Final = 0x0021
C_ECHO_RQ: Final = 0x0030
C_CANCEL_RQ: Final = 0x0FFF
N_EVENT_REPORT_RQ: Final = 0x0100
N_ACTION_RQ: Final = 0x0130
RESPONSE: Final = 0x8000
NO_DATA_SET: Final = 0x0101

MEDIUM: Final = 0
HIGH: Final = 1
LOW: Final = 2
"""Priority (0000,0700), PS3.7 Annex E.1."""


class Command(msgspec.Struct, frozen=True):
    """One command set; an element that is None is not there."""

    CommandField: int = 0
    MessageID: int | None = None
    MessageIDBeingRespondedTo: int | None = None
    CommandDataSetType: int = NO_DATA_SET
    AffectedSOPClassUID: str | None = None
    RequestedSOPClassUID: str | None = None
    MoveDestination: str | None = None
    Priority: int | None = None
    Status: int | None = None
    OffendingElement: bytes | None = None
    ErrorComment: str | None = None
    ErrorID: int | None = None
    AffectedSOPInstanceUID: str | None = None
    RequestedSOPInstanceUID: str | None = None
    EventTypeID: int | None = None
    ActionTypeID: int | None = None
    NumberOfRemainingSuboperations: int | None = None
    NumberOfCompletedSuboperations: int | None = None
    NumberOfFailedSuboperations: int | None = None
    NumberOfWarningSuboperations: int | None = None
    MoveOriginatorApplicationEntityTitle: str | None = None
    MoveOriginatorMessageID: int | None = None

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows."""
        return self.CommandDataSetType != NO_DATA_SET


_ELEMENTS: Final = """
0002 UI AffectedSOPClassUID
0003 UI RequestedSOPClassUID
0100 US CommandField
0110 US MessageID
0120 US MessageIDBeingRespondedTo
0600 AE MoveDestination
0700 US Priority
0800 US CommandDataSetType
0900 US Status
0901 AT OffendingElement
0902 LO ErrorComment
0903 US ErrorID
1000 UI AffectedSOPInstanceUID
1001 UI RequestedSOPInstanceUID
1002 US EventTypeID
1008 US ActionTypeID
1020 US NumberOfRemainingSuboperations
1021 US NumberOfCompletedSuboperations
1022 US NumberOfFailedSuboperations
1023 US NumberOfWarningSuboperations
1030 AE MoveOriginatorApplicationEntityTitle
1031 US MoveOriginatorMessageID
"""
"""PS3.7 Table E.1-1, in the order of the tags."""

_ROWS: Final = [
    (int(number, 16), vr, keyword)
    for number, vr, keyword in (row.split() for row in _ELEMENTS.split("\n") if row)
]
_BY_NUMBER: Final = {number: (vr, keyword) for number, vr, keyword in _ROWS}
_TAG_LENGTH: Final = struct.Struct("<HHI")
_US: Final = struct.Struct("<HHIH")
_GROUP_LENGTH: Final = struct.Struct("<HHII")


def encode_command(command: Command) -> bytes:
    """Return the command set as it goes into PDVs, group length first."""
    parts = []
    for number, vr, keyword in _ROWS:
        value = getattr(command, keyword)
        if value is None:
            continue
        if vr == "US":
            parts.append(_US.pack(0, number, 2, value))
            continue
        data = value if vr == "AT" else value.encode("ascii", "replace")
        if len(data) & 1:
            data += b"\0" if vr == "UI" else b" "
        parts.append(_TAG_LENGTH.pack(0, number, len(data)) + data)
    body = b"".join(parts)
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


def decode_command(data: bytes) -> Command:
    """Read a command set; elements of other groups and unknown ones are skipped.

    Raises:
        ValueError: an element does not fit, or has the wrong length.
    """
    values: dict[str, Any] = {}
    offset, end = 0, len(data)
    while offset < end:
        if offset + 8 > end:
            raise ValueError("a command element is cut off")
        group, number, length = _TAG_LENGTH.unpack_from(data, offset)
        offset += 8
        if offset + length > end:
            raise ValueError("a command element is longer than its command set")
        row = _BY_NUMBER.get(number)
        if row and not group:
            values[row[1]] = _decode(row[0], data[offset : offset + length])
        offset += length
    if "CommandField" not in values:
        raise ValueError("a command set has no Command Field")
    return Command(**values)


def error_comment(text: str) -> str | None:
    """Return the text as an Error Comment (0000,0902): one line of at most 64 characters, None if empty."""
    line = " ".join(text.split()).encode("ascii", "replace").decode("ascii").replace("\\", "/")
    return (line if len(line) <= 64 else line[:61] + "...") or None


def offending_element(tags: tuple[str, ...]) -> bytes | None:
    """Return tags of eight hexadecimal digits as the value of Offending Element (0000,0901)."""
    data = b"".join(struct.pack("<HH", int(tag[:4], 16), int(tag[4:8], 16)) for tag in tags if len(tag) == 8)
    return data or None


def _decode(vr: str, value: bytes) -> int | bytes | str | None:
    if vr == "US":
        if len(value) != 2:
            raise ValueError("a US command element has not two bytes")
        return value[0] | value[1] << 8
    if vr == "AT":
        return value
    return value.rstrip(b"\0 ").lstrip(b" ").decode("ascii", "replace") or None
