"""Exports over all sites of a project: who is asked, and what they say beforehand, as one answer."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from catalog import BadRequest, Clock, PacsError
from federation.export_messages import Order

from .cohort import Finding
from .exports import new_id
from .gathering import Gathering
from .model import Export, Project, SitePart, Standing
from .ordering import Ordering, Question, findings
from .partners import Partners
from .projects import ProjectBook

HERE: Final = "here"
"""Names this node among the sites of an export."""
_AT_ONCE: Final = 16
_COUNTS: Final = ("subjects", "studies", "instances", "megabytes")
_BEST: Final = (Finding.FOUND, Finding.AMBIGUOUS, Finding.REFUSED, Finding.NOT_FOUND)
"""What is said of a line of which sites say different things: the first of these."""


class Everywhere:
    """Previews and orders at the sites of a project."""

    def __init__(
        self,
        projects: ProjectBook,
        ordering: Ordering,
        gathering: Gathering,
        partners: Partners,
        own_site: str,
        clock: Clock,
    ) -> None:
        self._projects = projects
        self._ordering = ordering
        self._gathering = gathering
        self._partners = partners
        self._own_site = own_site
        self._clock = clock

    def sites(self, project: Project, named: Sequence[str] = ()) -> list[SitePart]:
        """Return the sites that are asked: those named, or all; none = only this node, without others.

        One of a site's archives is named behind it: `beta/paediatrics`.

        Raises:
            BadRequest: one that is named is no partner, or is named twice.
        """
        if not project.partners or tuple(named) == (HERE,):
            return []
        around = self._partners.around()
        own = SitePart(node_id=around.own_id, name=self._own_site)
        everybody = [*([] if project.foreign_key else [own])]
        everybody += [SitePart(node_id=each, name=around.name(each)) for each in project.partners]
        if not named:
            return everybody
        wanted: dict[str, str] = {}
        for name, _, archive in (each.partition("/") for each in named):
            node_id = own.node_id if name == HERE else around.node_id(name)
            if wanted.setdefault(node_id, archive) != archive:
                what = f"Two archives of {name} are named, and an export takes one from each site."
                raise BadRequest(what, "Order one export for each.")
        found = [replace(each, archive=wanted[each.node_id]) for each in everybody if each.node_id in wanted]
        if len(found) != len(wanted):
            names = ", ".join(part.name for part in everybody)
            raise BadRequest(f"The project {project.name} has other sites: {names}.", "Name one of them.")
        return found

    def preview(
        self, name: str, question: Question, who: str, profile: str, named: Sequence[str]
    ) -> dict[str, Any]:
        """Say what an export would hold, a row for each site, and what became of each line of a list."""
        project = self._projects.find(name)
        self._projects.check_open(project, who)
        parts = self.sites(project, named)
        if not parts:
            return self._ordering.preview(name, question, who)
        own_id = self._partners.around().own_id
        told = self._told(project, question, profile, new_id())
        with ThreadPoolExecutor(_AT_ONCE, "export preview") as pool:
            jobs = [pool.submit(self._ask, part, told, who) for part in parts if part.node_id != own_id]
            own = [self._ordering.preview(name, question, who)] if len(jobs) < len(parts) else []
            answers = [*own, *(job.result() for job in jobs)]
        return _merged(answers, question.wanted)

    def order(
        self, name: str, question: Question, target: str, who: str, parts: list[SitePart], **more: Any
    ) -> Export:
        """Order at several sites; each decides for itself.

        Raises:
            BadRequest, NotPermitted: as `Ordering.order`.
        """
        is_standing = bool(more.get("is_standing"))
        profile = str(more.get("profile", ""))
        project = self._ordering.check(name, question, target, who, profile, is_standing=is_standing)
        id = new_id()
        told = self._told(project, question, profile, id)
        told = replace(told, purpose=str(more.get("purpose", "")), is_standing=is_standing)
        export = Export(
            id=id,
            project=project.name,
            archive=question.archive,
            profile=profile or project.profile,
            target=target,
            standing=Standing.STANDING if is_standing else Standing.GATHERING,
            who=who,
            when=self._clock(),
            purpose=told.purpose,
            is_standing=is_standing,
            sites=tuple(parts),
        )
        return self._gathering.order(export, told)

    def _told(self, project: Project, question: Question, profile: str, id: str) -> Order:
        return Order(
            order=id,
            project=project.name,
            key_id=self._projects.key_id(project),
            profile=profile,
            query=tuple(question.query),
            lines=tuple(question.wanted),
        )

    def _ask(self, part: SitePart, told: Order, who: str) -> dict[str, Any]:
        """Return one site's answer as `Ordering.preview` gives this node's, or why there is none."""
        row: dict[str, Any] = {"site": part.name, **dict.fromkeys(_COUNTS, -1), "smallest": 0}
        try:
            asker = self._partners.asker(who, told.order)
            asked = replace(told, archive=part.archive)
            found = self._partners.around().calls.preview(part.node_id, asker, asked)
        except PacsError as error:
            return {"sites": [{**row, "state": error.what}], "questions_left": None, "lines": []}
        row |= {word: getattr(found, word) for word in (*_COUNTS, "smallest", "state")}
        lines = [msgspec.to_builtins(line) for line in found.lines]
        return {"sites": [row], "questions_left": found.questions_left, "lines": lines}


def _merged(answers: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the answers of sites as one: a list's line is found if any of them has it."""
    said: dict[int, list[dict[str, Any]]] = {each["line"]: [] for each in wanted}
    for line in (line for answer in answers for line in answer["lines"]):
        said.setdefault(line["line"], []).append(line)
    lines = [_best(number, told) for number, told in sorted(said.items())]
    left = [answer["questions_left"] for answer in answers if answer["questions_left"] is not None]
    return {
        "sites": [row for answer in answers for row in answer["sites"]],
        "questions_left": min(left, default=0),
        "lines": lines,
        "findings": findings(lines),
    }


def _best(number: int, told: list[dict[str, Any]]) -> dict[str, Any]:
    nothing = {"line": number, "finding": Finding.NOT_FOUND.value, "why": "No site that may say so has it."}
    order = [each.value for each in _BEST]
    return min([*told, nothing], key=lambda each: order.index(each["finding"]))
