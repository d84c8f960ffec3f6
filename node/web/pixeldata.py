"""The frames of one instance: where each lies, as it is stored or decoded, without reading the others."""

from __future__ import annotations

import struct
from collections import OrderedDict
from threading import Lock
from typing import Final, NamedTuple

from catalog import EXPLICIT, UNDEFINED, Entry, NotFound, Unreadable, end_of_sequence, nested
from catalog.dictionary import LONG, SHORT
from node.contracts import Outgoing
from node.encapsulation import read
from node.pixels import NotConvertible, Picture
from node.transcoding import EXPLICIT_BIG, EXPLICIT_LITTLE, image_of

from .exchange import Exchange
from .pixelmedia import is_video
from .streams import Bytes, Readable, Window

_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_REMEMBERED: Final = 256
_MOST_REMEMBERED: Final = 4096
"""Frames of an instance whose places are remembered for the next request."""
_USUAL_HEADER: Final = 1 << 14
_SHORT_HEADER: Final = struct.Struct("<HH2sH").unpack_from
_LONG_LENGTH: Final = struct.Struct("<I").unpack_from
_IMAGE_GROUP, _PIXEL_GROUP, _PIXEL_DATA = 0x0028, 0x7FE0, 0x0010
_OF_PIXELS: Final = (b"OW", b"OB")
_SUBSAMPLED: Final = ("YBR_FULL_422", "YBR_PARTIAL_422")


class Index(NamedTuple):
    """Where the frames of an instance lie in its data set, and what they are."""

    picture: Picture
    frames: int
    start: int
    """Offset of native pixels."""
    places: tuple[tuple[tuple[int, int], ...], ...] | None
    """Offset and length of the fragments of each encapsulated frame; None if they are native."""

    @property
    def bits(self) -> int:
        """Bits of one native frame."""
        picture = self.picture
        if self.places is None and picture.photometric_interpretation in _SUBSAMPLED:
            return picture.bits * 2 // 3
        return picture.bits


class _Remembered:
    """The places of the frames that were asked for last, so that scrolling does not look for them anew."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: OrderedDict[tuple[bytes, int, str], Index] = OrderedDict()

    def get(self, key: tuple[bytes, int, str]) -> Index | None:
        with self._lock:
            found = self._known.get(key)
            if found is not None:
                self._known.move_to_end(key)
            return found

    def put(self, key: tuple[bytes, int, str], index: Index) -> None:
        with self._lock:
            self._known[key] = index
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


_remembered: Final = _Remembered()


class Pixels:
    """The pixel data of an instance as it leaves; close it in the end."""

    def __init__(self, exchange: Exchange, entry: Entry) -> None:
        """Open the instance.

        Raises:
            NotFound: it has no pixel data.
            NotConvertible, Unreadable, Damaged, Unavailable: it cannot be read.
        """
        self._exchange = exchange
        self._opened = [exchange.scope.retriever.open(entry)]
        try:
            self.outgoing = self._on_the_web()
            key = entry.holding.sha256, self.outgoing.size, self.outgoing.TransferSyntaxUID
            index = _remembered.get(key)
            if index is None:
                index = index_of(self.outgoing)
                if index.frames <= _MOST_REMEMBERED:
                    _remembered.put(key, index)
        except BaseException:
            self.close()
            raise
        self.index = index
        self.syntax = self.outgoing.TransferSyntaxUID if index.places is not None else EXPLICIT_LITTLE
        """What frames are in as they are stored."""

    def _on_the_web(self) -> Outgoing:
        outgoing = self._opened[0]
        if outgoing.TransferSyntaxUID not in (EXPLICIT_BIG, _DEFLATED):
            return outgoing
        made = self._exchange.services.convert(outgoing, (EXPLICIT_LITTLE,))
        if made is None:
            raise NotConvertible("It cannot be made little endian.", "Ask for the whole instance.")
        self._opened.append(made)
        return made

    def check(self, number: int) -> None:
        """Make sure that there is a frame of that number, from 1 on.

        Raises:
            NotFound: there is none.
        """
        if not 1 <= number <= self.index.frames:
            raise NotFound(
                f"There is no frame {number}: the instance has {self.index.frames}.", "Frames begin with 1."
            )

    def stored(self, number: int) -> Readable:
        """Return a frame as it is stored; native ones are whole bytes."""
        index = self.index
        if index.places is not None:
            fragments = index.places[number - 1]
            if len(fragments) == 1:
                [(offset, length)] = fragments
                return Window(self.outgoing, offset, length)
            return Bytes(b"".join(read(self.outgoing, *place) for place in fragments))
        size, first = (index.bits + 7) // 8, (number - 1) * index.bits
        if index.bits % 8 == 0 or (first % 8 == 0 and index.frames == 1):
            return Window(self.outgoing, index.start + first // 8, size)
        # Frames of single bits follow each other without a gap.
        end = (first + index.bits + 7) // 8
        data = read(self.outgoing, index.start + first // 8, end - first // 8)
        bits = int.from_bytes(data, "little") >> first % 8 & (1 << index.bits) - 1
        return Bytes(bits.to_bytes(size, "little"))

    def decoded(self, number: int) -> tuple[bytes, str]:
        """Return a frame's pixels, little endian, and their Photometric Interpretation.

        Raises:
            NotConvertible: there is no codec for it, or it is damaged.
        """
        content = self.stored(number)
        data = bytearray(content.size)
        done = 0
        while done < len(data):
            step = content.read_into(memoryview(data)[done:], done)
            if not step:
                raise NotConvertible("Its pixel data is cut short.")
            done += step
        if self.index.places is None:
            return bytes(data), self.index.picture.photometric_interpretation
        with self._exchange.services.codecs.one() as codec:
            return codec.decode(bytes(data), self.index.picture)

    def close(self) -> None:
        """Close the instance."""
        while self._opened:
            self._opened.pop().close()


def index_of(outgoing: Outgoing) -> Index:
    """Return where the frames lie.

    Raises:
        NotFound: there are none, or none that can be had one by one.
        Unreadable, Damaged, Unavailable: the instance cannot be read.
    """
    if is_video(outgoing.TransferSyntaxUID):
        # No Accept header would help: what is asked for does not exist.
        raise NotFound("It is a video: it has no frames that can be had one by one.", "Ask for the instance.")
    index = native_index(outgoing)
    if index is not None:
        return index
    image = image_of(outgoing)
    if image.pixels is None:
        raise NotFound("The instance has no pixel data.", "Ask for its metadata.")
    if image.pixels.length == UNDEFINED:
        frames = image.frames()
        places = tuple(tuple(fragments) for fragments in frames.places)
        return Index(image.picture, len(places), image.pixels.offset, places)
    index = Index(image.picture, image.number_of_frames(), image.pixels.offset, None)
    return _cut(index, image.pixels.length)


def _cut(index: Index, length: int) -> Index:
    """Return the index with no more frames than the pixel data of that length has."""
    if not index.bits or index.bits * index.frames > 8 * length:
        whole = 8 * length // index.bits if index.bits else 0
        index = index._replace(frames=min(whole, index.frames))
    return index


def native_index(outgoing: Outgoing) -> Index | None:
    """Return the index of native pixels behind a header as nearly all are, by one walk over it.

    None where something is out of the common; `image_of` then says what, and takes three times as long.
    """
    if outgoing.TransferSyntaxUID != EXPLICIT_LITTLE:
        return None
    head = memoryview(bytearray(min(_USUAL_HEADER, outgoing.size)))
    head = head[: outgoing.read_into(head, 0)]
    values: dict[int, bytes] = {}
    try:
        start, length = _walk(head, values)
    except (struct.error, Unreadable, _Uncommon):
        return None
    frames = _text(values, 0x0008) or "1"
    if start + length > outgoing.size or not frames.isdecimal() or not 0 < int(frames) < 1 << 31:
        return None
    picture = Picture(
        transfer_syntax=EXPLICIT_LITTLE,
        rows=_number(values, 0x0010),
        columns=_number(values, 0x0011),
        samples_per_pixel=_number(values, 0x0002),
        bits_allocated=_number(values, 0x0100),
        bits_stored=_number(values, 0x0101),
        pixel_representation=_number(values, 0x0103),
        photometric_interpretation=_text(values, 0x0004),
        planar_configuration=_number(values, 0x0006),
    )
    return _cut(Index(picture, int(frames), start, None), length)


class _Uncommon(Exception):
    """The header has what the short way does not know."""


def _walk(head: memoryview, values: dict[int, bytes]) -> tuple[int, int]:
    """Gather group 0028 by element numbers; return where the value of Pixel Data begins, and its length."""
    offset = 0
    while True:
        group, element, vr, length = _SHORT_HEADER(head, offset)
        if vr in SHORT:
            offset += 8
        elif vr in LONG:
            [length] = _LONG_LENGTH(head, offset + 8)
            offset += 12
        else:
            raise _Uncommon
        if group == _PIXEL_GROUP:
            if element != _PIXEL_DATA or length == UNDEFINED or vr not in _OF_PIXELS:
                raise _Uncommon
            return offset, length
        if length == UNDEFINED:
            offset = end_of_sequence(head, offset, nested(EXPLICIT, vr), len(head))
            continue
        if offset + length > len(head):
            raise _Uncommon
        if group == _IMAGE_GROUP:
            values[element] = head[offset : offset + length].tobytes()
        offset += length


def _number(values: dict[int, bytes], element: int) -> int:
    return int.from_bytes(values.get(element, b"")[:2], "little")


def _text(values: dict[int, bytes], element: int) -> str:
    return values.get(element, b"").decode("latin_1").strip(" \0")
