"""Events about studies: a small durable list, and a cursor for each subscriber that follows it.

Routing, prefetch and exports hook in here. A cursor moves after its work is done, so a crash loses nothing,
and an event may come twice: what is ordered because of it has an id that is the hash of what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from node.state import Tables

KEPT: Final = 30 * 86400.0
"""Seconds that an event stays in the list, and that the state of a study is remembered."""
_EVENT: Final = b"e"
_OPEN: Final = b"o"
_COMPLETED: Final = b"c"
_CURSOR: Final = b"f"
"""Of each subscriber, and without a name that of the list itself."""
_PLACE: Final = b"p"
_BEGUN: Final = b"b"


class StudyComplete(msgspec.Struct, frozen=True, kw_only=True):
    """A study had no arrival for as long as its senders' rule says; `times` counts how often that was so."""

    seq: int
    StudyInstanceUID: str
    when: float
    instances: int
    latest: int
    """When the newest of them arrived, in milliseconds since 1970."""
    sources: tuple[str, ...]
    times: int = 1


def described(event: StudyComplete) -> dict[str, object]:
    """Return an event as the audit trail keeps it."""
    return {
        "StudyInstanceUID": [event.StudyInstanceUID],
        "instances": event.instances,
        "sources": list(event.sources),
        "times": event.times,
    }


class Place(NamedTuple):
    """How far the catalog's change log was followed, and when."""

    epoch: int
    seq: int
    when: float


class _Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of any kind, so that an event and what follows from it are one commit."""

    event: StudyComplete | None = None
    place: Place | None = None
    seq: int = 0
    """Of a cursor."""
    since: float = 0.0
    """Of a study that is not complete: what arrived after this, or not long before, counts.

    Also when the log began to be followed.
    """


class StudyEvents:
    """The list of one archive; one thread writes, any may read."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.table("study-events", _Row)
        self._last = self._cursor("")

    @property
    def last(self) -> int:
        """Return the number of the newest event; 0 when there never was one."""
        return self._last

    def after(self, cursor: int, limit: int) -> list[StudyComplete]:
        """Return at most `limit` events with seq > `cursor`, in order."""
        found: list[StudyComplete] = []
        for _, row in self._table.scan(_EVENT, (cursor + 1).to_bytes(8, "big")):
            if len(found) == limit:
                break
            if row.event:
                found.append(row.event)
        return found

    def begin(self, subscriber: str) -> None:
        """Have a subscriber that is new begin with the next event; one that is known goes on where it was."""
        key = _CURSOR + subscriber.encode()
        if self._table.get(key) is None:
            self._table.put(key, _Row(seq=self._last))

    def follow(self, subscriber: str, take: Callable[[StudyComplete], object], limit: int = 100) -> int:
        """Have a subscriber take what is new for it, at most `limit` events; return how many it took.

        Its cursor moves after each; one that raises gets the event again the next time.
        """
        self.begin(subscriber)
        key = _CURSOR + subscriber.encode()
        events = self.after(self._cursor(subscriber), limit)
        for event in events:
            take(event)
            self._table.put(key, _Row(seq=event.seq))
        return len(events)

    # For whoever finds out that studies are complete.

    def place(self) -> Place | None:
        """Return how far the change log was followed; None if it never was."""
        row = self._table.get(_PLACE)
        return row.place if row else None

    def begun(self) -> float:
        """Return when the log began to be followed; 0 in a list that an older version began."""
        row = self._table.get(_BEGUN)
        return row.since if row else 0.0

    def note_begun(self, place: Place, when: float | None = None) -> None:
        """Write down when the log began to be followed, and how far it is."""
        self._write({_BEGUN: _Row(since=place.when if when is None else when), _PLACE: _Row(place=place)})

    def open(self) -> Iterator[tuple[str, float]]:
        """Yield the studies that are not complete, and since when."""
        for key, row in self._table.scan(_OPEN):
            yield key[1:].decode(), row.since

    def completed(self, study: str) -> StudyComplete | None:
        """Return the newest event about a study; None when there was none, or long ago."""
        row = self._table.get(_COMPLETED + study.encode())
        return row.event if row else None

    def note_arrivals(self, studies: set[str], since: float, place: Place) -> None:
        """Write down that studies are not complete (any more), and how far the log was followed."""
        rows = {_OPEN + study.encode(): _Row(since=since) for study in studies}
        self._write({**rows, _PLACE: _Row(place=place)})

    def note_checked(self, events: list[StudyComplete], quiet: set[str]) -> None:
        """Write events down, and that nothing is to be said of the `quiet` studies."""
        rows: dict[bytes, _Row | None] = {_OPEN + study.encode(): None for study in quiet}
        for event in events:
            study = event.StudyInstanceUID.encode()
            rows[_OPEN + study] = None
            rows[_COMPLETED + study] = rows[_EVENT + event.seq.to_bytes(8, "big")] = _Row(event=event)
            rows[_CURSOR] = _Row(seq=event.seq)
        self._write(rows)
        self._last = max([self._last, *(event.seq for event in events)])

    def tidy(self, now: float) -> int:
        """Forget what was said long ago; return how many rows."""
        old = [
            key
            for prefix in (_EVENT, _COMPLETED)
            for key, row in self._table.scan(prefix)
            if row.event and row.event.when < now - KEPT
        ]
        self._write(dict.fromkeys(old))
        return len(old)

    def _cursor(self, subscriber: str) -> int:
        row = self._table.get(_CURSOR + subscriber.encode())
        return row.seq if row else 0

    def _write(self, rows: dict[bytes, _Row] | dict[bytes, _Row | None]) -> None:
        if rows:
            self._table.change({key: _constant(row) for key, row in rows.items()})


def _constant(row: _Row | None) -> Callable[[_Row | None], _Row | None]:
    return lambda _: row
