"""What keepers give of the studies of an owner that does not answer: who has what, and who gives it.

Only what is exactly what the owner stated last counts: a keeper that knows less or more of it gives nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol

from msgspec.structs import replace

from catalog import Availability, Clock, Entry, PacsError, PatientKey
from catalog.statements import SeriesStatement, Stated, StudyStatement
from federation.objects import copies_of
from federation.owners import Owner, owner_of, place_at
from federation.readable import NOTHING, Readable, state_of, unpacked
from federation.sourcing import Source
from federation.trust.assertion import Asker

_KNOWN_FOR: Final = 10.0
"""Seconds for which a keeper's answer counts."""
_ANSWER: Final = 2.0
_MOST: Final = 512
_SILENT_FOR: Final = 5.0
"""Seconds for which a node that did not answer is not asked."""


class Around(NamedTuple):
    """What is needed of the node."""

    own_id: Callable[[], str]
    site_of: Callable[[str], str]
    connected: Callable[[], Iterable[str]]
    ask: Callable[[str, bytes, str, float], bytes]
    """Asks a node what it keeps of an owner's study: node, owner, study, seconds; this node is asked too."""
    monotonic: Clock


class _Kept(NamedTuple):
    node_id: str
    states: Mapping[str, bytes]
    """By series: what the owner said of it."""
    readable: Readable


_SOMETHING: Final = _Kept(
    "", {}, Readable(StudyStatement(0, "", PatientKey("", "", ""), b"", 0, False), (), ())
)


class Borrowing:
    """Any thread may call."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, bytes, str], tuple[float, _Kept | None]] = OrderedDict()
        self._silent: dict[str, float] = {}

    def kept(self, owner: bytes, stated: Stated) -> dict[str, Availability]:
        """Return how the series of an owner that does not answer can be had, where they can."""
        found: dict[str, Availability] = {}
        for each in self._keepers(owner, stated.study.StudyInstanceUID):
            here = each.node_id == self._around.own_id()
            for series in stated.series:
                uid = series.SeriesInstanceUID
                if each.states.get(uid) == state_of(stated.study, series) and _is_same(each, series):
                    found[uid] = Availability.ONLINE if here else found.get(uid, Availability.NEARLINE)
        return found

    def manifest(self, owner: bytes, series: SeriesStatement) -> list[Entry]:
        """Return the instances of an owner's series; nothing if no keeper tells."""
        for each in self._keepers(owner, series.StudyInstanceUID):
            if _is_same(each, series):
                return [
                    replace(row.entry, holding=replace(row.entry.holding, where=place_at(owner)))
                    for row in each.readable.rows
                    if row.entry.SeriesInstanceUID == series.SeriesInstanceUID
                ]
        return []

    def sources(self, away: Source, entry: Entry) -> Iterator[Source]:
        """Yield who gives an object instead of an owner that does not answer."""
        for each in self._keepers(away.owner, entry.StudyInstanceUID):
            if each.states.get(entry.SeriesInstanceUID) == away.state:
                named = Owner(each.node_id, copies_of(owner_of(away.owner))).name
                yield Source(named, self._around.site_of(each.node_id), True, away.state)

    def _keepers(self, owner: bytes, study: str) -> Iterator[_Kept]:
        for node_id in (self._around.own_id(), *self._around.connected()):
            # Most nodes keep nothing for most owners, and are asked that once for all studies.
            if node_id == owner_of(owner).node_id or not self._asked(node_id, owner, ""):
                continue
            if (found := self._asked(node_id, owner, study)) is not None and found is not _SOMETHING:
                yield found

    def _asked(self, node_id: str, owner: bytes, study: str) -> _Kept | None:
        """Return what a node keeps of a study; without one _SOMETHING, if it keeps anything."""
        name, now = (node_id, owner, study), self._around.monotonic()
        with self._lock:
            until, known = self._known.get(name, (0.0, None))
            if now < until:
                return known
            if now < self._silent.get(node_id, 0.0):
                return None
        try:
            told = self._around.ask(node_id, owner, study, _ANSWER)
            found = _read(node_id, told) if told else None
        except PacsError:
            with self._lock:
                self._silent[node_id] = now + _SILENT_FOR
            return None
        with self._lock:
            self._known[name] = now + _KNOWN_FOR, found
            self._known.move_to_end(name)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return found


def _read(node_id: str, told: bytes) -> _Kept:
    if told == NOTHING:
        return _SOMETHING
    readable = unpacked(told)
    states = {uid: state_of(readable.study, each) for uid, each in readable.whole().items()}
    return _Kept(node_id, states, readable)


def _is_same(kept: _Kept, series: SeriesStatement) -> bool:
    uid = series.SeriesInstanceUID
    if kept.readable.study.StudyInstanceUID != series.StudyInstanceUID or uid not in kept.states:
        return False
    return any(each.digest == series.digest for each in kept.readable.series if each.SeriesInstanceUID == uid)


class Peers(Protocol):
    """How other nodes are called; `PeerLink` does."""

    def fetch(self, node_id: str, asker: Asker, request: Any, timeout: float, *, patient: bool) -> Any:
        """Begin a Fetch; see `PeerLink.fetch`."""

    def letters(self, node_id: str) -> AbstractContextManager[None]:
        """Turn what a call raises inside into PacsErrors."""


class _Lent:
    """A call that this node answers itself."""

    def __init__(self, give: Callable[[Callable[[], bool]], Iterator[bytes]]) -> None:
        self._is_wanted = True
        self._replies = give(lambda: self._is_wanted)

    def __iter__(self) -> Iterator[bytes]:
        return self._replies

    def cancel(self) -> None:
        """Ask for no more."""
        self._is_wanted = False


class HomeLink:
    """Calls peers, and for what this node itself keeps for others, this node; satisfies `Link`."""

    def __init__(
        self,
        peers: Peers,
        own_id: Callable[[], str],
        lend: Callable[[Asker, Any, Callable[[], bool]], Iterator[bytes]],
    ) -> None:
        """`lend` gives on behalf of an asker what a request names."""
        self._peers = peers
        self._own_id = own_id
        self._lend = lend

    def fetch(self, node_id: str, asker: Asker, request: Any, timeout: float, *, patient: bool) -> Any:
        """Begin a Fetch on behalf of an asker; see `PeerLink.fetch`."""
        if node_id != self._own_id():
            return self._peers.fetch(node_id, asker, request, timeout, patient=patient)
        return _Lent(lambda is_wanted: self._lend(asker, request, is_wanted))

    def letters(self, node_id: str) -> AbstractContextManager[None]:
        """Turn what a call raises inside into PacsErrors."""
        return self._peers.letters(node_id)
