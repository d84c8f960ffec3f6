"""Erasures composed: the archives' orders, the peers that owe receipts, and what is erased for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

from catalog import Clock, Entry
from federation.erasing import ErasingPeer, ErasingService, is_erased, mark
from federation.identities import Identity
from federation.links.gate import Gate
from federation.links.rpc import letters
from federation.mirror import Mirror
from federation.mirror_reading import mirrored
from federation.mirror_search import MirrorSearch
from federation.owners import Owner, owner_of
from node.copies.store import CopyStore
from node.erasures import Obedience, Receipts, Site
from node.grid import Grid
from node.nearline_cache import CopyCache
from node.patient_links import PatientLinks
from node.state import State

from .archive import Archive
from .chores import Chore

logger = logging.getLogger(__name__)


def forget_patients(
    links: PatientLinks,
    archives: Mapping[str, Archive],
    mirror: Mirror | None,
    decision: str,
    patients: Collection[bytes],
) -> None:
    """Erase the links of patients, by the marks of an erasure, of whom no study is known any more."""

    def is_gone(identity: Identity) -> bool:
        return mark(decision, *identity) in patients and not is_known(*identity)

    def is_known(issuer: str, id: str) -> bool:
        if any(archive.catalog.knows_patient(issuer, id) for archive in tuple(archives.values())):
            return True
        return mirror is not None and mirror.knows_patient(issuer, id)

    if patients and (count := links.forget(is_gone)):
        logger.info("%d links between Patient IDs went with what decision %s erased.", count, decision)


class Traces:
    """Satisfies `node.erasures.Traces`."""

    def __init__(
        self,
        archives: Mapping[str, Archive],
        mirror: Mirror,
        search: MirrorSearch,
        cache: CopyCache,
        copies: CopyStore,
        scour: Callable[[], bool],
        links: PatientLinks,
        own: str,
    ) -> None:
        """`scour` leaves nothing of deleted rows in the node's state; `own` is this node's id."""
        self._own = own
        self._archives, self._mirror, self._search, self._cache = archives, mirror, search, cache
        self._copies, self._scour_state, self._links = copies, scour, links

    def still(self, owner: tuple[str, str], target: tuple[str, ...]) -> str:
        """Return why there may still be something of it, or nothing."""
        if self._copies.erased.is_coming(target[0]) or self._cache.is_coming(target[0]):
            return "a copy of it was on its way here"
        return "its copy of the catalog is about to follow" if self._is_stated(owner, target) else ""

    def _is_stated(self, owner: tuple[str, str], target: tuple[str, ...]) -> bool:
        """Say whether the mirror still has an owner's statement about it; what is being taken in, is then."""
        sources = self._mirror.sources()
        # Who wrote before this may not have known yet that it is not to be taken in.
        with self._mirror.changing() as reading:
            found = mirrored(reading, target[0].encode())
        name = Owner(*owner).name
        rows = [each.stated for each in found if sources.get(each.source, (b"", 0))[0] == name]
        if len(target) == 1:
            return bool(rows)
        # Of a single instance the mirror knows nothing.
        series = {row.SeriesInstanceUID for stated in rows for row in stated.series}
        return len(target) == 2 and target[1] in series

    def drop_copies(self, owner: tuple[str, str], target: tuple[str, ...]) -> int:
        """Remove copies of an owner's objects; of an instance, those of its series, which may come again."""
        name, within = Owner(*owner).name, target[:2]

        def is_kept(holder: bytes, uids: tuple[str, str]) -> bool:
            return holder != name or uids[: len(within)] != within

        return self._copies.erase(name, target) + self._cache.sweep(
            lambda holder, entry: is_kept(holder, (entry.StudyInstanceUID, entry.SeriesInstanceUID))
        )

    def forget_patients(self, decision: str, patients: Collection[bytes]) -> None:
        """Erase the links of patients who have nothing else, by the decision and their marks."""
        forget_patients(self._links, self._archives, self._mirror, decision, patients)

    def refuse(self, erased: Callable[[bytes], Collection[bytes]]) -> None:
        """Take in nothing of what owners had erased."""
        self._mirror.erased = self._copies.erased.known = erased
        self._cache.is_erased = partial(self._is_erased, erased)

    def _is_erased(self, erased: Callable[[bytes], Collection[bytes]], owner: bytes, entry: Entry) -> bool:
        """Say whether an owner, be it this node, had an object erased."""
        target = entry.StudyInstanceUID, entry.SeriesInstanceUID, entry.SOPInstanceUID
        own = self._archives.get(owner_of(owner).archive) if owner_of(owner).node_id == self._own else None
        return any(map(own.orders.is_erased, target)) if own else is_erased(target, erased(owner))

    def own(self, target: tuple[str, ...]) -> int:
        """Return how many instances this node holds of it as its own, in whichever archive."""
        return sum(len(archive.catalog.versions(target)) for archive in tuple(self._archives.values()))

    def scour(self) -> bool:
        """Leave nothing of deleted rows in mirror, its search index, the copies' rows and the state."""
        self._search.index.remove()
        return self._mirror.scour() and self._copies.scour() and self._scour_state()


class Erasing:
    """What erasures need of the node among its peers; `archives` may become more."""

    def __init__(
        self,
        archives: Mapping[str, Archive],
        grid: Grid,
        state: State,
        traces: Traces,
        is_connected: Callable[[str], bool],
        channel: Callable[[str], Any],
        key: Callable[[], bytes],
        clock: Clock,
    ) -> None:
        self._archives, self._grid, self._clock = archives, grid, clock
        self._is_connected, self._channel, self._key = is_connected, channel, key
        audit = next(iter(archives.values())).shared.audit
        self._obedience = Obedience(state, traces, audit, clock)
        traces.refuse(self._obedience.erased)
        self._receipts: dict[str, Receipts] = {}

    def service(self, gate: Gate) -> ErasingService:
        """Return what peers call."""
        return ErasingService(gate, self._obedience)

    def chores(self) -> Iterator[Chore]:
        """Yield what is done now and then."""
        yield Chore("erasures at peers", 1.0, self._step)

    def receipts_of(self, archive: Archive) -> Receipts:
        """Return who owes receipts for what was erased in an archive."""
        found = self._receipts.get(archive.name)
        if found is None:
            found = self._receipts[archive.name] = Receipts(
                archive.name,
                archive.tables,
                archive.orders,
                self.sites,
                lambda node_id: ErasingPeer(self._channel(node_id), lambda: letters(node_id)),
                archive.register.take,
                self._key,
                archive.audit,
                self._clock,
            )
        return found

    def _step(self) -> None:
        for archive in tuple(self._archives.values()):
            receipts = self.receipts_of(archive)
            receipts.note()
            receipts.step()

    def sites(self) -> list[Site]:
        """Return the other members of the grid."""
        own = self._grid.settings.node_id
        return [
            Site(row.node_id, row.name, row.site, self._is_connected(row.node_id))
            for _, row in self._grid.tables.peers.scan()
            if row.node_id != own and row.state == "member"
        ]
