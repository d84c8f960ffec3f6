"""The mirror: what the peers' catalogs state, kept in one environment and brought forward by their logs.

Rows stay exactly as they came over the wire. Whatever is taken in, is so in one transaction with how far
it brings the source; what does not continue that state (late, twice, of another history) is refused
whole. A mirror may lose its last commits in a power cut: the next pull brings them again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

from catalog import Clock, Head, NotFound
from catalog.log import Digest
from catalog.order import patient_prefix
from catalog.truth import Environment, Reading, scan, scan_keys

from .messages import Delta, Repair, SnapshotBegin, SnapshotEnd, SnapshotPart
from .mirror_rows import DIGEST, ROW, SOURCE, STAMP, STATE, STATE_CODEC, SourceState, part_of
from .mirror_writing import DIGEST_ROW, OutOfStep, WouldVanish, Writing, listing

MAP_SIZE: Final = 256 << 30
_SWEPT_AT_ONCE: Final = 20_000
_BUILT_AT_ONCE: Final = 100_000
"""Rows of a first snapshot that are indexed in one transaction: keys of indexes are scattered, so that each
transaction writes most of their pages, however few rows it is about."""


class Mirror:
    """The statements of all peers; one process opens a path once, any thread may read, one at a time write.

    `clock` is the node's own: no other clock is ever compared with it.
    """

    def __init__(
        self, path: Path, *, clock: Clock, map_size: int = MAP_SIZE, is_read_only: bool = False
    ) -> None:
        """Open, or make; read-only for the processes beside the one that writes."""
        self._environment = Environment(path, map_size=map_size, is_read_only=is_read_only)
        self._clock = clock
        self.erased: Callable[[bytes], Collection[bytes]] = lambda owner: ()
        """Returns the keys of studies and series that an owner had erased here: they are never taken in."""

    def close(self) -> None:
        """Finish; what was applied stays applied whether or not anybody calls this."""
        self._environment.close()

    def scour(self) -> bool:
        """Leave nothing in the file of rows that went; False: an old state is being read, try again."""
        return self._environment.scour()

    def reading(self) -> AbstractContextManager[Reading]:
        """Open a short read transaction on all rows and indexes."""
        return self._environment.reading()

    def knows_patient(self, IssuerOfPatientID: str, PatientID: str) -> bool:
        """Say whether anybody states a study of the patient."""
        with self.reading() as reading:
            return (
                next(iter(scan_keys(reading, patient_prefix(PatientID, IssuerOfPatientID))), None) is not None
            )

    @contextmanager
    def _writing(self, source: int) -> Iterator[Writing]:
        try:
            with self._environment.changing() as txn:
                writing = Writing(txn, source, int(self._clock() * 1000), self.erased)
                yield writing
                writing.flush()
        except WouldVanish as error:
            self._hold(source, error.studies)
            raise

    def _hold(self, source: int, studies: int) -> None:
        with self._writing(source) as writing:
            writing.state.held = studies

    def source(self, owner: bytes, share: int) -> int:
        """Return the number of a share of an owner; a new one if it never had one."""
        name = SOURCE + bytes((share,)) + owner
        with self.reading() as reading:
            known = reading.get(name)
        if known is not None:
            return int.from_bytes(known, "big")
        number = max(self.sources(), default=0) + 1
        with self._writing(number) as writing:
            writing.put(name, part_of(number))
            writing.state = SourceState(owner, share)
        return number

    def sources(self) -> dict[int, tuple[bytes, int]]:
        """Return owner and share of every source; 0 is nobody's number."""
        start = len(SOURCE)
        with self.reading() as reading:
            return {
                int.from_bytes(number, "big"): (name[start + 1 :], name[start])
                for name, number in scan(reading, SOURCE)
            }

    def state(self, source: int) -> SourceState:
        """Return how far a source is mirrored.

        Raises:
            NotFound: there is no such source.
        """
        with self.reading() as reading:
            stored = reading.get(STATE + part_of(source))
        if stored is None:
            raise NotFound("Nothing of this peer is mirrored.", "It is mirrored once it grants its catalog.")
        return STATE_CODEC.unpack(stored)

    def digests(self, source: int) -> dict[int, Digest]:
        """Return the digest of every bucket that ever had a row of the source."""
        prefix = DIGEST + part_of(source)
        with self.reading() as reading:
            return {
                int.from_bytes(key[len(prefix) :], "big"): Digest(*DIGEST_ROW.unpack(value))
                for key, value in scan(reading, prefix)
            }

    def apply(self, source: int, delta: Delta) -> None:
        """Take in what changed, and move on to where its last commit ended.

        Raises:
            OutOfStep: it does not continue what was applied.
            WouldVanish: a person has to say yes first (see `allow`); nothing was applied.
            BadRequest: no log says such a thing; nothing was applied.
        """
        with self._writing(source) as writing:
            state = writing.state
            if state.snapshot or delta.at.epoch != state.epoch or delta.prev != state.applied:
                raise OutOfStep
            if not max(state.reached.seq, delta.at.seq) <= delta.head.seq or delta.at.seq <= delta.prev:
                raise OutOfStep
            writing.take(delta.rows)
            state.applied, state.chain = delta.at.seq, delta.at.chain
            state.reached = delta.head

    def begin(self, source: int, snapshot: SnapshotBegin) -> None:
        """Begin to take in all rows anew; those that are here stay until the end says which are gone.

        Raises:
            OutOfStep: it is of an older history than what was applied.
        """
        with self._writing(source) as writing:
            if snapshot.at.epoch < writing.state.epoch:
                raise OutOfStep
            writing.begin(snapshot.at)

    def extend(self, source: int, part: SnapshotPart) -> None:
        """Take in some rows of a snapshot.

        Raises:
            OutOfStep: it does not continue the snapshot that is being taken in.
        """
        with self._writing(source) as writing:
            snapshot = writing.state.snapshot
            if snapshot is None or snapshot.is_complete:
                raise OutOfStep
            if (part.at, part.after) != (snapshot.at, snapshot.after):
                raise OutOfStep
            keys = [change.key for change in part.rows]
            if sorted(keys) != keys or (keys and not part.after < keys[0] <= keys[-1] <= part.last):
                raise OutOfStep
            if part.head.epoch != part.at.epoch or part.head.seq < writing.state.reached.seq:
                raise OutOfStep
            writing.take(part.rows)
            snapshot.after, writing.state.reached = part.last, part.head

    def finish(self, source: int, end: SnapshotEnd | None = None) -> None:
        """Remove what the snapshot did not confirm, and go on with the log; without `end`, go on removing.

        Raises:
            OutOfStep: rows are missing in between.
            WouldVanish: a person has to say yes first (see `allow`); what is here stays.
        """
        if end is not None:
            with self._writing(source) as writing:
                snapshot = writing.state.snapshot
                if snapshot is None or (end.at, end.after) != (snapshot.at, snapshot.after):
                    raise OutOfStep
                snapshot.is_complete = True
        self._check_sweep(source)
        after = b""
        while True:
            with self._writing(source) as writing:
                snapshot = writing.state.snapshot
                if snapshot is not None and snapshot.is_first:
                    after = writing.build(after, _BUILT_AT_ONCE)
                else:
                    after = writing.sweep(after, _SWEPT_AT_ONCE)
                if not after:
                    writing.finish()
                    return

    def _check_sweep(self, source: int) -> None:
        state = self.state(source)
        if state.snapshot is None or not state.snapshot.is_complete:
            raise OutOfStep
        if state.snapshot.is_first:
            return
        with self._writing(source) as writing:
            writing.check(writing.to_sweep())

    def repair(self, source: int, repair: Repair) -> int:
        """Take in rows that were wrong here at an equal head; return how many were.

        Raises:
            OutOfStep: the mirror has moved on since it listed what it had.
            WouldVanish: a person has to say yes first (see `allow`); nothing was applied.
            BadRequest: no log says such a thing; nothing was applied.
        """
        with self._writing(source) as writing:
            if not writing.state.is_whole or repair.seen != writing.state.seen:
                raise OutOfStep
            taken = writing.take(repair.rows, is_repair=True)
            writing.remove_hashed(repair.gone)
        return taken + len(repair.gone)

    def recount(self, source: int) -> None:
        """Make the digests again from the rows: they disagree with the owner's where the rows do not."""
        with self._writing(source) as writing:
            writing.recount()

    def allow(self, source: int) -> None:
        """Say yes to what is held: a person knows that so many studies are really gone."""
        with self._writing(source) as writing:
            writing.state.allowed, writing.state.held = writing.now, 0

    def note_in_sync(self, source: int, seen: Head) -> None:
        """Remember that the mirror was as the owner's log now, for how old it is after a restart."""
        with self._writing(source) as writing:
            if writing.state.seen == seen and writing.state.is_whole:
                writing.state.in_sync = writing.now

    def drop(self, source: int) -> None:
        """Forget everything a source stated: its peer was revoked, or left."""
        with self._writing(source) as writing:
            writing.begin(writing.state.seen)
            writing.state.allowed = writing.now
            if writing.state.snapshot:
                writing.state.snapshot.is_complete = True
        self.finish(source)
        with self._writing(source) as writing:
            writing.state = SourceState(writing.state.owner, writing.state.share)

    def listing(self, source: int, buckets: set[int]) -> dict[int, bytes]:
        """Return hashes of keys and rows of these buckets; see `BucketRequest`."""
        with self.reading() as reading:
            return listing(reading, source, buckets)

    def changing(self) -> AbstractContextManager[Any]:
        """Open a write transaction, for those who keep something beside the rows."""
        return self._environment.changing()

    def rows(self, source: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, row) of everything a source states, in key order; for verification."""
        prefix = ROW + part_of(source)
        with self.reading() as reading:
            keys = list(scan_keys(reading, prefix))
        for key in keys:
            with self.reading() as reading:
                stored: Any = reading.get(key)
            if stored is not None:
                yield key[len(prefix) :], stored[STAMP.size :]
