"""Turns of threads: one thread runs at a time until it waits, and a seed draws who goes on.

The threads are real ones, so what they are is as ever: their stacks, locals and contexts. But each waits for
its baton, and whoever has to wait for anything gives the baton away. Time passes only when nobody has
anything to do, and by a little at each turn and each look at a clock, so that nobody spins for ever.
"""

from __future__ import annotations

import _thread
import gc
import heapq
import select
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from random import Random
from typing import Any, Final

FOREVER: Final = float("inf")
_TURN: Final = 20e-6
"""Seconds that a turn takes."""
_LOOK: Final = 1e-6
"""Seconds that a look at a clock takes."""
_PREEMPTED: Final = 0.01
"""How often a thread that takes a free lock is made to wait first."""
_STALLED: Final = 0.0005
"""How often it is made to wait for long."""
_STALL: Final = 0.5
"""Seconds that it then waits at most."""
_BUSY: Final = 16
"""Turns after which descriptors are looked at, although somebody has something to do."""
_TIDY: Final = 2000
"""Turns between two collections of garbage."""
_OUTSIDE: Final = 60.0
"""Seconds, of everybody's time, for other processes to do something when nobody here can."""


class Stuck(RuntimeError):
    """Every thread waits for another one, and for ever."""


class Turn:
    """One thread as the stepper knows it."""

    def __init__(self, name: str, host: str) -> None:
        self.name = name
        self.host = host
        """The machine that it runs on; whoever it begins runs there too."""
        self.round = 0
        """Counts its waits: a wake that was meant for an earlier one is none."""
        self.is_ready = False
        self.was_woken = False
        self.is_over = False
        self.was_killed = False
        self.descriptors: tuple[tuple[int, int], ...] = ()
        self.since = 0
        """When it began to wait for them, as a number that grows."""
        self.heirs: list[Turn] = []
        """Who waits for its end."""
        self._baton = _thread.allocate_lock()
        self._baton.acquire()

    def go(self) -> None:
        """Give it the baton."""
        self._baton.release()

    def rest(self) -> None:
        """Wait for the baton, on its own thread."""
        self._baton.acquire()


class Stepper:
    """All threads of this process, of which `current` runs; whoever made it is the first, by hand."""

    def __init__(self, seed: int) -> None:
        self._chance = Random(seed)
        self.now = 1000.0
        """Seconds since some moment: what a monotonic clock shows."""
        self.current = self.hand = Turn("hand", "")
        self.steps = 0
        self.trace = 0
        """A checksum over who went on, and when: equal for equal runs."""
        self._ready: list[Turn] = []
        self._timed: list[tuple[float, int, int, Turn]] = []
        self._order = count()
        self._watched: dict[int, list[tuple[Turn, int]]] = {}
        self._epoll = select.epoll()
        self._comes_back = False
        self._is_stuck = False
        self._tidy_next = _TIDY
        self._living: dict[Turn, None] = {}

    # By hand.

    def step(self) -> str:
        """Let one other thread take one turn; return its name, or nothing if all wait for a later moment."""
        self._look_around()
        if not self._ready:
            return ""
        self._comes_back = True
        me = self.current
        chosen = self._draw()
        self._ready.append(me)
        me.is_ready = True
        self._hand_over(me, chosen)
        return chosen.name

    def run(self, seconds: float) -> None:
        """Let all others go on for so much of their time."""
        self.wait(self.now + seconds)

    # What threads do.

    def look(self) -> float:
        """Return the time, as somebody looks at a clock."""
        self.now += _LOOK
        return self.now

    def begin(self, name: str, run: Callable[[], Any]) -> Turn:
        """Begin a thread on the host of who runs; it goes on when it is drawn."""
        turn = Turn(name, self.current.host)
        self._living[turn] = None

        def go() -> None:
            turn.rest()
            try:
                run()
            finally:
                self._end(turn)

        _thread.start_new_thread(go, ())
        self.wake(turn)
        return turn

    def wait(self, until: float = FOREVER, descriptors: tuple[tuple[int, int], ...] = ()) -> bool:
        """Wait for a `wake`, a (descriptor, poll mask) or the time; say whether it was woken."""
        me = self.current
        self._tidy()
        me.was_woken = me.is_ready = False
        me.round += 1
        if until < FOREVER:
            heapq.heappush(self._timed, (until, next(self._order), me.round, me))
        if descriptors:
            self._watch(me, descriptors)
        self._switch(me)
        if self._is_stuck and me is self.hand:
            self._is_stuck = False
            names = ", ".join(turn.name for turn in self._living)
            raise Stuck(f"Every thread waits for another one: {names}.")
        return me.was_woken

    def _tidy(self) -> None:
        """Collect garbage now and then: what that ends may take locks, so it must come at the same turn."""
        if self.steps >= self._tidy_next:
            self._tidy_next = self.steps + _TIDY
            gc.collect()

    def give_way(self) -> None:
        """Let others go on who can, and come back."""
        me = self.current
        if self._ready or self._watched:
            self.wake(me)
            self._switch(me)

    def may_give_way(self) -> None:
        """Give way now and then, and rarely for long, as is drawn: systems stop any thread anywhere."""
        drawn = self._chance.random()
        if drawn < _STALLED:
            self.wait(self.now + _STALL * self._chance.random())
        elif drawn < _PREEMPTED:
            self.give_way()

    def wake(self, turn: Turn) -> None:
        """Have a thread go on that waits."""
        if not turn.is_ready and not turn.is_over:
            turn.is_ready = turn.was_woken = True
            self._ready.append(turn)
            self._forget(turn)

    def call(self, descriptor: int) -> None:
        """Have go on who waits for a descriptor."""
        for turn, _ in list(self._watched.get(descriptor, ())):
            self.wake(turn)

    def wait_for_end(self, turn: Turn, until: float = FOREVER) -> bool:
        """Wait until a thread has ended; say whether it has."""
        while not turn.is_over:
            turn.heirs.append(self.current)
            if not self.wait(until):
                break
        return turn.is_over

    @contextmanager
    def on(self, host: str) -> Iterator[None]:
        """Do something, and begin threads, on another machine."""
        me, before = self.current, self.current.host
        me.host = host
        try:
            yield
        finally:
            me.host = before

    def kill(self, host: str) -> None:
        """Let no thread of a machine go on, ever; nothing is told to them."""
        for turn in [turn for turn in self._living if turn.host == host and turn is not self.current]:
            self._forget(turn)
            turn.is_over = turn.was_killed = True
            del self._living[turn]
        self._ready = [turn for turn in self._ready if not turn.is_over]

    # Who goes on.

    def _end(self, turn: Turn) -> None:
        turn.is_over = True
        self._living.pop(turn, None)
        for heir in turn.heirs:
            self.wake(heir)
        self._pass_on().go()

    def _switch(self, me: Turn) -> None:
        self._hand_over(me, self._pass_on())

    def _hand_over(self, me: Turn, chosen: Turn) -> None:
        if chosen is not me:
            self.current = chosen
            chosen.go()
            me.rest()

    def _pass_on(self) -> Turn:
        """Return who goes on, time passing until somebody can."""
        if self._comes_back and self.hand.is_ready:
            self._comes_back = False
            self._ready.remove(self.hand)
            chosen = self.hand
            chosen.is_ready = False
        else:
            self._look_around(is_patient=True)
            chosen = self._draw()
        self.current = chosen
        return chosen

    def _draw(self) -> Turn:
        place = self._chance.randrange(len(self._ready)) if len(self._ready) > 1 else 0
        chosen = self._ready.pop(place)
        chosen.is_ready = False
        self.now += _TURN
        self.steps += 1
        self.trace = zlib.crc32(f"{chosen.name} {self.now:.6f}".encode(), self.trace)
        return chosen

    def _look_around(self, *, is_patient: bool = False) -> None:
        """Find who can go on now; the patient let time pass until somebody can."""
        self._ring()
        if not self._ready or self.steps % _BUSY == 0:
            self._poll()
        while is_patient and not self._ready:
            while self._timed and not self._is_waiting(*self._timed[0][2:]):
                heapq.heappop(self._timed)
            if not self._timed:
                self._poll(seconds=_OUTSIDE)
                if not self._ready:
                    self._is_stuck = True
                    self._ready.append(self.hand)
                return
            self.now = max(self.now, self._timed[0][0])
            self._ring()

    def _is_waiting(self, number: int, turn: Turn) -> bool:
        return not (turn.is_ready or turn.is_over) and turn.round == number

    def _ring(self) -> None:
        """Have go on whose time is over."""
        while self._timed and self._timed[0][0] <= self.now:
            _, _, number, turn = heapq.heappop(self._timed)
            if self._is_waiting(number, turn):
                turn.is_ready = True
                self._ready.append(turn)
                self._forget(turn)

    # Descriptors.

    def _watch(self, turn: Turn, descriptors: tuple[tuple[int, int], ...]) -> None:
        turn.descriptors, turn.since = descriptors, next(self._order)
        for number, mask in descriptors:
            self._watched.setdefault(number, []).append((turn, mask))
            self._register(number)

    def _register(self, number: int) -> None:
        mask = 0
        for _, wanted in self._watched[number]:
            mask |= wanted
        try:
            self._epoll.register(number, mask)
        except FileExistsError:
            self._epoll.modify(number, mask)
        except OSError:
            # A file is always ready; who waits for a closed descriptor shall hear of it.
            self.call(number)

    def _forget(self, turn: Turn) -> None:
        for number, _ in turn.descriptors:
            left = [each for each in self._watched.get(number, ()) if each[0] is not turn]
            if left:
                self._watched[number] = left
                self._register(number)
            else:
                self._watched.pop(number, None)
                with suppress(OSError, ValueError):
                    self._epoll.unregister(number)
        turn.descriptors = ()

    def _poll(self, seconds: float = 0.0) -> None:
        """Have go on whose descriptors are ready."""
        if not self._watched:
            return
        ready = {}
        for number, events in self._epoll.poll(seconds, 1024):
            for turn, mask in self._watched.get(number, ()):
                if events & (mask | select.EPOLLHUP | select.EPOLLERR):
                    ready[turn.since] = turn
        # Not by their numbers: which is free next, the kernel knows.
        for _, turn in sorted(ready.items()):
            self.wake(turn)
