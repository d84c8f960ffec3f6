"""Identifiers (PS3.7 9.1.2): from the bytes of a message to DICOM JSON and back, in every syntax."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Final

from .characters import ASCII, UNICODE, NotInRepertoire, Repertoire, named_repertoire
from .dataset import read_data_set
from .dictionary import LONG, SHORT
from .elements import Coding, MoreNeeded, syntax
from .errors import BadRequest, Unreadable
from .model import Attributes
from .values import encode

_LARGEST: Final = 1 << 21
"""Bytes of an Identifier: 32 000 UIDs of full length."""
_CHARACTER_SET: Final = "00080005"
_LONG: Final = frozenset(letters.decode() for letters in LONG)
_SHORT: Final = frozenset(letters.decode() for letters in SHORT)
_PADDED_BY_ZERO: Final = frozenset(("OB", "UI", "UN"))


def decode_identifier(
    data: bytes | memoryview, TransferSyntaxUID: str, largest: int = _LARGEST
) -> Attributes:
    """Return an Identifier's attributes, text decoded by Specific Character Set, which is kept as it came.

    Raises:
        Unreadable: it cannot be parsed, or has more than `largest` bytes.
    """
    if len(data) > largest:
        raise Unreadable(f"The Identifier has {len(data)} bytes.", "Ask in smaller portions.")
    try:
        return read_data_set(memoryview(data), TransferSyntaxUID, len(data), largest)
    except MoreNeeded as more:
        raise Unreadable("The Identifier ends too early.", "Send it again.") from more


def encode_identifier(attributes: Attributes, TransferSyntaxUID: str, character_set: str = "") -> bytes:
    """Return the bytes of an Identifier: ascending tags, even lengths, Specific Character Set where needed.

    `character_set` is the receiver's, as in the element; if it has no way to write what is to be said, and
    where none is given, text beyond ASCII goes out in ISO_IR 192.

    Raises:
        BadRequest: a value does not suit its VR; `tags` names the element.
    """
    coding, is_deflated = syntax(TransferSyntaxUID)
    plain = {tag: content for tag, content in attributes.items() if tag != _CHARACTER_SET}
    try:
        raw = _data_set(plain, coding, ASCII)
    except NotInRepertoire:
        raw = _beyond_ascii(plain, coding, character_set)
    return _deflated(raw) if is_deflated else raw


def _beyond_ascii(attributes: Attributes, coding: Coding, character_set: str) -> bytes:
    if character_set:
        with suppress(NotInRepertoire):
            return _declared(attributes, coding, named_repertoire(character_set))
    return _declared(attributes, coding, UNICODE)


def _declared(attributes: Attributes, coding: Coding, characters: Repertoire) -> bytes:
    terms = {_CHARACTER_SET: {"vr": "CS", "Value": list(characters.terms)}}
    return _data_set(attributes | terms, coding, characters)


def _data_set(attributes: Attributes, coding: Coding, characters: Repertoire) -> bytes:
    parts: list[bytes] = []
    order, is_implicit = coding.order, coding.is_implicit
    for tag in sorted(attributes):
        content = attributes[tag]
        try:
            vr = content["vr"]
            if vr == "SQ":
                raw = _items(content.get("Value") or (), coding, characters)
            else:
                raw = encode(vr, content, characters, order)
            if len(raw) & 1:
                raw += b"\0" if vr in _PADDED_BY_ZERO else b" "
            # PS3.5 6.2.2: a value too long for its VR's 16-bit length is written as UN.
            fitting = vr if len(raw) <= 0xFFFE or vr in _LONG else "UN"
            start, length = _start(tag, fitting, order, is_implicit)
        except NotInRepertoire as error:
            if characters is not UNICODE:
                raise
            raise _unwritable(tag) from error
        except ValueError as error:
            raise _unwritable(tag) from error
        parts += (start, length(len(raw)), raw)
    return b"".join(parts)


def _unwritable(tag: str) -> BadRequest:
    return BadRequest(f"Element {tag} has a value that its VR does not allow.", "Correct the value.", (tag,))


@lru_cache(maxsize=4096)
def _start(tag: str, vr: str, order: str, is_implicit: bool) -> tuple[bytes, Callable[[int], bytes]]:
    """Return an element header up to its length, and how the length is packed, PS3.5 7.1."""
    start = struct.pack(order + "HH", int(tag[:4], 16), int(tag[4:], 16))
    if vr not in _SHORT and vr not in _LONG:
        raise ValueError(vr)
    if is_implicit:
        return start, struct.Struct(order + "I").pack
    if vr in _LONG:
        return start + vr.encode() + b"\0\0", struct.Struct(order + "I").pack
    return start + vr.encode(), struct.Struct(order + "H").pack


def _items(items: Iterable[Attributes], coding: Coding, characters: Repertoire) -> bytes:
    pack = struct.Struct(coding.order + "HHI").pack
    parts: list[bytes] = []
    for item in items:
        inner = {tag: content for tag, content in item.items() if tag != _CHARACTER_SET}
        raw = _data_set(inner, coding, characters)
        parts += (pack(0xFFFE, 0xE000, len(raw)), raw)
    return b"".join(parts)


def _deflated(raw: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = compressor.compress(raw) + compressor.flush()
    return packed + b"\0" if len(packed) & 1 else packed
