"""Protocol Data Units as bytes: PS3.8 9.3 and the user information sub-items of PS3.7 Annex D.

Written here rather than taken from pynetdicom: an A-ASSOCIATE-RQ with 120 presentation contexts is read in
a tenth of the time, unknown items are skipped as PS3.8 9.3.1 asks, and pynetdicom stays an independent
peer in the tests.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from .transport import Ended

ASSOCIATE_RQ: Final = 0x01
ASSOCIATE_AC: Final = 0x02
ASSOCIATE_RJ: Final = 0x03
P_DATA_TF: Final = 0x04
RELEASE_RQ: Final = 0x05
RELEASE_RP: Final = 0x06
ABORT: Final = 0x07

HEADER: Final = struct.Struct(">BxI")
PDV: Final = struct.Struct(">IBB")
P_DATA: Final = struct.Struct(">BxIIBB")
RELEASE_REQUEST: Final = HEADER.pack(RELEASE_RQ, 4) + bytes(4)
RELEASE_RESPONSE: Final = HEADER.pack(RELEASE_RP, 4) + bytes(4)
DICOM_APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"

# Reasons of an A-ABORT by the service provider, PS3.8 Table 9-26.
NOT_SPECIFIED: Final = 0
UNRECOGNIZED_PDU: Final = 1
UNEXPECTED_PDU: Final = 2
UNEXPECTED_PARAMETER: Final = 5
INVALID_PARAMETER: Final = 6

_ITEM: Final = struct.Struct(">BxH")
_FIXED: Final = struct.Struct(">Hxx16s16s32x")


class Violation(Ended):
    """The peer broke PS3.8; `reason` is what A-ABORT will say (Table 9-26)."""

    def __init__(self, reason: int, why: str) -> None:
        super().__init__(why)
        self.reason = reason


class ProposedContext(NamedTuple):
    """Presentation Context Item of an A-ASSOCIATE-RQ, PS3.8 9.3.2.2."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


class ContextResult(NamedTuple):
    """Presentation Context Item of an A-ASSOCIATE-AC, PS3.8 9.3.3.2."""

    id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class UserInformation:
    """The sub-items of PS3.7 Annex D.3.3 that mean something to us."""

    max_pdu: int = 0
    implementation_class: str = ""
    implementation_version: str = ""
    roles: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    """SOP Class to (SCU role, SCP role) of the requestor."""
    extended: Mapping[str, bytes] = field(default_factory=dict)
    """SOP Class to Service-class-application-information."""
    async_window: tuple[int, int] | None = None
    identity_type: int = 0
    """User-Identity-Type, 0 when there is none; what identifies the user is not kept."""


@dataclass(frozen=True, slots=True)
class Associate:
    """An A-ASSOCIATE-RQ or -AC."""

    called_ae: str
    calling_ae: str
    proposed: tuple[ProposedContext, ...] = ()
    results: tuple[ContextResult, ...] = ()
    user: UserInformation = UserInformation()
    protocol_version: int = 1
    application_context: str = DICOM_APPLICATION_CONTEXT


def encode_associate(associate: Associate, pdu_type: int) -> bytes:
    """Return the A-ASSOCIATE-RQ or -AC as bytes, PS3.8 9.3.2 and 9.3.3."""
    parts = [_FIXED.pack(1, _title(associate.called_ae), _title(associate.calling_ae))]
    parts.append(_item(0x10, associate.application_context.encode("ascii")))
    for proposed in associate.proposed:
        syntaxes = [_item(0x40, uid.encode("ascii")) for uid in proposed.transfer_syntaxes]
        abstract = _item(0x30, proposed.abstract_syntax.encode("ascii"))
        parts.append(_item(0x20, bytes((proposed.id, 0, 0, 0)) + abstract + b"".join(syntaxes)))
    for result in associate.results:
        syntax = _item(0x40, result.transfer_syntax.encode("ascii", "replace"))
        parts.append(_item(0x21, bytes((result.id, 0, result.result, 0)) + syntax))
    parts.append(_item(0x50, _encode_user(associate.user)))
    body = b"".join(parts)
    return HEADER.pack(pdu_type, len(body)) + body


def decode_associate(body: bytes) -> Associate:
    """Read an A-ASSOCIATE-RQ or -AC without its six header bytes.

    Raises:
        Violation: an item does not fit, or the presentation contexts contradict PS3.8 9.3.2.2.
    """
    if len(body) < 68:
        raise Violation(INVALID_PARAMETER, "the A-ASSOCIATE PDU is too short")
    version, called, calling = _FIXED.unpack_from(body)
    application_context = ""
    proposed: list[ProposedContext] = []
    results: list[ContextResult] = []
    user = UserInformation()
    for kind, value in _items(body[68:]):
        if kind == 0x10:
            application_context = _uid(value)
        elif kind == 0x20:
            proposed.append(_decode_proposed(value))
        elif kind == 0x21:
            results.append(_decode_result(value))
        elif kind == 0x50:
            user = _decode_user(value)
    ids = [context.id for context in proposed]
    if len(set(ids)) < len(ids) or any(not id & 1 for id in ids):
        raise Violation(INVALID_PARAMETER, "a presentation context ID is even or used twice")
    if not proposed and not results:
        raise Violation(INVALID_PARAMETER, "it has no presentation context")
    return Associate(
        _text(called), _text(calling), tuple(proposed), tuple(results), user, version, application_context
    )


def encode_reject(result: int, source: int, reason: int) -> bytes:
    """Return an A-ASSOCIATE-RJ, PS3.8 9.3.4."""
    return HEADER.pack(ASSOCIATE_RJ, 4) + bytes((0, result, source, reason))


def encode_abort(source: int, reason: int) -> bytes:
    """Return an A-ABORT, PS3.8 9.3.8; source 0 is the service user, 2 the service provider."""
    return HEADER.pack(ABORT, 4) + bytes((0, 0, source, reason))


def _encode_user(user: UserInformation) -> bytes:
    parts = [_item(0x51, user.max_pdu.to_bytes(4, "big"))]
    parts.append(_item(0x52, user.implementation_class.encode("ascii")))
    if user.async_window:
        parts.append(_item(0x53, struct.pack(">HH", *user.async_window)))
    for uid, (is_scu, is_scp) in user.roles.items():
        parts.append(_item(0x54, _counted(uid) + bytes((is_scu, is_scp))))
    if user.implementation_version:
        parts.append(_item(0x55, user.implementation_version.encode("ascii")[:16]))
    parts.extend(_item(0x56, _counted(uid) + info) for uid, info in user.extended.items())
    return b"".join(parts)


def _decode_user(data: bytes) -> UserInformation:
    max_pdu = identity = 0
    implementation_class = implementation_version = ""
    roles: dict[str, tuple[bool, bool]] = {}
    extended: dict[str, bytes] = {}
    window: tuple[int, int] | None = None
    for kind, value in _items(data):
        if kind == 0x51:
            max_pdu = int.from_bytes(_exactly(value, 4), "big")
        elif kind == 0x52:
            implementation_class = _uid(value)
        elif kind == 0x53:
            window = struct.unpack(">HH", _exactly(value, 4))
        elif kind == 0x54:
            uid, rest = _uncounted(value)
            roles[uid] = (bool(_exactly(rest, 2)[0]), bool(rest[1]))
        elif kind == 0x55:
            implementation_version = _text(value)
        elif kind == 0x56:
            uid, extended_info = _uncounted(value)
            extended[uid] = extended_info
        elif kind == 0x58:
            identity = value[0] if value else 0
    return UserInformation(
        max_pdu, implementation_class, implementation_version, roles, extended, window, identity
    )


def _decode_proposed(value: bytes) -> ProposedContext:
    abstract_syntax = ""
    transfer_syntaxes = []
    for kind, uid in _items(value[4:]):
        if kind == 0x30:
            abstract_syntax = _uid(uid)
        elif kind == 0x40:
            transfer_syntaxes.append(_uid(uid))
    if not abstract_syntax or not transfer_syntaxes:
        raise Violation(INVALID_PARAMETER, "a presentation context lacks its syntaxes")
    return ProposedContext(value[0], abstract_syntax, tuple(transfer_syntaxes))


def _decode_result(value: bytes) -> ContextResult:
    if len(value) < 4:
        raise Violation(INVALID_PARAMETER, "a presentation context result is too short")
    syntaxes = [_uid(uid) for kind, uid in _items(value[4:]) if kind == 0x40]
    return ContextResult(value[0], value[2], syntaxes[0] if syntaxes else "")


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset, end = 0, len(data)
    while offset < end:
        if offset + 4 > end:
            raise Violation(INVALID_PARAMETER, "an item is cut off")
        kind, length = _ITEM.unpack_from(data, offset)
        offset += 4
        if offset + length > end:
            raise Violation(INVALID_PARAMETER, "an item is longer than what holds it")
        yield kind, data[offset : offset + length]
        offset += length


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def _exactly(value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise Violation(INVALID_PARAMETER, "a sub-item has the wrong length")
    return value


def _counted(uid: str) -> bytes:
    return len(uid).to_bytes(2, "big") + uid.encode("ascii")


def _uncounted(value: bytes) -> tuple[str, bytes]:
    length = int.from_bytes(value[:2], "big")
    if len(value) < 2 + length:
        raise Violation(INVALID_PARAMETER, "a UID is longer than its sub-item")
    return _uid(value[2 : 2 + length]), value[2 + length :]


def _uid(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii", "replace")


def _title(ae_title: str) -> bytes:
    return ae_title.encode("ascii", "replace")[:16].ljust(16)


def _text(value: bytes) -> str:
    """Spaces around an AE title mean nothing; what cannot be printed must not reach a log."""
    text = value.decode("ascii", "replace").strip(" \0")
    return "".join(letter if letter.isprintable() and letter.isascii() else "?" for letter in text)
