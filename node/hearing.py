"""A node that was set back hears from its peers before it states or serves anything.

Whenever the change log of an archive began a new epoch, what was decided since the old one may be known to
peers alone: an old backup, with rows of what was rejected, corrected or erased since. So every member is
asked once for each epoch, and until all have answered the archive is told to nobody. Who does not answer in
time is waited for no more, and asked when it returns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from threading import RLock
from typing import Final, NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from catalog import Clock, Head, PacsError, Unavailable
from node.erasures import Site
from node.state import Tables

logger = logging.getLogger(__name__)

PATIENCE: Final = 30.0
"""Seconds for which members are waited for that cannot be asked."""


class _Heard(Struct, frozen=True, array_like=True):
    """Who was asked what it knows of an archive, since its change log began an epoch."""

    epoch: int
    nodes: tuple[str, ...] = ()
    is_set_back: bool = False
    """Whether there was an epoch before, so that something may be lost."""
    is_open: bool = True
    """Whether nobody is waited for any more."""


class Stating(Protocol):
    """An archive's catalog, as one needs it here."""

    def head(self, share: int = 0) -> Head:
        """See `Catalog.head`."""

    def waiting(self) -> tuple[int, int] | None:
        """Return the numbers of the oldest and newest change that the log has still to state, if any."""


class Hearing(NamedTuple):
    """What is around it."""

    catalogs: Callable[[], Mapping[str, Stating]]
    """By the name of the archive."""
    members: Callable[[], Iterable[Site]]
    ask: Callable[[str, Site], object]
    """Takes in what a member knows of an archive; raises PacsError."""
    monotonic: Clock


class Ear:
    """The node's; `step` from one thread, anybody may ask at any time."""

    def __init__(self, tables: Tables, around: Hearing, restored: Callable[[], Collection[str]]) -> None:
        """`restored` names the archives that were found to be set back at this start."""
        self._table = tables.table("heard of own archives", _Heard)
        self._around = around
        self._restored = restored
        self._since: dict[str, float] = {}
        self._newest: dict[str, int] = {}
        self._lock = RLock()

    def check(self, archive: str) -> None:
        """Refuse that anything is told of an archive as long as peers may know better.

        Raises:
            Unavailable: it was set back, and not all have been asked.
        """
        if not self.may_state(archive):
            what = "This node was set back, and asks its peers first what was decided since."
            raise Unavailable(what, "Ask again in a moment.")

    def may_state(self, archive: str) -> bool:
        """Say whether an archive may be told of."""
        return self._row(archive).is_open

    def is_heard(self, archive: str, node_id: str) -> bool:
        """Say whether a member was asked, or knows nothing that could have been lost."""
        row = self._row(archive)
        return not row.is_set_back or node_id in row.nodes

    def awaited(self) -> list[str]:
        """Return the names of who is to be asked before devices are answered, or answered again."""
        found = set[str]()
        for name in self._around.catalogs():
            if not self._has_asked(name):
                found.update(self._missing(self._row(name)))
        return sorted(found)

    def _has_asked(self, archive: str) -> bool:
        row, now = self._row(archive), self._around.monotonic()
        # What the log still has to state is nothing to devices.
        return row.is_open or not self._missing(row) or now - self._since.get(archive, now) >= PATIENCE

    def _missing(self, row: _Heard) -> list[str]:
        """Return the names of members that were not asked yet."""
        return [site.name for site in self._around.members() if site.node_id not in row.nodes]

    def step(self) -> None:
        """Ask the members that are connected and were not asked yet; open what all were asked about."""
        for name, catalog in self._around.catalogs().items():
            self._ask(name, [*self._around.members()])
            if not self._row(name).is_open:
                self._open(name, catalog)

    def _row(self, archive: str) -> _Heard:
        epoch = self._around.catalogs()[archive].head().epoch
        with self._lock:
            row = self._table.get(archive.encode())
            return row if row is not None and row.epoch == epoch else self._fresh(archive, row, epoch)

    def _fresh(self, archive: str, row: _Heard | None, epoch: int) -> _Heard:
        """Begin to ask: at a start, or while the node serves, when a peer knew more of the log than it."""
        is_set_back = row is not None or archive in self._restored()
        fresh = _Heard(epoch, is_set_back=is_set_back, is_open=not is_set_back)
        self._table.put(archive.encode(), fresh)
        self._since[archive] = self._around.monotonic()
        self._newest.pop(archive, None)
        if is_set_back:
            logger.warning("Archive %s was set back: peers are asked first what they know.", archive)
        return fresh

    def _ask(self, archive: str, members: list[Site]) -> None:
        for site in members:
            row = self._row(archive)
            if not site.is_connected or site.node_id in row.nodes:
                continue
            try:
                self._around.ask(archive, site)
            except PacsError as error:
                logger.info("%s could not be asked what it knows: %s", site.name, error.what)
                continue
            self._table.put(archive.encode(), replace(row, nodes=(*row.nodes, site.node_id)))

    def _open(self, archive: str, catalog: Stating) -> None:
        """Open an archive when all were asked, and the log states what they said."""
        self._since.setdefault(archive, self._around.monotonic())
        if not self._has_asked(archive):
            return
        row, waiting = self._row(archive), catalog.waiting()
        missing = self._missing(row)
        newest = self._newest.setdefault(archive, waiting[1] if waiting else 0)
        if waiting and waiting[0] <= newest:
            return
        if missing:
            names = ", ".join(missing)
            logger.warning("Archive %s is told of again; not asked yet what they know: %s", archive, names)
        else:
            logger.warning("Archive %s is told of again: all peers were asked.", archive)
        self._table.put(archive.encode(), replace(row, is_open=True))
