"""Whether catalog, state and objects of an archive are of one moment, or one of them is an older copy.

Catalog and state keep a note of which segments they know to the end; beside the objects lies a small file
that says how far catalog and state were. Whoever puts one of the three back from a copy is found out by the
two others at the next start. A machine of which all three were put back together looks consistent to itself:
only its peers can tell.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from catalog import Clock, PacsError
from node.state import Tables
from node.storage import SegmentStore
from node.storage.coverage import NOTHING, Coverage, observed
from node.storage.places import highest_number

logger = logging.getLogger(__name__)

SEEN: Final = "seen.json"
"""In the archive's objects folder."""
_NOTE: Final = "segments"
_OBSERVE_EVERY: Final = 60.0
"""Seconds after which what was seen settled counts as known: by then all that follows a commit was done."""
_LAST_COMMIT: Final = 1
"""Commits that a power cut may take back (LMDB without metasync)."""

_OLD_CATALOG: Final = "The catalog is an older one than the objects beside it were last used with."
_OLD_STATE: Final = "The node's state is an older one than the objects were last used with."


class Seen(msgspec.Struct, frozen=True):
    """How far catalog and state were when somebody last looked; may be a little behind, never ahead."""

    epoch: int
    transactions: int
    state: int


class Notes(Protocol):
    """The catalog, as one needs it here."""

    def age(self) -> tuple[int, int]:
        """Return epoch and number of the last commit."""

    def note(self, name: str, value: bytes) -> None:
        """Keep a note."""

    def noted(self, name: str) -> bytes:
        """Return a note; empty when there is none."""


class Commits(Protocol):
    """The state, as one needs it here."""

    def transactions(self) -> int:
        """Return the number of the last commit."""


class Disks(Protocol):
    """The disks of an archive, as one needs them here."""

    def present(self) -> list[SegmentStore]:
        """Return the stores of those that are there; none of them need be on this machine."""


class Rollback(NamedTuple):
    """What does not fit together: sentences, and which segments need not be read again."""

    signs: tuple[str, ...]
    known: Coverage
    epoch: int
    """The highest that this archive is known to have had."""
    is_catalog_older: bool
    """Whether numbers of the change log may have been given to other rows before."""


class RollbackWatch:
    """One archive's: `findings` at the start, before anything is recorded, then `step` every few seconds."""

    def __init__(
        self,
        objects: Path,
        segments: SegmentStore | Disks,
        catalog: Notes,
        state: Commits,
        tables: Tables,
        clock: Clock,
    ) -> None:
        objects.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._path = objects / SEEN
        self._segments = segments
        self._catalog = catalog
        self._state = state
        self._table = tables.table("coverage", Coverage)
        self._clock = clock
        self._observed: Coverage | None = None
        self._written: Seen | None = None

    def findings(self) -> Rollback:
        """Say what is older than it should be; without signs all is well."""
        seen = self._seen()
        mine = self._noted()
        theirs = self._table.get(_NOTE.encode())
        is_older = seen is not None and self._is_catalog_older(seen)
        signs = [_OLD_CATALOG] if is_older else []
        if seen and theirs and self._state.transactions() < seen.state:
            signs.append(_OLD_STATE)
        signs += self._objects_older_than(mine)
        # A state that was lost and begun anew knows nothing; a person was told to rebuild then.
        known = mine.shared(theirs) if theirs else mine
        return Rollback(tuple(signs), known, seen.epoch if seen else 0, is_older)

    def step(self) -> None:
        """Note how far catalog and state are, and now and then which segments they know."""
        now = self._clock()
        observed = self._observed
        if observed is None or not 0 <= now - observed.at / 1000 < _OBSERVE_EVERY:
            if observed:
                self._note(observed)
            self._observed = self._observe()
        self.see()

    def see(self) -> None:
        """Note how far catalog and state are."""
        seen = Seen(*self._catalog.age(), self._state.transactions())
        if seen != self._written:
            # Not synced: after a power cut an older file, or none, is only less to go by.
            fresh = self._path.with_name(f"{SEEN}.new")
            fresh.write_bytes(msgspec.json.encode(seen))
            fresh.rename(self._path)
            self._written = seen

    def settle(self) -> None:
        """Note that everything settled is known: it was just taken in, and nothing is under way."""
        self._note(self._observe())
        self.see()

    def close(self) -> None:
        """Note everything once more; without room for it the next start only has more to read."""
        try:
            self.settle()
        except (PacsError, OSError) as error:
            logger.warning("What is known of the segments could not be noted: %s", error)

    def _is_catalog_older(self, seen: Seen) -> bool:
        epoch, transactions = self._catalog.age()
        return (epoch, transactions + _LAST_COMMIT) < (seen.epoch, seen.transactions)

    def _objects_older_than(self, known: Coverage) -> list[str]:
        return [
            f"The objects of volume {volume} end before what the catalog knows: some are gone, or were moved."
            for volume, objects in self._folders().items()
            if volume in known.volumes and highest_number(objects) < known.volumes[volume].upto
        ]

    def _observe(self) -> Coverage:
        return observed(self._folders(), int(self._clock() * 1000))

    def _note(self, coverage: Coverage) -> None:
        # The moment alone is no reason to write.
        if coverage.volumes != self._noted().volumes:
            self._catalog.note(_NOTE, msgspec.json.encode(coverage))
            self._table.put(_NOTE.encode(), coverage)

    def _noted(self) -> Coverage:
        with suppress(msgspec.MsgspecError):
            if text := self._catalog.noted(_NOTE):
                return msgspec.json.decode(text, type=Coverage)
        return NOTHING

    def _seen(self) -> Seen | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Seen)
        except (OSError, msgspec.MsgspecError):
            return None

    def _folders(self) -> dict[int, Path]:
        stores = [self._segments] if isinstance(self._segments, SegmentStore) else self._segments.present()
        return {store.volume: store.objects for store in stores}
