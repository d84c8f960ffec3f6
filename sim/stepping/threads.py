"""What Python programs know of threads and time, on a stepper: locks, threads, queues, clocks.

Condition, Event, Semaphore, Barrier and the queues of the standard library are made of locks, so they are
the library's own; `replace` only has them made of these.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from .turns import FOREVER, Stepper, Turn

EPOCH: Final = 1_767_600_000.0
"""When every story begins: the morning of 5 January 2026, UTC."""
_stepper: Stepper
skews: Final[dict[str, float]] = {}
"""Seconds by which the clock of a host is off."""


failures: Final[list[str]] = []
"""Which threads ended with an error that nobody caught, and which."""


class Lock:
    """A lock whose waiters give the baton away; one that a killed machine held is free."""

    def __init__(self) -> None:
        self._holder: Turn | None = None
        self._waiters: deque[Turn] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it; say whether it was to be had in time."""
        stepper = _stepper
        stepper.may_give_way()
        if not self.locked():
            self._holder = stepper.current
            return True
        if not blocking or timeout == 0:
            stepper.give_way()
            return False
        until = FOREVER if timeout < 0 else stepper.now + timeout
        me = stepper.current
        while self.locked():
            self._waiters.append(me)
            try:
                if not stepper.wait(until):
                    return False
            finally:
                if me in self._waiters:
                    self._waiters.remove(me)
        self._holder = me
        return True

    def release(self) -> None:
        """Let it go; any thread may. Raises RuntimeError: nobody holds it."""
        if self._holder is None:
            raise RuntimeError("release unlocked lock")
        self._holder = None
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.is_over:
                _stepper.wake(waiter)
                break

    def locked(self) -> bool:
        """Say whether somebody holds it."""
        return self._holder is not None and not self._holder.was_killed

    def _at_fork_reinit(self) -> None:
        self.__init__()  # type: ignore[misc]

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Thread(threading.Thread):
    """A thread that takes turns."""

    _turn: Turn | None = None

    def start(self) -> None:
        """Begin; see `threading.Thread.start`."""
        if self._turn is not None:
            raise RuntimeError("threads can only be started once")
        self._turn = _stepper.begin(self.name, self._lives)

    def _lives(self) -> None:
        me: Any = self
        me._set_ident()
        active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
        ident = threading.get_ident()
        active[ident] = self
        try:
            self.run()
        except SystemExit:
            pass
        except BaseException as error:
            said = (type(error), error, error.__traceback__, self)
            threading.excepthook(threading.ExceptHookArgs(said))
            failures.append(f"The thread {self.name} ended with {error!r}.")
        finally:
            active.pop(ident, None)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end; see `threading.Thread.join`."""
        if self._turn is None:
            raise RuntimeError("cannot join thread before it is started")
        until = FOREVER if timeout is None else _stepper.now + max(0.0, timeout)
        _stepper.wait_for_end(self._turn, until)

    def is_alive(self) -> bool:
        """Say whether it began and has not ended."""
        return self._turn is not None and not self._turn.is_over


def _sleep(seconds: float) -> None:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    if seconds:
        _stepper.wait(_stepper.now + seconds)
    else:
        _stepper.give_way()


def _time() -> float:
    return EPOCH + _stepper.look() + skews.get(_stepper.current.host, 0.0)


def _monotonic() -> float:
    return _stepper.look()


def _of_now(function: Callable[[float], Any]) -> Callable[..., Any]:
    return functools.wraps(function)(lambda seconds=None: function(_time() if seconds is None else seconds))


def replace(stepper: Stepper) -> None:
    """Have the threads, locks and clocks of this process be those of the stepper, for good.

    Modules that took a name from `threading`, `time` or `queue` before keep the old one: call it first.
    """
    global _stepper
    _stepper = stepper
    library: Any = threading
    library.Lock = library._allocate_lock = Lock
    library._CRLock = None
    library.Thread = Thread
    library.Timer.__bases__ = (Thread,)
    library._time = _monotonic
    functools.RLock = threading.RLock  # type: ignore[attr-defined]
    queues: Any = queue
    queues.SimpleQueue = queues._PySimpleQueue
    queues.time = _monotonic
    logs: Any = logging
    logs._lock = threading.RLock()
    _replace_clocks()


def _replace_clocks() -> None:
    clocks: Any = time
    clocks.sleep = _sleep
    clocks.time = _time
    for name in ("monotonic", "perf_counter", "process_time", "thread_time"):
        setattr(clocks, name, _monotonic)
        setattr(clocks, f"{name}_ns", lambda: int(_monotonic() * 1e9))
    clocks.time_ns = lambda: int(_time() * 1e9)
    for name in ("gmtime", "localtime"):
        setattr(clocks, name, _of_now(getattr(clocks, name)))
