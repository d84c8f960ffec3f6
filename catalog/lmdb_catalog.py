"""The catalog a node keeps of its own: LMDB is the truth, Tantivy proposes, the change log tells others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from .commit import GroupCommit
from .decisions import decide
from .errors import Damaged, PacsError
from .find import Away, Finder
from .forgetting import find_lost, forget
from .indexing import HasSamePixels, Indexer
from .log import ALL, Digest, begin_epoch, forget_tombstones
from .log_reading import LogReading
from .model import (
    Arrival,
    Attributes,
    Change,
    Clock,
    Conflict,
    Decision,
    Entry,
    Head,
    Holding,
    Move,
    Moved,
    Query,
    Recorded,
    Selection,
)
from .overlays import load
from .packs import Headers, ReadHeader, packed_json
from .planning import Planner
from .publishing import due, publishing, remaking, unfinished
from .recording import record
from .relocating import holding_of, relocate, stored_after
from .rows import CONFLICT_CODEC, TOTALS_CODEC, ConflictRow, Totals
from .selecting import claimed, entry_at, select, versions
from .shares import Share
from .truth import CLAIM, CONFLICT, DECIDED, META, NOTE, Environment, Reading, joined, scan

MAP_SIZE: Final = 256 << 30
"""Address space reserved for the database, in bytes; the file grows only with what is in it."""


_STATED_AT_ONCE: Final = 256
_FORMAT_KEY: Final = META + b"format"
_FORMAT: Final = b"1"
"""How keys and rows are laid out; another number is another layout."""


class LmdbCatalog:
    """The one writer of a node's own catalog; satisfies `CatalogWriter`.

    A process opens a path once. `read_header(entry, size)` returns the first bytes of an instance's data
    set, at least `size` if it has them, and its whole length. `has_same_pixels` says whether the pixels of
    two versions are equal; without it they are taken to differ. `away` tells what cannot be read just now.
    """

    def __init__(
        self,
        path: Path,
        search_path: Path,
        *,
        clock: Clock,
        read_header: ReadHeader,
        has_same_pixels: HasSamePixels | None = None,
        away: Away = lambda: None,
        map_size: int = MAP_SIZE,
    ) -> None:
        self._environment = Environment(path, map_size=map_size)
        self._commits = GroupCommit(self._environment, clock)
        try:
            self._check_format(path)
        except PacsError:
            self._environment.close()
            raise
        self._indexer = Indexer(self._environment, self._commits, search_path, read_header, has_same_pixels)
        self._shares: tuple[Share, ...] = ()
        planner = Planner(self._environment, self._indexer.search)
        self._finder = Finder(self._environment, Headers(read_header), planner.propose, away)

    def _check_format(self, path: Path) -> None:
        """Begin a new catalog, or make sure that this program understands the one that is there."""
        with self._environment.reading() as reading:
            is_new = not reading.cursor().first()
            found = reading.get(_FORMAT_KEY)
        if is_new:
            self._commits.run(lambda batch: batch.put(_FORMAT_KEY, _FORMAT))
            self.renew_epoch()
        elif found != _FORMAT:
            raise Damaged(
                f"The catalog {path} was made by another version of PeerPACS.",
                "Run peerpacs rebuild: it makes the catalog again from the objects, decisions included.",
            )

    def close(self) -> None:
        """Finish; what was recorded stays recorded whether or not anybody calls this."""
        self._indexer.search.close()
        self._environment.close()

    def index(self, now: float) -> int:
        """Let the search index follow for a moment; return 0 when it has caught up.

        One thread calls this, a few times a second; arrivals are found before it does, only slower.

        Raises:
            OutOfSpace: a disk is full; call again later, nothing is lost.
        """
        return self._indexer.step(now)

    def tidy(self) -> int:
        """Clear what readers that died in other processes left behind; return how many there were."""
        return self._environment.free_slots()

    def share(self, shares: Sequence[Share]) -> None:
        """Have the log state these shares besides everything; `publish` makes and unmakes what changed.

        A share that was stated and is not among them any more ends: its readers are told that all is gone.
        """
        self._shares = tuple(shares)

    def publish(self, now: float) -> int:
        """State in the change log what is due; return how many rows. `now` is Unix time in seconds."""
        moment = int(now * 1000)
        with self._environment.reading() as reading:
            keys = due(reading, moment)
            remade = unfinished(reading, self._shares)
        count = 0
        for start in range(0, len(keys), _STATED_AT_ONCE):
            portion = keys[start : start + _STATED_AT_ONCE]
            count += self._commits.run(publishing(portion, moment, self._shares))
        for share in remade:
            count += self._commits.run(remaking(share))
        if count:
            # Peers must not be told what a power cut could take back.
            self._environment.settle()
        return count

    def reading_log(self, share: int = ALL) -> LogReading:
        """Return the share's log to be read in one moment; use it in a `with`."""
        return LogReading(self._environment.reading, share)

    def changes(self, after: int, limit: int, share: int = ALL) -> list[Change]:
        """See `Catalog.changes`."""
        with self.reading_log(share) as log:
            return log.changes(after, limit)

    def snapshot(self, after: bytes, limit: int, share: int = ALL) -> list[Change]:
        """Return at most `limit` live rows of the log behind the key `after`, in key order."""
        with self.reading_log(share) as log:
            return log.snapshot(after, limit)

    def head(self, share: int = ALL) -> Head:
        """See `Catalog.head`."""
        with self.reading_log(share) as log:
            return log.head

    def chain_at(self, seq: int, share: int = ALL) -> bytes | None:
        """Return the chain value at a number where a commit ended, or None."""
        with self.reading_log(share) as log:
            return log.chain_at(seq)

    def digests(self, share: int = ALL) -> dict[int, Digest]:
        """Return the digest of every bucket that ever had a row of the share."""
        with self.reading_log(share) as log:
            return log.digests()

    def forget_tombstones(self, heard: Mapping[int, int], limit: int = 1000) -> int:
        """Forget what is gone and everybody has heard of; see `log.forget_tombstones`."""
        return self._commits.run(lambda batch: forget_tombstones(batch, heard, limit))

    def renew_epoch(self, at_least: int = 0) -> int:
        """Begin a new epoch above every known one and above `at_least`; return it."""
        epoch = self._commits.run(lambda batch: begin_epoch(batch, at_least))
        self._environment.settle()
        return epoch

    def find(self, query: Query) -> Iterator[Attributes]:
        """See `Catalog.find`; raises BadRequest for a key whose value its VR does not allow."""
        return self._finder.find(query)

    def select(self, selection: Selection) -> list[Entry]:
        """See `Catalog.select`; raises BadRequest when nothing at all is named."""
        with self._environment.reading() as reading:
            return select(reading, selection)

    def holds(self, SOPInstanceUID: str, sha256: bytes) -> bool:
        """Say whether exactly these bytes are recorded, and no deletion may have freed them."""
        with self._environment.reading() as reading:
            stored = reading.get(CLAIM + SOPInstanceUID.encode())
            if stored is None:
                return False
            for entry in claimed(reading, SOPInstanceUID):
                if entry.holding.sha256 == sha256:
                    return not load(reading, entry.StudyInstanceUID).deletes(entry)
            return False

    def record(self, arrivals: Sequence[Arrival]) -> list[Recorded]:
        """See `CatalogWriter.record`; what is recorded together is on disk together or not at all."""
        return self._commits.run(lambda batch: record(batch, arrivals), len(arrivals))

    def forget_lost(self, is_lost: Callable[[Holding], bool]) -> list[Entry]:
        """Take back the newest rows whose bytes a power cut took; return what they were."""
        with self._environment.reading() as reading:
            lost = find_lost(reading, is_lost)
        if lost:
            self._commits.run(lambda batch: forget(batch, lost), len(lost))
        return lost

    def relocate(self, moves: Sequence[Move]) -> list[Moved]:
        """See `CatalogWriter.relocate`."""
        moved = self._commits.run(lambda batch: relocate(batch, moves), len(moves))
        self._environment.settle()
        return moved

    def whereabouts(self, SOPInstanceUID: str, sha256: bytes) -> Holding | None:
        """See `CatalogWriter.whereabouts`."""
        with self._environment.reading() as reading:
            return holding_of(claimed(reading, SOPInstanceUID), sha256)

    def stored_after(self, cursor: bytes, limit: int) -> list[tuple[bytes, Entry]]:
        """See `CatalogWriter.stored_after`."""
        with self._environment.reading() as reading:
            return stored_after(reading, cursor, limit)

    def decide(self, decision: Decision) -> None:
        """See `CatalogWriter.decide`; raises BadRequest too."""
        self._commits.run(lambda batch: decide(batch, decision, must_exist=True))

    def restore(self, decision: Decision) -> None:
        """Take in a decision while the catalog is made again; its study may still be on its way."""
        self._commits.run(lambda batch: decide(batch, decision, must_exist=False))

    def decisions(self, StudyInstanceUID: str) -> list[Decision]:
        """See `CatalogWriter.decisions`."""
        with self._environment.reading() as reading:
            return load(reading, StudyInstanceUID).all

    def overlay(self, entry: Entry) -> Attributes:
        """See `CatalogWriter.overlay`."""
        uid = entry.StudyInstanceUID
        with self._environment.reading() as reading:
            if reading.get(DECIDED + uid.encode()) is None:
                return {}
            return load(reading, uid).corrections(uid, entry.SeriesInstanceUID, entry.SOPInstanceUID)

    def headers(self, entries: Sequence[Entry]) -> list[bytes]:
        """Return the DICOM JSON of each instance's header; empty where it is not packed, or was corrected."""
        found: dict[tuple[str, bytes], bytes] = {}
        corrected: dict[str, bool] = {}
        with self._environment.reading() as reading:
            for key in dict.fromkeys((e.StudyInstanceUID, e.SeriesInstanceUID) for e in entries):
                if key[0] not in corrected:
                    corrected[key[0]] = load(reading, key[0]).corrects
                if not corrected[key[0]]:
                    found.update(packed_json(reading, joined(*key)))
        return [found.get((entry.SOPInstanceUID, entry.holding.sha256), b"") for entry in entries]

    def state_of(self, StudyInstanceUID: str) -> bytes:
        """Return what changes with every decision about the study: the ids of all of them."""
        return "".join(decision.id for decision in self.decisions(StudyInstanceUID)).encode()

    def was_here(self, target: tuple[str, ...]) -> bool:
        """Say whether versions of it are, or were, stored under a decision that hides them."""
        return bool(self.versions(target))

    def conflicts(self, resolved: bool = False) -> Iterator[Conflict]:
        """See `CatalogWriter.conflicts`; with `resolved`, those too."""
        with self._environment.reading() as reading:
            rows = [CONFLICT_CODEC.unpack(stored) for _, stored in scan(reading, CONFLICT)]
            found = [_conflict(reading, row) for row in rows if resolved or not row.is_resolved]
        yield from found

    def versions(self, target: tuple[str, ...]) -> list[Entry]:
        """Return every stored version of a study, series or instance, hidden or not preferred ones too."""
        with self._environment.reading() as reading:
            return versions(reading, target)

    def totals(self) -> Totals:
        """Return how much a query may see of everything, and how many conflicts are open."""
        with self._environment.reading() as reading:
            stored = reading.get(META + b"totals")
            return TOTALS_CODEC.unpack(stored) if stored else Totals()

    def note(self, key: bytes, value: bytes) -> None:
        """Keep a small value for whoever keeps the objects; return when it is on disk."""
        self._commits.run(lambda batch: batch.put(NOTE + key, value))

    def noted(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) of the notes whose key begins with `prefix`, in order of the keys."""
        with self._environment.reading() as reading:
            found = list(scan(reading, NOTE + prefix))
        for key, value in found:
            yield key[len(NOTE) :], value


def _conflict(reading: Reading, row: ConflictRow) -> Conflict:
    if row.first and row.other:
        sides = [entry_at(reading, *row.first), entry_at(reading, *row.other)]
        entries = tuple(entry for entry in sides if entry)
    else:
        entries = tuple(claimed(reading, row.SOPInstanceUID))
    return Conflict(
        SOPInstanceUID=row.SOPInstanceUID,
        versions=entries,
        differences=tuple(row.differences),
        since=row.since,
        resolved=row.is_resolved,
    )
