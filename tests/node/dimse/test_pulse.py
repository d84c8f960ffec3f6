"""The thread that looks after busy associations ends when it is told to, whatever it is at just then."""

from __future__ import annotations

import threading

from node.dimse.pulse import Pulse


class Interrupted(threading.Event):
    """An event before whose next `clear` its pulse is stopped, as another thread may do at that moment."""

    def __init__(self, pulse: Pulse) -> None:
        super().__init__()
        self._pulse = pulse

    def clear(self) -> None:
        self._pulse._stop.set()
        self.set()
        super().clear()


def test_a_pulse_that_is_stopped_as_it_goes_to_sleep_ends() -> None:
    pulse = Pulse()
    pulse._wake = Interrupted(pulse)
    pulse.start()
    pulse._thread.join(60)
    ended = not pulse._thread.is_alive()
    threading.Event.set(pulse._wake)
    assert ended, "it sleeps on, and nobody would wake it"
