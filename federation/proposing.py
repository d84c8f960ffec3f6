"""Who proposes a grid question's studies: the mirror's indexes and the own catalog, in one order of answers.

What is proposed is judged by the merged study. Where that has another date than the statement by which it
was proposed, it waits for its place in the order.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Final

import msgspec

from catalog import Attributes, Level, Query, compile_matcher, is_universal, texts
from catalog.find import Question, Test
from catalog.levels import COMPUTED, NOT_MATCHED, TIMEZONE, level_of
from catalog.order import BY_DATE, decoded, study_order
from catalog.planning import askable
from catalog.search import Hit
from catalog.spans import INDEXES, date_span, walk
from catalog.truth import Reading, end_of

from .identities import ISSUER, PATIENT_ID, IdentityTest
from .merging import Merged as Judged
from .mirror import Mirror
from .mirror_reading import tails_of
from .mirror_rows import tail_of
from .mirror_search import MirrorSearch, studies_of, unindexed

ORDER: Final = 20
"""Bytes of the study order in front of the UID in what is proposed."""
_ENOUGH: Final = 2000
"""Studies of a small index that are looked at before it counts as too common."""
_KEYS_ENOUGH: Final = 20_000
_REMEMBERED: Final = 10_000
"""Studies that are proposed in one place and remembered nevertheless."""
_FIRST_PAGE: Final = 128
_LARGEST_PAGE: Final = 8192
_STUDY_UID, _INSTANCE_UID, _SOP_CLASS, _DATE = "0020000D", "00080018", "00080016", "00080020"
_IN_ROWS: Final = frozenset({Level.PATIENT, Level.STUDY, Level.SERIES})
_NOT_IN_ROWS: Final = NOT_MATCHED | COMPUTED.keys() | {PATIENT_ID, ISSUER}
_LISTS: Final = frozenset({"00080061", "00080062"})


def narrowed(query: Query, identity: IdentityTest) -> Query:
    """Return the question as it can be proposed for: with every Patient ID that is meant, and no issuer."""
    keys = {tag: key for tag, key in query.keys.items() if tag not in (PATIENT_ID, ISSUER)}
    if (ids := identity.proposed()) is not None:
        keys[PATIENT_ID] = ids
    return msgspec.structs.replace(query, keys=keys, issuers=None, limit=0)


def exact_values(keys: Attributes, tag: str) -> list[str]:
    """Return the values of a key that has no wildcards; none if it has, or is not there."""
    values = [text.strip() for text in texts(keys[tag])] if tag in keys else []
    return values if not any(set(value) & set("*?") for value in values) else []


class Proposal:
    """Tails (order and UID) in the order of answers; `is_all` if they are few and all of them are here."""

    def __init__(self, streams: list[Iterator[bytes]], is_all: bool) -> None:
        self.streams = streams
        self.is_all = is_all


class MirrorPlanner:
    """Proposes studies of the mirror, every one that could match among them."""

    def __init__(self, mirror: Mirror, search: MirrorSearch) -> None:
        self._mirror = mirror
        self._search = search

    def propose(self, query: Query) -> Proposal:
        """Return what could match, as streams that are each in the order of answers."""
        keys = {tag: key for tag, key in query.keys.items() if not is_universal(key)}
        asked = _in_documents(askable(Question(query), keys))
        with self._mirror.reading() as reading:
            few = _named(reading, keys)
            if few is None:
                few = _indexed(reading, keys)
            if few is not None:
                return Proposal([iter(few)], True)
            if _INSTANCE_UID in keys and not asked:
                # Which study an instance of a peer belongs to, no mirror says.
                return Proposal([], True)
            # The rows are read before the search index, so that nothing can slip through between.
            waiting = unindexed(reading) if asked.keys() - {_DATE} else None
            admits = _of_rows(query, keys) if waiting else None
            fresh = sorted(tail for study in waiting or () for tail in tails_of(reading, study, admits))
        if waiting is not None and (pages := self._search.index.propose(asked)) is not None:
            return Proposal([iter(fresh), self._searched(pages)], False)
        return Proposal([self._by_date(keys)], False)

    def _searched(self, pages: Iterator[list[Hit]]) -> Iterator[bytes]:
        for hits in pages:
            with self._mirror.reading() as reading:
                studies = list(studies_of(reading, (hit.number for hit in hits)))
                tails = [tails[0] for study in studies if (tails := tails_of(reading, study))]
            yield from sorted(tails)

    def _by_date(self, keys: Attributes) -> Iterator[bytes]:
        start, end = date_span(keys) or (BY_DATE, end_of(BY_DATE))
        size = _FIRST_PAGE
        last = b""
        while True:
            with self._mirror.reading() as reading:
                page = list(islice(walk(reading, start, end), size))
            for place in page:
                tail = tail_of(place)
                if tail != last:
                    yield tail
                last = tail
            if len(page) < size:
                return
            start = page[-1] + b"\0"
            size = min(2 * size, _LARGEST_PAGE)


def _in_documents(asked: Attributes) -> Attributes:
    """Return the keys that the documents of the mirror's search index know an answer to."""
    return {
        tag: key
        for tag, key in asked.items()
        if tag in _LISTS or tag == _SOP_CLASS or (level_of(tag) in _IN_ROWS and tag not in COMPUTED)
    }


def _of_rows(query: Query, keys: Attributes) -> Test | None:
    """Return what a holder's row of a study must pass for the study to match; None if any may.

    A merged study has the attributes of one of its holders' rows, but for its patient's identity.
    """
    own = {
        tag: key
        for tag, key in keys.items()
        if level_of(tag) in (Level.PATIENT, Level.STUDY) and tag not in _NOT_IN_ROWS
    }
    return compile_matcher(own, query.matching) if own and TIMEZONE not in query.keys else None


def _named(reading: Reading, keys: Attributes) -> list[bytes] | None:
    if _STUDY_UID not in keys:
        return None
    uids = dict.fromkeys(texts(keys[_STUDY_UID]))
    return sorted(tail for uid in uids for tail in tails_of(reading, uid.encode()))


def _indexed(reading: Reading, keys: Attributes) -> list[bytes] | None:
    """Return the studies of the first small index that has few enough, or None."""
    for tag, spans_of in INDEXES.items():
        if tag not in keys or not (spans := spans_of(keys)):
            continue
        found: set[bytes] = set()
        left = _KEYS_ENOUGH
        for start, end in spans:
            for place in islice(walk(reading, start, end), left):
                found.add(tail_of(place))
                left -= 1
            if len(found) > _ENOUGH or left <= 0:
                break
        else:
            return sorted(found)
    return None


def united(proposal: Proposal, own: Iterator[list[bytes]]) -> Proposal:
    """Return what mirror and own catalog propose together."""
    flat = (tail for page in own for tail in page)
    if not proposal.is_all:
        return Proposal([*proposal.streams, flat], False)
    first = list(islice(flat, _ENOUGH + 1))
    if len(first) <= _ENOUGH:
        return Proposal([*proposal.streams, iter(first)], True)
    return Proposal([*proposal.streams, chain(first, flat)], False)


def in_order(proposal: Proposal, judge: Callable[[str], Judged | None]) -> Iterator[Judged]:
    """Yield what `judge` makes of each study proposed, once, by the order it has itself.

    However many there are, memory is taken for some of them only.
    """
    tails = heapq.merge(*proposal.streams)
    waiting: list[tuple[bytes, Judged]] = []
    seen = _Seen()
    for tail in tails:
        while waiting and not proposal.is_all and waiting[0][0] <= tail:
            yield heapq.heappop(waiting)[1]
        uid = tail[ORDER:]
        if uid in seen:
            continue
        judged = judge(uid.decode())
        seen.add(uid, judged)
        if judged is None:
            continue
        own_tail = study_order(judged.attributes) + uid
        if proposal.is_all or own_tail > tail:
            heapq.heappush(waiting, (own_tail, judged))
        else:
            yield judged
    while waiting:
        yield heapq.heappop(waiting)[1]


class _Seen:
    """Which studies were looked at: those that may be proposed in several places, and the latest others.

    A study whose holders all state one date and time is proposed in one place; it comes again there, and
    where its row was changed meanwhile.
    """

    def __init__(self) -> None:
        self._scattered: set[bytes] = set()
        self._latest: dict[bytes, None] = {}

    def __contains__(self, uid: bytes) -> bool:
        return uid in self._latest or uid in self._scattered

    def add(self, uid: bytes, judged: Judged | None) -> None:
        """Remember one, and what it was judged to be."""
        if judged is not None and _is_scattered(judged):
            self._scattered.add(uid)
            return
        self._latest[uid] = None
        if len(self._latest) > _REMEMBERED:
            del self._latest[next(iter(self._latest))]


def _is_scattered(study: Judged) -> bool:
    holders = study.holders + study.others
    if len(holders) < 2:
        return False
    return len({study_order(decoded(each.stated.study.attributes)) for each in holders}) > 1
