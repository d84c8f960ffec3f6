"""Who did what: append-only JSON lines, one file a month, each line carrying the hash of the one before.

What was changed, removed or put in afterwards breaks the chain, and `verify` says where. Several processes
may append (the command line beside a running node): numbers and hashes are given under a file lock, at the
moment of writing. A line that a crash tore is set aside, told in the chain, and the chain goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple

import msgspec

from catalog import BY_KEYWORD, BY_TAG, Clock
from node.contracts import Audit, Caller

logger = logging.getLogger(__name__)

START: Final = "0" * 64
"""What stands for the hash of the line before the first."""
AT_ONCE: Final = frozenset({"change", "decision", "refusal"})
"""Events that are on disk when `record` returns; the others within a second."""
_BUFFER: Final = 100_000
"""Events kept in memory while the disk refuses; beyond, the oldest go, and the chain says how many."""
_TAIL: Final = 1 << 20


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the audit, in the order of the file."""

    sequence: int
    time: str
    event: str
    outcome: str
    ae: str = ""
    address: str = ""
    called: str = ""
    user: str = ""
    """Who was logged in, for what came over the web."""
    detail: dict[str, Any] = {}
    previous: str
    """SHA-256 of the line before, without its line end."""


class ArchiveAudit:
    """The node's audit as one archive writes it: what has no caller says which archive it is about."""

    def __init__(self, audit: Audit, archive: str) -> None:
        self._audit = audit
        self._archive = archive

    def record(self, event: str, caller: Caller | None, outcome: str, detail: Mapping[str, Any]) -> None:
        """Append one event; returns at once and never fails the caller."""
        told = detail if caller else {"archive": self._archive, **detail}
        self._audit.record(event, caller, outcome, told)


class Break(NamedTuple):
    """A place where the chain does not hold, in a sentence."""

    file: str
    line: int
    why: str


class Verification(NamedTuple):
    """What `verify` found; `last` is the hash to write down, so that a cut end shows the next time."""

    lines: int
    last: str
    breaks: tuple[Break, ...]


class _Event(NamedTuple):
    """What was recorded and waits to be numbered and written."""

    time: float
    event: str
    caller: Caller | None
    outcome: str
    detail: Mapping[str, Any]


class _End(NamedTuple):
    """Where the chain ended when this process last looked."""

    path: Path | None = None
    size: int = 0
    sequence: int = 0
    hash: str = START


class AuditLog:
    """Satisfies `Audit` over one folder; `step` must be called each second, `close` at the end."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._folder = folder
        self._clock = clock
        self._waiting: deque[_Event] = deque()
        self._dropped = 0
        self._writing = Lock()
        self._is_failing = False
        self._end = _End()

    def record(self, event: str, caller: Caller | None, outcome: str, detail: Mapping[str, Any]) -> None:
        """Append one event; returns at once and never fails the caller.

        Attributes of a patient are withheld from the detail, UIDs apart. Refusals, changes and decisions
        are on disk when this returns.
        """
        self._waiting.append(_Event(self._clock(), event, caller, outcome, detail))
        if event in AT_ONCE or outcome == "refused":
            self._flush(is_urgent=True)

    def step(self) -> None:
        """Write what was recorded since the last step."""
        self._flush(is_urgent=False)

    def close(self) -> None:
        """Write and sync what is left."""
        self._flush(is_urgent=True)

    def _flush(self, *, is_urgent: bool) -> None:
        with self._writing:
            events = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if not events:
                return
            try:
                self._write(events, is_urgent)
                self._is_failing = False
            except OSError as error:
                self._keep_for_later(events, error)
            except Exception:
                logger.exception("%d audit events could not be written and are lost", len(events))

    def _keep_for_later(self, events: list[_Event], error: OSError) -> None:
        self._waiting.extendleft(reversed(events))
        while len(self._waiting) > _BUFFER:
            self._waiting.popleft()
            self._dropped += 1
        if not self._is_failing:
            logger.error("The audit cannot be written (%s); events wait in memory until it can", error)
        self._is_failing = True

    def _write(self, events: list[_Event], is_urgent: bool) -> None:
        with _locked(self._folder):
            writer = _Writer(self._folder, self._clock(), self._end)
            try:
                if self._dropped:
                    gap = {"events": self._dropped}
                    writer.add(
                        _Event(self._clock(), "audit", None, "events lost, the disk refused them", gap)
                    )
                for event in events:
                    writer.add(event)
                self._end = writer.finish(is_urgent)
                self._dropped = 0
            finally:
                writer.close()


class _Writer:
    """Appends to this month's file under the folder's lock; a torn end is set aside first."""

    def __init__(self, folder: Path, now: float, known: _End) -> None:
        files = _files(folder)
        newest = files[-1] if files else None
        path = folder / time.strftime("%Y-%m.jsonl", time.gmtime(now))
        # A clock that was set back must not start a file that sorts before the newest one.
        self._path = path if newest is None or path > newest else newest
        self._lines: list[bytes] = []
        torn = 0
        if newest is None or (newest, newest.stat().st_size) != (known.path, known.size):
            # Another process wrote here, or this one has just begun.
            torn = _set_aside_torn_end(newest) if newest is not None else 0
            known = _end_of_chain(files)
        self._sequence, self._previous = known.sequence, known.hash
        if torn and newest is not None:
            detail = {"file": newest.name, "bytes": torn}
            self.add(_Event(now, "audit", None, "torn line set aside", detail))
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)

    def add(self, event: _Event) -> None:
        self._sequence += 1
        caller = event.caller
        line = Line(
            sequence=self._sequence,
            time=_timestamp(event.time),
            event=event.event,
            outcome=event.outcome,
            ae=caller.ae_title if caller else "",
            address=caller.address if caller else "",
            called=caller.called_ae if caller else "",
            user=caller.user if caller else "",
            detail=_withhold(event.detail),
            previous=self._previous,
        )
        text = msgspec.json.encode(line, enc_hook=str)
        self._previous = hashlib.sha256(text).hexdigest()
        self._lines.append(text)

    def finish(self, is_urgent: bool) -> _End:
        """Write all lines or none of them; return where the chain ends now."""
        data = b"\n".join(self._lines) + b"\n"
        start = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            if is_urgent:
                os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, start)
            raise
        return _End(self._path, start + len(data), self._sequence, self._previous)

    def close(self) -> None:
        os.close(self._file)


def verify(folder: Path, anchor: str = START) -> Verification:
    """Walk the whole chain and say where it does not hold.

    `anchor` is the hash that an earlier verification ended with: without it nobody can tell that the end
    was cut off.
    """
    breaks: list[Break] = []
    lines, sequence, previous = 0, 0, START
    is_anchored = anchor == START
    for path in _files(folder):
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                text = raw.rstrip(b"\n")
                try:
                    line = msgspec.json.decode(text, type=Line)
                except msgspec.MsgspecError as error:
                    breaks.append(Break(path.name, number, f"not a line of the audit ({error})"))
                    continue
                lines += 1
                if line.sequence != sequence + 1:
                    breaks.append(Break(path.name, number, _gap(sequence + 1, line.sequence)))
                elif line.previous != previous:
                    breaks.append(
                        Break(path.name, number, f"line {sequence} before it is not as it was written")
                    )
                sequence, previous = line.sequence, hashlib.sha256(text).hexdigest()
                is_anchored = is_anchored or previous == anchor
    if not is_anchored:
        breaks.append(Break("", 0, "the line that was the last one then is not there any more"))
    return Verification(lines, previous, tuple(breaks))


def read(folder: Path, word: str = "") -> Iterator[Line]:
    """Yield the audit's lines, oldest first, that contain a word; what is no line is passed over."""
    needle = word.encode()
    for path in _files(folder):
        with path.open("rb") as file:
            for raw in file:
                if needle in raw:
                    try:
                        yield msgspec.json.decode(raw, type=Line)
                    except msgspec.MsgspecError:
                        continue


def _gap(expected: int, found: int) -> str:
    if found > expected:
        return f"lines {expected} to {found - 1} are missing before it"
    return f"numbered {found} where {expected} was expected: put in afterwards, or moved"


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9][0-9][0-9][0-9]-[0-9][0-9].jsonl"))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _set_aside_torn_end(path: Path) -> int:
    """Move what follows the last line end into a file of its own; return how many bytes that were."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    torn = tail[tail.rfind(b"\n") + 1 :]
    if torn:
        path.with_name(f"{path.stem}-{size - len(torn)}.torn").write_bytes(torn)
        os.truncate(path, size - len(torn))
        logger.warning("audit/%s ended in a torn line of %d bytes; it was set aside", path.name, len(torn))
    return len(torn)


def _end_of_chain(files: list[Path]) -> _End:
    """Find the last line that is one; what follows it is a break that `verify` tells."""
    for path in reversed(files):
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - _TAIL))
            lines = file.read().splitlines()
        for text in reversed(lines):
            try:
                sequence = msgspec.json.decode(text, type=Line).sequence
            except msgspec.MsgspecError:
                continue
            return _End(path, size, sequence, hashlib.sha256(text).hexdigest())
    return _End()


def _timestamp(now: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return f"{whole}.{int(now * 1000) % 1000:03d}Z"


def _withhold(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Return the detail without values of data elements that describe a patient; UIDs may stay."""
    kept: dict[str, Any] = {}
    for key, value in detail.items():
        attribute = BY_KEYWORD.get(key) or BY_TAG.get(key)
        if attribute is not None and attribute.vr != "UI":
            kept[key] = "withheld"
        else:
            kept[key] = _withhold(value) if isinstance(value, Mapping) else value
    return kept
