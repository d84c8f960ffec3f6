"""When a study is complete: nothing of it arrived for as long as its senders' rows in the device book say.

The catalog's change log is followed by a cursor, so the door in does nothing for it and nothing is forgotten:
what became due while the node was down is said after its start, and what was cut off is read from the log
again. Whether there was an arrival, and when, is asked of the catalog itself: a correction is none. Nor is
what was received before anybody asked: after a loss of the state, it comes home with the time that it had.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import cache
from typing import Final, NamedTuple

from catalog import Catalog, Clock, Entry, Selection
from node.study_events import KEPT, Place, StudyComplete, StudyEvents

_READ_AT_ONCE: Final = 1000
"""Changes that are read before they are written down."""
_NOTED_EVERY: Final = 10.0
_NOTED_AT_REST: Final = 3600.0
"""Seconds between two notes of how far the log was followed, when there is something new and when not."""
_SET_BACK: Final = 3600.0
"""Seconds before now that count as after the beginning, when the clock says that it is before it."""


class _Check(NamedTuple):
    """When a study is to be looked at, and how long it rests at most."""

    since: float
    """What arrived after this, or not long before, is news."""
    when: float = 0.0
    rest: float = 0.0


class Completeness:
    """Finds out for one archive; one thread calls `step`."""

    def __init__(
        self,
        events: StudyEvents,
        catalog: Catalog,
        complete_after: Callable[[str], float],
        released: Callable[[float], Container[str]],
        clock: Clock,
    ) -> None:
        """Take the log's catalog, how long a sender's studies must rest, and which were released since."""
        self._events = events
        self._catalog = catalog
        self._complete_after = complete_after
        self._released = released
        self._clock = clock
        self._place = self._noted = events.place() or self._begin()
        self._begun = events.begun()
        self._checks = {study: _Check(since) for study, since in events.open()}
        """When each study that is not complete is to be looked at."""

    def _begin(self) -> Place:
        # What was here before anybody asked is taken to be complete.
        head = self._catalog.head()
        place = Place(head.epoch, head.seq, self._clock())
        self._events.note_begun(place)
        return place

    def step(self) -> int:
        """Follow the log, and say which studies are complete; return how many are."""
        self._follow()
        now = self._clock()
        # A clock that was set back makes nothing wait longer than it would have.
        released = cache(lambda: self._released(self._begun))
        due = [study for study, check in self._checks.items() if not 0 < check.when - now <= check.rest]
        events: list[StudyComplete] = []
        quiet: set[str] = set()
        for study in due:
            event, again = self._look_at(study, now, self._events.last + len(events) + 1, released)
            if event:
                events.append(event)
            elif again:
                self._checks[study] = again
            else:
                quiet.add(study)
        self._events.note_checked(events, quiet)
        for study in (*quiet, *(event.StudyInstanceUID for event in events)):
            del self._checks[study]
        return len(events)

    def _follow(self) -> None:
        head, now = self._catalog.head(), self._clock()
        if now < self._begun:
            # The clock was set back: what comes now would look older than the beginning.
            self._begun = now - _SET_BACK
            self._events.note_begun(self._place, self._begun)
        if self._place.epoch != head.epoch:
            self._place = Place(head.epoch, 0, self._place.when)
        while self._place.seq < head.seq:
            changes = self._catalog.changes(self._place.seq, _READ_AT_ONCE)
            if not changes:
                break
            grown = {change.key.split(b"\0")[0].decode() for change in changes if change.row}
            self._open(grown, min(self._place.when, now), Place(head.epoch, changes[-1].seq, now))
        has_moved, age = self._place.seq != self._noted.seq, now - self._noted.when
        # To read a little of the log once more after a crash is cheaper than to write each second.
        if not 0 <= age < (_NOTED_EVERY if has_moved else _NOTED_AT_REST):
            self._open(set(), now, self._place._replace(when=now), is_noted=True)

    def _open(self, grown: set[str], since: float, place: Place, *, is_noted: bool = False) -> None:
        fresh = grown - self._checks.keys()
        self._place = place
        if fresh or is_noted:
            self._events.note_arrivals(fresh, since, place)
            self._noted = place
        self._checks |= dict.fromkeys(fresh, _Check(since))

    def _look_at(
        self, study: str, now: float, seq: int, released: Callable[[], Container[str]]
    ) -> tuple[StudyComplete | None, _Check | None]:
        """Return the event, or when to look again, or neither when nothing arrived."""
        entries = self._catalog.select(Selection(studies=(study,)))
        known, since = self._events.completed(study), self._checks[study].since
        if not entries or not self._is_news(entries, known, since, released):
            return None, None
        latest = max(entry.received for entry in entries)
        sources = tuple(sorted({entry.source for entry in entries}))
        rest = max(map(self._complete_after, sources))
        if 0 < latest / 1000 + rest - now <= rest:
            return None, _Check(since, latest / 1000 + rest, rest)
        event = StudyComplete(
            seq=seq,
            StudyInstanceUID=study,
            when=now,
            instances=len(entries),
            latest=latest,
            sources=sources,
            times=known.times + 1 if known else 1,
        )
        return event, None

    def _is_news(
        self,
        entries: list[Entry],
        known: StudyComplete | None,
        since: float,
        released: Callable[[], Container[str]],
    ) -> bool:
        latest = max(entry.received for entry in entries)
        if known:
            return latest > known.latest or len(entries) > known.instances
        if latest / 1000 <= self._begun:
            # It was here before the state was lost, and came home; or it waited for a person until now.
            return entries[0].StudyInstanceUID in released()
        return latest / 1000 > since - KEPT
