"""Ordering exports: who is in one is found and said before anything runs, and then the order is written."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from catalog import BadRequest, Clock, PacsError
from node.study_events import StudyComplete

from .choosing import Choices
from .cohort import Admits, Cohort, Cohorts, Finding
from .counting import Counter, Size
from .delivering import DOWNLOAD, OUTBOX, check_target
from .exports import ExportBook, increment_id, new_id
from .lists import Wanted
from .model import Export, Project, Standing
from .projects import ProjectBook
from .work import Origin


class Question(NamedTuple):
    """Who is meant: by a query or by a list, in an archive, as far as a requester may have it."""

    archive: str
    query: list[str]
    wanted: list[dict[str, Any]]
    requester: str = ""
    """The node at another site that asks; empty = somebody here."""


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
        granted: Callable[[str, str, str], Admits],
    ) -> None:
        """`granted` says what of an archive a node is granted for a project; raises NotPermitted."""
        self._choices = choices
        self._projects = projects
        self._book = book
        self._counter = counter
        self._origin = origin
        self._site = site
        self._clock = clock
        self._granted = granted

    def preview(self, project: str, question: Question, who: str = "") -> dict[str, Any]:
        """Say what an export would hold, as far as that may be said, a row for each site."""
        found = self._projects.find(project)
        self._projects.check_open(found, who)
        cohort, cohorts = self.cohort(found, question)
        return self.told(found, question, cohort, cohorts)

    def order(
        self,
        project: str,
        question: Question,
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
        found = self.check(project, question, target, who, profile, is_standing=is_standing)
        cohort, cohorts = self.cohort(found, question)
        export = Export(
            id=new_id(),
            project=found.name,
            archive=question.archive,
            profile=profile or found.profile,
            target=target,
            standing=Standing.STANDING if is_standing else Standing.READY,
            who=who,
            when=self._clock(),
            purpose=purpose,
            query=msgspec.json.encode(question.query).decode() if question.query else "",
            is_standing=is_standing,
        )
        told = self.told(found, question, cohort, cohorts)
        return self.place(export, found, cohort), told

    def check(
        self, project: str, question: Question, target: str, who: str, profile: str, *, is_standing: bool
    ) -> Project:
        """Return the project, if such an order can be.

        Raises:
            BadRequest: the target cannot be, or a standing export has a list.
            NotPermitted: the project has ended, or it is not the person's.
        """
        found = self._projects.find(project)
        self._projects.check_open(found, who)
        if target != OUTBOX:
            self._check_target(found, target)
        self._projects.policy(found, profile)
        if bool(question.query) == bool(question.wanted):
            raise BadRequest("An export goes by a query or by a list.", "Use --query or --list, not both.")
        if is_standing and not question.query:
            raise BadRequest("A standing export goes by a query, not by a list.", "Use --query.")
        if is_standing and target.lower().endswith(".zip"):
            raise BadRequest("A zip file cannot grow.", "Name a folder, a bucket or an archive.")
        return found

    def place(self, export: Export, project: Project, cohort: Cohort) -> Export:
        """Write an order and who is in it; it runs at once unless somebody has to approve it.

        Raises:
            BadRequest: nothing is in it.
        """
        if not cohort.choices and not export.is_standing:
            raise BadRequest("Nothing that can be exported was found.", "Look with --dry-run.")
        named = replace(export, archive=self._origin(export.archive).name)
        if not export.is_standing:
            named = replace(named, chosen=len(cohort.choices))
            self._choices.put(export.id, cohort.choices)
        written = self._book.add(named, project)
        if export.is_standing and cohort.choices and written.standing is Standing.STANDING:
            self._increment(written, cohort, "", 0)
        return written

    def approve(self, id: str, who: str) -> Export:
        """Let an order run; of a standing export what is there already goes first."""
        export = self._book.find(id)
        project = self._projects.find(export.project)
        after = Standing.STANDING if export.is_standing else Standing.READY
        if export.requester:
            # Whoever ordered it may have lost its grant while the order waited.
            self._granted(export.requester, project.name, export.archive)
        done = self._book.approve(export.id, project, who, after=after)
        if export.is_standing:
            cohort, _ = self.cohort(project, _asked_by(export))
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
                cohorts = self.cohorts(project, _asked_by(export))
            except PacsError:
                # It has ended, or its requester is granted nothing any more.
                continue
            cohort = cohorts.of_query(msgspec.json.decode(export.query), event.StudyInstanceUID)
            if cohort.choices:
                self._increment(export, cohort, event.StudyInstanceUID, event.latest)

    def _increment(self, export: Export, cohort: Cohort, study: str, latest: int) -> None:
        id = increment_id(export.id, study, latest)
        made = replace(
            export,
            id=id,
            parent=export.id,
            target=increment_target(export.target, id, self._clock()),
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

    def cohorts(self, project: Project, question: Question) -> Cohorts:
        """Return what finds cohorts for whoever asks; raises NotPermitted."""
        origin = self._origin(question.archive)
        key = self._projects.key(project.name)
        parts = (origin.catalog, key, origin.issuer)
        withdrawn = partial(self._projects.is_withdrawn, project.name)
        if not question.requester:
            return Cohorts(*parts, withdrawn, origin.persons)
        granted = self._granted(question.requester, project.name, origin.name)
        return Cohorts(*parts, withdrawn, origin.persons, granted)

    def cohort(self, project: Project, question: Question) -> tuple[Cohort, Cohorts]:
        """Return who is meant.

        Raises:
            BadRequest: the query or the list cannot be.
            NotPermitted: nothing is granted to the requester.
        """
        if bool(question.query) == bool(question.wanted):
            raise BadRequest("An export goes by a query or by a list.", "Use --query or --list, not both.")
        cohorts = self.cohorts(project, question)
        if question.query:
            return cohorts.of_query(question.query), cohorts
        return cohorts.of_list(msgspec.convert(question.wanted, list[Wanted])), cohorts

    def told(self, project: Project, question: Question, cohort: Cohort, cohorts: Cohorts) -> dict[str, Any]:
        """Return how much a cohort is as far as that may be told, and what became of a list's lines."""
        subjects = {cohorts.identity(choice) for choice in cohort.choices}
        entries = [entry for _, entry in cohorts.entries(cohort.choices)]
        studies = len({choice.StudyInstanceUID for choice in cohort.choices})
        size = Size(len(subjects), studies, len(entries), sum(e.holding.size for e in entries) // 1_000_000)
        secret = self._projects.key_file(project.name).read_bytes()
        counts = self._counter.tell(
            project, secret, msgspec.json.encode(question, enc_hook=str), subjects, size
        )
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
        lines = [msgspec.to_builtins(line) for line in cohort.lines]
        return {"sites": [row], "questions_left": counts.left, "lines": lines, "findings": findings(lines)}


def findings(lines: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many lines of a list have which finding."""
    return {finding.value: sum(line["finding"] == finding for line in lines) for finding in Finding}


def increment_target(target: str, id: str, now: float) -> str:
    """Return where an increment goes whose standing export goes to a target."""
    if target.startswith("s3://"):
        return f"{target.rstrip('/')}/{id[:8]}"
    if "://" in target or target in ("archive:", DOWNLOAD, OUTBOX) or target.startswith("ae:"):
        return target
    return f"{target}/{_stamp(now)}-{id[:8]}"


def _asked_by(export: Export) -> Question:
    return Question(export.archive, msgspec.json.decode(export.query), [], export.requester)


def _stamp(now: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S")
