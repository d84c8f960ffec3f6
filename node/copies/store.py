"""What this node keeps for other owners: their files in segments of its own, and a row for each.

A row is written when its bytes are on the disk, and a receipt leaves when the row is. Bytes without a row
were never told to anybody, so a start removes them. Nothing here is in a catalog of this node.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256 as sha256_of
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from catalog import Clock, Damaged, Holding, Incoming, NotFound, NotPermitted, PacsError, Reader
from node.state import State
from node.storage import Buffers, Kept, ResumedObject, SegmentEnd, SegmentStore, StorageSettings

from .erased import Erased
from .origins import Origins
from .rows import CopyRow, ReadersRow, StudyRow, study_key

logger = logging.getLogger(__name__)

_MAP_SIZE: Final = 64 << 30
_PIECE: Final = 1 << 20
_ROWS: Final = b"rows"
RESUMED_ABOVE: Final = 1 << 20
"""Bytes above which an object that broke off goes on where it was."""


class Arrived(NamedTuple):
    """An object that came whole, with the row it is to have; its place is not known yet."""

    incoming: Incoming
    row: CopyRow


class CopyStore:
    """All copies of one node; any thread may call."""

    def __init__(self, folder: Path, clock: Clock, settings: StorageSettings, limit: int = 0) -> None:
        """Open what lies in `folder`; at most `limit` bytes are kept, with 0 as many as there is room for."""
        self._clock = clock
        self.limit = limit
        self._state = State(folder / "rows", map_size=_MAP_SIZE)
        self._rows = self._state.table("copies", CopyRow)
        self._studies = self._state.table("studies", StudyRow)
        self.readers = self._state.table("readers", ReadersRow)
        """By owner."""
        self.erased = Erased()
        places = folder / "objects", folder / "incoming"
        self._buffers = Buffers(settings.buffered_at_most, settings.budget)
        self._segments = SegmentStore(*places, clock, settings, buffers=self._buffers)
        # Earlier versions named by its SHA-256 alone what broke off: nobody can tell whose that is.
        self._segments.spill.forget("?" * 64)
        self._removing = threading.Lock()
        self.size = self.objects = 0
        self._origins = Origins(self._state, self._segments)
        self._lost = self._state.table("lost", bool)
        """Has a row while rows are made again."""
        self._replay(is_complete=not self._find_again())

    def close(self) -> None:
        """Write everything down and give everything back."""
        self._segments.close()
        self._state.close()

    def _find_again(self) -> bool:
        """Make rows from the segments where there is none, and objects: the database was lost; or say no."""
        has_rows = next(iter(self._rows.scan()), None) is not None
        if not self._lost.get(_ROWS) and (has_rows or self._segments.is_empty()):
            return False
        self._lost.put(_ROWS, True)
        count = 0
        for owner, study, row in self._origins.refound():
            self._rows.put(_key(owner, study, row.holding.sha256), row)
            if self.said(owner, study) is None:
                self._studies.put(study_key(owner, study), StudyRow())
            count += 1
        self._lost.delete(_ROWS)
        if count:
            logger.warning("Rows of %d copies were made again from their objects.", count)
        return True

    def _replay(self, *, is_complete: bool) -> None:
        known = set()
        for _, row in self._rows.scan():
            known.add(row.holding)
            self.size += row.holding.size
            self.objects += 1
        for item in self._segments.recover():
            if is_complete and isinstance(item, Kept) and item.holding not in known:
                with suppress(PacsError, OSError):
                    self._segments.remove(item.holding)
            elif isinstance(item, SegmentEnd):
                self._forget(item.covers)

    def _forget(self, is_lost: Callable[[Holding], bool]) -> None:
        lost = [key for key, row in self._rows.scan() if is_lost(row.holding)]
        for key in lost:
            self._rows.delete(key)
        if lost:
            logger.error("%d copies are not on the disk any more; their owners send them again.", len(lost))

    # Taking in.

    def incoming(self, owner: bytes, study: str, sha256: bytes, size: int) -> Incoming:
        """Return an object to be filled; a large one of the study has what came of it before a break.

        Raises:
            Busy: it is on its way already.
            OutOfSpace, Unavailable: the disk refuses.
        """
        if size > RESUMED_ABOVE:
            name = _begun(owner, study) + sha256.hex()
            return ResumedObject(self._buffers, self._segments.spill, name, size)
        return self._segments.incoming()

    def keep(self, owner: bytes, study: str, arrived: Sequence[Arrived]) -> dict[int, PacsError]:
        """Keep objects for an owner; they and their rows are on the disk when this returns.

        Return by index those that it had erased: they are gone again.

        Raises:
            Damaged: one is not what its row says; nothing was kept.
            OutOfSpace, Unavailable: the disk refused; nothing was kept.
        """
        for incoming, row in arrived:
            if not is_whole(incoming, row):
                raise Damaged(
                    "What came are not the bytes that their owner named.", "They are fetched again."
                )
        kept: list[Holding] = []
        try:
            for incoming, row in arrived:
                origin = self._origins.of(owner, study, row.source, row.received)
                kept.append(self._segments.keep(incoming, origin))
            for holding in kept:
                self._segments.flush(holding)
            rows = [
                msgspec.structs.replace(each.row, holding=at) for each, at in zip(arrived, kept, strict=True)
            ]
            self._put(owner, study, rows)
            refused = self._erase_again(owner, study, rows)
        except BaseException:
            for holding in kept:
                with suppress(PacsError, OSError):
                    self._segments.remove(holding)
            raise
        for each, holding in zip(arrived, kept, strict=True):
            self._segments.sync(holding)
            if isinstance(each.incoming, ResumedObject):
                each.incoming.forget()
        return refused

    def _erase_again(self, owner: bytes, study: str, rows: Sequence[CopyRow]) -> dict[int, PacsError]:
        """Erase what an erasure did not find that came while these were taken in; return why, by index."""
        refused = self.erased.refusals(owner, study, map(_uids, rows))
        for number in refused:
            self._overwrite(owner, (study, *_uids(rows[number])))
        return refused

    def _put(self, owner: bytes, study: str, rows: Sequence[CopyRow]) -> None:
        replaced: list[Holding] = []

        def change(row: CopyRow) -> Callable[[CopyRow | None], CopyRow | None]:
            def put(known: CopyRow | None) -> CopyRow:
                if known is not None:
                    replaced.append(known.holding)
                return row

            return put

        self._rows.change({_key(owner, study, row.holding.sha256): change(row) for row in rows})
        self.size += sum(row.holding.size for row in rows) - sum(each.size for each in replaced)
        self.objects += len(rows) - len(replaced)
        for holding in replaced:
            with suppress(PacsError, OSError):
                self._segments.remove(holding)

    def note(
        self, owner: bytes, study: str, decisions: Sequence[bytes], statement: bytes, readable: bytes = b""
    ) -> None:
        """Keep what an owner says about a study; on the disk when this returns.

        Without a word about what is readable, that stays as it was while nothing else is new, and is
        nothing otherwise: what was decided since is never left out.

        Raises:
            NotPermitted: the owner had the study erased, or what it speaks of.
            BadRequest: it cannot be read.
        """
        words = decisions, statement, readable
        self.erased.check_words(owner, study, *words)
        known = self._studies.get(study_key(owner, study))
        is_new = (
            known is None
            or not known.said
            or (known.decisions, known.statement) != (tuple(decisions), statement)
        )
        if not is_new and known is not None and readable in (b"", known.readable):
            return
        said = StudyRow(
            decisions=tuple(decisions), statement=statement, said=self._clock(), readable=readable
        )
        self._studies.put(study_key(owner, study), said)
        try:
            # Or an erasure came meanwhile, and had found nothing.
            self.erased.check_words(owner, study, *words)
        except NotPermitted:
            self._forget_words(owner, study)
            raise

    def _forget_words(self, owner: bytes, study: str) -> None:
        """Forget what an owner said of a study that names what it had erased; it is to say it anew."""
        if self.study(owner, study):
            self._studies.put(study_key(owner, study), StudyRow())
        else:
            self._studies.delete(study_key(owner, study))

    # Asking.

    def has(self, owner: bytes, study: str, sha256: bytes) -> bool:
        """Say whether an object is kept for an owner, as far as its row and header tell."""
        row = self._rows.get(_key(owner, study, sha256))
        return row is not None and self._segments.is_safe(row.holding)

    def find(self, study: str, sha256: bytes) -> Iterator[tuple[bytes, CopyRow]]:
        """Yield each owner for whom an object of a study is kept, and its row."""
        for owner in self.owners():
            row = self._rows.get(_key(owner, study, sha256))
            if row is not None:
                yield owner, row

    def owners(self) -> list[bytes]:
        """Return for whom anything is kept."""
        found: list[bytes] = []
        begin = b""
        while (first := next(iter(self._studies.scan(begin=begin)), None)) is not None:
            found.append(first[0].partition(b"\0")[0])
            begin = found[-1] + b"\1"
        return found

    def said(self, owner: bytes, study: str) -> StudyRow | None:
        """Return what an owner said about a study."""
        return self._studies.get(study_key(owner, study))

    def is_told(self, owner: bytes, study: str) -> bool:
        """Say whether what an owner said about a study is still known."""
        said = self.said(owner, study)
        return said is not None and said.said > 0

    def study(self, owner: bytes, study: str) -> list[CopyRow]:
        """Return what is kept of an owner's study."""
        return [row for _, row in self._rows.scan(_key(owner, study, b""))]

    def listing(self, owner: bytes, after: str = "") -> Iterator[tuple[str, list[CopyRow]]]:
        """Yield an owner's studies behind one, with what is kept of each."""
        prefix = owner + b"\0"
        rows = self._rows.scan(prefix, after.encode() + b"\1" if after else b"")
        for study, group in groupby(rows, lambda item: item[0][len(prefix) :].partition(b"\0")[0]):
            yield study.decode(), [row for _, row in group]

    def open(self, owner: bytes, study: str, sha256: bytes) -> Reader:
        """Open a copy.

        Raises:
            NotFound: it is not kept.
            Damaged: its bytes are not whole.
        """
        row = self._rows.get(_key(owner, study, sha256))
        if row is None:
            raise NotFound("No such copy is kept here.", "Its owner copies it again.")
        return self._segments.open(row.holding)

    def prove(self, owner: bytes, study: str, sha256: bytes, nonce: bytes) -> bytes:
        """Return SHA-256 of nonce and bytes, or byte 1 where there is no nonce; nothing if it is not whole.

        Without a nonce the bytes are compared with their SHA-256. A copy that is not whole is forgotten.
        """
        row = self._rows.get(_key(owner, study, sha256))
        if row is None:
            return b""
        try:
            plain, salted = _hashed(self._segments.open(row.holding), nonce)
        except (PacsError, OSError) as error:
            plain = b""
            logger.error("A copy cannot be read: %s", error)
        if plain == sha256:
            return salted if nonce else b"\1"
        logger.error("A copy kept for %s is damaged; it is fetched again.", owner.decode())
        self.drop(owner, study, [sha256])
        return b""

    # Letting go.

    def drop(self, owner: bytes, study: str, digests: Iterable[bytes] = ()) -> int:
        """Forget copies of an owner's study, all of them if none are named; return how many there were."""
        named = set(digests)
        with self._removing:
            rows = [row for row in self.study(owner, study) if not named or row.holding.sha256 in named]
            for row in rows:
                # The bytes first: a row without bytes is dropped again, bytes without a row stay for ever, so
                # that who has to erase them would not find them; nor may a damaged header have them stay.
                with suppress(PacsError, OSError):
                    self._segments.remove(row.holding, is_sure=True)
                self._rows.delete(_key(owner, study, row.holding.sha256))
                self.size -= row.holding.size
                self.objects -= 1
            if not named:
                self._studies.delete(study_key(owner, study))
                self._segments.spill.forget(_begun(owner, study) + "*")
        return len(rows)

    def erase(self, owner: bytes, target: tuple[str, ...]) -> int:
        """Overwrite copies of an owner's study, series or instance, and forget what it said of them.

        Return how many there were.
        """
        count = self._overwrite(owner, target)
        if len(target) == 1:
            self.drop(owner, target[0])
        elif self.said(owner, target[0]) is not None:
            self._forget_words(owner, target[0])
        self._segments.spill.forget(_begun(owner, target[0]) + "*")
        return count

    def _overwrite(self, owner: bytes, target: tuple[str, ...]) -> int:
        study = target[0]
        named = [row for row in self.study(owner, study) if _uids(row)[: len(target) - 1] == target[1:]]
        for row in named:
            with suppress(NotFound):
                self._segments.remove(row.holding, erase=True, is_sure=True)
        if named:
            self.drop(owner, study, [row.holding.sha256 for row in named])
        return len(named)

    def scour(self) -> bool:
        """Leave nothing of deleted rows in the file; False: try again."""
        return self._state.scour()

    def everything(self, begin: bytes = b"") -> Iterator[tuple[bytes, bytes, str, CopyRow]]:
        """Yield every copy behind a key: the key, the owner, the study and its row."""
        for key, row in self._rows.scan(begin=begin):
            if key != begin:
                owner, study, _ = key.split(b"\0", 2)
                yield key, owner, study.decode(), row

    def room(self) -> int:
        """Return how many bytes may still be taken in."""
        usable = self._segments.space.look().usable
        return min(usable, max(0, self.limit - self.size)) if self.limit else usable


def is_whole(incoming: Incoming, row: CopyRow) -> bool:
    """Say whether an object is what its row says; what is not leaves nothing to go on with."""
    if incoming.digest() == row.holding.sha256 and incoming.size == row.holding.size:
        return True
    if isinstance(incoming, ResumedObject):
        incoming.forget()
    return False


def _uids(row: CopyRow) -> tuple[str, str]:
    return row.SeriesInstanceUID, row.SOPInstanceUID


def _begun(owner: bytes, study: str) -> str:
    """Return how the names of files begin that hold what came so far of a study's large objects."""
    return sha256_of(study_key(owner, study)).hexdigest()[:16] + "-"


def _key(owner: bytes, study: str, sha256: bytes) -> bytes:
    return study_key(owner, study) + b"\0" + sha256


def _hashed(reader: Reader, nonce: bytes) -> tuple[bytes, bytes]:
    plain, salted = sha256_of(), sha256_of(nonce)
    buffer, at = memoryview(bytearray(min(_PIECE, max(reader.size, 1)))), 0
    try:
        while at < reader.size:
            piece = buffer[: min(len(buffer), reader.size - at)]
            if not (count := reader.read_into(piece, at)):
                break
            plain.update(piece[:count])
            if nonce:
                salted.update(piece[:count])
            at += count
    finally:
        reader.close()
    return plain.digest(), salted.digest()
