"""Bytes that are being kept just now: equal ones that come meanwhile are not taken for known too early."""

from __future__ import annotations

from collections import Counter
from threading import Lock

from catalog import Holding


class Underway:
    """Bytes that are being kept just now, by SHA-256.

    Equal bytes that come meanwhile are kept as well, because the first may not be on the disk yet; once all
    of them are, the copies that nothing refers to are to go.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[bytes] = Counter()
        self._spare: dict[bytes, list[Holding]] = {}

    def __contains__(self, sha256: bytes) -> bool:
        return sha256 in self._counts

    def begin(self, holding: Holding) -> None:
        """Count one more copy as being kept."""
        with self._lock:
            self._counts[holding.sha256] += 1

    def end(self, holding: Holding, is_spare: bool) -> list[Holding]:
        """Count a copy as kept, or lost; return the spare copies if it was the last."""
        with self._lock:
            if is_spare:
                self._spare.setdefault(holding.sha256, []).append(holding)
            self._counts[holding.sha256] -= 1
            if self._counts[holding.sha256]:
                return []
            del self._counts[holding.sha256]
            return self._spare.pop(holding.sha256, [])
