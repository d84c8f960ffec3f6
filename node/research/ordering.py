"""Ordering exports: who is in one is found and said before anything runs, and then the order is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from catalog import BadRequest, Clock
from node.study_events import StudyComplete

from .choosing import Choices
from .cohort import Cohort, Cohorts, Finding
from .counting import Counter, Size
from .delivering import check_target
from .exports import ExportBook, increment_id, new_id
from .lists import Wanted
from .model import Export, Project, Standing
from .projects import ProjectBook
from .work import Origin


class Ordering:
    """Previews, orders, and the increments of standing exports."""

    def __init__(
        self,
        projects: ProjectBook,
        book: ExportBook,
        counter: Counter,
        origin: Callable[[str], Origin],
        choices: Choices,
        site: str,
        clock: Clock,
    ) -> None:
        self._choices = choices
        self._projects = projects
        self._book = book
        self._counter = counter
        self._origin = origin
        self._site = site
        self._clock = clock

    def preview(
        self, project: str, archive: str, query: list[str], wanted: list[dict[str, Any]], who: str = ""
    ) -> dict[str, Any]:
        """Say what an export would hold, as far as that may be said, a row for each site."""
        found = self._projects.find(project)
        self._projects.check_open(found, who)
        cohort, cohorts = self._cohort(found, archive, query, wanted)
        return self._told(found, cohort, cohorts)

    def order(
        self,
        project: str,
        archive: str,
        query: list[str],
        wanted: list[dict[str, Any]],
        target: str,
        who: str,
        profile: str = "",
        purpose: str = "",
        is_standing: bool = False,
    ) -> tuple[Export, dict[str, Any]]:
        """Write an order; return it and what it will hold.

        Raises:
            BadRequest: nothing is in it, the target cannot be, or a standing export has a list.
            NotPermitted: the project has ended, or it is not the person's.
        """
        found = self._projects.find(project)
        self._projects.check_open(found, who)
        self._check_target(found, target)
        self._projects.policy(found, profile)
        if is_standing and not query:
            raise BadRequest("A standing export goes by a query, not by a list.", "Use --query.")
        if is_standing and target.lower().endswith(".zip"):
            raise BadRequest("A zip file cannot grow.", "Name a folder, a bucket or an archive.")
        cohort, cohorts = self._cohort(found, archive, query, wanted)
        if not cohort.choices and not is_standing:
            raise BadRequest("Nothing that can be exported was found.", "Look with --dry-run.")
        export = Export(
            id=new_id(),
            project=found.name,
            archive=self._origin(archive).name,
            profile=profile or found.profile,
            target=target,
            standing=Standing.STANDING if is_standing else Standing.READY,
            who=who,
            when=self._clock(),
            purpose=purpose,
            query=msgspec.json.encode(query).decode() if query else "",
            is_standing=is_standing,
            chosen=0 if is_standing else len(cohort.choices),
        )
        if not is_standing:
            self._choices.put(export.id, cohort.choices)
        told = self._told(found, cohort, cohorts)
        written = self._book.add(export, found)
        if is_standing and cohort.choices and written.standing is Standing.STANDING:
            self._increment(written, cohort, "", 0)
        return written, told

    def approve(self, id: str, who: str) -> Export:
        """Let an order run; of a standing export what is there already goes first."""
        export = self._book.find(id)
        project = self._projects.find(export.project)
        after = Standing.STANDING if export.is_standing else Standing.READY
        done = self._book.approve(export.id, project, who, after=after)
        if export.is_standing:
            cohort, _ = self._cohort(project, export.archive, msgspec.json.decode(export.query), [])
            if cohort.choices:
                self._increment(done, cohort, "", 0)
        return done

    def study_complete(self, archive: str, event: StudyComplete) -> None:
        """Begin an increment of each standing export that a study belongs to; twice is harmless."""
        for export in list(self._book.standing(archive)):
            if event.when < export.when:
                continue
            project = self._projects.find(export.project)
            try:
                self._projects.check_open(project)
            except Exception:
                continue
            cohort = self._cohorts(project, archive).of_query(
                msgspec.json.decode(export.query), event.StudyInstanceUID
            )
            if cohort.choices:
                self._increment(export, cohort, event.StudyInstanceUID, event.latest)

    def _increment(self, export: Export, cohort: Cohort, study: str, latest: int) -> None:
        id = increment_id(export.id, study, latest)
        target = export.target
        if "://" not in target and target != "archive:" and not target.startswith("ae:"):
            target = f"{target}/{_stamp(self._clock())}-{id[:8]}"
        elif target.startswith("s3://"):
            target = f"{target.rstrip('/')}/{id[:8]}"
        made = msgspec.structs.replace(
            export,
            id=id,
            parent=export.id,
            target=target,
            standing=Standing.READY,
            when=self._clock(),
            is_standing=False,
            chosen=len(cohort.choices),
            approved_by=export.approved_by or export.who,
        )
        self._choices.put(id, cohort.choices)
        self._book.add(made, self._projects.find(export.project))

    def _check_target(self, project: Project, target: str) -> None:
        check_target(target)
        if (target == "archive:" or target.startswith("ae:")) and not project.archive:
            what = f"The project {project.name} has no archive on this node."
            raise BadRequest(what, f"Give it one: peerpacs projects edit {project.name} --ae TITLE")

    def _cohorts(self, project: Project, archive: str) -> Cohorts:
        origin = self._origin(archive)
        key = self._projects.key(project.name)
        return Cohorts(
            origin.catalog,
            key,
            origin.issuer,
            lambda subject: self._projects.is_withdrawn(project.name, subject),
        )

    def _cohort(
        self, project: Project, archive: str, query: list[str], wanted: list[dict[str, Any]]
    ) -> tuple[Cohort, Cohorts]:
        if bool(query) == bool(wanted):
            raise BadRequest("An export goes by a query or by a list.", "Use --query or --list, not both.")
        cohorts = self._cohorts(project, archive)
        if query:
            return cohorts.of_query(query), cohorts
        return cohorts.of_list(msgspec.convert(wanted, list[Wanted])), cohorts

    def _told(self, project: Project, cohort: Cohort, cohorts: Cohorts) -> dict[str, Any]:
        subjects = {cohorts.identity(choice) for choice in cohort.choices}
        entries = [entry for _, entry in cohorts.entries(cohort.choices)]
        studies = len({choice.StudyInstanceUID for choice in cohort.choices})
        size = Size(len(subjects), studies, len(entries), sum(e.holding.size for e in entries) // 1_000_000)
        secret = self._projects.key_file(project.name).read_bytes()
        counts = self._counter.tell(project, secret, subjects, size)
        state = f"needs approval of {' or '.join(project.approvers)}" if project.approvers else "may export"
        row = {
            "site": self._site,
            "subjects": counts.subjects,
            "studies": counts.studies,
            "instances": counts.instances,
            "megabytes": counts.megabytes,
            "smallest": project.smallest,
            "state": state,
        }
        return {
            "sites": [row],
            "questions_left": counts.left,
            "lines": [msgspec.to_builtins(line) for line in cohort.lines],
            "findings": {
                finding.value: sum(line.finding is finding for line in cohort.lines) for finding in Finding
            },
        }


def _stamp(now: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S")
