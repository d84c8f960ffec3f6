"""The scrub: everything is read and hashed once in 25 to 35 days, so quietly that nobody notices.

Where it is stands in the state, so that it goes on there after a restart. It rests four times as long as it
works, gives way to who stores and retrieves, and never runs ahead of its plan.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from catalog import Clock, Entry
from node.inspection import Busy, Findings, Inspector
from node.state import Tables

logger = logging.getLogger(__name__)

_DAY: Final = 86400.0
_SHORTEST, _LONGEST = 25 * _DAY, 35 * _DAY
_SLICE: Final = 0.05
"""Seconds of work at a time ..."""
_REST: Final = 4.0
"""... and how many times as long it rests afterwards."""
_GIVE_WAY: Final = 0.5
_NOTE_EVERY: Final = 30.0


class Reading(NamedTuple):
    """What a scrub does with each object, within how many seconds, and with what share of them."""

    name: str
    look: Callable[[Entry, Findings], object]
    shortest: float = _SHORTEST
    longest: float = _LONGEST
    share: float = 1.0


def sample_of_a_day(inspector: Inspector, share: float) -> Reading:
    """Return the plan of asking about a share of the objects each day, without reading them."""
    return Reading("daily sample", inspector.glance, _DAY, _DAY, share)


class Progress(msgspec.Struct, kw_only=True):
    """How far the scrub is; times in seconds since 1970, 0 for never."""

    started: float = 0.0
    period: float = _SHORTEST
    cursor: bytes = b""
    findings: Findings = msgspec.field(default_factory=Findings)
    finished: float = 0.0
    """When the last pass ended."""
    last: Findings | None = None
    """What the last pass found."""


class Scrub:
    """Inspects an archive, over and over; `step` from one thread."""

    def __init__(
        self,
        inspector: Inspector,
        tables: Tables,
        clock: Clock,
        stored: Callable[[], int],
        is_busy: Busy = lambda: False,
        plan: Reading | None = None,
    ) -> None:
        """`stored` says how many bytes there are; without a plan everything is read. Of a share, others each
        time."""
        self._plan = plan or Reading("scrub", inspector.check)
        self._key = self._plan.name.encode()
        self._inspector = inspector
        self._table = tables.table("scrub", Progress)
        self._clock = clock
        self._stored = stored
        self._is_busy = is_busy
        self.progress = self._table.get(self._key) or Progress()
        self._noted = clock()
        self._due = self._planned()
        self._work = self._pass()

    def step(self) -> bool:
        """Work for a moment if it is time to; say whether there is more to do at once, which is never."""
        now = self._clock()
        if not 0 <= self._due - now <= _LONGEST:
            self._slice(now)
        return False

    def _slice(self, started: float) -> None:
        if self._is_busy() and not self._is_late(started):
            self._due = started + _GIVE_WAY
            return
        try:
            while next(self._work) and self._clock() - started < _SLICE:
                pass
        except Exception:
            # It goes on behind the last cursor; whoever calls tells what failed.
            self._work = self._pass()
            raise
        now = self._clock()
        self._due = max(now + _REST * (now - started), self._planned())
        if not 0 <= now - self._noted < _NOTE_EVERY:
            self.note()

    def note(self) -> None:
        """Write down how far it is."""
        self._table.put(self._key, self.progress)
        self._noted = self._clock()

    def _planned(self) -> float:
        """Return when the next object is due, if the pass is to end when its period does."""
        progress = self.progress
        if not progress.started:
            return progress.finished
        share = progress.findings.bytes / max(self._stored() * self._plan.share, 1)
        return progress.started + progress.period * min(share, 1.0)

    def _is_late(self, now: float) -> bool:
        return bool(self.progress.started) and now > self._planned() + _DAY

    def _pass(self) -> Iterator[bool]:
        """Inspect from the cursor to the end, then begin anew; True as long as there is more to do."""
        while True:
            progress = self.progress
            if not progress.started:
                progress.started = self._clock()
                progress.period = random.uniform(self._plan.shortest, self._plan.longest)
                progress.findings = Findings()
                self.note()
            for cursor, entry in self._inspector.entries(progress.cursor):
                if random.random() < self._plan.share:
                    self._plan.look(entry, progress.findings)
                progress.cursor = cursor
                yield True
                # A small archive is not read in one go.
                if self._planned() > self._clock():
                    yield False
            for _ in self._inspector.stocktaking(progress.findings):
                yield True
            self._finish()
            yield False

    def _finish(self) -> None:
        progress = self.progress
        self._inspector.forget_gone()
        found = progress.findings
        text = "The %s looked at %d objects; %d are damaged."
        logger.info(text, self._plan.name, found.objects, found.damaged)
        # The next begins when this one's time is over: an archive that grows empty is not read all day.
        ended = max(self._clock(), progress.started + progress.period)
        self.progress = Progress(finished=ended, last=found)
        self.note()
