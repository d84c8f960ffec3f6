"""How many associations there may be, and how fast they may come: counted for one or several acceptors."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Protocol

from node.contracts import Rejection

from .limits import Limits


class Admission(Protocol):
    """Counts associations in and out."""

    def admit(self, calling_ae: str, address: str) -> Rejection | None:
        """Count an association, or say which limit it would break: always transient, PS3.8 Table 9-21."""

    def discharge(self, calling_ae: str, address: str) -> None:
        """Count an association out that was let in."""


class CountedAdmission:
    """Satisfies `Admission` for the process that keeps the count."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._per_ae: Counter[str] = Counter()
        self._per_address: Counter[str] = Counter()
        self._buckets: dict[str, tuple[float, float]] = {}

    def admit(self, calling_ae: str, address: str) -> Rejection | None:
        """Count an association, or say which limit it would break: always transient, PS3.8 Table 9-21."""
        limits, title = self._limits, calling_ae or "?"
        with self._lock:
            if not self._is_paced(address):
                return Rejection(2, 3, 1, "associations come too fast from this address")
            for count, limit, what in (
                (self._per_ae.total(), limits.associations, "in all"),
                (self._per_ae[title], limits.associations_per_ae, "of this AE title"),
                (self._per_address[address], limits.associations_per_address, "from this address"),
            ):
                if count >= limit:
                    return Rejection(2, 3, 2, f"{count} associations {what} are open, the limit")
            self._per_ae[title] += 1
            self._per_address[address] += 1
        return None

    def discharge(self, calling_ae: str, address: str) -> None:
        """Count an association out that was let in."""
        with self._lock:
            for counter, key in ((self._per_ae, calling_ae or "?"), (self._per_address, address)):
                counter[key] -= 1
                if counter[key] <= 0:
                    del counter[key]

    def _is_paced(self, address: str) -> bool:
        """A bucket of tokens per address, refilled with time."""
        now, rate, burst = time.monotonic(), self._limits.associations_per_second, self._limits.burst
        if len(self._buckets) > 4096:
            full = [
                name for name, (then, left) in self._buckets.items() if left + (now - then) * rate > burst
            ]
            for name in full:
                del self._buckets[name]
        then, left = self._buckets.get(address, (now, float(burst)))
        left = min(float(burst), left + (now - then) * rate)
        is_paced = left >= 1
        self._buckets[address] = (now, left - is_paced)
        return is_paced
