"""The threads of a node: loops that go on until it stops, and the thread that takes every chore in turn."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from catalog import Clock
from catalog.structs import learn_structs

from .archive import Archive
from .chores import Chore, Loop

logger = logging.getLogger(__name__)

CHORE_PAUSE: Final = 0.2
_PATIENCE: Final = 4.0
"""Seconds for all threads to end; with what associations are given to end, the ten that a stop may take."""


class Background:
    """Gives work threads of its own, and ends them all."""

    def __init__(self, clock: Clock) -> None:
        learn_structs()
        self._clock = clock
        self._failing: set[str] = set()
        self._wakes: list[Callable[[], object]] = []
        self.threads: list[threading.Thread] = []
        self.stopping = threading.Event()
        """Set when the node stops; whoever has a thread looks at it."""

    def run(self, name: str, loop: Callable[[], None], wake: Callable[[], object] | None = None) -> None:
        """Give a loop a thread; `wake` has it look at `stopping` if it waits for something else."""
        if wake is not None:
            self._wakes.append(wake)
        thread = threading.Thread(target=loop, name=name, daemon=True)
        self.threads.append(thread)
        thread.start()

    def repeat(self, loop: Loop) -> None:
        """Take a loop's steps on a thread, with the pauses that it wants."""
        self.run(loop.name, partial(self._go_round, loop), loop.wake)

    def tend(self, archive: Archive) -> None:
        """Give an archive the threads that it needs."""
        segments, commitment = archive.segments, archive.commitment
        self.run(f"{archive.name} syncer", lambda: segments.sync_forever(self.stopping), segments.wake)
        self.run(f"{archive.name} indexer", lambda: self._index(archive))
        self.run(f"{archive.name} judge", lambda: commitment.judge_forever(self.stopping), commitment.wake)
        self.run(f"{archive.name} reports", lambda: commitment.report_forever(self.stopping))
        for loop in archive.loops():
            self.repeat(loop)

    def take_chores(self, due: Callable[[], Iterable[Chore]], on_round: Callable[[], None]) -> None:
        """Take every step that is due until the node stops; `due` is asked anew at each round."""
        last: dict[str, float] = {}
        while not self.stopping.wait(CHORE_PAUSE):
            on_round()
            for name, every, step in due():
                # A clock that was set back makes nothing wait.
                if not 0 <= self._clock() - last.setdefault(name, self._clock()) < every:
                    last[name] = self._clock()
                    self._try(name, step)
                    if self.stopping.is_set():
                        # What the next one would need may be closed: nobody waits for a late thread.
                        return

    def end(self) -> None:
        """Have all threads end; return when they have, or when their time is over."""
        self.stopping.set()
        for wake in self._wakes:
            wake()
        until = time.monotonic() + _PATIENCE
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))

    def afterwards(self, let_go: Callable[[], None]) -> None:
        """Let go of what the threads use, when they have ended: now, or without waiting for who is late."""

        def wait() -> None:
            for thread in self.threads:
                thread.join()
            let_go()

        if any(thread.is_alive() for thread in self.threads):
            threading.Thread(target=wait, name="late end", daemon=True).start()
        else:
            let_go()

    def _go_round(self, loop: Loop) -> None:
        pause = 0.0
        while not self.stopping.wait(pause):
            pause = loop.busy_pause if self._try(loop.name, loop.step) else loop.idle_pause

    def _index(self, archive: Archive) -> None:
        """Let the search index follow, on a thread of its own, as ingest leaves it time."""
        pause, pace, clock = CHORE_PAUSE, archive.pace, self._clock
        while not self.stopping.wait(pause):
            pause = pace.rest_first()
            if not pause:
                started = clock()
                name = f"index of {archive.name}"
                is_behind = bool(self._try(name, lambda: archive.catalog.index(clock())))
                pause = pace.rest_after(clock() - started, is_behind)

    def _try(self, name: str, step: Callable[[], object]) -> object:
        """Take a step; what fails is logged once, and tried again the next time."""
        try:
            result = step()
            self._failing.discard(name)
            return result
        except Exception:
            if name not in self._failing:
                logger.exception("The chore %s fails; it is tried again", name)
            self._failing.add(name)
            return None
