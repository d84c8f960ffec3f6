"""Replies of the Objects service as they go over the wire, around bytes that nobody copies.

protobuf copies the bytes of an object twice when it reads a message, and takes longer still to write one. So
what stands beside the bytes is a FetchReply like any other, and the bytes are a view of the message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from protos import objects_pb2 as pb

PIECE: Final = 1 << 20
"""Bytes of one message: larger ones gain nothing, smaller ones cost."""
_DATA: Final = 0x12
"""The tag of FetchReply.data: field 2, which has a length."""
_FIXED: Final = {1: 8, 5: 4}
"""Bytes of a field's value by its wire type, where that says so."""


class Malformed(ValueError):
    """A message that is no reply."""


class Reply(NamedTuple):
    """One message of an answer."""

    head: pb.FetchReply
    """All of it but the bytes."""
    data: memoryview


def written(head: pb.FetchReply, length: int, fill: Callable[[memoryview], int]) -> bytes | None:
    """Return a reply with so many bytes, which `fill` reads into a view; None if it reads fewer."""
    front = head.SerializeToString() + bytes([_DATA]) + _varint(length)
    reply = bytearray(len(front) + length)
    reply[: len(front)] = front
    if fill(memoryview(reply)[len(front) :]) != length:
        return None
    return bytes(reply)


def read(reply: bytes) -> Reply:
    """Return what a message says; its fields may stand in any order, as protobuf allows.

    Raises:
        Malformed, google.protobuf.message.DecodeError: it is no reply.
    """
    view, at = memoryview(reply), 0
    data, front = view[:0], bytearray()
    while at < len(view):
        began = at
        tag, at = _number(view, at)
        length, at = _length(view, tag & 7, at)
        if at + length > len(view):
            raise Malformed("a field is longer than its message")
        if tag == _DATA:
            data = view[at : at + length]
        else:
            front += view[began : at + length]
        at += length
    return Reply(pb.FetchReply.FromString(bytes(front)), data)


def _length(view: memoryview, kind: int, at: int) -> tuple[int, int]:
    """Return how long the value of a field is, and where it begins."""
    if kind == 0:
        return _number(view, at)[1] - at, at
    if kind == 2:
        return _number(view, at)
    if kind not in _FIXED:
        raise Malformed("a field of no known kind")
    return _FIXED[kind], at


def _number(view: memoryview, at: int) -> tuple[int, int]:
    """Read a number as protobuf writes it; return it and where it ends."""
    number = 0
    for place, byte in enumerate(view[at : at + 10]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, at + place + 1
    raise Malformed("a number without an end")


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes it."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
