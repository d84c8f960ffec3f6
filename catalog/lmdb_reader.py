"""The reading half of a node's own catalog, for as many processes as like beside the one that writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from .find import Away, Finder, Question
from .forgetting import find_lost
from .indexing import TOKEN_KEY
from .levels import visible_instances, visible_series
from .log import ALL, Digest
from .log_reading import LogReading
from .model import (
    Attributes,
    Availability,
    Change,
    Conflict,
    Decision,
    Entry,
    Head,
    Holding,
    Query,
    Selection,
    Standing,
    Verb,
)
from .moving import moved_attributes
from .overlays import load, place_of
from .packs import Headers, ReadHeader, packed_json
from .planning import Planner
from .purging import Doomed, doomed, knows_patient
from .rejected import RejectedCatalog
from .relocating import holding_of, stored_after
from .rows import CONFLICT_CODEC, STUDY_CODEC, TOTALS_CODEC, ConflictRow, Totals
from .search import SearchIndex
from .selecting import Claim, claimed, claims, entry_at, select, versions
from .statements import Stated, of_series, of_study
from .truth import CLAIM, CONFLICT, DECIDED, META, STUDY, Environment, Reading, joined, scan

MAP_SIZE: Final = 256 << 30
"""Address space reserved for the database, in bytes; the file grows only with what is in it."""


class LmdbReader:
    """The reading half of a catalog: what every process of a node may use at once; satisfies `Catalog`.

    `read_header(entry, size)` returns the first bytes of an instance's data set, at least `size` if it has
    them, and its whole length. `away` tells what cannot be read just now.
    """

    def __init__(
        self, environment: Environment, search: SearchIndex, read_header: ReadHeader, away: Away
    ) -> None:
        self._environment = environment
        self._away = away
        self._planner = Planner(environment, search)
        self._headers = Headers(read_header)
        self._finder = Finder(environment, self._headers, self._planner.propose, away)

    def close(self) -> None:
        """Give the catalog back; nothing of it is lost."""
        self._environment.close()

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

    def find(self, query: Query) -> Iterator[Attributes]:
        """See `Catalog.find`; raises BadRequest for a key whose value its VR does not allow."""
        return self._finder.find(query)

    def rejected(self) -> RejectedCatalog:
        """Return what persons and devices rejected, as a catalog of its own."""
        return RejectedCatalog(self._environment, self._headers)

    def propose(self, query: Query) -> Iterator[list[bytes]]:
        """Yield studies as order and UID, in the order of answers, every one that could match among them."""
        return self._planner.propose(Question(query))

    def rows_of(self, StudyInstanceUID: str, share: int = ALL) -> dict[bytes, bytes]:
        """Return what a share's log says of a study and its series now, by key; tombstones too."""
        with self.reading_log(share) as log:
            return log.rows_of(StudyInstanceUID.encode())

    def stated(self, StudyInstanceUID: str) -> Stated | None:
        """Return what the log would state about a study now; None if nothing of it is seen."""
        with self._environment.reading() as reading:
            stored = reading.get(STUDY + StudyInstanceUID.encode())
            row = STUDY_CODEC.unpack(stored) if stored else None
            if row is None or not row.instances:
                return None
            found = list(visible_series(reading, StudyInstanceUID))
            series = [of_series(each, is_settled=not each.is_dirty) for _, each in found]
            is_away = self._away()
            entries = (entry for key, _ in found if is_away for entry in visible_instances(reading, key))
            gone = (True, Availability.UNAVAILABLE)
            is_here = not any(is_away(entry.holding) in gone for entry in entries) if is_away else True
            return Stated(of_study(row), series, is_here)

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

    def find_lost(self, is_lost: Callable[[Holding], bool]) -> list[Entry]:
        """Return the newest rows whose bytes a power cut took."""
        with self._environment.reading() as reading:
            return find_lost(reading, is_lost)

    def whereabouts(self, SOPInstanceUID: str, sha256: bytes) -> Holding | None:
        """See `CatalogWriter.whereabouts`."""
        with self._environment.reading() as reading:
            return holding_of(claimed(reading, SOPInstanceUID), sha256)

    def stored_after(self, cursor: bytes, limit: int) -> list[tuple[bytes, Entry]]:
        """See `CatalogWriter.stored_after`."""
        with self._environment.reading() as reading:
            return stored_after(reading, cursor, limit)

    def decisions(self, StudyInstanceUID: str) -> list[Decision]:
        """See `CatalogWriter.decisions`."""
        with self._environment.reading() as reading:
            return load(reading, StudyInstanceUID).all

    def is_held(self, StudyInstanceUID: str) -> bool:
        """Say whether a legal hold keeps a study, or any part of it."""
        with self._environment.reading() as reading:
            return bool(load(reading, StudyInstanceUID).holds)

    def standing(self, *uids: str) -> Standing:
        """Return what was decided about an instance that arrives now: study, series and instance."""
        study, series, instance = uids
        with self._environment.reading() as reading:
            if reading.get(DECIDED + study.encode()) is None:
                return Standing.PLAIN
            place = place_of(reading, study, series)
            found = load(reading, place).standing((place, series, instance))
        is_moved = place != study and found is Standing.PLAIN
        return Standing.CORRECTED if is_moved else found

    def corrections(self, entry: Entry) -> list[Decision]:
        """Return the corrections in force for an instance, oldest first; empty for nearly all.

        The first of one that was moved says of which study it is now.
        """
        with self._environment.reading() as reading:
            if reading.get(DECIDED + entry.StudyInstanceUID.encode()) is None:
                return []
            decided = load(reading, entry.StudyInstanceUID)
            found = moved_attributes(reading, decided, entry)
        corrections = decided.in_force(entry)
        if found is None:
            return corrections
        move, attributes = found
        moved = replace(move, verb=Verb.CORRECT, target=(entry.StudyInstanceUID,), attributes=attributes)
        return [moved, *corrections]

    def sent_in(self, StudyInstanceUID: str, SeriesInstanceUID: str) -> str:
        """Return the study in which a series was sent, wherever it was moved since."""
        with self._environment.reading() as reading:
            move = load(reading, StudyInstanceUID).move_of(StudyInstanceUID, SeriesInstanceUID)
            return move.target[0] if move else StudyInstanceUID

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
        with self._environment.reading() as reading:
            if reading.get(DECIDED + StudyInstanceUID.encode()) is None:
                return b""
            return "".join(decision.id for decision in load(reading, StudyInstanceUID).all).encode()

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

    def doomed(self, decision: Decision) -> Doomed:
        """Return what is to go by a decision to delete or erase, as it stands now."""
        with self._environment.reading() as reading:
            return doomed(reading, decision)

    def knows_patient(self, IssuerOfPatientID: str, PatientID: str) -> bool:
        """Say whether a study of the patient is here, seen or hidden."""
        with self._environment.reading() as reading:
            return knows_patient(reading, IssuerOfPatientID, PatientID)

    def claims(self, uids: Iterable[str]) -> dict[str, list[Claim]]:
        """Return every version behind each SOP Instance UID and whether it was rejected or deleted."""
        with self._environment.reading() as reading:
            return claims(reading, uids)

    def totals(self) -> Totals:
        """Return how much a query may see of everything, and how many conflicts are open."""
        with self._environment.reading() as reading:
            stored = reading.get(META + b"totals")
            return TOTALS_CODEC.unpack(stored) if stored else Totals()


def open_beside_writer(
    path: Path, search_path: Path, map_size: int = MAP_SIZE
) -> tuple[Environment, SearchIndex]:
    """Open the parts of a catalog that another process writes, which must have made it before.

    Raises:
        PacsError: there is none.
    """
    environment = Environment(path, map_size=map_size, is_read_only=True)
    with environment.reading() as reading:
        token = reading.get(TOKEN_KEY) or b""
    return environment, SearchIndex(search_path, token, is_read_only=True)


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
