"""What owners had erased of what is kept for them: none of it is taken in again, nor still on its way in.

An erasure is written down first; who begins to take something in says so and asks then. So whatever moment an
erasure comes at, either its owner hears that something is still coming, or nothing of it comes any more.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from catalog import BadRequest, Decision, NotPermitted, PacsError
from catalog.statements import SeriesStatement, StudyStatement
from federation.erasing import is_erased
from federation.readable import NOTHING, unpacked

_read_decision: Final = msgspec.msgpack.Decoder(Decision).decode
_read_statement: Final = msgspec.msgpack.Decoder(tuple[StudyStatement, list[SeriesStatement]]).decode


class Erased:
    """What owners had erased; any thread may call."""

    def __init__(self) -> None:
        self.known: Callable[[bytes], Collection[bytes]] = lambda owner: ()
        """Returns what an owner had erased, as `federation.erasing.is_erased` asks for it."""
        self._lock = threading.Lock()
        self._coming: Counter[str] = Counter()

    @contextmanager
    def coming(self, study: str) -> Iterator[None]:
        """Say that something of a study is being taken in."""
        with self._lock:
            self._coming[study] += 1
        try:
            yield
        finally:
            with self._lock:
                self._coming[study] -= 1
                self._coming += Counter()

    def is_coming(self, study: str) -> bool:
        """Say whether something of a study is being taken in."""
        with self._lock:
            return self._coming[study] > 0

    def covers(self, owner: bytes, *target: str) -> bool:
        """Say whether an owner had a study, series or instance erased."""
        return is_erased(target, self.known(owner))

    def refusals(self, owner: bytes, study: str, uids: Iterable[tuple[str, str]]) -> dict[int, PacsError]:
        """Return by index why objects of a study, given by series and instance, are not kept."""
        return {at: _refusal() for at, each in enumerate(uids) if self.covers(owner, study, *each)}

    def check_words(
        self, owner: bytes, study: str, decisions: Sequence[bytes], statement: bytes, readable: bytes
    ) -> None:
        """Look whether an owner says something of what it had erased, or of a part of that.

        Raises:
            NotPermitted: it does.
            BadRequest: it cannot be read.
        """
        if self.covers(owner, study):
            raise _refusal()
        if not any(key.startswith(study.encode() + b"\0") for key in self.known(owner)):
            return
        try:
            named = list(_named(study, decisions, statement, readable))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadRequest("What an owner says of a study cannot be read.") from error
        if any(self.covers(owner, *target) for target in named):
            raise _refusal()


def _named(
    study: str, decisions: Sequence[bytes], statement: bytes, readable: bytes
) -> Iterator[tuple[str, ...]]:
    """Yield what is described: of decisions those that have values of their own."""
    yield from (each.target for each in map(_read_decision, decisions) if each.attributes)
    for series in _read_statement(statement)[1] if statement else ():
        yield study, series.SeriesInstanceUID
    for row in unpacked(readable).rows if readable not in (b"", NOTHING) else ():
        yield study, row.entry.SeriesInstanceUID, row.entry.SOPInstanceUID


def _refusal() -> NotPermitted:
    what = "Its owner had this erased; nothing of it is kept again."
    return NotPermitted(what, "An owner that does not know of that will hear of it.")
