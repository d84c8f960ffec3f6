"""Bringing an experiment's studies to a target: several associations at once, and counted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Lock
from typing import Final

from ..phantoms import Instance, Study, instances
from ..targets import Target
from .outcome import Outcome, Say

_AT_ONCE: Final = 64
"""Instances of an association when they come from many small studies."""


_SILENCE: Final = 1.0
"""Seconds after which who waits is told how many there are, however slow the target is."""


def load(target: Target, studies: Iterable[Study], outcome: Outcome, say: Say, associations: int = 0) -> int:
    """Store the studies; return how many instances. Raises `REFUSALS`."""
    made = _batches(instance for described in studies for instance in instances(described))
    lock, stored, associations = Lock(), 0, associations or target.loaders
    told = time.monotonic()
    failed: list[BaseException] = []

    def send() -> None:
        nonlocal stored, told
        while not failed:
            with lock:
                batch = next(made, None)
            if batch is None:
                return
            try:
                for _ in target.store(batch):
                    with lock:
                        stored += 1
                        outcome.samples["loaded"] = stored
                        if time.monotonic() - told > _SILENCE:
                            told = time.monotonic()
                            say(f"{outcome.experiment}: {target.name} has {stored} instances")
            except BaseException as error:
                failed.append(error)
                raise

    with ThreadPoolExecutor(associations) as pool:
        try:
            for done in [pool.submit(send) for _ in range(associations)]:
                done.result()
        except BaseException as error:
            failed.append(error)
            raise
    return stored


def _batches(made: Iterator[Instance]) -> Iterator[Sequence[Instance]]:
    while batch := list(islice(made, _AT_ONCE)):
        yield batch
