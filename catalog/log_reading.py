"""One share's log, read in one moment, so that a head and the rows before it belong together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from .log import (
    Digest,
    chain_at,
    chain_before,
    chain_from,
    changes,
    digests,
    read_floor,
    read_head,
    rows_of,
    snapshot,
)
from .model import Change, Head
from .truth import Reading


class LogReading:
    """A short look at a log: everything it says is of the moment at which the `with` began."""

    def __init__(self, begin: Callable[[], AbstractContextManager[Reading]], share: int) -> None:
        self._moment = begin()
        self._share = share

    def __enter__(self) -> LogReading:
        self._reading = self._moment.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._moment.__exit__(None, None, None)

    @property
    def head(self) -> Head:
        """The end of the log."""
        return read_head(self._reading, self._share)

    @property
    def floor(self) -> int:
        """The number up to which the log may have forgotten what is gone."""
        return read_floor(self._reading, self._share)

    def changes(self, after: int, limit: int) -> list[Change]:
        """Return at most `limit` live rows with seq > `after`, in order."""
        return changes(self._reading, after, limit, self._share)

    def snapshot(self, after: bytes, limit: int) -> list[Change]:
        """Return at most `limit` live rows behind the key `after`, in key order."""
        return snapshot(self._reading, after, limit, self._share)

    def rows_of(self, study: bytes) -> dict[bytes, bytes]:
        """Return the live rows of a study and its series, by key; tombstones too."""
        return rows_of(self._reading, study, self._share)

    def chain_at(self, seq: int) -> bytes | None:
        """Return the chain value at a number where a commit ended, or None."""
        return chain_at(self._reading, seq, self._share)

    def chain_from(self, seq: int) -> tuple[int, bytes] | None:
        """Return the first number at or behind `seq` where a commit ended, with its chain value."""
        return chain_from(self._reading, seq, self._share)

    def chain_before(self, seq: int) -> tuple[int, bytes] | None:
        """Return the last number in front of `seq` where a commit ended, with its chain value."""
        return chain_before(self._reading, seq, self._share)

    def digests(self) -> dict[int, Digest]:
        """Return the digest of every bucket that ever had a row."""
        return digests(self._reading, self._share)
