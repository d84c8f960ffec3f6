"""Transcoding: what a receiver does not take as it is stored, it is given uncompressed, and never lossy.

Only Explicit and Implicit VR Little Endian are made. All is converted before the first byte is sent, so that
an instance that cannot be is one failed sub-operation and no broken association. Frames are read, decoded
and written one by one; what does not stay small lies in a file without a name in the archive's incoming
folder, which is gone when it is closed, however the node ends.
"""

from __future__ import annotations

import errno
import struct
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Final, cast

from pydicom.uid import UID

from catalog import BIG_ENDIAN, EXPLICIT, UNDEFINED, Coding, OutOfSpace, Unreadable, actual_coding
from node.contracts import Outgoing
from node.encapsulation import Frames, is_reversible, read
from node.pixels import CODED, Codecs, NotConvertible, Picture
from node.retriever import header_of
from node.rewriting import Found, Rewriter

EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
_TARGETS: Final = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
_JPEG_OR_VIDEO: Final = "1.2.840.10008.1.2.4."
IN_MEMORY: Final = 8 << 20
"""Bytes of a converted instance that are kept in memory; a larger one goes to a file."""
_PIECE: Final = 1 << 20
_MOST_BEHIND: Final = 16 << 20
"""Bytes of elements behind Pixel Data."""
_LOSSY: Final = {
    "1.2.840.10008.1.2.4.50": b"ISO_10918_1",
    "1.2.840.10008.1.2.4.51": b"ISO_10918_1",
    "1.2.840.10008.1.2.4.81": b"ISO_14495_1",
    "1.2.840.10008.1.2.4.91": b"ISO_15444_1",
    "1.2.840.10008.1.2.4.203": b"ISO_15444_15",
}
"""Lossy syntaxes, and Lossy Image Compression Method (0028,2114) for them, PS3.3 C.7.6.1.1.5.1."""
_ALWAYS_LOSSY: Final = "1.2.840.10008.1.2.4.5"
"""JPEG Baseline and Extended; the others also hold images without loss."""
_PHOTOMETRIC, _PLANAR, _FRAMES = 0x00280004, 0x00280006, 0x00280008
_IS_LOSSY, _RATIO, _METHOD = 0x00282110, 0x00282112, 0x00282114
_ICON: Final = 0x00880200
_COMPRESSED_ICON: Final = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff"
"""Pixel Data of undefined length. Icons like that are left out: uncompressed, nobody could read them."""
_OFFSETS: Final = 0x7FE00001
_OF_ENCAPSULATION: Final = frozenset((_OFFSETS, 0x7FE00002, 0x7FE00003))
"""Extended Offset Table, its lengths, and Encapsulated Pixel Data Value Total Length: PS3.3 C.7.6.3."""
_PIXEL_DATA: Final = 0x7FE00010
_PIXELS: Final = {0x7FE00008: 4, 0x7FE00009: 8, _PIXEL_DATA: 0}
"""Float, Double Float and plain Pixel Data, and the bytes of their values where that is fixed."""

Reencode = Callable[[Outgoing, Collection[str]], Outgoing | None]


class Transcoded:
    """An instance in another syntax, whole; satisfies `Outgoing`."""

    def __init__(self, original: Outgoing, TransferSyntaxUID: str, file: IO[bytes]) -> None:
        self.SOPClassUID = original.SOPClassUID
        self.SOPInstanceUID = original.SOPInstanceUID
        self.TransferSyntaxUID = TransferSyntaxUID
        self.size = file.tell()
        self._file = file

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer with the data set from `offset`; return how many bytes there were."""
        self._file.seek(offset)
        part = self._file.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Forget it."""
        self._file.close()


class Transcoder:
    """Makes an instance fit a receiver: `reencode` where no pixel has to be touched, else frame by frame."""

    def __init__(self, reencode: Reencode, folder: Path | None = None) -> None:
        """Take the folder for large results; the system's for temporary files if it is None."""
        self._reencode = reencode
        self._folder = str(folder) if folder else None
        self.codecs = Codecs()
        """The codec processes, for whoever needs single frames decoded."""

    def __call__(self, outgoing: Outgoing, accepted: Collection[str]) -> Outgoing | None:
        """Return the instance in one of the accepted syntaxes, or None if none of them is made here.

        Raises:
            NotConvertible: there is no codec for it, or its pixel data is damaged.
            Unreadable, Damaged, Unavailable: it cannot be read.
            Busy, OutOfSpace: not now.
        """
        source = outgoing.TransferSyntaxUID
        target = next((syntax for syntax in _TARGETS if syntax in accepted), None)
        if target is None or not (source in CODED or source == EXPLICIT_BIG):
            if target and source.startswith(_JPEG_OR_VIDEO):
                raise NotConvertible(f"{UID(source).name} is not decoded here.")
            return self._reencode(outgoing, accepted)
        file = self._new_file()
        try:
            for piece in self._pieces(outgoing, target == IMPLICIT_LITTLE):
                file.write(piece)
            return Transcoded(outgoing, target, file)
        except OSError as error:
            file.close()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OutOfSpace("No disk space to convert an instance.", "Free some space.") from None
            raise NotConvertible(f"It could not be converted: {error.strerror}.") from None
        except BaseException:
            file.close()
            raise

    def _new_file(self) -> IO[bytes]:
        return cast(IO[bytes], tempfile.SpooledTemporaryFile(IN_MEMORY, dir=self._folder))

    def close(self) -> None:
        """End the codec processes."""
        self.codecs.close()

    def _pieces(self, outgoing: Outgoing, is_implicit: bool) -> Iterator[bytes]:
        image = image_of(outgoing, is_implicit)
        if image.is_implicit and not is_implicit:
            raise NotConvertible("It is not in the Explicit VR that its transfer syntax promises.")
        if image.pixels is None:
            yield from image.header({})
        elif image.pixels.length == UNDEFINED:
            with self.codecs.one() as codec:
                yield from image.decoded(lambda frame: codec.decode(frame, image.picture))
            yield from image.behind()
        else:
            yield from image.native()
            yield from image.behind()


def image_of(outgoing: Outgoing, is_implicit: bool = False) -> Image:
    """Return the parts of an instance that is not deflated; `is_implicit` is how they are to be written.

    Raises:
        Unreadable: its data set is cut short.
        Damaged, Unavailable: it cannot be read.
    """
    coding = BIG_ENDIAN if outgoing.TransferSyntaxUID == EXPLICIT_BIG else EXPLICIT
    start = memoryview(read(outgoing, 0, min(16, outgoing.size)))
    coding = actual_coding(start, 0, coding, outgoing.size)
    header, pixels = _head_of(outgoing, coding)
    return Image(outgoing, Rewriter(coding, is_implicit), memoryview(header), pixels)


class Image:
    """An instance being converted: its `header`, or that and pixels `decoded` or `native`; then `behind`."""

    def __init__(self, source: Outgoing, rewriter: Rewriter, data: memoryview, pixels: Found | None) -> None:
        self._source = source
        self._rewriter = rewriter
        self._data = data
        self._found = {each.tag: each for each in rewriter.elements(data)}
        self.pixels = pixels
        """Where Pixel Data stands; None if there is none."""
        self.is_implicit = rewriter.source.is_implicit
        self._pixels = pixels or Found(_PIXEL_DATA, b"OW", source.size, source.size, 0, source.size)
        self._end = self._pixels.stop
        self.picture = Picture(
            transfer_syntax=source.TransferSyntaxUID,
            rows=self._number(0x00280010),
            columns=self._number(0x00280011),
            samples_per_pixel=self._number(0x00280002),
            bits_allocated=self._number(0x00280100),
            bits_stored=self._number(0x00280101),
            pixel_representation=self._number(0x00280103),
            photometric_interpretation=self._text(_PHOTOMETRIC),
            planar_configuration=self._number(_PLANAR),
        )
        """What each frame is, as the data set says it."""

    def header(self, changes: Mapping[int, bytes]) -> Iterator[bytes]:
        """Yield all before Pixel Data, with other elements for some tags; an empty one is left out."""
        for tag in sorted(self._found.keys() | changes.keys()):
            if tag in changes:
                yield changes[tag]
            elif tag & 0xFFFF:
                yield self._rewriter.rewrite(self._data, self._found[tag])

    def decoded(self, decode: Callable[[bytes], tuple[bytes, str]]) -> Iterator[bytes]:
        """Yield the header and the pixels of encapsulated Pixel Data, decoded frame by frame."""
        bits = self.picture.bits
        number = self.number_of_frames()
        total = (bits * number + 7) // 8
        if bits % 8 and number > 1:
            raise NotConvertible("Its one-bit frames do not end at whole bytes.")
        if total >= UNDEFINED - 1:
            raise NotConvertible("Uncompressed it has 4 GB or more, which no data set can hold.")
        frames = self.frames()
        self._end = frames.end
        first = ""
        for frame in frames:
            pixels, photometric = decode(frame)
            if not first:
                first = photometric
                ratio = total / (self._end - self._pixels.offset)
                history = self._history(ratio) if self._is_lossy(frame) else {}
                yield from self.header(self._changes(photometric) | history)
                vr = b"OW" if self.picture.bits_allocated > 8 else b"OB"
                yield self._rewriter.header(_PIXEL_DATA, vr, total + total % 2)
            elif photometric != first:
                raise NotConvertible("Its frames are in different color spaces.")
            yield pixels
        yield b"\0" * (total % 2)

    def native(self) -> Iterator[bytes]:
        """Yield the header and the pixels of native big-endian Pixel Data, turned."""
        tag, vr, _, offset, length, stop = self._pixels
        if not self._rewriter.is_big:
            raise NotConvertible("Its pixel data is not in the frames that its transfer syntax promises.")
        if tag == _PIXEL_DATA and vr != b"OB" and self.picture.bits_allocated > 16:
            # By the letter of PS3.5 6.2 the low word comes first, and many writers put the high one there.
            raise NotConvertible("The word order of its 32-bit big-endian pixels is not certain.")
        yield from self.header({})
        yield self._rewriter.header(tag, vr, length)
        unit = _PIXELS[tag] or (1 if vr == b"OB" else 2)
        for start in range(offset, stop, _PIECE):
            yield self._rewriter.turned(read(self._source, start, min(_PIECE, stop - start)), unit)

    def behind(self) -> Iterator[bytes]:
        """Yield what comes behind Pixel Data."""
        length = self._source.size - self._end
        if length > _MOST_BEHIND:
            raise NotConvertible(f"{length} bytes stand behind its pixel data.")
        data = memoryview(read(self._source, self._end, length))
        for found in self._rewriter.elements(data):
            if found.tag & 0xFFFF:
                yield self._rewriter.rewrite(data, found)

    def _changes(self, photometric: str) -> dict[int, bytes]:
        write = self._rewriter.element
        changes = dict.fromkeys(_OF_ENCAPSULATION & self._found.keys(), b"")
        if photometric != self.picture.photometric_interpretation:
            changes[_PHOTOMETRIC] = write(_PHOTOMETRIC, b"CS", photometric.encode())
        if self.picture.samples_per_pixel > 1:
            changes[_PLANAR] = write(_PLANAR, b"US", b"\0\0")
        icon = self._found.get(_ICON)
        if icon and _COMPRESSED_ICON in bytes(self._data[icon.start : icon.stop]):
            changes[_ICON] = b""
        return changes

    def _is_lossy(self, frame: bytes) -> bool:
        """Say whether the data set or, where it is silent, the code stream tells of loss."""
        syntax = self.picture.transfer_syntax
        told = self._text(_IS_LOSSY)
        if told or syntax not in _LOSSY:
            return told == "01" and syntax in _LOSSY
        return syntax.startswith(_ALWAYS_LOSSY) or not is_reversible(frame)

    def _history(self, ratio: float) -> dict[int, bytes]:
        """Return what is absent of the history of lossy compression."""
        method = _LOSSY[self.picture.transfer_syntax]
        history = ((_IS_LOSSY, b"CS", b"01"), (_RATIO, b"DS", b"%.2f" % ratio), (_METHOD, b"CS", method))
        return {
            tag: self._rewriter.element(tag, vr, value) for tag, vr, value in history if not self._text(tag)
        }

    @property
    def head(self) -> memoryview:
        """The data set up to Pixel Data."""
        return self._data

    def frames(self) -> Frames:
        """Return the frames of encapsulated Pixel Data.

        Raises:
            Unreadable: the fragments are out of step, or cannot be dealt out.
        """
        return Frames(self._source, self._pixels.offset, self.number_of_frames(), self._extended_offsets())

    def number_of_frames(self) -> int:
        """Return Number of Frames, 1 where it is absent.

        Raises:
            Unreadable: it is no number.
        """
        text = self._text(_FRAMES) or "1"
        if not text.isdecimal() or not 0 < int(text) < 1 << 31:
            raise Unreadable(f"Its Number of Frames is {text!r}.", "Repair it at its source.")
        return int(text)

    def _extended_offsets(self) -> tuple[int, ...]:
        table = self._found.get(_OFFSETS)
        if table is None:
            return ()
        entries = table.length // 8
        return struct.unpack_from(f"<{entries}Q", self._data, table.offset)

    def _number(self, tag: int) -> int:
        found = self._found.get(tag)
        return self._rewriter.number(self._value(found)) if found else 0

    def _text(self, tag: int) -> str:
        found = self._found.get(tag)
        return self._value(found).decode("latin_1").strip(" \0") if found else ""

    def _value(self, found: Found) -> bytes:
        return bytes(self._data[found.offset : found.stop])


def _head_of(outgoing: Outgoing, coding: Coding) -> tuple[bytes, Found | None]:
    """Return all before Pixel Data, and Pixel Data, whose stop is wrong if its length is undefined."""
    header, place = header_of(outgoing)
    while True:
        start = read(outgoing, place, min(12, outgoing.size - place))
        if not any(start):
            return header, None
        if len(start) < 12:
            break
        tag, vr, offset, length = coding.header(memoryview(start), 0)
        stop = place + offset + (0 if length == UNDEFINED else length)
        if tag in _PIXELS and stop <= outgoing.size:
            return header, Found(tag, vr, place, place + offset, length, stop)
        if tag not in _OF_ENCAPSULATION or stop > outgoing.size:
            break
        header += read(outgoing, place, stop - place)
        place = stop
    raise Unreadable("Its data set is cut short.", "Send the instance again from its source.")
