"""Objects between nodes, composed: what peers are given, what is fetched from them, and its copies."""

from __future__ import annotations

import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from catalog import Entry, NotFound
from federation.identities import Links
from federation.lanes import Lanes
from federation.links.gate import Gate
from federation.objects import Given, ObjectService, Outside, Shelf
from federation.sight import Grid
from federation.sourcing import Source, Sources
from federation.trust.policy import Policy
from node.contracts import Retriever
from node.grid_catalog import DeviceGrid
from node.grid_retriever import GridRetriever
from node.measures import Sample
from node.nearline import Fetches
from node.nearline_cache import CopyCache
from node.nearline_way import Link
from node.oldpacs import OldObjects
from node.oldpacs.fetching import Everywhere
from node.shelf import ArchiveShelf

from .archive import Archive
from .chores import Chore, Loop
from .doors import Shared
from .settings import MB

_THREADS: Final = 6


class Fetching:
    """Opens the copies; `begin` makes what fetches, once it is known what the grid is."""

    def __init__(self, folder: Path, shared: Shared, links: Callable[[], Links]) -> None:
        self._folder, self._shared, self._links = folder, shared, links
        section = shared.config.grid
        limit, age = section.cache_mb * MB, section.cache_days * 86400.0
        self.cache = CopyCache(folder, shared.clock, limit, age, self._is_full)
        self._given: Counter[str] = Counter()
        self.lanes = Lanes(time.monotonic)
        self.kept_elsewhere: Callable[[Entry], list[Source]] = lambda entry: []
        self.instead: Callable[[Source, Entry], Iterable[Source]] = lambda away, entry: ()
        """Says who gives an object instead of an owner that does not answer."""
        self.check: Callable[[str], None] = lambda archive: None
        """Raises Unavailable as long as nothing of an archive is to be given."""

    def begin(self, seen: Grid, link: Link, old: Mapping[bytes, OldObjects]) -> None:
        """Make what fetches from peers, and from old PACS by the names of their owners."""
        config = self._shared.config
        self._seen = seen
        self.sources = Sources(seen)
        site = config.grid.site or config.node.name
        self._old = old
        self.fetches = Fetches(self.cache, self._peers, link, time.monotonic, site, self._kept_of)
        self.everywhere = Everywhere(self.fetches, old)

    def avoid(self, owner: bytes) -> None:
        """Fetch nothing from an owner for a moment, if others have it."""
        self.fetches.avoid(owner)

    def _sources(self, entry: Entry) -> list[Source]:
        """Return who can give an object: who states it, or of our own, who keeps it."""
        return self.kept_elsewhere(entry) or [*self._stated(entry)]

    def _stated(self, entry: Entry) -> Iterator[Source]:
        for source in self.sources(entry):
            yield source
            if not source.is_reachable and source.owner not in self._old:
                yield from self.instead(source, entry)

    def _kept_of(self, entry: Entry) -> list[Source]:
        """Return who keeps an object for owners that are connected, and may answer nobody all the same."""
        owners = [source for source in self.sources(entry) if source.owner not in self._old]
        return [each for source in owners if source.is_reachable for each in self.instead(source, entry)]

    def _peers(self, entry: Entry) -> list[Source]:
        return [source for source in self._sources(entry) if source.owner not in self._old]

    def close(self) -> None:
        """Write the copies that have no file yet."""
        for cache in self._caches():
            cache.close()

    def _caches(self) -> tuple[CopyCache, ...]:
        return self.cache, *(objects.cache for objects in self._old.values())

    def _is_full(self) -> bool:
        return shutil.disk_usage(self._folder).free < self._shared.config.storage.resume_above_mb * MB

    def door(self, own: Retriever, grid: DeviceGrid) -> Retriever:
        """Return the door out of the grid for one association of a device."""
        return GridRetriever(
            own,
            self.everywhere,
            grid.behalf._replace(request_id=secrets.token_hex(8)),
            grid.asker,
            grid.patient_of,
            system=self._shared.config.node.ae_title,
            clock=self._shared.clock,
            links=self._links,
        )

    def service(
        self, gate: Gate, policy: Callable[[], Policy], archives: Mapping[str, Archive]
    ) -> ObjectService:
        """Return what gives peers objects of the archives that shares are of."""

        def shelf(name: str) -> Shelf:
            archive = archives.get(name)
            if archive is None:
                raise NotFound(f"This node has no archive {name!r}.")
            self.check(name)
            return ArchiveShelf(archive.catalog, archive.retriever)

        clock = self._shared.clock
        self.outside = Outside(policy, shelf, clock, time.monotonic, time.sleep, self.lanes, self._told)
        return ObjectService(gate, self.outside)

    def _told(self, given: Given) -> None:
        visitor = given.visitor
        self._given[visitor.identity.site or visitor.identity.name] += given.size
        detail = {
            "node_id": visitor.identity.node_id,
            "request": visitor.asker.request_id,
            "StudyInstanceUID": given.studies,
            "objects": given.objects,
            "refused": given.refused,
        }
        self._shared.audit.record("objects", None, "partial" if given.refused else "ok", detail)

    def chores(self) -> Iterator[Chore]:
        """Yield what is done now and then."""
        yield Chore("fetches", 1.0, self.fetches.step)
        yield Chore("copies", 60.0, self.cache.step)
        yield Chore("copies of what is not stated", 5.0, self.sweep)

    def sweep(self) -> None:
        """Drop the copies of what nobody states any more, or had erased."""
        for cache in self._caches():
            cache.sweep(self._is_stated)

    def _is_stated(self, owner: bytes, entry: Entry) -> bool:
        if self.cache.is_erased(owner, entry):
            return False
        return any(source.owner == owner for source in self._sources(entry))

    def loops(self) -> Iterator[Loop]:
        """Yield what wants threads of its own."""
        for number in range(_THREADS):
            yield Loop(f"grid fetch {number}", self.fetches.turn, idle_pause=0.0, wake=self.fetches.end)
        for cache in self._caches():
            yield Loop("grid copies", cache.turn, idle_pause=0.0, wake=cache.end)

    def samples(self) -> Iterator[Sample]:
        """Yield what `/metrics` shows of objects that were fetched and given."""
        yield from self.fetches.samples()
        for site, size in self._given.copy().items():
            yield Sample("transfer_bytes_total", size, (site, "out"))
