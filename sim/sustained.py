"""Devices that send at a pace which the bucket can keep up with: is a node on S3 as quick as one on disk?

Storing in one burst asks something else: how quick a node answers while the bucket falls behind. Here the
pace is 40 % of what boto3 alone put and read back a moment before, on the same server: boto3 takes most of an
interpreter for it, and a node that stores and uploads in one process must do both. Uploads give way to
senders for up to a minute; so the second half of three minutes shows what holds for as long as devices go on,
and the node keeps up if its queue is no longer at the end of it than at its beginning.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, Final, NamedTuple

from .association import Association
from .buckets import OnBucket
from .cases import AVERAGE_202_KB, Case, Contestant, Figures
from .clients import ClientError
from .pdu import Address
from .phantoms import instances, study
from .report import Goal, Row
from .servers import PeerPACS, Server

_SHARE: Final = 0.4
"""Of the rate of boto3 alone."""
_DEVICES: Final = 4
_THREADS: Final = 4
"""Of boto3 alone: as many as the node's own, by default."""
_ALONE: Final = 200
"""Objects that boto3 alone puts and reads back before."""
_LOOK_EVERY: Final = 0.25
_SEED: Final = 43
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"


@dataclass(slots=True)
class Sustained(Case):
    """C-STORE at a pace for so many seconds, into a node on S3 and into one on disk."""

    seconds: float = 180.0
    name: str = "s3sustained"
    is_fresh_each_run: bool = True
    _pace: float = 0.0

    @property
    def title(self) -> str:
        return f"Storing 202 KB CT for {self.seconds:.0f} s at 40 % of what boto3 alone puts and reads back"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("C-STORE, second half", "/s", more_is_better=True, goal=Goal(at_least=0.9)),
            Row("C-STORE, first half", "/s", more_is_better=True),
            Row("the pace", "/s", more_is_better=True),
            Row("95th percentile of a C-STORE, second half", "ms", more_is_better=False),
            Row("queue for the bucket at half time", "objects", more_is_better=False),
            Row("queue for the bucket at the end", "objects", more_is_better=False),
            Row("end / half time", "times", more_is_better=False, goal=Goal(at_most=1.25)),
            Row("longest wait for the bucket", "s", more_is_better=False),
            Row("until all is in the bucket", "s", more_is_better=False),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"S3": OnBucket, "disk": PeerPACS}

    def measure(self, server: Server, run: int) -> Figures:
        # The node on S3 comes first in each run, and the one on disk is given the same pace.
        if isinstance(server, OnBucket):
            self._pace = _SHARE * _alone(server)
        if not self._pace:
            raise ClientError("The pace comes from the node on S3: name both, or neither.")
        count = round(self._pace * self.seconds)
        if not isinstance(server, OnBucket):
            return self._sent(server.address, run, count)
        with _watched(server) as seen:
            figures = self._sent(server.address, run, count)
            sent = tuple(seen)
            began = time.perf_counter()
            server.wait_until_safe()
        half, end = sent[len(sent) // 2], sent[-1]
        return {
            **figures,
            "queue for the bucket at half time": half.waiting,
            "queue for the bucket at the end": end.waiting,
            "end / half time": end.waiting / max(1, half.waiting),
            "longest wait for the bucket": max(each.behind for each in seen),
            "until all is in the bucket": time.perf_counter() - began,
        }

    def _sent(self, address: Address, run: int, count: int) -> Figures:
        """Have devices send so many instances, each when it is due or, late, as soon as one is free."""
        taken: list[tuple[float, float]] = []
        due = _turns(count, self._pace)
        lock = threading.Lock()

        def device(number: int) -> None:
            own = instances(study(_SEED + run, number, instances=count, size=AVERAGE_202_KB))
            with Association(address, sends=[_CT], calling=f"CT{number}") as association:
                while (moment := _next(due, lock)) is not None:
                    instance = next(own)
                    time.sleep(max(0.0, moment - time.perf_counter()))
                    asked = time.perf_counter()
                    if status := association.store(instance):
                        raise ClientError(f"C-STORE was answered with {status:04X}.")
                    taken.append((asked - began, time.perf_counter() - asked))

        began = time.perf_counter()
        with ThreadPoolExecutor(_DEVICES) as pool:
            for _ in pool.map(device, range(_DEVICES)):
                pass
        ended, half = time.perf_counter() - began, self.seconds / 2
        later = [seconds for when, seconds in taken if when >= half]
        return {
            "C-STORE, second half": len(later) / (ended - half),
            "C-STORE, first half": (count - len(later)) / half,
            "the pace": self._pace,
            "95th percentile of a C-STORE, second half": 1000 * quantiles(later, n=20)[-1],
        }


class _Queue(NamedTuple):
    """How many objects wait for the bucket, and for how many seconds the first of them has."""

    waiting: int
    behind: float


def _turns(count: int, pace: float) -> Iterator[float]:
    began = time.perf_counter()
    return (began + number / pace for number in range(count))


def _next(due: Iterator[float], lock: threading.Lock) -> float | None:
    with lock:
        return next(due, None)


def _alone(server: OnBucket) -> float:
    """Return how many instances boto3 alone puts and reads back in a second, on the server of a node."""
    client = server.s3.client(_THREADS)
    described = study(_SEED, 99, instances=_ALONE, size=AVERAGE_202_KB)
    files = [one.part10() for one in itertools.islice(instances(described), _ALONE)]

    def put(file: bytes) -> None:
        key = f"alone/o/{hashlib.sha256(file).hexdigest()}"
        client.put_object(Bucket="bench", Key=key, Body=file)
        client.get_object(Bucket="bench", Key=key)["Body"].read()

    with ThreadPoolExecutor(_THREADS) as pool:
        began = time.perf_counter()
        for _ in pool.map(put, files):
            pass
        return _ALONE / (time.perf_counter() - began)


@contextmanager
def _watched(server: OnBucket) -> Iterator[list[_Queue]]:
    """Look at the queue for the bucket again and again, evenly."""
    seen = [_Queue(0, 0.0)]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_EVERY):
            told: dict[str, Any] = server.queue()
            seen.append(_Queue(told["waiting"], told["behind"]))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
