"""What a node entrusts to its peers, and how one that was set back hears of it again, composed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from threading import Event
from typing import Any, Final

from catalog import Decision, NotFound, PacsError, Verb
from federation.entrusting import EntrustingPeer, EntrustingService, Seal
from federation.links.gate import Gate
from federation.links.rpc import letters
from node.archives import DEFAULT
from node.closed import Closed
from node.entrusted import Backlog, Entrusting, Safe
from node.erasures import Site
from node.hearing import Ear, Hearing
from node.patient_links import PatientLinks
from node.state import State

from .archive import Archive
from .chores import Chore, Loop
from .copying import Copying
from .departing import Departing
from .erasing import Erasing
from .fetching import Fetching
from .sharing import Sharing

_TURN: Final = 0.2
_GREETING: Final = 2.0
"""Seconds that a start waits for members: only they can say that this machine was set back as a whole."""


def _decided(archive: Archive, begin: bytes) -> Iterator[tuple[bytes, Callable[[], Decision | None]]]:
    """Yield what makes each decision of an archive as it was made; nothing of those that were erased."""

    def find(id: str, target: tuple[str, ...]) -> Decision | None:
        known = archive.catalog.decisions(target[0]) if target else []
        return next((each for each in known if each.id == id and each.target == target), None)

    for key, made in archive.register.everything(begin):
        yield key, partial(find, key.decode(), made.target)


class Remembering:
    """Both sides of it; `archives` may become more."""

    def __init__(
        self,
        archives: Mapping[str, Archive],
        state: State,
        links: PatientLinks,
        erasing: Erasing,
        channel: Callable[[str], Any],
        secret: Callable[[], bytes],
    ) -> None:
        self._archives, self._links, self._erasing = archives, links, erasing
        self._channel, self._secret = channel, secret
        self._each: dict[str, Entrusting] = {}
        self._backlogs: dict[str, Backlog] = {}
        self.safe = Safe(state)
        self._closed = Closed(state)
        self._greeted = False
        around = Hearing(self._catalogs, erasing.sites, self._ask, time.monotonic)
        self.ear = Ear(state, around, lambda: [each.name for each in self._all() if each.caught_up])

    def guard(self, sharing: Sharing, fetching: Fetching, copying: Copying, departing: Departing) -> None:
        """Have nothing told of an archive that was set back; and of who leaves, nothing kept."""
        sharing.check = fetching.check = self.ear.check
        copying.is_heard, departing.forget = self.ear.is_heard, self.safe.forget

    def _all(self) -> tuple[Archive, ...]:
        return tuple(self._archives.values())

    def _catalogs(self) -> dict[str, Any]:
        return {archive.name: archive.catalog for archive in self._all()}

    def service(self, gate: Gate) -> EntrustingService:
        """Return what peers call."""
        return EntrustingService(gate, self.safe)

    def chores(self) -> Iterator[Chore]:
        """Yield what is done now and then."""
        yield Chore("decisions entrusted to peers", 1.0, self._step)

    def loops(self) -> Iterator[Loop]:
        """Yield what wants a thread of its own: to answer nobody from the moment that peers know better."""
        yield Loop("hearing of peers", self._look, idle_pause=_TURN)

    def hear(self, stop: Event) -> None:
        """Return when what peers know of archives that were set back is taken in, or nobody answers."""
        until = time.monotonic() + _GREETING
        while (away := self._away()) and time.monotonic() < until and not stop.wait(_TURN / 4):
            self._closed.set(f"This node has just started, and hears from {', '.join(away)} first.")
        self._greeted = True
        self._look()
        while self._closed.why and not stop.wait(_TURN):
            pass

    def _away(self) -> list[str]:
        return [site.name for site in self._erasing.sites() if not site.is_connected]

    def _look(self) -> bool:
        names = ", ".join(self.ear.awaited())
        if self._greeted:
            why = f"This node was set back, and asks its peers first what was decided since: {names}."
            self._closed.set(why if names else "")
        return False

    def _step(self) -> None:
        self.ear.step()
        connected = [site.node_id for site in self._erasing.sites() if site.is_connected]
        for archive in self._all():
            entrusting = self._entrusting(archive)
            self.backlog(archive).step()
            entrusting.take_on()
            entrusting.left(connected)
            for node_id in connected:
                self._tell(archive.name, entrusting, node_id)

    def _tell(self, archive: str, entrusting: Entrusting, node_id: str) -> None:
        # Who is not asked yet may know more than it would be told.
        if self.ear.is_heard(archive, node_id):
            try:
                while entrusting.tell(node_id):
                    pass
            except PacsError:
                return

    def _entrusting(self, archive: Archive) -> Entrusting:
        found = self._each.get(archive.name)
        if found is None:
            seal = Seal(self._secret(), archive.name)
            found = self._each[archive.name] = Entrusting(archive.name, archive.tables, seal, self._peer)
        return found

    def backlog(self, archive: Archive) -> Backlog:
        """Return what has an archive's earlier decisions entrusted too."""
        found = self._backlogs.get(archive.name)
        if found is None:
            journal = archive.shared.journal
            notes = journal.notes if archive.name == DEFAULT else tuple
            parts = (self._entrusting(archive).ids, partial(_decided, archive), notes)
            found = self._backlogs[archive.name] = Backlog(archive.tables, archive.outbox, *parts)
        return found

    def _peer(self, node_id: str) -> EntrustingPeer:
        return EntrustingPeer(self._channel(node_id), lambda: letters(node_id))

    def _ask(self, archive: str, site: Site) -> None:
        """Take in what a member knows: decisions, notes, and what it erased."""
        found = self._archives[archive]
        decisions = list[Decision]()
        with suppress(NotFound):  # An older version keeps none.
            decisions = self._entrusting(found).recalled(site.node_id)
        for decision in decisions:
            if decision.verb is not Verb.NOTE or not found.shared.journal.knows(decision):
                found.register.take(decision)
        if any(decision.verb is Verb.NOTE for decision in decisions):
            self._links.look_again()
        self._erasing.receipts_of(found).relearn(site)
