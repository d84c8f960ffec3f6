"""The book of exports: what was asked, who approved, how it stands; a change is on disk when it returns."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Final

from msgspec.structs import replace

from catalog import BadRequest, Clock, NotFound, NotPermitted, PacsError
from node.contracts import Audit
from node.dimse.session import trail
from node.state import State

from .model import Export, Project, Standing

logger = logging.getLogger(__name__)

_OVER: Final = frozenset({Standing.DONE, Standing.REFUSED, Standing.STOPPED})
_MAY_RUN: Final = frozenset({Standing.READY, Standing.RUNNING})


class ExportBook:
    """Rows of `Export` by id."""

    def __init__(self, state: State, audit: Audit, clock: Clock) -> None:
        self._rows = state.table("research-exports", Export)
        self._has_news = True
        self._audit = audit
        self._clock = clock

    def add(self, export: Export, project: Project) -> Export:
        """Write an order: it waits for approval if the project demands that, else it may run."""
        # What another site ordered never runs without anybody here having said so.
        needs = bool(project.approvers or export.requester) and not export.approved_by
        standing = Standing.ASKED if needs else export.standing
        known = self._rows.get(export.id.encode())
        if known is not None:
            return known
        written = replace(export, standing=standing)
        self._rows.put(export.id.encode(), written)
        self._has_news = True
        self._tell("ordered", written, who=export.who)
        return written

    def add_joint(self, export: Export) -> Export:
        """Write an order of several sites: each of them decides about its own part."""
        known = self._rows.get(export.id.encode())
        if known is not None:
            return known
        self._rows.put(export.id.encode(), export)
        self._tell("ordered", export, who=export.who, sites=[each.node_id for each in export.sites])
        return export

    def all(self) -> list[Export]:
        """Return all exports, the oldest first."""
        return sorted((row for _, row in self._rows.scan()), key=lambda row: row.when)

    def find(self, id: str) -> Export:
        """Return an export by its id or a beginning of it that fits no other.

        Raises:
            NotFound: there is none, or several.
        """
        found = [row for _, row in self._rows.scan(id.encode())] if id else []
        if len(found) != 1:
            what = f"{id!r} is {'no export' if not found else 'the beginning of several exports'}."
            raise NotFound(what, "List them: peerpacs export list")
        return found[0]

    def next(self) -> Export | None:
        """Return the export to work on, the oldest; None if there is nothing to do.

        Only one process changes exports, so that nothing is read again until something changed.
        """
        if not self._has_news:
            return None
        self._has_news = False
        found = next((export for export in self.all() if export.standing in _MAY_RUN), None)
        self._has_news = self._has_news or found is not None
        return found

    def standing(self, archive: str) -> Iterator[Export]:
        """Yield the standing exports of an archive."""
        for export in self.all():
            is_here = export.archive == archive and not export.sites
            if export.standing is Standing.STANDING and is_here:
                yield export

    def increments(self, parent: str) -> list[Export]:
        """Return the increments of a standing export, the oldest first."""
        return [export for export in self.all() if export.parent == parent]

    def change(self, id: str, change: Callable[[Export], Export]) -> Export:
        """Replace an export by what `change` makes of it, with nobody in between."""
        made: list[Export] = []

        def changed(row: Export | None) -> Export | None:
            if row is None:
                return None
            made.append(change(row))
            return made[-1]

        self._rows.change({id.encode(): changed})
        self._has_news = True
        if not made:
            raise NotFound(f"There is no export {id!r}.", "List them: peerpacs export list")
        return made[-1]

    def approve(self, id: str, project: Project, who: str, *, after: Standing) -> Export:
        """Let an export run that waits for approval; `who` must be one whom the project names."""
        export = self._expect(id, Standing.ASKED)
        if project.approvers or not export.requester:
            _must_be(who, project.approvers, "approve exports of", project)
        if who == export.who:
            raise NotPermitted("Nobody approves what he ordered himself.", "Ask another approver.")
        done = self.change(export.id, lambda row: replace(row, standing=after, approved_by=who))
        self._tell("approved", done, who=who)
        return done

    def refuse(self, id: str, project: Project, who: str, why: str) -> Export:
        """Refuse an export that waits for approval or for a look."""
        export = self.find(id)
        named = project.approvers if export.standing is Standing.ASKED else project.reviewers
        if export.standing not in (Standing.ASKED, Standing.STAGED):
            raise BadRequest(f"Export {export.id[:8]} {_is(export)}; nothing waits for an answer.")
        if named or not export.requester:
            _must_be(who, named, "refuse exports of", project)
        done = self.change(export.id, lambda row: replace(row, standing=Standing.REFUSED, why=why))
        self._tell("refused", done, who=who)
        return done

    def release(self, id: str, project: Project, who: str) -> Export:
        """Let a staged export go out, after a look at it; `who` must be one whom the project names."""
        _must_be(who, project.reviewers, "release exports of", project)
        export = self._expect(id, Standing.STAGED)
        done = self.change(export.id, lambda row: replace(row, standing=Standing.RUNNING, released_by=who))
        self._tell("looked at", done, who=who)
        return done

    def stop(self, id: str, who: str) -> Export:
        """Stop an export that is not over; nothing more of it goes out."""
        export = self.find(id)
        if export.standing in _OVER:
            raise BadRequest(f"Export {export.id[:8]} {_is(export)} already.", "")
        done = self.change(export.id, lambda row: replace(row, standing=Standing.STOPPED))
        self._tell("stopped", done, who=who)
        return done

    def retry(self, id: str, who: str) -> Export:
        """Go on with an export that failed, was stopped or broke off; what is done stays done."""
        export = self.find(id)
        if export.standing in _MAY_RUN:
            return export
        if export.standing not in (Standing.FAILED, Standing.STOPPED):
            raise BadRequest(f"Export {export.id[:8]} {_is(export)}; there is nothing to try again.", "")
        if export.approved_by == "" and export.parts == 0 and export.standing is Standing.STOPPED:
            raise BadRequest("It was stopped before it was approved.", "Order it anew.")
        done = self.change(export.id, _begun_again)
        self._tell("retried", done, who=who)
        return done

    def gathering(self) -> list[Export]:
        """Return the exports that wait for other sites, the oldest first; those that stand are among them."""
        going = (Standing.GATHERING, Standing.STANDING)
        return [export for export in self.all() if export.sites and export.standing in going]

    def over(self, id: str, change: Callable[[Export], Export], outcome: str) -> Export:
        """Write how an export ended, and say so in the audit."""
        done = self.change(id, change)
        self._tell(outcome, done, instances=done.released, manifest=done.manifest)
        return done

    def copies(self, project: str, subject: str) -> list[Export]:
        """Return the exports that released something of a subject."""
        return [row for row in self.all() if row.project == project and subject in row.subjects]

    def _expect(self, id: str, standing: Standing) -> Export:
        export = self.find(id)
        if export.standing is not standing:
            raise BadRequest(f"Export {export.id[:8]} {_is(export)}.", f"See: peerpacs export show {id}")
        return export

    def _tell(self, outcome: str, export: Export, **more: object) -> None:
        detail = {"export": export.id, "project": export.project, "archive": export.archive, **more}
        self._audit.record("export", None, outcome, detail)


def _begun_again(export: Export) -> Export:
    """Return the export as it goes on: of several sites, those that failed are asked once more."""
    if not export.sites:
        return replace(export, standing=Standing.RUNNING, why="")
    sites = tuple(replace(s, is_over=s.is_over and bool(s.gathered)) for s in export.sites)
    return replace(export, standing=Standing.GATHERING, why="", sites=sites)


def attempt(export: Export, work: Callable[[Export], bool], fail: Callable[[Export, str], None]) -> bool:
    """Work on an export; what goes wrong ends it, with a sentence for a person. Return what `work` does."""
    try:
        return work(export)
    except PacsError as error:
        fail(export, str(error))
    except OSError as error:
        fail(export, f"The system refused: {error.strerror or error}.")
    except Exception as error:
        # Its message may hold a value of an instance.
        logger.error("The export %s failed (%s)", export.id, trail(error))
        fail(export, f"It failed in a way nobody foresaw ({type(error).__name__}).")
    return True


def new_id() -> str:
    """Return an id for an order of a person."""
    return uuid.uuid4().hex


def part_id(node_id: str, order: str) -> str:
    """Return the id of what a node ordered here: the same for the same order."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{node_id}\0{order}").hex


def increment_id(parent: str, study: str, latest: int) -> str:
    """Return the id of an increment: the same for the same study as it was at that moment."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{parent}\0{study}\0{latest}").hex


def _must_be(who: str, named: tuple[str, ...], may: str, project: Project) -> None:
    if who not in named:
        people = ", ".join(named) or "nobody"
        what = f"{who} may not {may} {project.name}: the project names {people}."
        raise NotPermitted(what, f"Change it: peerpacs projects edit {project.name} --help")


def _is(export: Export) -> str:
    value = export.standing.value
    return value if value.startswith("waits") else f"is {value}"
