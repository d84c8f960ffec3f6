"""What stands in front of each object in a segment: a ustar header that GNU tar reads and a catalog can be
made from.

Objects are `ab/<sha256>.dcm`, decisions `decisions/<id>.json`, removed objects `deleted/<sha256>.dcm`. The
header also carries when the object came (mtime, with the milliseconds in devminor, which tar ignores for
files), from whom (uname) and whether it waits for a release (gname). The link name, unused for files, holds
the segment's random stamp, so that bytes inside an object can never pass for a member, a CRC of the header,
because the sum that tar prescribes misses two errors that cancel out, and a decision's SHA-256.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from enum import StrEnum

BLOCK = 512
END = bytes(2 * BLOCK)
"""Two zero blocks end a tar."""

# IEEE Std 1003.1, pax, "ustar Interchange Format": name, mode, uid, gid, size, mtime, chksum, typeflag,
# linkname, magic, version, uname, gname, devmajor, devminor, prefix, and 12 unused bytes.
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_BLANK_SUM = b" " * 8
_SUM_AT = slice(148, 156)
_BLANK_CRC = b"-" * 8
_CRC_AT = slice(157 + 17, 157 + 25)
_ZERO = b"0000000\0"
_OCTAL_SIZE_LIMIT = 8**11
_HELD = b"held"
_NAME = re.compile(
    rb"(?:(?P<prefix>[0-9a-f]{2})/|(?P<deleted>deleted)/)(?P<sha256>[0-9a-f]{64})\.dcm"
    rb"|decisions/(?P<id>[A-Za-z0-9._-]{1,80})\.json"
)


class Kind(StrEnum):
    """What a member is."""

    OBJECT = "object"
    DECISION = "decision"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a segment, as its header says; `source`, `received` and `is_held` make it an Origin."""

    kind: Kind
    sha256: bytes
    size: int
    source: str
    received: int
    is_held: bool = False
    id: str = ""
    """Of a decision, else empty."""

    @property
    def length(self) -> int:
        """Bytes in the segment: header, data and padding."""
        return member_length(self.size)


def member_length(size: int) -> int:
    """Return how many bytes a file of `size` takes in a segment."""
    return BLOCK + size + -size % BLOCK


def is_decision_id(id: str) -> bool:
    """Say whether a member can be called by this id: 1 to 80 letters, digits, dots, dashes, underscores."""
    return _NAME.fullmatch(b"decisions/" + id.encode("utf-8", "replace") + b".json") is not None


def object_name(sha256: bytes) -> bytes:
    """Return the name of the member that holds these bytes."""
    name = sha256.hex()
    return f"{name[:2]}/{name}.dcm".encode()


def pack(member: Member, stamp: bytes) -> bytes:
    """Return the 512 header bytes of a member of the segment with this stamp (16 hexadecimal digits)."""
    seconds, milliseconds = divmod(max(member.received, 0), 1000)
    fields = [
        _name(member),
        b"0000644\0",
        _ZERO,
        _ZERO,
        _size(member.size),
        b"%011o\0" % seconds,
        _BLANK_SUM,
        b"0",
        b"%b %b %b" % (stamp, _BLANK_CRC, member.sha256.hex().encode() if member.id else b""),
        b"ustar\0",
        b"00",
        _short(member.source),
        _HELD if member.is_held else b"",
        _ZERO,
        b"%07o\0" % milliseconds,
        b"",
    ]
    header = bytearray(_HEADER.pack(*fields))
    header[_CRC_AT] = b"%08x" % zlib.crc32(header)
    header[_SUM_AT] = b"%06o\0 " % sum(header)
    return bytes(header)


def unpack(header: bytes, stamp: bytes = b"") -> tuple[Member, bytes] | None:
    """Return the member a header block states and its stamp, or None when it is not whole or not ours.

    With `stamp` only members that carry it count.
    """
    if len(header) != BLOCK or header[257:265] != b"ustar\00000" or not _is_intact(header):
        return None
    fields = _HEADER.unpack(header)
    name = _NAME.fullmatch(fields[0].rstrip(b"\0"))
    link = fields[8].rstrip(b"\0")
    try:
        seconds, milliseconds = int(fields[5][:11], 8), int(fields[14][:7], 8)
        size = _size_of(fields[4])
    except ValueError:
        return None
    if name is None or (stamp and link[:16] != stamp):
        return None
    id = (name["id"] or b"").decode()
    digest = link[26:] if id else name["sha256"]
    member = Member(
        kind=Kind.DECISION if id else Kind.DELETED if name["deleted"] else Kind.OBJECT,
        sha256=bytes.fromhex(digest.decode("ascii", "replace")) if len(digest) == 64 else b"",
        size=size,
        source=fields[11].rstrip(b"\0").decode("utf-8", "replace"),
        received=seconds * 1000 + milliseconds,
        is_held=fields[12].rstrip(b"\0") == _HELD,
        id=id,
    )
    return member, link[:16]


def _is_intact(header: bytes) -> bool:
    """Check both sums; each was taken while what it fills was blank."""
    blank = bytearray(header)
    blank[_SUM_AT] = _BLANK_SUM
    if header[_SUM_AT] != b"%06o\0 " % sum(blank):
        return False
    blank[_CRC_AT] = _BLANK_CRC
    return header[_CRC_AT] == b"%08x" % zlib.crc32(blank)


def _name(member: Member) -> bytes:
    match member.kind:
        case Kind.OBJECT:
            return object_name(member.sha256)
        case Kind.DECISION:
            return f"decisions/{member.id}.json".encode()
        case Kind.DELETED:
            return f"deleted/{member.sha256.hex()}.dcm".encode()


def _size(size: int) -> bytes:
    """Octal as ustar has it; above 8 GiB the base-256 form that GNU tar, bsdtar and Python share."""
    return b"%011o\0" % size if size < _OCTAL_SIZE_LIMIT else b"\x80" + size.to_bytes(11, "big")


def _size_of(field: bytes) -> int:
    return int.from_bytes(field[1:], "big") if field[0] == 0x80 else int(field[:11], 8)


def _short(source: str) -> bytes:
    """At most 31 bytes, never half a character."""
    return source.encode()[:31].decode("utf-8", "ignore").encode()
