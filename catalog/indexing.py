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
from .levels import listed, seen_attributes, visible_instances
from .model import Attributes, Entry
from .order import decoded, encoded, ordinal
from .packs import (
    Packed,
    ReadHeader,
    Union,
    UnionRow,
    append,
    describe_entry,
    packed,
    store_union,
    union_row,
)
from .recording import IDENTITY, differences
from .rows import (
    INSTANCE_CODEC,
    OUTBOX_CODEC,
    SERIES_CODEC,
    STUDY_CODEC,
    OutboxRow,
)
from .search import SearchIndex
from .selecting import claimed
from .terms import UNKNOWN, marks_of, terms_of, text_of
from .truth import INSTANCE, META, OUTBOX, SERIES, STUDY, Environment, Reading, joined, scan, scan_keys

logger = logging.getLogger(__name__)

HasSamePixels = Callable[[Entry, Entry], bool]
COMMIT_EVERY: Final = 0.4
"""Seconds between two commits of the search index, at least."""
_AT_ONCE: Final = 256
"""Outbox rows taken up in one step."""
_STORED_AT_ONCE: Final = 64
"""Series in one transaction, so that arrivals do not wait long behind it."""
_REGROWN_AT_ONCE: Final = 1000
_TOKEN_KEY: Final = META + b"search token"
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
        self._works: dict[bytes, _Work] = {}
        self._taken = b""
        self._committed = float("-inf")
        self._regrown: bytes | None = None
        with environment.reading() as reading:
            token = reading.get(_TOKEN_KEY) or secrets.token_bytes(16)
        self.search = SearchIndex(search_path, token)
        if self.search.is_new:
            commits.run(lambda batch: _start_regrowth(batch, token))

    def step(self, now: float) -> int:
        """Take in some of what arrived; return how many instances, 0 when all is taken in and on disk."""
        taken = self._take_up() or self._regrow()
        is_pending = bool(self._works) or self._regrown is not None
        if is_pending and now - self._committed >= COMMIT_EVERY:
            self.finish()
            self._committed = now
        return taken or len(self._works)

    def finish(self) -> None:
        """Put everything taken up on disk, in the search index first."""
        with self._environment.reading() as reading:
            for work in self._works.values():
                self._put(reading, work.key, work.union)
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
        attributes = self._describe(row.entry)
        if attributes is None:
            return
        sha256 = row.entry.holding.sha256
        work.items.append(Packed(SOPInstanceUID, sha256, encoded(attributes)))
        if not row.is_hidden:
            work.union.add(attributes, sha256)

    def _unite_again(self, reading: Reading, work: _Work) -> None:
        """Start the union anew from the packs: some instances appeared or are hidden now."""
        known = {(item.SOPInstanceUID, item.sha256): item.json for item in packed(reading, work.key)}
        known.update({(item.SOPInstanceUID, item.sha256): item.json for item in work.items})
        work.union = Union(UnionRow())
        for entry in visible_instances(reading, work.key):
            version = (entry.SOPInstanceUID, entry.holding.sha256)
            attributes = decoded(known[version]) if version in known else self._describe(entry)
            if attributes is None:
                continue
            if version not in known:
                work.items.append(Packed(*version, encoded(attributes)))
            work.union.add(attributes, version[1])

    def _describe(self, entry: Entry) -> Attributes | None:
        try:
            return describe_entry(self._read_header, entry)
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
                found += differences(ours, theirs, IDENTITY)
            if self._has_same_pixels is None or not self._has_same_pixels(first, other):
                found.append("PixelData")
        return list(dict.fromkeys(found))

    def _put(self, reading: Reading, key: bytes, union: Union) -> None:
        series = SERIES_CODEC.unpack(reading.get(SERIES + key) or b"")
        study = STUDY_CODEC.unpack(reading.get(STUDY + series.StudyInstanceUID.encode()) or b"")
        effective = {
            **union.values,
            "00080016": listed("UI", series.classes),
            **decoded(series.seen_attributes),
            **seen_attributes(study),
        }
        terms = [*terms_of(effective), *marks_of(union.crowded)]
        if union.digest != series.digest:
            terms.append(UNKNOWN)
        self.search.put(series.number, ordinal(study.order), terms, text_of(effective))

    def _regrow(self) -> int:
        """Index again some series of an index that was lost; return how many."""
        with self._environment.reading() as reading:
            at = reading.get(_REGROWTH_KEY) if self._regrown is None else self._regrown
            if at is None or self._regrown == b"":
                return 0
            keys = list(islice(scan_keys(reading, SERIES, at + b"\0" if at else b""), _REGROWN_AT_ONCE))
            for key in keys:
                row = union_row(reading, key[len(SERIES) :])
                union = Union(row or UnionRow())
                if row is None:
                    for item in packed(reading, key[len(SERIES) :]):
                        union.add(decoded(item.json), item.sha256)
                self._put(reading, key[len(SERIES) :], union)
        self._regrown = keys[-1] if keys else b""
        return len(keys)


def is_grown(reading: Reading) -> bool:
    """Say whether every series but those in the outbox is in the search index."""
    return reading.get(_REGROWTH_KEY) is None


def _start_regrowth(batch: Batch, token: bytes) -> None:
    batch.put(_TOKEN_KEY, token)
    batch.put(_REGROWTH_KEY, b"")


def _note_regrowth(batch: Batch, at: bytes) -> None:
    if at:
        batch.put(_REGROWTH_KEY, at)
    else:
        batch.delete(_REGROWTH_KEY)


def _storing(works: list[_Work]) -> Callable[[Batch], None]:
    def store(batch: Batch) -> None:
        for work in works:
            row = work.union.fill(work.row)
            append(batch, work.key, work.items, row)
            store_union(batch, work.key, row)
            for SOPInstanceUID, found in work.disputes.items():
                settle_conflict(batch, SOPInstanceUID, found)
            for outbox_key in work.outbox:
                batch.delete(outbox_key)

    return store
