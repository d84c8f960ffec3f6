"""What the mirror knows of a study: everybody's statements about it, and whether they still count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import Final, NamedTuple

from catalog import Attributes
from catalog.order import decoded, study_order
from catalog.statements import Stated, StudyStatement
from catalog.truth import Reading, scan, scan_keys

from .foreign import series_of, study_of
from .mirror_rows import HASHED, HOLDER, ROW, SOURCE_BYTES, STAMP, STATE, STATE_CODEC, part_of

_OLDEST: Final = 0


class Mirrored(NamedTuple):
    """One source's statements about a study."""

    source: int
    stated: Stated
    is_confirmed: bool
    """Whether they belong to the history the source's log has now."""


def sources_of(reading: Reading, study: bytes) -> Iterator[int]:
    """Yield the sources that state something about a study."""
    prefix = HOLDER + study + b"\0"
    for key in scan_keys(reading, prefix):
        if len(key) == len(prefix) + SOURCE_BYTES:
            yield int.from_bytes(key[-SOURCE_BYTES:], "big")


def mirrored(reading: Reading, study: bytes, wanted: Set[int] | None = None) -> list[Mirrored]:
    """Return what every source, or every wanted one, states about a study."""
    found = []
    for source in list(sources_of(reading, study)):
        if wanted is None or source in wanted:
            stated = _stated(reading, source, study)
            if stated is not None:
                found.append(stated)
    return found


def _stated(reading: Reading, source: int, study: bytes) -> Mirrored | None:
    row = _row_of(reading, source, study)
    if row is None:
        return None
    stored, statement = row
    series = [
        found
        for _, each in scan(reading, ROW + part_of(source) + study + b"\0")
        if (found := series_of(each[STAMP.size :])) is not None
    ]
    return Mirrored(source, Stated(statement, series), _is_confirmed(reading, source, stored))


def _row_of(reading: Reading, source: int, study: bytes) -> tuple[bytes, StudyStatement] | None:
    """Return a source's row of a study, as it is stored and what it states; None if it cannot be believed."""
    stored = reading.get(ROW + part_of(source) + study)
    statement = study_of(stored[STAMP.size :]) if stored else None
    if stored is None or statement is None or statement.StudyInstanceUID.encode() != study:
        return None
    return stored, statement


def _is_confirmed(reading: Reading, source: int, stored: bytes) -> bool:
    state = reading.get(STATE + part_of(source))
    confirmed = STATE_CODEC.unpack(state).confirmed if state else _OLDEST
    return bool(STAMP.unpack_from(stored)[0] >= confirmed)


def tails_of(
    reading: Reading, study: bytes, admits: Callable[[Attributes], bool] | None = None
) -> list[bytes]:
    """Return order and UID of a study as its holders state it: one, unless they differ in its date.

    Only rows that `admits` says yes to are counted.
    """
    rows = [_row_of(reading, source, study) for source in list(sources_of(reading, study))]
    # What was just believed can be decoded.
    stated = [decoded(row[1].attributes) for row in rows if row is not None]
    return sorted({study_order(each) + study for each in stated if admits is None or admits(each)})


def hashed_at(reading: Reading, hash: bytes) -> list[int]:
    """Return the sources that know this keyed hash of a study, patient or accession number."""
    prefix = HASHED + hash
    return [
        int.from_bytes(key[-SOURCE_BYTES:], "big")
        for key in scan_keys(reading, prefix)
        if len(key) == len(prefix) + SOURCE_BYTES
    ]
