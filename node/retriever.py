"""The one door out: every instance that leaves passes here, corrected where a person corrected it.

Nearly every object has no correction and is read straight from the store into the sender's buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from catalog import (
    CatalogWriter,
    Damaged,
    Decision,
    Entry,
    MoreNeeded,
    NotFound,
    ObjectStore,
    Reader,
    scan,
)
from node.contracts import Outgoing, Place
from node.correction import MODIFYING, correct, correct_head
from node.damage import DamageBook
from node.nearline_copy import MemoryCopy
from node.storage import StoredFile, file_meta

_HEAD: Final = 1 << 16
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_PIXEL_GROUP: Final = (b"\xe0\x7f", b"\x7f\xe0")
"""Group 7FE0 as its first two bytes stand in little and in big endian."""


class StoredInstance:
    """An instance as it was stored; satisfies `Outgoing`."""

    def __init__(self, entry: Entry, reader: Reader) -> None:
        self.SOPClassUID = entry.SOPClassUID
        self.SOPInstanceUID = entry.SOPInstanceUID
        self.TransferSyntaxUID = entry.TransferSyntaxUID
        self._reader = reader
        # Every stored file begins with File Meta Information of our own making, so its length is known.
        self._start = len(file_meta(entry.SOPClassUID, entry.SOPInstanceUID, entry.TransferSyntaxUID))
        self.size = reader.size - self._start

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer with the data set from `offset`; return how many bytes there were."""
        return self._reader.read_into(buffer, self._start + offset)

    def place(self) -> Place | None:
        """Return where the data set begins in a segment, if it lies in one."""
        reader = self._reader
        if not isinstance(reader, StoredFile):
            return None
        return Place(reader.fileno(), reader.offset + self._start, reader.is_there)

    def view(self) -> memoryview | None:
        """Return the data set, if it lies in memory."""
        reader = self._reader
        return reader.data[self._start :] if isinstance(reader, MemoryCopy) else None

    def close(self) -> None:
        """Give back what reading took."""
        self._reader.close()


class CorrectedInstance:
    """A corrected header followed by the stored bytes from Pixel Data on; satisfies `Outgoing`."""

    def __init__(self, stored: Outgoing, header: bytes, tail: int) -> None:
        self.SOPClassUID = stored.SOPClassUID
        self.SOPInstanceUID = stored.SOPInstanceUID
        self.TransferSyntaxUID = stored.TransferSyntaxUID
        self._stored = stored
        self._header = header
        self._tail = tail
        self.size = len(header) + stored.size - tail

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer with the data set from `offset`; return how many bytes there were."""
        piece = self._header[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        if len(piece) == len(buffer):
            return len(piece)
        from_tail = self._tail + offset + len(piece) - len(self._header)
        return len(piece) + self._stored.read_into(buffer[len(piece) :], from_tail)

    def close(self) -> None:
        """Give back what reading took."""
        self._stored.close()


class NodeRetriever:
    """Satisfies `Retriever` for one archive; `system` is the AE title that corrections are told under.

    What the book says is damaged is not sent. `is_verifying` has each object read and hashed beforehand.
    """

    def __init__(
        self,
        store: ObjectStore,
        catalog: CatalogWriter,
        system: str,
        damage: DamageBook | None = None,
        *,
        is_verifying: bool = False,
        on_open: Callable[[], None] = lambda: None,
        on_access: Callable[[str], None] = lambda study: None,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self.system = system
        self._damage = damage
        self._is_verifying = is_verifying
        self._on_open = on_open
        self._on_access = on_access

    def expect(self, entries: Sequence[Entry], is_unwanted: Callable[[], bool] = bool) -> None:
        """Have the store fetch ahead what will be opened soon, in this order."""
        self._store.prefetch(entry.holding for entry in entries)

    def open(self, entry: Entry) -> StoredInstance | CorrectedInstance:
        """Open an instance for sending.

        Raises:
            NotFound: it is gone.
            Damaged: its bytes are not what was stored; they are never sent.
            Unavailable: whoever holds it does not answer.
        """
        self._on_open()
        self._on_access(entry.StudyInstanceUID)
        stored = StoredInstance(entry, self._reader(entry))
        corrections = self._catalog.corrections(entry)
        return corrected(stored, corrections, self.system) if corrections else stored

    def whole(self, entry: Entry) -> Reader:
        """Open a stored file as it is, for a peer that is told the corrections beside it; see `open`."""
        self._on_open()
        self._on_access(entry.StudyInstanceUID)
        return self._reader(entry)

    def corrections(self, entry: Entry) -> list[Decision]:
        """Return the corrections in force for an instance, oldest first."""
        return self._catalog.corrections(entry)

    def _reader(self, entry: Entry) -> Reader:
        if self._damage and entry.holding.sha256 in self._damage:
            raise Damaged(
                f"Its stored bytes are damaged and are not sent: {entry.SOPInstanceUID}.",
                "Send it again from where it came; peerpacs verify --list names all that are damaged.",
            )
        try:
            return self._opened(entry)
        except NotFound:
            # It was moved to another volume since its row was read.
            held = self._catalog.whereabouts(entry.SOPInstanceUID, entry.holding.sha256)
            if held is None or held == entry.holding:
                raise
            return self._opened(replace(entry, holding=held))
        except Damaged as error:
            if self._damage:
                self._damage.mark(entry, error.what)
            raise

    def _opened(self, entry: Entry) -> Reader:
        if self._is_verifying:
            self._store.verify(entry.holding)
        return self._store.open(entry.holding)


def corrected(
    stored: Outgoing, decisions: Sequence[Decision], system: str, reason: str = MODIFYING
) -> CorrectedInstance:
    """Return an instance with decisions applied to its header; it is closed if that cannot be done."""
    try:
        head = bytearray(min(_HEAD, stored.size))
        read = stored.read_into(memoryview(head), 0)
        known = correct_head(bytes(head[:read]), stored.TransferSyntaxUID, decisions, system, reason)
        if known is not None:
            return CorrectedInstance(stored, *known)
        data, tail = header_of(stored)
        header = correct(data, stored.TransferSyntaxUID, decisions, system, reason)
    except BaseException:
        stored.close()
        raise
    return CorrectedInstance(stored, header, tail)


def header_of(stored: Outgoing) -> tuple[bytes, int]:
    """Return the data set up to Pixel Data and where that begins; a deflated one whole."""
    is_deflated = stored.TransferSyntaxUID == _DEFLATED
    limit = stored.size if is_deflated else min(_HEAD, stored.size)
    while True:
        head = bytearray(limit)
        if stored.read_into(memoryview(head), 0) < limit:
            raise Damaged("A stored file is shorter than when it was stored.", "Run: peerpacs rebuild")
        if is_deflated:
            return bytes(head), limit
        try:
            pixels = scan(memoryview(head), stored.TransferSyntaxUID, stored.size).pixels
        except MoreNeeded as more:
            limit = min(max(more.size, limit * 8), stored.size)
            continue
        if bytes(head[pixels : pixels + 2]) in _PIXEL_GROUP or limit == stored.size:
            return bytes(head[:pixels]), pixels
        limit = min(limit * 8, stored.size)
