"""The one place that has everything a node uses of the system take turns, before the node is imported."""

from __future__ import annotations

import gc
import os
import sys
from typing import Final

from . import sockets, threads
from .turns import Stepper

_CORES: Final = 2
_TOO_LATE: Final = ("catalog", "node", "federation", "grpc", "zmq", "concurrent.futures")


def begin(seed: int) -> Stepper:
    """Have this process step; its one thread is the hand. It stays so until its end.

    Raises:
        RuntimeError: something was imported before that would not take turns, or the order of sets is chance.
    """
    late = [name for name in _TOO_LATE if name in sys.modules]
    if late:
        raise RuntimeError(f"{', '.join(late)} was imported before, and would not take turns.")
    if os.environ.get("PYTHONHASHSEED") != "0":
        raise RuntimeError("The order of sets is chance; start Python with PYTHONHASHSEED=0.")
    stepper = Stepper(seed)
    threads.replace(stepper)
    sockets.replace(stepper)
    os.cpu_count = lambda: _CORES
    # The stepper collects garbage, at turns of its own.
    gc.disable()
    gc.enable = gc.disable
    from .. import ports
    from . import calls, chance, mail

    chance.install(seed)
    mail.install()
    calls.install()
    ports.free_port = sockets.free_port
    return stepper
