"""The traffic of a scenario at the nodes of a play, while the play goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from ..phantoms import Study, instances
from ..targets import Target
from ..traffic.records import DAY
from ..traffic.replay import Replay, Run, numbered, series
from ..traffic.scenario import Scenario
from .digests import digest, given

_STALL: Final = 5.0
"""Seconds for the answer to one C-STORE that count as a stall."""
_FULL: Final = "status A700"
_PATIENCE: Final = 60.0
"""Seconds in which nothing at all is acknowledged, after which it is given up."""


class Traffic:
    """What a scenario's devices send; `targets` by site. It begins at once, and may be stopped."""

    def __init__(self, scenario: Scenario, targets: Mapping[str, Target]) -> None:
        self.scenario = scenario
        self._replay = Replay(scenario, targets, _PATIENCE)
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._replay.play, daemon=True)
        self._thread.start()

    @property
    def run(self) -> Run:
        """What became of it so far."""
        return self._replay.run

    def dates(self) -> list[str]:
        """Return ranges of study dates that cover all: a grid answers no question with more than 10 000."""
        first = self.scenario.start
        days = [f"{first + timedelta(days=day):%Y%m%d}" for day in range(-1, self.scenario.days + 1)]
        return [f"-{days[0]}", *days[1:-1], f"{days[-1]}-"]

    def wait_for_day(self, day: int) -> None:
        """Wait until that day begins, of which the first is 1, or until all is over."""
        due = self._began + self._replay.due((day - 1) * DAY)
        self._thread.join(max(0.0, due - time.monotonic()))

    def end(self) -> list[str]:
        """Wait until all was sent and looked for, or given up; return what there is to tell."""
        self._thread.join()
        run = self._replay.run
        is_full = any(_FULL in failure for failure in run.failures)
        slow = sum(each.slowest > _STALL for each in run.sent)
        return [
            f"{len(run.sent)} of {run.planned} series of the traffic were taken",
            *([run.stopped] if run.stopped else []),
            f"{'some were' if is_full else 'nothing was'} refused for want of room",
            f"{slow} of them waited {_STALL:g} s for an answer",
            *(f"not found in the end: {each}" for each in run.missing),
        ]

    def close(self) -> None:
        """End it early."""
        self._replay.stop()
        self._thread.join()

    def lost(self, site: str, target: Target) -> tuple[int, int]:
        """Count what a target does not give, byte by byte, of what a site acknowledged, and what that was."""
        assert target.address
        acknowledged, lost, kept = self._replay.run.acknowledged.get(site, {}), 0, 0
        sent: dict[str, set[str]] = {}
        for made in self._series(site):
            taken = acknowledged.get(made.StudyInstanceUID, set())
            these = {digest(each) for each in instances(made) if each.SOPInstanceUID in taken}
            sent.setdefault(made.StudyInstanceUID, set()).update(these)
        for uid, found in given(target.address, list(sent)):
            wanted = sent[uid]
            lost += len(wanted - found)
            kept += len(wanted)
        return lost, kept

    def unseen(self, target: Target) -> tuple[int, int]:
        """Count what a target does not find of what any site acknowledged, and what that was.

        Raises `REFUSALS`.
        """
        unseen, kept = 0, 0
        wanted = {"StudyInstanceUID": "", "NumberOfStudyRelatedInstances": ""}
        with target.finder() as finder:
            told = [row for dates in self.dates() for row in finder.find("STUDY", StudyDate=dates, **wanted)]
        found = {each["StudyInstanceUID"]: int(each["NumberOfStudyRelatedInstances"] or 0) for each in told}
        for studies in self._replay.run.acknowledged.values():
            for uid, held in studies.items():
                unseen += max(0, len(held) - found.get(uid, 0))
                kept += len(held)
        return unseen, kept

    def _series(self, site: str) -> list[Study]:
        """Return all series of a site, sent or not."""
        bursts = self.scenario.bursts()
        numbers = numbered(bursts)
        return [series(burst, self.scenario, numbers[burst.study]) for burst in bursts if burst.site == site]
