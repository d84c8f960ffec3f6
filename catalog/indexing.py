"""The index worker: follows the arrivals, packs their headers and has the search index take them in.

The outbox is written in the commit of the arrivals and emptied only when the search index is on disk, in
the same transaction as the header packs: a crash in between repeats work and loses none.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Final

from .commit import Batch, GroupCommit
from .decisions import settle_conflict
from .levels import seen_attributes, visible_instances
from .model import Entry
from .order import decoded, encoded, ordinal
from .overlays import load
from .packs import (
    Packed,
    ReadHeader,
    Union,
    UnionRow,
    append,
    described,
    packed,
    store_union,
    union_row,
)
from .recording import IDENTITY, differences
from .repeats import Described, Describer
from .rows import (
    INSTANCE_CODEC,
    OUTBOX_CODEC,
    SERIES_CODEC,
    STUDY_CODEC,
    OutboxRow,
)
from .search import IndexGone, SearchIndex
from .selecting import claimed
from .terms import UNKNOWN, marks_of, terms_of, text_of
from .truth import INSTANCE, META, NUMBER, OUTBOX, STUDY, Environment, Reading, joined, scan, series_at

logger = logging.getLogger(__name__)

HasSamePixels = Callable[[Entry, Entry], bool]
COMMIT_EVERY: Final = 0.4
"""Seconds between two commits of the search index, at least."""
_AT_ONCE: Final = 256
"""Outbox rows taken up in one step."""
_STORED_AT_ONCE: Final = 64
"""Series in one transaction, so that arrivals do not wait long behind it."""
_REGROWN_AT_ONCE: Final = 1000
_ISSUER, _SOP_CLASS, _STUDY_UID = "00100021", "00080016", "0020000D"
TOKEN_KEY: Final = META + b"search token"
_REGROWTH_KEY: Final = META + b"search regrowth"


class _Work:
    """What was made of one series and waits for the commit."""

    def __init__(self, key: bytes, row: UnionRow | None, known: list[Packed]) -> None:
        self.key = key
        self.row = row or UnionRow(chunks=1 if known else 0, filled=len(known))
        self.union = Union(self.row)
        self.items: list[Packed] = []
        self.outbox: list[bytes] = []
        self.disputes: dict[str, list[str]] = {}
        self.gone: int | None = None
        """The number of a series that is not there any more."""
        self.alone: tuple[str, list[str]] | None = None
        """The only instance of the series and its terms, while there is but one."""


class Indexer:
    """Takes in what the outbox names; one thread steps it."""

    def __init__(
        self,
        environment: Environment,
        commits: GroupCommit,
        search_path: Path,
        read_header: ReadHeader,
        has_same_pixels: HasSamePixels | None,
    ) -> None:
        self._environment = environment
        self._commits = commits
        self._read_header = read_header
        self._has_same_pixels = has_same_pixels
        self._describer = Describer()
        self._works: dict[bytes, _Work] = {}
        self._taken = b""
        self._committed = float("-inf")
        self._regrown: bytes | None = None
        with environment.reading() as reading:
            self._token = reading.get(TOKEN_KEY) or secrets.token_bytes(16)
        self.search = SearchIndex(search_path, self._token)
        if self.search.is_new:
            commits.run(lambda batch: _start_regrowth(batch, self._token))

    def step(self, now: float) -> int:
        """Take in some of what arrived; return how many instances, 0 when all is taken in and on disk."""
        if self.search.is_gone:
            self._begin_anew()
        try:
            return self._follow(now)
        except IndexGone:
            self._begin_anew()
            return 1

    def _follow(self, now: float) -> int:
        taken = self._take_up() or self._regrow()
        is_pending = bool(self._works) or self._regrown is not None
        if is_pending and now - self._committed >= COMMIT_EVERY:
            self.finish()
            self._committed = now
        return taken or len(self._works)

    def _begin_anew(self) -> None:
        logger.warning("The search index was removed; it grows back, and until then searches are slower")
        # Questions must know that the index is not whole before it is not.
        self._commits.run(lambda batch: _start_regrowth(batch, self._token))
        self._works.clear()
        self._taken, self._regrown = b"", None
        self.search.begin_anew(self._token)

    def finish(self) -> None:
        """Put everything taken up on disk, in the search index first."""
        with self._environment.reading() as reading:
            for work in self._works.values():
                if reading.get(series_at(work.key)) is None:
                    work.gone = work.gone or 0
                if work.gone is not None:
                    self.search.drop(work.gone)
                    continue
                self._put(reading, work.key, work.union, work.alone)
        self.search.commit()
        while self._works:
            works = list(islice(self._works.values(), _STORED_AT_ONCE))
            self._commits.run(_storing(works))
            for work in works:
                del self._works[work.key]
        if (regrown := self._regrown) is not None:
            self._commits.run(lambda batch: _note_regrowth(batch, regrown))
            self._regrown = None

    def _take_up(self) -> int:
        count = 0
        with self._environment.reading() as reading:
            for outbox_key, stored in list(islice(scan(reading, OUTBOX, self._taken), _AT_ONCE)):
                row = OUTBOX_CODEC.unpack(stored)
                self._take_series(reading, outbox_key, row)
                self._taken = outbox_key
                count += max(1, len(row.instances))
        return count

    def _take_series(self, reading: Reading, outbox_key: bytes, row: OutboxRow) -> None:
        key = joined(row.StudyInstanceUID, row.SeriesInstanceUID)
        work = self._works.get(key)
        if work is None:
            union = union_row(reading, key)
            known = [] if union else packed(reading, key)
            work = self._works[key] = _Work(key, union, known)
            for item in known:
                work.union.add(decoded(item.json), item.sha256)
        work.outbox.append(outbox_key)
        work.gone = row.number if reading.get(series_at(key)) is None else None
        if work.gone is not None:
            return
        if row.is_revised:
            self._unite_again(reading, work)
        else:
            for uid in row.instances:
                self._take_instance(reading, work, uid)
        for uid in row.disputed:
            work.disputes[uid] = self._compare(claimed(reading, uid))

    def _take_instance(self, reading: Reading, work: _Work, SOPInstanceUID: str) -> None:
        stored = reading.get(INSTANCE + work.key + b"\0" + SOPInstanceUID.encode())
        if stored is None:
            return
        row = INSTANCE_CODEC.unpack(stored)
        found = self._describe(row.entry)
        if found is None:
            return
        sha256 = row.entry.holding.sha256
        is_first = not work.items and work.union.is_empty and _STUDY_UID in found.attributes
        work.items.append(Packed(SOPInstanceUID, sha256, encoded(found.attributes)))
        if not row.is_hidden:
            work.union.add(found.attributes, sha256)
        work.alone = (SOPInstanceUID, found.terms) if is_first and not row.is_hidden else None

    def _unite_again(self, reading: Reading, work: _Work) -> None:
        """Start the union anew from the packs: some instances appeared or are hidden now."""
        known = {(item.SOPInstanceUID, item.sha256): item.json for item in packed(reading, work.key)}
        known.update({(item.SOPInstanceUID, item.sha256): item.json for item in work.items})
        work.union = Union(UnionRow())
        work.alone = None
        for entry in visible_instances(reading, work.key):
            version = (entry.SOPInstanceUID, entry.holding.sha256)
            if version in known:
                work.union.add(decoded(known[version]), version[1])
            elif (found := self._describe(entry)) is not None:
                work.items.append(Packed(*version, encoded(found.attributes)))
                work.union.add(found.attributes, version[1])

    def _describe(self, entry: Entry) -> Described | None:
        try:
            return described(self._read_header, entry, self._describer)
        except Exception as error:
            # Whatever is wrong with one object, the others behind it must not wait for it.
            logger.warning(
                "The header of instance %s cannot be read (%s); a search by it reads the object again.",
                entry.SOPInstanceUID,
                type(error).__name__,
            )
            return None

    def _compare(self, versions: list[Entry]) -> list[str]:
        """Return what the versions of an instance differ in, as far as they can be read."""
        found: list[str] = []
        first, *others = versions
        ours = self._describe(first)
        for other in others:
            theirs = self._describe(other)
            if ours is not None and theirs is not None:
                found += differences(ours.attributes, theirs.attributes, IDENTITY)
            if self._has_same_pixels is None or not self._has_same_pixels(first, other):
                found.append("PixelData")
        return list(dict.fromkeys(found))

    def _put(self, reading: Reading, key: bytes, union: Union, alone: tuple[str, list[str]] | None) -> None:
        series = SERIES_CODEC.unpack(reading.get(series_at(key)) or b"")
        study = STUDY_CODEC.unpack(reading.get(STUDY + series.StudyInstanceUID.encode()) or b"")
        rows = {**decoded(series.seen_attributes), **seen_attributes(study)}
        terms = [f"{_ISSUER}={study.seen_patient.IssuerOfPatientID}"]
        terms.extend(f"{_SOP_CLASS}={uid}" for uid in series.classes)
        if alone is None:
            terms.extend(terms_of({**union.values, **rows}))
        else:
            terms.extend(alone[1])
            # The rows of a study's first instance are but a part of what it says itself.
            if study.effective or series.effective or study.first != (series.SeriesInstanceUID, alone[0]):
                terms.extend(terms_of(rows))
        terms.extend(marks_of(union.crowded))
        if study.is_decided:
            # What was sent leads nowhere: whoever evaluates a question knows what is said instead.
            for each in load(reading, study.StudyInstanceUID).within(
                study.StudyInstanceUID, series.SeriesInstanceUID
            ):
                terms.extend(terms_of(dict(each.attributes)))
        if union.digest != series.digest:
            terms.append(UNKNOWN)
        self.search.put(series.number, ordinal(study.order), terms, text_of(rows))

    def _regrow(self) -> int:
        """Index again some series of an index that was lost; return how many."""
        with self._environment.reading() as reading:
            at = reading.get(_REGROWTH_KEY) if self._regrown is None else self._regrown
            if at is None or self._regrown == b"":
                return 0
            numbered = list(islice(scan(reading, NUMBER, at), _REGROWN_AT_ONCE))
            for _, key in numbered:
                row = union_row(reading, key)
                union = Union(row or UnionRow())
                if row is None:
                    for item in packed(reading, key):
                        union.add(decoded(item.json), item.sha256)
                self._put(reading, key, union, None)
        self._regrown = numbered[-1][0] if numbered else b""
        return len(numbered)


def is_grown(reading: Reading) -> bool:
    """Say whether every series but those in the outbox is in the search index."""
    return reading.get(_REGROWTH_KEY) is None


def _start_regrowth(batch: Batch, token: bytes) -> None:
    batch.put(TOKEN_KEY, token)
    batch.put(_REGROWTH_KEY, b"")


def _note_regrowth(batch: Batch, at: bytes) -> None:
    if at:
        batch.put(_REGROWTH_KEY, at)
    else:
        batch.delete(_REGROWTH_KEY)


def _storing(works: list[_Work]) -> Callable[[Batch], None]:
    def store(batch: Batch) -> None:
        for work in works:
            if batch.get(series_at(work.key)) is None:
                for outbox_key in work.outbox:
                    batch.delete(outbox_key)
                continue
            row = work.union.fill(work.row)
            append(batch, work.key, work.items, row)
            store_union(batch, work.key, row)
            for SOPInstanceUID, found in work.disputes.items():
                settle_conflict(batch, SOPInstanceUID, found)
            for outbox_key in work.outbox:
                batch.delete(outbox_key)

    return store
