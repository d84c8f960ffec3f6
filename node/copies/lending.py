"""Copies for others than their owner: what it shows of them, given to whom it lets retrieve.

A keeper gives exactly what the owner last told it: the instances that are seen, with the corrections in
force, under the owner's shares and grants at the owner's hours. Whatever it was not told is not there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache, partial

import msgspec

from catalog import Attributes, Clock, Decision, Entry, PacsError, Reader, Selection
from catalog.order import decoded
from catalog.statements import Stated
from federation.lanes import BULK
from federation.links.gate import Gate, Visitor
from federation.objects import ObjectService, Outside
from federation.owners import Owner
from federation.readable import NOTHING, TOLD_FOR, Readable, Readers, packed, unpacked, unpacked_readers
from federation.trust.policy import Caller, Op, Permission, Policy, first_admitting
from protos.objects_pb2 import FetchRequest

from .store import CopyStore

_read: Callable[[bytes], Readable] = lru_cache(maxsize=16)(unpacked)
_NOBODY = Readers(shares=(), grants=(), system="", ahead=0)


class Lending:
    """One keeper's; any thread may call."""

    def __init__(
        self,
        store: CopyStore,
        clock: Clock,
        gate: Gate,
        outside: Outside,
        is_member: Callable[[str], bool] = lambda node_id: True,
    ) -> None:
        """`outside` is the node's own: its lanes, its pace and its audit hold here too.

        `is_member` says whether an owner is still in the grid: nobody reads copies of who was expelled.
        """
        self._is_member = is_member
        self._store = store
        self._clock = clock
        self._gate = gate
        self._outside = outside
        self._services: dict[Owner, ObjectService] = {}
        self._lock = threading.Lock()

    def give(
        self, visitor: Visitor, owner: Owner, request: FetchRequest, is_wanted: Callable[[], bool]
    ) -> Iterator[bytes]:
        """Give what somebody may read; see `ObjectService.give`, and what it raises."""
        # In the bulk lane whole copies are made for keepers: those come from the owner alone.
        asked = FetchRequest(
            archive=owner.archive, items=request.items, priority=min(request.priority, BULK - 1)
        )
        return self._service(owner).give(visitor, asked, is_wanted)

    def _service(self, owner: Owner) -> ObjectService:
        with self._lock:
            if owner not in self._services:
                outside = self._outside._replace(
                    policy=partial(self._policy, owner),
                    shelf=lambda archive: _Shelf(self._store, owner, self._readers(owner).system),
                    clock=partial(self._now, owner),
                )
                self._services[owner] = ObjectService(self._gate, outside)
            return self._services[owner]

    def _readers(self, owner: Owner) -> Readers:
        row = self._store.readers.get(owner.name)
        if row is None or not self._is_member(owner.node_id):
            return _NOBODY
        if not 0 <= self._clock() - row.said + 60 <= TOLD_FOR:
            return _NOBODY
        return unpacked_readers(row.readers)

    def _policy(self, owner: Owner) -> Policy:
        readers = self._readers(owner)
        return Policy(readers.shares, readers.grants)

    def _now(self, owner: Owner) -> float:
        """Return the moment at which this machine's time of day is the owner's now."""
        now = self._clock()
        return now + self._readers(owner).ahead - ahead_of_utc(now)

    def told(self, caller: Caller, owner: Owner, study: str) -> bytes:
        """Return what `readable` does, packed; without a study NOTHING if anything is kept at all."""
        if not study:
            return NOTHING if self.keeps(caller, owner) else b""
        found = self.readable(caller, owner, study)
        return packed(found) if found else b""

    def keeps(self, caller: Caller, owner: Owner) -> bool:
        """Say whether anything is kept here for an owner that lets a caller retrieve at this moment."""
        return bool(self._granted(caller, owner)) and any(True for _ in self._store.listing(owner.name))

    def _granted(self, caller: Caller, owner: Owner) -> list[Permission]:
        granted = self._policy(owner).permissions(caller, Op.RETRIEVE, self._now(owner))
        return [each for each in granted if each.share.archive == owner.archive]

    def readable(self, caller: Caller, owner: Owner, study: str) -> Readable | None:
        """Return what a caller may read of a study at this moment, without corrections."""
        found = _readable(self._store, owner, study)
        if found is None:
            return None
        granted = self._granted(caller, owner)
        about = decoded(found.study.attributes)
        whole = found.whole()

        def is_granted(series: Attributes) -> bool:
            return first_admitting(granted, {**about, **series}) is not None

        series = tuple(each for each in whole.values() if is_granted(decoded(each.attributes)))
        uids = {each.SeriesInstanceUID for each in series}
        rows = tuple(
            msgspec.structs.replace(row, corrections=())
            for row in found.rows
            if row.entry.SeriesInstanceUID in uids
            and self._store.has(owner.name, study, row.entry.holding.sha256)
        )
        shown = Readable(found.study, series, rows)
        left = tuple(shown.whole().values())
        return msgspec.structs.replace(shown, series=left) if left else None


class _Shelf:
    """An owner's copies as peers are given objects of them; satisfies `Shelf`."""

    def __init__(self, store: CopyStore, owner: Owner, system: str) -> None:
        self._store = store
        self._owner = owner
        self.system = system
        self._corrections: dict[tuple[str, bytes], Sequence[Decision]] = {}

    def select(self, selection: Selection) -> list[Entry]:
        found = []
        for study in selection.studies:
            readable = _readable(self._store, self._owner, study)
            if readable is None:
                continue
            whole = readable.whole()
            for row in readable.rows:
                entry = row.entry
                if entry.SeriesInstanceUID in whole and entry.SeriesInstanceUID in selection.series:
                    found.append(entry)
                    self._corrections[entry.SOPInstanceUID, entry.holding.sha256] = row.corrections
        return found

    def versions(self, target: tuple[str, ...]) -> list[Entry]:
        """Nothing: whole copies come from the owner alone."""
        return []

    def stated(self, StudyInstanceUID: str) -> Stated | None:
        readable = _readable(self._store, self._owner, StudyInstanceUID)
        return readable.stated if readable else None

    def whole(self, entry: Entry) -> Reader:
        return self._store.open(self._owner.name, entry.StudyInstanceUID, entry.holding.sha256)

    def corrections(self, entry: Entry) -> Sequence[Decision]:
        return self._corrections[entry.SOPInstanceUID, entry.holding.sha256]


def _readable(store: CopyStore, owner: Owner, study: str) -> Readable | None:
    said = store.said(owner.name, study)
    if said is None or not said.readable:
        return None
    try:
        return _read(said.readable)
    except PacsError:
        return None


def ahead_of_utc(now: float) -> int:
    """Return the seconds by which this machine's time of day is before UTC's."""
    offset = datetime.fromtimestamp(now).astimezone().utcoffset()
    return int(offset.total_seconds()) if offset else 0
