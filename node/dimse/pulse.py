"""One thread per server that looks after what must happen while an association's own thread is busy.

A retrieve sends Pending although nothing moves; answers of a slow search are not held back for company.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

logger = logging.getLogger(__name__)
PERIOD: Final = 0.05


class Pulse:
    """Calls what is registered every 50 ms; the thread sleeps while there is nothing."""

    def __init__(self) -> None:
        self._beats: set[Callable[[], None]] = set()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dimse-pulse", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    @contextmanager
    def during(self, beat: Callable[[], None]) -> Iterator[None]:
        """Call `beat` every 50 ms while the block runs; it must not block."""
        self._beats.add(beat)
        self._wake.set()
        try:
            yield
        finally:
            self._beats.discard(beat)

    def _run(self) -> None:
        while not self._stop.wait(PERIOD if self._beats else 0):
            if not self._beats:
                self._wake.clear()
                # Whoever came before that was not heard; whoever comes after it is.
                if not self._beats and not self._stop.is_set():
                    self._wake.wait()
                continue
            for beat in tuple(self._beats):
                try:
                    beat()
                except Exception:
                    logger.exception("A pulse failed; the association goes on without it.")
                    self._beats.discard(beat)
