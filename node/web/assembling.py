"""STOW-RS metadata and bulk data, PS3.18 10.5.2: DICOM JSON and values in other parts, made one file again.

Bulk data waits in files; it is found by the Content-Location of its part and never fetched from elsewhere.
"""

from __future__ import annotations

import struct
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast

import msgspec

from catalog import Attributes, BadRequest, encode_identifier, known_vr, texts
from node.storage import file_meta
from node.transcoding import EXPLICIT_LITTLE

from .media import JSON, OCTETS, content_type
from .parts import Part
from .pixelmedia import syntaxes_of
from .problems import Malformed, TooLarge, UnsupportedType

_IN_MEMORY: Final = 1 << 18
_PIECE: Final = 1 << 18
_LARGEST_METADATA: Final = 64 << 20
_LARGEST_NESTED: Final = 16 << 20
_DEEPEST: Final = 32
_PIXEL_DATA: Final = "7FE00010"
_LONG: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_UNCOMPRESSED: Final = frozenset((EXPLICIT_LITTLE, ""))
_MARK: Final = struct.Struct("<16sI12s")
_decode: Final = msgspec.json.Decoder(list[dict[str, dict[str, Any]]]).decode


class Bulk(NamedTuple):
    """The content of one bulk data part."""

    file: IO[bytes]
    size: int
    syntax: str
    """Its transfer syntax if it is compressed."""


class Made(NamedTuple):
    """An instance put together, as the pieces of a DICOM file, or why it could not be."""

    SOPClassUID: str
    SOPInstanceUID: str
    pieces: Iterator[bytes] | None
    why: str = ""


class Assembly:
    """What one request brings; close it in the end."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = str(folder) if folder else None
        self._metadata: list[Attributes] = []
        self._bulk: dict[str, list[Bulk]] = {}

    def take(self, part: Part) -> None:
        """Take in a part: metadata, or bulk data.

        Raises:
            Malformed: the metadata is not DICOM JSON.
            UnsupportedType: it is XML.
        """
        kind, parameters = content_type(part.headers.get("content-type", OCTETS))
        if kind in (JSON, "application/json"):
            self._metadata += _read_metadata(part)
        elif kind == "application/dicom+xml":
            raise UnsupportedType("Metadata is not taken in XML.", "Send it as application/dicom+json.")
        else:
            syntax = parameters.get("transfer-syntax", "") or next(iter(syntaxes_of(kind)), "")
            self._keep(part, "" if syntax in _UNCOMPRESSED else syntax)

    def _keep(self, part: Part, syntax: str) -> None:
        file = self._new_file()
        location = part.headers.get("content-location", "")
        size = 0
        self._bulk.setdefault(location, []).append(Bulk(file, 0, syntax))
        for piece in part:
            file.write(piece)
            size += len(piece)
        self._bulk[location][-1] = Bulk(file, size, syntax)

    def _new_file(self) -> IO[bytes]:
        return cast(IO[bytes], tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=self._folder))

    def made(self) -> Iterator[Made]:
        """Yield each instance as a DICOM file, or why it could not be made one.

        Raises:
            Malformed: there was no metadata.
        """
        if not self._metadata:
            raise Malformed("The body has no metadata.", "Send application/dicom+json in its first part.")
        for attributes in self._metadata:
            uids = _told(attributes, "00080016"), _told(attributes, "00080018")
            try:
                yield Made(*uids, self._file(attributes))
            except BadRequest as error:
                yield Made(*uids, None, error.what)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError):
                yield Made(*uids, None, "Its metadata is not what PS3.18 Annex F says")

    def _file(self, attributes: Attributes) -> Iterator[bytes]:
        plain = {tag.upper(): content for tag, content in attributes.items() if tag > "0002FFFF"}
        found = {tag: self._found(tag, plain[tag]) for tag in sorted(plain) if _is_bulk(plain[tag])}
        marks = [_MARK.pack(b"PeerPACS bulk at", place, b"." * 12) for place in range(len(found))]
        inline = {tag: self._inlined(content, 0) for tag, content in plain.items() if tag not in found}
        marked = {
            tag: {"vr": _bulk_vr(tag, plain[tag], found[tag]), "InlineBinary": _text(mark)}
            for tag, mark in zip(found, marks, strict=True)
        }
        data = encode_identifier({**inline, **marked}, EXPLICIT_LITTLE)
        syntax = found[_PIXEL_DATA][0].syntax if _PIXEL_DATA in found else ""
        uids = texts(plain["00080016"])[0], texts(plain["00080018"])[0]
        parts = [file_meta(*uids, syntax or EXPLICIT_LITTLE)]
        values = [_value(tag, bulk) for tag, bulk in found.items()]
        for mark in marks:
            before, _, data = data.partition(mark)
            parts.append(before[:-4])
        return _woven(parts, values, data)

    def _found(self, tag: str, content: dict[str, Any]) -> list[Bulk]:
        bulk = self._bulk.get(str(content["BulkDataURI"]))
        if not bulk or (len(bulk) > 1 and tag != _PIXEL_DATA):
            raise BadRequest(
                "Its bulk data is not in the body.", "Give each part its Content-Location.", (tag,)
            )
        if sum(part.size for part in bulk) >= 0xFFFFFFFE:
            raise BadRequest("Its bulk data has 4 GB or more.", "Send it in frames, compressed.", (tag,))
        return bulk

    def _inlined(self, content: dict[str, Any], depth: int) -> dict[str, Any]:
        """Return the element with bulk data in its items put into the JSON itself."""
        if content["vr"] != "SQ" or depth > _DEEPEST:
            return content
        items = []
        for item in content.get("Value") or ():
            made = {}
            for tag, inner in item.items():
                if _is_bulk(inner):
                    [bulk] = self._found(tag, inner)
                    if bulk.size > _LARGEST_NESTED:
                        raise BadRequest("Bulk data inside a sequence is too large.", "", (tag,))
                    bulk.file.seek(0)
                    inner = {"vr": _binary_vr(tag, inner), "InlineBinary": _text(bulk.file.read())}
                made[tag] = self._inlined(inner, depth + 1)
            items.append(made)
        return {"vr": "SQ", "Value": items}

    def close(self) -> None:
        """Forget the bulk data."""
        for parts in self._bulk.values():
            for bulk in parts:
                bulk.file.close()


def _read_metadata(part: Part) -> list[Attributes]:
    data = bytearray()
    for piece in part:
        data += piece
        if len(data) > _LARGEST_METADATA:
            raise TooLarge("The metadata has more than 64 MB.", "Put large values into parts of their own.")
    try:
        text = bytes(data).strip()
        return _decode(text if text.startswith(b"[") else b"[" + text + b"]")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed("The metadata is not DICOM JSON.", "See PS3.18 Annex F.") from None


def _is_bulk(content: dict[str, Any]) -> bool:
    return "BulkDataURI" in content


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _binary_vr(tag: str, content: dict[str, Any]) -> str:
    vr = str(content.get("vr") or known_vr(int(tag, 16)))
    return vr if vr in _LONG else "UN"


def _bulk_vr(tag: str, content: dict[str, Any], parts: list[Bulk]) -> str:
    return "OB" if tag == _PIXEL_DATA and parts[0].syntax else _binary_vr(tag, content)


def _told(attributes: Attributes, tag: str) -> str:
    """Return a UID for the answer, as far as there is one."""
    value = attributes.get(tag, {}).get("Value")
    return value[0][:64] if isinstance(value, list) and value and isinstance(value[0], str) else ""


def _woven(before: list[bytes], values: list[Iterator[bytes]], rest: bytes) -> Iterator[bytes]:
    """Yield the file: what stands before each value, and the value; the File Meta Information first."""
    yield before[0]
    for start, value in zip(before[1:], values, strict=True):
        yield start
        yield from value
    yield rest


def _value(tag: str, parts: list[Bulk]) -> Iterator[bytes]:
    """Yield length and value of an element: the bytes of its parts, or a frame of each (PS3.5 A.4)."""
    if not (tag == _PIXEL_DATA and parts[0].syntax):
        total = sum(bulk.size for bulk in parts)
        yield struct.pack("<I", total + total % 2)
        for bulk in parts:
            yield from _content(bulk)
        yield b"\0" * (total % 2)
        return
    yield struct.pack("<IHHI", 0xFFFFFFFF, 0xFFFE, 0xE000, 0)
    for bulk in parts:
        yield struct.pack("<HHI", 0xFFFE, 0xE000, bulk.size + bulk.size % 2)
        yield from _content(bulk)
        yield b"\0" * (bulk.size % 2)
    yield struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def _content(bulk: Bulk) -> Iterator[bytes]:
    bulk.file.seek(0)
    while piece := bulk.file.read(_PIECE):
        yield piece
