"""The search index over the mirror: one document per study, whoever states it, so that a question costs
the same for two peers as for thirty."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from secrets import token_bytes
from typing import Any, Final

from catalog import Attributes
from catalog.order import decoded, ordinal, study_order
from catalog.search import IndexGone, SearchIndex
from catalog.terms import terms_of, text_of
from catalog.truth import Reading, counted, scan, scan_keys

from .foreign import UNREADABLE
from .mirror import Mirror
from .mirror_reading import Mirrored, mirrored
from .mirror_rows import HOLDER, META, NUMBER_OF, SOURCE_BYTES, STUDY_NUMBER, UNINDEXED

COMMIT_EVERY: Final = 0.5
"""Seconds between two commits of the index while there is something to commit."""
TOO_MANY: Final = 20_000
"""Studies the index does not know yet, above which it is not asked: the rows are walked instead."""
_AT_ONCE: Final = 500
_TOKEN: Final = META + b"token"
_NUMBERS: Final = META + b"numbers"


class MirrorSearch:
    """Keeps the search index up with the mirror; one thread steps it, any may ask."""

    def __init__(self, mirror: Mirror, path: Path, *, is_read_only: bool = False) -> None:
        """Open, or make; read-only for the processes beside the one that writes."""
        self._mirror = mirror
        with mirror.reading() as reading:
            token = reading.get(_TOKEN)
        if token is None and not is_read_only:
            token = token_bytes(16)
            with mirror.changing() as txn:
                txn.put(_TOKEN, token)
        self._token = token or b""
        self.index = SearchIndex(path, self._token, is_read_only=is_read_only)
        self._taken: dict[bytes, bytes] = {}
        self._committed = float("-inf")
        self.on_changed: Callable[[list[str]], None] = lambda studies: None
        """Told of studies that some peer states anew, as they are taken up."""
        if self.index.is_new and not is_read_only:
            self._mark_all()

    def close(self) -> None:
        """Stop; what was not committed is indexed again later."""
        self.index.close()

    def _mark_all(self) -> None:
        with self._mirror.changing() as txn:
            start = len(HOLDER)
            studies = {
                key[start : -SOURCE_BYTES - 1] for key in scan_keys(txn, HOLDER) if len(key) > SOURCE_BYTES
            }
            mark = token_bytes(8)
            txn.cursor().putmulti([(UNINDEXED + study, mark) for study in sorted(studies)])

    def step(self, now: float) -> int:
        """Take in some studies that changed; return how many, 0 when the index knows all.

        Raises:
            OutOfSpace: the index could not be written; it catches up later.
        """
        if self.index.is_gone:
            self._begin_anew()
        try:
            taken = self._take_up()
            if self._taken and (not taken or now - self._committed >= COMMIT_EVERY):
                self._commit()
                self._committed = now
        except IndexGone:
            self._begin_anew()
            return 1
        return taken

    def _begin_anew(self) -> None:
        self.index.begin_anew(self._token)
        self._taken = {}
        self._mark_all()

    def _take_up(self) -> int:
        with self._mirror.reading() as reading:
            waiting = (
                (key[len(UNINDEXED) :], mark)
                for key, mark in scan(reading, UNINDEXED)
                if self._taken.get(key[len(UNINDEXED) :]) != mark
            )
            portion = list(islice(waiting, _AT_ONCE))
            found = [(study, mark, mirrored(reading, study)) for study, mark in portion]
        if not found:
            return 0
        numbers = self._numbers([study for study, _, _ in found])
        for (study, mark, holders), number in zip(found, numbers, strict=True):
            self.index.put(number, _ordinal(holders), *_terms(holders))
            self._taken[study] = mark
        self.on_changed([study.decode(errors="replace") for study, _, _ in found])
        return len(found)

    def _numbers(self, studies: list[bytes]) -> list[int]:
        with self._mirror.changing() as txn:
            last = int.from_bytes(txn.get(_NUMBERS) or b"", "big")
            numbers = []
            for study in studies:
                stored = txn.get(NUMBER_OF + study)
                if stored is None:
                    last += 1
                    stored = counted(last)
                    txn.put(NUMBER_OF + study, stored)
                    txn.put(STUDY_NUMBER + stored, study)
                numbers.append(int.from_bytes(stored, "big"))
            txn.put(_NUMBERS, counted(last))
        return numbers

    def _commit(self) -> None:
        self.index.commit()
        with self._mirror.changing() as txn:
            for study, mark in self._taken.items():
                if txn.get(UNINDEXED + study) == mark:
                    txn.delete(UNINDEXED + study)
        self._taken = {}


def unindexed(reading: Reading) -> list[bytes] | None:
    """Return the studies the search index does not know as they are; None when they are too many."""
    found = [key[len(UNINDEXED) :] for key in islice(scan_keys(reading, UNINDEXED), TOO_MANY + 1)]
    return None if len(found) > TOO_MANY else found


def studies_of(reading: Reading, numbers: Iterable[int]) -> Iterator[bytes]:
    """Yield the studies with these numbers of the search index."""
    for number in numbers:
        if study := reading.get(STUDY_NUMBER + counted(number)):
            yield study


def _attributes(row: bytes) -> Attributes:
    try:
        found: Attributes = decoded(row)
    except UNREADABLE:
        return {}
    return found


def _ordinal(holders: list[Mirrored]) -> int:
    orders = [ordinal(study_order(_attributes(each.stated.study.attributes))) for each in holders]
    return max(orders, default=0)


def _terms(holders: list[Mirrored]) -> tuple[list[str], str]:
    terms: set[str] = set()
    texts: set[str] = set()
    for holder in holders:
        parts = [_attributes(holder.stated.study.attributes)]
        for series in holder.stated.series:
            parts.append(_attributes(series.attributes))
            parts.append(_uids(series.SeriesInstanceUID, series.SOPClassUIDs))
        for part in parts:
            terms.update(terms_of(part))
            texts.add(text_of(part))
    return sorted(terms), "\n".join(sorted(texts))


def _uids(series: str, classes: Iterable[str]) -> dict[str, dict[str, Any]]:
    return {
        "0020000E": {"vr": "UI", "Value": [series]},
        "00080016": {"vr": "UI", "Value": list(classes)},
    }
