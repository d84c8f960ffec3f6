"""Corrections on the way out: the stored bytes stay as they are, what leaves carries what a person decided.

Only the elements that change are decoded, and usually once for a whole series: everything else is passed on
as it was stored. Every change is told in Original Attributes Sequence (0400,0561), PS3.3 C.12.1.1.9.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from io import BytesIO
from typing import Final

import msgspec
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from catalog import UNDEFINED, Coding, Decision, Unreadable, actual_coding, end_of_sequence, nested
from catalog.elements import syntax

_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_IMPLICIT: Final = "1.2.840.10008.1.2"
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_CHARACTER_SET: Final = 0x00080005
_ORIGINAL: Final = 0x04000561
_PIXELS: Final = 0x7FE00000
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Decision]).decode
_TEXT_VR: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""The VRs that Specific Character Set governs, PS3.5 6.1.2.2."""
MODIFYING: Final = "CORRECT"
COERCING: Final = "COERCE"
"""Reason for the Attribute Modification (0400,0565): a person's word, or another hospital's identifiers."""


def correct(
    data: bytes,
    TransferSyntaxUID: str,
    corrections: Sequence[Decision],
    system: str,
    reason: str = MODIFYING,
) -> bytes:
    """Return the header, or the whole deflated data set, with the corrections applied in their order.

    `data` ends before Pixel Data (or is whole, when deflated); `system` names this node.
    """
    if TransferSyntaxUID == _DEFLATED:
        plain = zlib.decompress(data, wbits=-zlib.MAX_WBITS)
        corrected = correct(plain, "1.2.840.10008.1.2.1", corrections, system, reason)
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        packed = packer.compress(corrected) + packer.flush()
        return packed + b"\0" * (len(packed) % 2)
    said = _encode(list(corrections))
    spliced = _splice(data, TransferSyntaxUID, said, (system, reason))
    if spliced is not None:
        return spliced
    dataset = _read(data, TransferSyntaxUID)
    _change(dataset, said, system, reason)
    return _written(dataset, TransferSyntaxUID)


def correct_head(
    head: bytes, TransferSyntaxUID: str, corrections: Sequence[Decision], system: str, reason: str = MODIFYING
) -> tuple[bytes, int] | None:
    """Return the corrected header and where Pixel Data begins, from the first bytes of a data set.

    None where they do not reach to Pixel Data, or where all of the header has to be written anew.
    """
    written = syntax(TransferSyntaxUID)
    found = None if written.is_deflated else _elements(head, written.coding, is_to_pixels=True)
    if not found or found[-1][0] < _PIXELS:
        return None
    pixels = found.pop()[1]
    spliced = _put(head, found, TransferSyntaxUID, _encode(list(corrections)), (system, reason))
    return None if spliced is None else (spliced, pixels)


def _splice(data: bytes, TransferSyntaxUID: str, said: bytes, how: tuple[str, str]) -> bytes | None:
    """Put what changes into the header's own bytes; None where all of it has to be written anew."""
    found = _elements(data, syntax(TransferSyntaxUID).coding)
    return None if found is None else _put(data, found, TransferSyntaxUID, said, how)


def _put(
    data: bytes,
    found: list[tuple[int, int, int]],
    TransferSyntaxUID: str,
    said: bytes,
    how: tuple[str, str],
) -> bytes | None:
    promised = syntax(TransferSyntaxUID).coding
    if promised.order != "<":
        return None
    wanted = {_CHARACTER_SET, _ORIGINAL, *_tags(said)}
    few = b"".join(data[start:end] for tag, start, end in found if tag in wanted)
    changed = _changed(few, TransferSyntaxUID, said, *how)
    new = _elements(changed, promised) if changed is not None else None
    if changed is None or new is None:
        return None
    pieces = {tag: data[start:end] for tag, start, end in found if tag not in wanted}
    pieces |= {tag: changed[start:end] for tag, start, end in new}
    return b"".join(pieces[tag] for tag in sorted(pieces))


def _elements(
    data: bytes, coding: Coding, *, is_to_pixels: bool = False
) -> list[tuple[int, int, int]] | None:
    """Return tag, start and end of each element; None where they are not in order, or not as promised.

    With `is_to_pixels` the first one of Pixel Data's group is the last, and what follows is not looked at.
    """
    found: list[tuple[int, int, int]] = []
    view, at, last, end = memoryview(data), 0, 0x0007FFFF, len(data)
    if end and actual_coding(view, 0, coding, end) is not coding:
        return None
    try:
        while at < end:
            tag, vr, value, length = coding.header(view, at)
            # Group lengths would have to be counted again.
            if tag <= last or not tag & 0xFFFF:
                return None
            if is_to_pixels and tag >= _PIXELS:
                found.append((tag, at, at))
                return found
            is_open = length == UNDEFINED
            behind = end_of_sequence(view, value, nested(coding, vr), end) if is_open else value + length
            found.append((tag, at, behind))
            at, last = behind, tag
    except (struct.error, Unreadable):
        return None
    return found if at == end else None


@lru_cache(maxsize=512)
def _tags(said: bytes) -> frozenset[int]:
    return frozenset(int(tag, 16) for decision in _decode(said) for tag in decision.attributes)


@lru_cache(maxsize=512)
def _changed(few: bytes, TransferSyntaxUID: str, said: bytes, system: str, reason: str) -> bytes | None:
    """Return the elements that change as they are to be; None if others have to be coded anew for them."""
    dataset = _read(few, TransferSyntaxUID)
    if _change(dataset, said, system, reason):
        return None
    return _written(dataset, TransferSyntaxUID)


def _change(dataset: Dataset, said: bytes, system: str, reason: str) -> bool:
    """Apply decisions; say whether all text had to be coded anew."""
    changes = [(decision, Dataset.from_json(dict(decision.attributes))) for decision in _decode(said)]
    needs_unicode = any(_needs_unicode(change, dataset) for _, change in changes)
    if needs_unicode:
        _recode_as_unicode(dataset)
    for decision, change in changes:
        _apply(dataset, decision, change, system, reason)
    return needs_unicode


def _read(data: bytes, TransferSyntaxUID: str) -> Dataset:
    syntax = UID(TransferSyntaxUID)
    return read_dataset(BytesIO(data), syntax == _IMPLICIT, syntax != _BIG_ENDIAN)


def _written(dataset: Dataset, TransferSyntaxUID: str) -> bytes:
    out = DicomBytesIO()
    out.is_implicit_VR = TransferSyntaxUID == _IMPLICIT
    out.is_little_endian = TransferSyntaxUID != _BIG_ENDIAN
    write_dataset(out, dataset)
    return out.getvalue()


def _apply(dataset: Dataset, decision: Decision, change: Dataset, system: str, reason: str) -> None:
    before = Dataset()
    for element in change:
        known = dataset.get(element.tag)
        if known is None and element.is_empty:
            continue
        before.add(known if known is not None else DataElement(element.tag, element.VR, None))
        dataset.add(DataElement(element.tag, _vr(element, known), element.value))
    if not before:
        return
    item = Dataset()
    item.SourceOfPreviousValues = ""
    when = datetime.fromtimestamp(decision.when / 1000, UTC)
    item.AttributeModificationDateTime = when.strftime("%Y%m%d%H%M%S.%f+0000")
    item.ModifyingSystem = system
    item.ReasonForTheAttributeModification = reason
    item.ModifiedAttributesSequence = [before]
    earlier = dataset.get("OriginalAttributesSequence") or []
    dataset.OriginalAttributesSequence = [*earlier, item]


def _vr(element: DataElement, known: DataElement | None) -> str:
    """Keep the VR the data set uses; a decision made in JSON may not know it."""
    if known is not None and known.VR != "UN":
        return str(known.VR)
    return str(element.VR) if element.VR != "UN" else dictionary_VR(element.tag)


def _needs_unicode(change: Dataset, dataset: Dataset) -> bool:
    """Say whether the data set's own character set cannot write the new text."""
    texts = [str(element.value) for element in change.iterall() if element.VR in _TEXT_VR]
    known = python_encoding.get(str(dataset.get("SpecificCharacterSet") or ""), "ascii")
    try:
        for text in texts:
            text.encode("ascii" if known in ("default", "iso8859") else known)
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def _recode_as_unicode(dataset: Dataset) -> None:
    dataset.decode()
    for element in dataset.iterall():
        if element.tag == _CHARACTER_SET:
            element.value = "ISO_IR 192"
    dataset.SpecificCharacterSet = "ISO_IR 192"
