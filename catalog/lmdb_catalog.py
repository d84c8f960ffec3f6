"""The catalog a node keeps of its own: LMDB is the truth, Tantivy proposes, the change log tells others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from .commit import GroupCommit
from .decisions import decide
from .errors import Damaged, PacsError
from .find import Away
from .forgetting import forget
from .indexing import HasSamePixels, Indexer
from .lmdb_reader import MAP_SIZE, LmdbReader
from .log import begin_epoch, forget_tombstones
from .model import (
    Arrival,
    Clock,
    Decision,
    Entry,
    Holding,
    Move,
    Moved,
    Recorded,
)
from .moving import recording
from .packs import ReadHeader
from .publishing import Pace, extent, publishing, remaking, unfinished
from .purging import purge
from .relocating import relocate
from .shares import Share
from .truth import META, Environment

_FORMAT_KEY: Final = META + b"format"
_NOTES: Final = META + b"note "
_FORMAT: Final = b"1"
"""How keys and rows are laid out; another number is another layout."""


class LmdbCatalog(LmdbReader):
    """The one writer of a node's own catalog; satisfies `CatalogWriter`.

    A process opens a path once. `read_header(entry, size)` returns the first bytes of an instance's data
    set, at least `size` if it has them, and its whole length. `has_same_pixels` says whether the pixels of
    two versions are equal; without it they are taken to differ. `away` tells what cannot be read just now.
    """

    def __init__(
        self,
        path: Path,
        search_path: Path,
        *,
        clock: Clock,
        read_header: ReadHeader,
        has_same_pixels: HasSamePixels | None = None,
        away: Away = lambda: None,
        map_size: int = MAP_SIZE,
    ) -> None:
        self._environment = Environment(path, map_size=map_size)
        self._commits = GroupCommit(self._environment, clock)
        try:
            self._check_format(path)
        except PacsError:
            self._environment.close()
            raise
        self._indexer = Indexer(self._environment, self._commits, search_path, read_header, has_same_pixels)
        self._shares: tuple[Share, ...] = ()
        self._pace = Pace()
        super().__init__(self._environment, self._indexer.search, read_header, away)

    def _check_format(self, path: Path) -> None:
        """Begin a new catalog, or make sure that this program understands the one that is there."""
        with self._environment.reading() as reading:
            is_new = not reading.cursor().first()
            found = reading.get(_FORMAT_KEY)
        if is_new:
            self._commits.run(lambda batch: batch.put(_FORMAT_KEY, _FORMAT))
            self.renew_epoch()
        elif found != _FORMAT:
            raise Damaged(
                f"The catalog {path} was made by another version of PeerPACS.",
                "Run peerpacs rebuild: it makes the catalog again from the objects, decisions included.",
            )

    def close(self) -> None:
        """Finish; what was recorded stays recorded whether or not anybody calls this."""
        self._indexer.search.close()
        self._environment.close()

    def index(self, now: float) -> int:
        """Let the search index follow for a moment; return 0 when it has caught up.

        One thread calls this, a few times a second; arrivals are found before it does, only slower.

        Raises:
            OutOfSpace: a disk is full; call again later, nothing is lost.
        """
        return self._indexer.step(now)

    def tidy(self) -> int:
        """Clear what readers that died in other processes left behind; return how many there were."""
        return self._environment.free_slots()

    def share(self, shares: Sequence[Share]) -> None:
        """Have the log state these shares besides everything; `publish` makes and unmakes what changed.

        A share that was stated and is not among them any more ends: its readers are told that all is gone.
        """
        self._shares = tuple(shares)

    def publish(self, now: float) -> int:
        """State in the change log what is due; return how many rows. `now` is Unix time in seconds.

        One thread calls this, several times a second: what is new is stated by the next call.
        """
        moment = int(now * 1000)
        with self._environment.reading() as reading:
            portions = self._pace.due(reading, moment)
            remade = unfinished(reading, self._shares)
        count = 0
        for portion in portions:
            count += self._commits.run(publishing(portion, moment, self._shares))
        for share in remade:
            count += self._commits.run(remaking(share))
        if count:
            # Peers must not be told what a power cut could take back.
            self._environment.settle()
        return count

    def waiting(self) -> tuple[int, int] | None:
        """Return the numbers of the oldest and newest change that the log has still to state, if any."""
        with self._environment.reading() as reading:
            return extent(reading)

    def forget_tombstones(self, heard: Mapping[int, int], limit: int = 1000) -> int:
        """Forget what is gone and everybody has heard of; see `log.forget_tombstones`."""
        return self._commits.run(lambda batch: forget_tombstones(batch, heard, limit))

    def renew_epoch(self, at_least: int = 0) -> int:
        """Begin a new epoch above every known one and above `at_least`; return it."""
        epoch = self._commits.run(lambda batch: begin_epoch(batch, at_least))
        self._environment.settle()
        return epoch

    def age(self) -> tuple[int, int]:
        """Return epoch and number of the last commit: a copy of an earlier moment is lower in one of them."""
        return self.head().epoch, self._environment.transactions()

    def note(self, name: str, value: bytes) -> None:
        """Keep a note of the node's in the catalog itself, so that it shares its fate."""
        self._commits.run(lambda batch: batch.put(_NOTES + name.encode(), value))

    def noted(self, name: str) -> bytes:
        """Return a note; empty when there is none."""
        with self._environment.reading() as reading:
            return reading.get(_NOTES + name.encode()) or b""

    def record(self, arrivals: Sequence[Arrival]) -> list[Recorded]:
        """See `CatalogWriter.record`; what is recorded together is on disk together or not at all."""
        return self._commits.run(lambda batch: recording(batch, arrivals), len(arrivals))

    def forget_lost(self, is_lost: Callable[[Holding], bool]) -> list[Entry]:
        """Take back the newest rows whose bytes a power cut took; return what they were."""
        lost = self.find_lost(is_lost)
        self.forget(lost)
        return lost

    def forget(self, entries: Sequence[Entry]) -> None:
        """Take rows back as if they had never come."""
        if entries:
            self._commits.run(lambda batch: forget(batch, [*entries]), len(entries))

    def purge(self, study: str, entries: Sequence[Entry], decisions: Sequence[str] = ()) -> None:
        """Forget versions for good, and the decisions named by their ids; it outlives a power cut."""
        self._commits.run(lambda batch: purge(batch, study, entries, decisions), len(entries))
        self._environment.settle()

    def scour(self) -> bool:
        """Leave nothing of what was forgotten in the file, nor in the search index, which grows back.

        Writers wait meanwhile. False: somebody reads an old state just now; try again later.
        """
        self._indexer.search.remove()
        return self._environment.scour()

    def relocate(self, moves: Sequence[Move]) -> list[Moved]:
        """See `CatalogWriter.relocate`."""
        moved = self._commits.run(lambda batch: relocate(batch, moves), len(moves))
        self._environment.settle()
        return moved

    def decide(self, decision: Decision) -> None:
        """See `CatalogWriter.decide`; raises BadRequest too."""
        self._commits.run(lambda batch: decide(batch, decision, must_exist=True))

    def restore(self, decision: Decision) -> None:
        """Take in a decision while the catalog is made again; its study may still be on its way."""
        self._commits.run(lambda batch: decide(batch, decision, must_exist=False))
