"""Moving in, composed: the ledger, and lanes as threads while a migration goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from catalog import BadRequest, Busy
from node.contracts import Service
from node.dimse import Requestor
from node.drain import REMEDY, WHAT
from node.hours import read_hours
from node.migration import Migration, MigrationBook, MoveIn, Phase
from node.migration.book import OVER, read_dates, read_rate, underway
from node.neighbour_desk import not_running

from .background import Background
from .chores import Chore
from .routing import requestor

if TYPE_CHECKING:
    from .node import Node

_RECENT: Final = 86400.0
"""Seconds for which what came from a source still counts as moved in, after the end."""
_SETTLING: Final = 3600.0
"""The same, after somebody gave it up: the source may be one that sends every day."""
_SHOWN: Final = 100_000


class Migrations:
    """The migrations of a node, and the verbs about them."""

    def __init__(self, node: Node, background: Background) -> None:
        self._node = node
        self._background = background
        self.book = MigrationBook(node.state)
        self._lanes: dict[str, int] = {}
        self._mutex = threading.Lock()

    def verbs(self) -> dict[str, Any]:
        """Return the verbs by name."""
        own = (
            self.start_migration,
            self.migrations,
            self.migration,
            self.pause_migration,
            self.resume_migration,
            self.cancel_migration,
            self.migration_differences,
        )
        return {verb.__name__: verb for verb in own}

    def is_moved_in(self, ae_title: str) -> bool:
        """Say whether the archive is moved in from an AE title, or was until a moment ago."""
        row = next((row for row in self.book if row.source == ae_title), None)
        if row is None:
            return False
        # What came before somebody gave it up becomes complete after that.
        recent = _SETTLING if row.phase is Phase.CANCELLED else _RECENT
        return row.phase not in OVER or 0 <= self._node.clock() - row.ended < recent

    def chores(self) -> Iterator[Chore]:
        """Yield what is done now and then: what is under way gets its lanes, after a start too."""
        yield Chore("migrations", 2.0, self._tend_all)

    def _tend_all(self) -> None:
        for row in self.book:
            self._tend(row)

    def _tend(self, row: Migration) -> None:
        """Give a migration its lanes, those it has not got."""
        if row.phase not in (Phase.MOVING, Phase.COMPARING) or not self._node.ports:
            return
        with self._mutex:
            have = self._lanes.get(row.source, 0)
            if have:
                return
            self._lanes[row.source] = row.lanes
        archive = self._node.archive(row.archive)
        job = MoveIn(
            self.book,
            row,
            partial(self._requestor, row.source, row.archive),
            archive.catalog,
            archive.plan.ae_title,
            self._node.clock,
            archive.make_sure_of_room,
            archive.ingest.is_damaged,
        )
        for number in range(row.lanes):
            self._background.run(f"move in {row.source} {number}", partial(self._lane, job, row.source))

    def _requestor(self, source: str, archive: str) -> Requestor:
        """Return what calls a source; raises Busy while the node is drained, as what it sends is refused."""
        if self._node.drain.is_on:
            raise Busy(WHAT, REMEDY)
        return requestor(self._node, source, archive)

    def _lane(self, job: MoveIn, source: str) -> None:
        try:
            while not self._background.stopping.is_set() and job.turn():
                pass
        except Exception:
            # A source may send on while the node closes what it would be written into.
            if not self._background.stopping.is_set():
                raise
        finally:
            with self._mutex:
                self._lanes[source] -= 1

    def start_migration(
        self,
        source: str,
        dates: str,
        hours: str = "",
        rate: str = "",
        lanes: int = 2,
        archive: str = "",
        is_undated: bool = False,
        who: str = "",
    ) -> dict[str, Any]:
        """Move in all that a source has of some days; the same order again has it go on where it is.

        Raises:
            BadRequest: the order cannot be followed, or the source is moved in from by another one.
        """
        node = self._running()
        device = node.devices.find(source)
        lacking = [] if device.port else [("has no port", "--address HOST --port PORT")]
        lacking += [] if Service.STORE in device.services else [("may not store here", "--services +store")]
        if lacking:
            what = f"{source} {' and '.join(why for why, _ in lacking)}, by the device book."
            options = " ".join(option for _, option in lacking)
            raise BadRequest(what, f"peerpacs devices edit {source} {options}")
        read_hours(hours)
        if not 1 <= lanes <= 16:
            raise BadRequest(f"{lanes} lanes are not possible.", "Take 1 to 16.")
        since, until = read_dates(dates, date.fromtimestamp(node.clock()))
        plan = node.archive(archive).plan
        if plan.research:
            what = f"The archive {plan.name} keeps the de-identified set of {plan.research}."
            raise BadRequest(what, "Move into another archive, and export from there: peerpacs export")
        order = Migration(
            source=device.ae_title,
            archive=plan.name,
            since=since.isoformat(),
            until=until.isoformat(),
            dates=dates,
            hours=hours,
            per_second=read_rate(rate),
            lanes=lanes,
            is_undated=is_undated,
            who=who,
            created=node.clock(),
            day=until.isoformat(),
        )
        known = next((row for row in self.book if row.source == order.source), None)
        if known is not None and known.phase not in OVER:
            if not known.is_ordered_as(order):
                raise underway(known)
            return self.resume_migration(known.source, who)
        self.book.forget(order.source)
        row = self.book.put(order)
        self._record(row, "started", who)
        self._tend(row)
        return self._told(row)

    def _under_way(self, source: str) -> Migration:
        """Return a migration that is not over; raises BadRequest where it is."""
        row = self.book.find(source)
        if row.phase in OVER:
            what = f"What was moved in from {source} is over: {row.phase}."
            again = f"peerpacs migrate --from {source} {row.order}"
            raise BadRequest(what, f"Move in anew what lacks: {again}")
        return row

    def _record(self, row: Migration, outcome: str, who: str) -> None:
        detail = {"who": who, "source": row.source, "dates": row.dates}
        self._node.audit.record("migrate", None, outcome, detail)

    def _running(self) -> Node:
        """Return the node; raises Unavailable while it does not run."""
        if not self._node.ports:
            raise not_running()
        return self._node

    def migrations(self) -> list[dict[str, Any]]:
        """Return every migration."""
        return [self._told(row) for row in self.book]

    def migration(self, source: str) -> dict[str, Any]:
        """Return how a migration stands, with the series that did not come whole."""
        row = self.book.find(source)
        failed = [
            {"StudyInstanceUID": study, "SeriesInstanceUID": series, **msgspec.structs.asdict(why)}
            for (study, series), why in list(self.book.failed(source).items())[:_SHOWN]
        ]
        return {**self._told(row), "series_failed": failed}

    def pause_migration(self, source: str, who: str = "") -> dict[str, Any]:
        """Let a migration rest after the series under way."""
        row = self._under_way(source)
        if row.phase in (Phase.MOVING, Phase.COMPARING):
            row = self.book.change(source, phase=Phase.PAUSED, before=row.phase, why="", remedy="")
            self._record(row, "paused", who)
        return self._told(row)

    def resume_migration(self, source: str, who: str = "") -> dict[str, Any]:
        """Go on with a migration that rests, or that stopped."""
        self._running()
        row = self._under_way(source)
        if row.phase in (Phase.PAUSED, Phase.STOPPED):
            row = self.book.change(source, phase=row.before, why="", remedy="")
            self._record(row, "resumed", who)
        self._tend(row)
        return self._told(row)

    def cancel_migration(self, source: str, who: str = "") -> dict[str, Any]:
        """Give a migration up; what came stays."""
        row = self.book.find(source)
        if row.phase not in OVER:
            ended = self._node.clock()
            row = self.book.change(source, phase=Phase.CANCELLED, ended=ended, why="", remedy="")
            self._record(row, "cancelled", who)
        return self._told(row)

    def migration_differences(self, source: str) -> list[dict[str, Any]]:
        """Return what source and archive do not agree about, a row each."""
        return [msgspec.structs.asdict(each) for each in self.book.differences(source)]

    def _told(self, row: Migration) -> dict[str, Any]:
        days = self.book.days(row.source)
        totals = {
            key: sum(getattr(day, key) for day in days.values())
            for key in ("there", "here", "missing", "different", "extra")
        }
        years: dict[str, dict[str, int]] = {}
        for day, found in days.items():
            year = years.setdefault(day[:4] or "undated", dict.fromkeys(totals, 0))
            for key in totals:
                year[key] += getattr(found, key)
        return {
            **msgspec.to_builtins(row),
            "days": row.days,
            "is_over": row.phase in OVER,
            "days_compared": len(days),
            "compared": totals,
            "years": years,
        }
