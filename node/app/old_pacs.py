"""Old PACS, composed: each is a source of the mirror, a cache of copies, and an AE title of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from catalog import BadRequest, Clock, Entry, NotFound, NotPermitted, Unavailable
from catalog.statements import SeriesStatement
from federation.manifests import Manifest
from federation.mirror import Mirror
from federation.owners import Owner
from federation.sight import Standing
from node.contracts import Outgoing, Scope
from node.dimse import Requestor
from node.nearline_cache import CopyCache
from node.oldpacs import Crawl, OldObjects, Reach
from node.sections import Config
from node.standing import OldPacs
from node.state import State

from .chores import Chore, Loop
from .settings import MB

_ARCHIVE: Final = "old"
"""What stands for the archive in the name of an old PACS as an owner."""


class _Old(NamedTuple):
    number: int
    reach: Reach
    crawl: Crawl
    objects: OldObjects


class OldArchives:
    """All old PACS of a node; `open` begins what needs the mirror."""

    def __init__(
        self, rules: tuple[OldPacs, ...], requestor: Callable[[str], Requestor], state: State, clock: Clock
    ) -> None:
        """`requestor` returns what calls the device of an AE title; raises NotFound."""
        self.rules = rules
        self._requestor, self._state, self._clock = requestor, state, clock
        self._all: dict[bytes, _Old] = {}

    def check(self, config: Config, taken: Mapping[str, str]) -> None:
        """Make sure that they can be received from.

        Raises:
            BadRequest: an AE title has another use, or gateways would receive.
        """
        grid = config.node.ae_title + "_GRID"
        for pacs in self.rules:
            if pacs.receive_as in taken or pacs.receive_as == grid:
                title = pacs.receive_as
                what = f"receive_as of [[old_pacs]] {pacs.name!r} is {title}, which has another use."
                raise BadRequest(what, "Give it an AE title of its own, and register that at the old PACS.")
        if self.rules and config.processes.count > 1:
            what = "There is an [[old_pacs]], and processes.count is above 1."
            raise BadRequest(what, "Set processes.count to 1: one process takes what an old PACS sends.")

    def open(self, folder: Path, mirror: Mirror, issuer: str) -> None:
        """Make what asks and fetches; `issuer` is the node's."""
        for pacs in self.rules:
            owner = Owner(f"old:{pacs.name}", _ARCHIVE).name
            reach = Reach(pacs, partial(self._requestor, pacs.ae_title), self._clock)
            place = folder / "".join(c if c.isalnum() else "_" for c in pacs.name)
            cache = CopyCache(place, self._clock, pacs.cache_mb * MB, 3650 * 86400.0)
            number = mirror.source(owner, 0)
            crawl = Crawl(reach, mirror, number, self._state, pacs.issuer or issuer, self._clock)
            self._all[owner] = _Old(number, reach, crawl, OldObjects(owner, reach, cache, self._clock))

    @property
    def objects(self) -> dict[bytes, OldObjects]:
        """Return what fetches, by the owner's name."""
        return {owner: old.objects for owner, old in self._all.items()}

    def standing(self) -> dict[int, Standing]:
        """Return how each stands as a source of the mirror."""
        return {
            old.number: Standing(
                old.reach.pacs.name, owner, old.reach.is_reachable, old.crawl.age, None, old.reach.pacs.issuer
            )
            for owner, old in self._all.items()
        }

    def manifest(self, owner: bytes, series: SeriesStatement) -> list[Entry] | None:
        """Return the instances of a series; None of an owner that is no old PACS."""
        old = self._all.get(owner)
        return old.objects.manifest(series) if old else None

    def remembered(self, otherwise: Manifest) -> Manifest:
        """Return what knows a series without asking anybody: of an old PACS its copies."""

        def known(owner: bytes, series: SeriesStatement) -> list[Entry]:
            old = self._all.get(owner)
            if old is None:
                return otherwise(owner, series)
            return old.objects.cache.entries(owner, series.StudyInstanceUID, series.SeriesInstanceUID)

        return known

    def scope(self, called_ae: str) -> Scope | None:
        """Return what an AE title opens that an old PACS sends to; nothing can be asked there."""
        for old in self._all.values():
            if old.reach.pacs.receive_as == called_ae:
                return Scope(old.reach.pacs.name, called_ae, _Nothing(), old.objects, _Nothing())
        return None

    def chores(self) -> Iterator[Chore]:
        """Yield what is done now and then."""
        for old in self._all.values():
            yield Chore(f"copies of {old.reach.pacs.name}", 60.0, old.objects.cache.step)

    def loops(self) -> Iterator[Loop]:
        """Yield what wants threads of its own."""
        for old in self._all.values():
            name = old.reach.pacs.name
            yield Loop(f"{name} catalog", old.crawl.step, idle_pause=1.0)
            for number in range(old.reach.pacs.associations):
                yield Loop(f"{name} fetch {number}", old.objects.turn, idle_pause=0.0)

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs about old PACS."""
        return {"old_pacs": self.told, "old_pacs_allow": self.allow}

    def told(self) -> list[dict[str, Any]]:
        """Return how each stands, and what is in the way."""
        return [self._told(old) for old in self._all.values()]

    def _told(self, old: _Old) -> dict[str, Any]:
        pacs, progress = old.reach.pacs, old.crawl.progress
        trouble = old.reach.trouble or old.reach.unsent
        is_open = old.reach.hours.holds(self._clock())
        return {
            "name": pacs.name,
            "ae_title": pacs.ae_title,
            "receive_as": pacs.receive_as,
            "studies": old.crawl.studies,
            "is_reachable": old.reach.is_reachable,
            "is_known_whole": progress.whole > 0,
            "before": progress.before,
            "age": old.crawl.age,
            "hours": str(old.reach.hours),
            "is_within_hours": is_open,
            "associations": pacs.associations,
            "copies_bytes": old.objects.cache.size,
            "held": old.crawl.held,
            "cut": [{"day": day, "what": what} for day, what in sorted(progress.cut.items())],
            "why": trouble.what if trouble else "",
            "next": trouble.next if trouble else "",
        }

    def allow(self, name: str, who: str = "") -> dict[str, Any]:
        """Let vanish what an old PACS has no more: a person knows that it is gone there."""
        for old in self._all.values():
            if old.reach.pacs.name == name:
                old.crawl.allow()
                return self._told(old)
        raise NotFound(f"There is no old PACS {name!r}.", "List them with: peerpacs old-pacs")


class _Nothing:
    """Satisfies `Catalog` and `Retriever` where an AE title is for receiving alone."""

    def find(self, query: Any) -> Iterator[Any]:
        """Refuse."""
        raise NotPermitted("Nothing can be asked at this AE title.")

    def select(self, selection: Any) -> list[Any]:
        """Refuse."""
        raise NotPermitted("Nothing can be retrieved at this AE title.")

    def changes(self, after: int, limit: int, share: int = 0) -> list[Any]:
        """Nothing is stated here."""
        return []

    def head(self, share: int = 0) -> Any:
        """Refuse."""
        raise NotPermitted("Nothing is stated at this AE title.")

    def expect(self, entries: Any, is_unwanted: Any = bool) -> None:
        """Nothing will be opened."""

    def open(self, entry: Entry) -> Outgoing:
        """Refuse."""
        raise Unavailable("Nothing can be retrieved at this AE title.")
