"""Matches that other sites may be slow to tell: another thread waits for them, and the caller listens."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from queue import Empty, Full, Queue
from threading import BoundedSemaphore, Event, Thread
from typing import Final, TypeVar

T = TypeVar("T")
_Told = tuple[T | None, Exception | None]
_AHEAD: Final = 256
"""Matches that wait to be taken at most."""
_LOOK: Final = 0.1
"""Seconds between two looks at whether the matches are still wanted."""
_places: Final = BoundedSemaphore(64)
"""Threads at once, those among them that were given up and still wait for an answer."""


def aside(matches: Iterator[T], moment: float) -> Iterator[T | None]:
    """Yield the matches, and None whenever none came for a moment (seconds); closes them, if need be later.

    Without a thread to spare they are taken here, and nothing is said between them.
    """
    if not _places.acquire(blocking=False):
        yield from matches
        return
    taken: Queue[_Told[T]] = Queue(_AHEAD)
    is_given_up = Event()
    worker = Thread(target=_take, args=(matches, taken, is_given_up), name="matches", daemon=True)
    try:
        worker.start()
    except RuntimeError:
        _places.release()
        yield from matches
        return
    try:
        while True:
            try:
                match, error = taken.get(timeout=moment)
            except Empty:
                yield None
                continue
            if error:
                raise error
            if match is None:
                return
            yield match
    finally:
        is_given_up.set()


def _take(matches: Iterator[T], taken: Queue[_Told[T]], is_given_up: Event) -> None:
    end: _Told[T] = (None, None)
    try:
        for match in matches:
            if not _hand_over((match, None), taken, is_given_up):
                break
    except Exception as error:
        end = (None, error)
    finally:
        if isinstance(matches, Generator):
            matches.close()
        _places.release()
    _hand_over(end, taken, is_given_up)


def _hand_over(told: _Told[T], taken: Queue[_Told[T]], is_given_up: Event) -> bool:
    """Give one match to who waits for it; False when nobody does any more."""
    while not is_given_up.is_set():
        try:
            taken.put(told, timeout=_LOOK)
            return True
        except Full:
            continue
    return False
