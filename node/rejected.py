"""The rejected shelf: bytes that could not become an instance wait here for a person, with the reason.

One file per data set (`rejected/<time>-<sha256>.dcm`, a Part 10 file as far as it goes) and one JSON
beside it. The oldest leave when the shelf grows over its limits of size or age.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

import msgspec

from catalog import Clock, Incoming, NotFound

logger = logging.getLogger(__name__)

_LONGEST_UID: Final = 64
_CHUNK: Final = 1 << 20
_LOOK_EVERY: Final = 3600.0
"""Seconds between looks for what is too old; listing the shelf for each data set would be quadratic."""


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """One data set that was refused: who sent it, what the command said, and why it was not taken."""

    name: str
    source: str
    address: str
    when: int
    """Milliseconds since 1970."""
    size: int
    status: int
    why: str
    SOPClassUID: str
    SOPInstanceUID: str
    TransferSyntaxUID: str
    is_held: bool = False


class RejectedShelf:
    """Keeps refused data sets in one folder, within limits; the newest are never the ones to go."""

    def __init__(
        self, folder: Path, *, max_bytes: int, max_age: float, clock: Clock, doubt: Callable[[], str] = str
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock
        self._doubt = doubt
        folder.mkdir(parents=True, exist_ok=True)
        self._total = sum(item.size for item in self.list())
        self._next_look = 0.0

    def put(self, incoming: Incoming, rejected: Rejected) -> Rejected:
        """Set the bytes aside durably; return the record under the name they got.

        Raises:
            OSError: the disk refused; nothing was left behind.
        """
        name = f"{rejected.when}-{incoming.digest().hex()[:16]}"
        kept = msgspec.structs.replace(rejected, name=name, size=incoming.size)
        path = self._folder / f"{name}.dcm"
        try:
            _write_whole(path, _pieces(incoming))
            _write_whole(path.with_suffix(".json"), iter([msgspec.json.encode(kept)]))
        except OSError:
            self._unlink(name)
            raise
        self._total += kept.size
        if self._total > self._max_bytes or self._clock() >= self._next_look:
            self.trim()
        return kept

    def list(self) -> list[Rejected]:
        """Return what lies on the shelf, oldest first; a file with a torn record is passed over."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Rejected))
            except (OSError, msgspec.MsgspecError) as error:
                logger.warning("rejected/%s cannot be read: %s", path.name, error)
        return found

    def find(self, name: str) -> Rejected:
        """Return the record of one file, by its name or an unmistakable beginning of it.

        Raises:
            NotFound: no file, or more than one, is called so.
        """
        matches = [item for item in self.list() if item.name.startswith(name)] if name else []
        if len(matches) != 1:
            what = "No rejected file is" if not matches else f"{len(matches)} rejected files are"
            raise NotFound(f"{what} called {name!r}.", "List them with: peerpacs rejected list")
        return matches[0]

    def path(self, name: str) -> Path:
        """Return the Part 10 file of a record."""
        return self._folder / f"{name}.dcm"

    def discard(self, name: str) -> Rejected:
        """Delete one file for good."""
        rejected = self.find(name)
        self._unlink(rejected.name)
        self._total -= rejected.size
        return rejected

    def erase(self, uid: str, instances: Collection[str]) -> None:
        """Delete the files that name a UID, or are one of these instances, also where the record is torn."""
        known = {item.name: item for item in self.list()}
        for name in sorted({path.stem for path in self._folder.iterdir()}):
            item, path = known.get(name), self.path(name)
            is_named = any(_names(each.read_bytes(), uid.encode()) for each in self._folder.glob(f"{name}.*"))
            if is_named or (item is not None and item.SOPInstanceUID in instances):
                self._total -= path.stat().st_size if path.exists() else 0
                self._unlink(name)

    def trim(self) -> tuple[Rejected, ...]:
        """Let the oldest go until the shelf is within its limits again; return what went."""
        items = self.list()
        total = sum(item.size for item in items)
        # By a clock that may be wrong nothing is too old.
        oldest_kept = 0.0 if self._doubt() else (self._clock() - self._max_age) * 1000
        gone = []
        for item in items[:-1]:
            if total <= self._max_bytes and item.when >= oldest_kept:
                break
            self._unlink(item.name)
            total -= item.size
            gone.append(item)
        self._total = total
        self._next_look = self._clock() + _LOOK_EVERY
        if gone:
            logger.warning("%d rejected files were dropped: the shelf is over its limits", len(gone))
        return tuple(gone)

    def _unlink(self, name: str) -> None:
        for suffix in (".json", ".dcm"):
            with contextlib.suppress(FileNotFoundError):
                (self._folder / f"{name}{suffix}").unlink()


def _names(data: bytes, uid: bytes) -> bool:
    """Say whether bytes that may be no data set name a UID: 1.2.3 is not named by 1.2.33, nor by 1.2.3.4.

    What follows a value may look like a digit, as the tags of group 0032 do, and so may the length before it:
    then that length says where the UID ends (PS3.5 7.1).
    """
    if re.search(rb"(?<![0-9])(?<![0-9]\.)" + re.escape(uid) + rb"(?![0-9])(?!\.[0-9])", data):
        return True
    at = data.find(uid)
    while at >= 0:
        told = data[max(0, at - 4) : at], data[max(0, at - 2) : at]
        lengths = {int.from_bytes(each, order) for each in told for order in ("little", "big")}
        if any(data[at : at + length].rstrip(b"\0 ") == uid for length in lengths if length <= _LONGEST_UID):
            return True
        at = data.find(uid, at + 1)
    return False


def _pieces(incoming: Incoming) -> Iterator[bytes]:
    for offset in range(0, incoming.size, _CHUNK):
        yield incoming.read_at(offset, min(_CHUNK, incoming.size - offset))


def _write_whole(path: Path, pieces: Iterator[bytes]) -> None:
    with open(path, "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
