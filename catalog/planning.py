"""Who proposes the studies for a question: its unique keys, a small index, the search index, or the date.

A small index is walked a little way: if it ends there, what it holds is all that can match, and is put in
order. If it does not, the keys are too common for it, and what streams in the order of answers takes over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from .attributes import Level
from .find import Question
from .indexing import is_grown
from .levels import COMPUTED, NOT_MATCHED, level_of
from .matching import is_universal
from .model import Attributes
from .order import (
    BY_DATE,
    BY_SERIES,
)
from .rows import CLAIMS_CODEC, OUTBOX_CODEC, STUDY_CODEC
from .search import Hit, SearchIndex
from .spans import INDEXES, date_span, walk
from .truth import (
    CLAIM,
    NUMBER,
    OUTBOX,
    STUDY,
    Environment,
    Reading,
    counted,
    end_of,
    joined,
    scan,
    scan_keys,
)
from .values import texts

_ENOUGH: Final = 1000
"""Keys of a small index that are looked at before it counts as too common."""
_FIRST_PAGE: Final = 64
_LARGEST_PAGE: Final = 4096
_COMMON: Final = frozenset({"00080060", "00080016"})
"""Modality and SOPClassUID narrow so little that any other key is asked first."""
_COMMON_IN_STUDY: Final = ("00080061",)

_STUDY_UID, _SERIES_UID, _INSTANCE_UID = "0020000D", "0020000E", "00080018"
_DATE: Final = "00080020"


class Planner:
    """Proposes studies, in the order of answers, among them every one that could match."""

    def __init__(self, environment: Environment, search: SearchIndex) -> None:
        self._environment = environment
        self._search = search

    def propose(self, question: Question) -> Iterator[list[bytes]]:
        """Yield studies as order and UID."""
        keys = {tag: key for tag, key in question.query.keys.items() if not is_universal(key)}
        fresh: dict[bytes, bytes] | None = None
        asked = askable(question, keys)
        with self._environment.reading() as reading:
            named = _named(reading, keys)
            if named is None:
                named = _indexed(reading, keys)
            if named is None and asked.keys() - {_DATE} and is_grown(reading):
                # The rows are read before the search index, so that nothing can slip through between.
                fresh = _fresh(reading)
        if named is not None:
            yield named
        elif fresh is not None and (pages := self._search.propose(asked)) is not None:
            yield from self._searched(pages, fresh)
        else:
            yield from self._by_date(keys)

    def _searched(self, pages: Iterator[list[Hit]], fresh: dict[bytes, bytes]) -> Iterator[list[bytes]]:
        """Yield what the search index proposes, and in its place what is newer than the index."""
        seen = set(fresh)
        waiting = deque(sorted(fresh.values()))
        for hits in pages:
            tails = self._tails(hits, seen)
            if tails:
                yield sorted([*tails, *_until(waiting, max(tails))])
        yield list(waiting)

    def _tails(self, hits: list[Hit], seen: set[bytes]) -> list[bytes]:
        found = []
        with self._environment.reading() as reading:
            for hit in hits:
                uid = (reading.get(NUMBER + counted(hit.number)) or b"").partition(b"\0")[0]
                if uid in seen or not uid:
                    continue
                seen.add(uid)
                if stored := reading.get(STUDY + uid):
                    found.append(STUDY_CODEC.unpack(stored).order + uid)
        return found

    def _by_date(self, keys: Attributes) -> Iterator[list[bytes]]:
        start, end = date_span(keys) or (BY_DATE, end_of(BY_DATE))
        size = _FIRST_PAGE
        while True:
            with self._environment.reading() as reading:
                page = list(islice(walk(reading, start, end), size))
            if page:
                yield [key[len(BY_DATE) :] for key in page]
            if len(page) < size:
                return
            start = page[-1] + b"\0"
            size = min(2 * size, _LARGEST_PAGE)


def askable(question: Question, keys: Attributes) -> Attributes:
    """Return the keys that must all hold within one series, and so within one document."""
    asked = {tag: key for tag, key in keys.items() if tag not in NOT_MATCHED and tag not in COMPUTED}
    if question.level is Level.STUDY:
        # What different series of a study say may answer different keys: only one of those can be asked.
        lower = [tag for tag in asked if level_of(tag) not in (Level.PATIENT, Level.STUDY)]
        for tag in sorted(lower, key=lambda tag: tag in _COMMON)[1:]:
            del asked[tag]
        is_one_left = not lower
    else:
        is_one_left = not asked
    if is_one_left:
        asked.update({tag: keys[tag] for tag in _COMMON_IN_STUDY if tag in keys})
    return asked


def _fresh(reading: Reading) -> dict[bytes, bytes]:
    """Return order and UID, by UID, of the studies that the search index does not know as they are."""
    found = {}
    uids = {OUTBOX_CODEC.unpack(stored).StudyInstanceUID for _, stored in scan(reading, OUTBOX)}
    for uid in uids:
        if stored := reading.get(STUDY + uid.encode()):
            found[uid.encode()] = STUDY_CODEC.unpack(stored).order + uid.encode()
    return found


def _until(waiting: deque[bytes], last: bytes) -> Iterator[bytes]:
    while waiting and waiting[0] <= last:
        yield waiting.popleft()


def _named(reading: Reading, keys: Attributes) -> list[bytes] | None:
    """Return the studies that unique keys name, or None when there are none."""
    uids: Iterable[str]
    if _STUDY_UID in keys:
        uids = texts(keys[_STUDY_UID])
    elif _SERIES_UID in keys:
        uids = _studies_of_series(reading, texts(keys[_SERIES_UID]))
    elif _INSTANCE_UID in keys:
        uids = _studies_of_instances(reading, texts(keys[_INSTANCE_UID]))
    else:
        return None
    found = []
    for uid in dict.fromkeys(uids):
        stored = reading.get(STUDY + uid.encode())
        if stored is not None:
            found.append(STUDY_CODEC.unpack(stored).order + uid.encode())
    return sorted(found)


def _studies_of_series(reading: Reading, uids: Iterable[str]) -> Iterator[str]:
    for uid in uids:
        for key in list(scan_keys(reading, BY_SERIES + joined(uid) + b"\0")):
            yield key[len(BY_SERIES) :].decode().split("\0")[1]


def _studies_of_instances(reading: Reading, uids: Iterable[str]) -> Iterator[str]:
    for uid in uids:
        if stored := reading.get(CLAIM + uid.encode()):
            yield CLAIMS_CODEC.unpack(stored).versions[0][1]


def _indexed(reading: Reading, keys: Attributes) -> list[bytes] | None:
    """Return the studies of the first small index that has few enough, or None."""
    for tag, spans_of in INDEXES.items():
        if tag not in keys:
            continue
        spans = spans_of(keys)
        if not spans:
            continue
        found: set[bytes] = set()
        for start, end in spans:
            walked = islice(walk(reading, start, end), _ENOUGH + 1)
            found.update(_tail(key) for key in walked)
            if len(found) > _ENOUGH:
                break
        else:
            return sorted(found)
    return None


def _tail(key: bytes) -> bytes:
    """Return order and UID, which no zero byte is in, from the end of an index key."""
    return key[key.rfind(b"\0") + 1 :] if b"\0" in key else key[len(BY_DATE) :]
