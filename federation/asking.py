"""A grid question answered by the owner itself: what it holds of the studies that match, as of this moment.

The asker merges what owners say by the same rule as what it has of them in its mirror, so an answer carries
the owner's statements, and beside them the values of keys that are not synchronised.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from itertools import groupby
from typing import Final, Protocol

import msgspec

from catalog import Attributes, BadRequest, Catalog, Entry, Holding, Query, Selection
from catalog.order import encoded
from catalog.statements import is_tombstone

from .foreign import UNREADABLE
from .mirror_rows import is_study

MOST_MATCHES: Final = 1000
"""Studies of one peer in one answer; one more is looked for, to know that there are more."""
_STUDY_UID: Final = "0020000D"


class LiveMatch(msgspec.Struct, array_like=True, frozen=True):
    """What an owner says of a study that matches: statements, and the answers of the level asked for."""

    StudyInstanceUID: str
    rows: list[bytes]
    """The study's statement, then those of its series, as the share shows them."""
    answers: list[bytes]
    """DICOM JSON of each match within the study."""


class Asked(Catalog, Protocol):
    """The catalog of the owner, as much as is asked here."""

    def rows_of(self, StudyInstanceUID: str, share: int) -> dict[bytes, bytes]:
        """Return what a share states of a study, by key."""


_encode: Final = msgspec.msgpack.Encoder().encode
_read_match: Final = msgspec.msgpack.Decoder(LiveMatch).decode
_read_query: Final = msgspec.msgpack.Decoder(Query).decode
_read_entry: Final = msgspec.msgpack.Decoder(Entry).decode


def query_bytes(query: Query) -> bytes:
    """Return a question as it goes to an owner."""
    return _encode(query)


def read_query(stored: bytes) -> Query:
    """Return the question.

    Raises:
        BadRequest: it is none.
    """
    try:
        return _read_query(stored)
    except UNREADABLE as error:
        raise BadRequest("A peer's question cannot be read.", "Update PeerPACS on both sides.") from error


def match_bytes(match: LiveMatch) -> bytes:
    """Return an owner's word on a study as it goes to who asked."""
    return _encode(match)


def read_match(stored: bytes) -> LiveMatch:
    """Return an owner's word on a study.

    Raises:
        BadRequest: it is none.
    """
    try:
        return _read_match(stored)
    except UNREADABLE as error:
        raise BadRequest("A peer's answer cannot be read.", "Update PeerPACS on both sides.") from error


def answer(catalog: Asked, share: int, query: Query, limit: int = MOST_MATCHES) -> Iterator[LiveMatch]:
    """Yield what the share says of the studies that match, newest first, one more than `limit` at most.

    Only what the share states is told: a study that it does not have is as if it were not there, and of
    one it has, only the series it has.

    Raises:
        BadRequest: a key has a value that its VR does not allow.
    """
    found = catalog.find(query)
    count = 0
    for uid, answers in groupby(found, key=lambda each: str(each[_STUDY_UID]["Value"][0])):
        rows = catalog.rows_of(uid, share)
        live = {key: row for key, row in rows.items() if not is_tombstone(row)}
        study = next((row for key, row in live.items() if is_study(key)), None)
        if study is None:
            continue
        series = {key.partition(b"\0")[2].decode(): row for key, row in live.items() if not is_study(key)}
        told = [encoded(each) for each in answers if _is_shared(each, series.keys())]
        yield LiveMatch(uid, [study, *series.values()], told)
        count += 1
        if count > limit:
            return


def _is_shared(answer: Attributes, series: Container[str]) -> bool:
    uid = (answer.get("0020000E", {}).get("Value") or [None])[0]
    return uid is None or uid in series


def manifest(catalog: Asked, share: int, study: str, series: str) -> list[bytes]:
    """Return the instances of a series that the share has, without the places they lie in here."""
    row = catalog.rows_of(study, share).get(f"{study}\0{series}".encode(), b"")
    if is_tombstone(row):
        return []
    entries = catalog.select(Selection(studies=(study,), series=(series,)))
    return [_encode(_placed(entry, b"")) for entry in entries]


def read_manifest(entries: list[bytes], place: Callable[[Entry], bytes]) -> list[Entry]:
    """Return the instances of a manifest, with the places from which they can be opened here.

    Raises:
        BadRequest: they cannot be read.
    """
    try:
        found = [_read_entry(entry) for entry in entries]
    except UNREADABLE as error:
        raise BadRequest("A peer's manifest cannot be read.", "Update PeerPACS on both sides.") from error
    return [_placed(entry, place(entry)) for entry in found]


def _placed(entry: Entry, where: bytes) -> Entry:
    holding = entry.holding
    return msgspec.structs.replace(entry, holding=Holding(holding.sha256, where, holding.size))
