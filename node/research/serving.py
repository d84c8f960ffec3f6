"""What this node does for research at other sites: it counts, takes orders, and gives what was released.

Every answer is about projects that the caller is a partner of, and about what this node's grants let it have
of its own. Nothing leaves but counts as they may be told, how an order stands, and the files of a release.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from catalog import BadRequest, Clock, Contradiction, NotFound, NotPermitted
from catalog.order import decoded
from catalog.statements import Stated
from federation.export_messages import (
    Accepted,
    Finding,
    Name,
    Offer,
    Order,
    Preview,
    Release,
    ReleaseName,
    Withdrawal,
    Withdrawn,
)
from federation.export_messages import Standing as Told
from federation.exports import Given
from federation.links.gate import Visitor
from federation.trust.policy import Caller, Op, Permission, Policy, Throttle
from node.archives import DEFAULT

from .cohort import Admits, Cohort
from .cohort import Finding as Line
from .delivering import OUTBOX
from .exports import ExportBook, part_id
from .model import Export, Project, Standing
from .ordering import Ordering, Question
from .partners import Partners
from .projects import ProjectBook
from .release import MANIFEST

KEPT: Final = 30 * 86400.0
"""Seconds that a release waits in the outbox for whoever ordered it."""
_UNTOLD: Final = "It failed there; the people of that site see why."


class Outside(NamedTuple):
    """What serving needs of the node around it."""

    policy: Callable[[], Policy]
    peer: Callable[[str], Caller]
    """A node as policy knows it, by its id."""
    stated: Callable[[str, str], Stated | None]
    """What the log would state about a study of an archive."""
    withdraw: Callable[[str, str, str, str], Withdrawn]
    """Takes a subject out of a project here: project, pseudonym, who, reason."""
    certificate: Callable[[], bytes]
    clock: Clock
    monotonic: Clock
    rest: Callable[[float], object]


def admission(outside: Outside) -> Callable[[str, str, str], Admits]:
    """Return what says which series of an archive a node is granted for a project; raises NotPermitted."""

    def granted(node_id: str, project: str, archive: str) -> Admits:
        permissions = _permissions(outside, outside.peer(node_id), project, archive)
        if any(not each.share.match for each in permissions):
            return lambda study: None

        def series(study: str) -> frozenset[str]:
            stated = outside.stated(archive, study)
            if stated is None:
                return frozenset()
            above = decoded(stated.study.attributes)
            return frozenset(
                row.SeriesInstanceUID
                for row in stated.series
                if any(each.admits({**above, **decoded(row.attributes)}) for each in permissions)
            )

        return series

    return granted


def _granted(outside: Outside, caller: Caller, project: str) -> list[Permission]:
    found = outside.policy().check(caller, Op.EXPORT_DEID, outside.clock())
    return [each for each in found if each.grant.project.upper() in ("", project)]


def _permissions(outside: Outside, caller: Caller, project: str, archive: str) -> list[Permission]:
    fit = [each for each in _granted(outside, caller, project) if each.share.archive == archive]
    if not fit:
        what = f"This site grants no exports for the project {project} to that node."
        remedy = f"Its admin can: peerpacs grants add PEER everything export_deid --project {project}"
        raise NotPermitted(what, remedy)
    return fit


class Serving:
    """Satisfies `federation.exports.Owner`."""

    def __init__(
        self,
        projects: ProjectBook,
        exports: ExportBook,
        ordering: Ordering,
        partners: Partners,
        outbox: Path,
        outside: Outside,
    ) -> None:
        self._projects = projects
        self._exports = exports
        self._ordering = ordering
        self._partners = partners
        self._outbox = outbox
        self._outside = outside
        self._throttles: dict[tuple[str, int], Throttle] = {}

    def certificate(self) -> bytes:
        """See `Owner.certificate`."""
        return self._outside.certificate()

    def offer(self, visitor: Visitor, told: Offer) -> Accepted:
        """See `Owner.offer`."""
        return Accepted(is_in_force=self._partners.received(visitor.identity, told))

    def preview(self, visitor: Visitor, told: Order) -> Preview:
        """See `Owner.preview`."""
        project, told, permissions = self._admit(visitor, told)
        cohort, subjects, answer = self._counted(visitor, project, told)
        site = answer["sites"][0]
        smallest = max(project.smallest, *(each.grant.min_cohort for each in permissions))
        is_told = site["subjects"] >= 0 and subjects >= smallest
        words = ("subjects", "studies", "instances", "megabytes")
        counts = {word: site[word] if is_told else -1 for word in words}
        is_trusted = visitor.identity.node_id in project.trusted
        seen = [each for each in cohort.lines if each.finding is not Line.NOT_FOUND]
        lines = [Finding(line=each.line, finding=each.finding, why=each.why) for each in seen]
        return Preview(
            **counts,
            smallest=smallest,
            questions_left=answer["questions_left"],
            state="may export" if is_trusted else "needs approval there",
            lines=tuple(lines) if is_told else (),
        )

    def order(self, visitor: Visitor, told: Order) -> Told:
        """See `Owner.order`."""
        node_id = visitor.identity.node_id
        project, told, permissions = self._admit(visitor, told)
        try:
            return self._told(self._exports.find(part_id(node_id, told.order)))
        except NotFound:
            pass
        self._projects.check_open(project)
        question = self._question(visitor, told)
        self._ordering.check(project.name, question, OUTBOX, "", "", is_standing=told.is_standing)
        # An order tells as much as a preview does, and so costs one of the project's questions too.
        cohort, subjects, _ = self._counted(visitor, project, told)
        least = max(each.grant.min_cohort for each in permissions)
        if subjects < least and not told.is_standing:
            what = f"Fewer than {least} subjects match at this site, and it exports no smaller cohort."
            raise NotPermitted(what, "Ask for more, or talk to that site.")
        site = visitor.identity.site or visitor.identity.name
        who = f"{visitor.asker.pseudonym[:8] or 'somebody'} at {site}"
        export = self._export(project, told, part_id(node_id, told.order), who)
        is_trusted = node_id in project.trusted
        approved = f"standing approval for {visitor.identity.name}" if is_trusted else ""
        return self._told(
            self._ordering.place(replace(export, requester=node_id, approved_by=approved), project, cohort)
        )

    def order_here(self, told: Order, who: str, own_id: str, archive: str) -> Told:
        """Take in this site's own part of an export that goes to several; raises as `Ordering.order`."""
        id = part_id(own_id, told.order)
        try:
            return self._told(self._exports.find(id))
        except NotFound:
            pass
        project = self._projects.find(told.project)
        question = Question(archive, list(told.query), list(told.lines))
        cohort, _ = self._ordering.cohort(project, question)
        export = self._export(project, replace(told, archive=archive), id, who)
        return self._told(self._ordering.place(replace(export, parent=told.order), project, cohort))

    def stand(self, visitor: Visitor, told: Name) -> Told:
        """See `Owner.stand`."""
        return self._told(self._ordered(visitor, told.order))

    def standing_of(self, id: str) -> Told:
        """Say how an order stands, by the id that it has here."""
        return self._told(self._exports.find(id))

    def stop(self, visitor: Visitor, told: Name) -> Told:
        """See `Owner.stop`."""
        export = self._ordered(visitor, told.order)
        return self._told(self._exports.stop(export.id, export.who))

    def release(self, visitor: Visitor, told: ReleaseName) -> Given:
        """See `Owner.release`."""
        export = self._ordered(visitor, told.order)
        _permissions(self._outside, visitor.caller, self._own(visitor, export.project).name, export.archive)
        return self.given(self._released(visitor, told), visitor)

    def given(self, export: Export, visitor: Visitor | None = None) -> Given:
        """Return the files of a release in the outbox.

        Raises:
            NotFound: it is not there any more.
            NotPermitted: a subject of it was withdrawn meanwhile.
        """
        folder = self._outbox / export.id
        if not folder.is_dir():
            raise NotFound("That release does not lie here any more.", "Order the export anew.")
        if any(self._projects.is_withdrawn(export.project, each) for each in export.subjects):
            raise NotPermitted("A subject of it was withdrawn meanwhile.", "Order the export anew.")
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        ordered = (*(name for name in names if name != MANIFEST), MANIFEST)
        return Given(folder, ordered, self._pace(export, visitor))

    def took(self, visitor: Visitor, told: ReleaseName) -> None:
        """See `Owner.took`."""
        self.forget(self._released(visitor, told).id)

    def forget(self, id: str) -> None:
        """Remove a release from the outbox: whoever ordered it has it."""
        shutil.rmtree(self._outbox / id, ignore_errors=True)

    def withdraw(self, visitor: Visitor, told: Withdrawal) -> Withdrawn:
        """See `Owner.withdraw`."""
        project = self._partner_in(visitor, told.project)
        who = f"somebody at {visitor.identity.site or visitor.identity.name}"
        return self._outside.withdraw(project.name, told.subject, who, told.reason[:200])

    def tidy(self) -> None:
        """Remove releases that nobody fetched in time."""
        for path in self._outbox.glob("*") if self._outbox.is_dir() else ():
            if path.stat().st_mtime < self._outside.clock() - KEPT:
                shutil.rmtree(path, ignore_errors=True)

    def _partner_in(self, visitor: Visitor, name: str) -> Project:
        try:
            project = self._projects.find(name)
        except NotFound:
            project = None
        if project is None or visitor.identity.node_id not in project.partners:
            what = f"{visitor.identity.name} is no partner in a project {name[:24]} of this site."
            raise NotPermitted(what, "Share the project with it: peerpacs projects share")
        return project

    def _own(self, visitor: Visitor, name: str) -> Project:
        """Return a project of which this site has the key and the visitor is a partner."""
        project = self._partner_in(visitor, name)
        if project.foreign_key:
            raise NotFound("This site has no key of the project, so it exports nothing.")
        return project

    def _admit(self, visitor: Visitor, told: Order) -> tuple[Project, Order, list[Permission]]:
        """Return the project, the order with the archive that it means, and what it is permitted by."""
        project = self._own(visitor, told.project)
        told = replace(told, archive=told.archive or self._meant(visitor, project))
        return project, told, _permissions(self._outside, visitor.caller, project.name, told.archive)

    def _meant(self, visitor: Visitor, project: Project) -> str:
        """Return the archive that an order means which names none: the default one, or the only one granted.

        Raises:
            BadRequest: several others are granted.
        """
        found = _granted(self._outside, visitor.caller, project.name)
        names = sorted({each.share.archive for each in found})
        if DEFAULT in names or not names:
            return DEFAULT
        if len(names) > 1:
            what = f"This site grants several archives: {', '.join(names)}."
            raise BadRequest(what, f"Name one of them behind the site: --site SITE/{names[0]}")
        return names[0]

    def _question(self, visitor: Visitor, told: Order) -> Question:
        return Question(told.archive, list(told.query), list(told.lines), visitor.identity.node_id)

    def _counted(self, visitor: Visitor, project: Project, told: Order) -> tuple[Cohort, int, dict[str, Any]]:
        """Return who is meant, of how many subjects they are, and what may be told of that."""
        self._check(project, told)
        question = self._question(visitor, told)
        cohort, cohorts = self._ordering.cohort(project, question)
        subjects = len({cohorts.identity(each) for each in cohort.choices})
        return cohort, subjects, self._ordering.told(project, question, cohort, cohorts)

    def _check(self, project: Project, told: Order) -> None:
        """Make sure that an order fits the project as it is here.

        Raises:
            Contradiction: it is made with another key.
            BadRequest: it wants another profile; or it cannot be.
        """
        self._projects.check_open(project)
        if told.key_id != self._projects.key_id(project):
            what = f"This site has another key of the project {project.name}."
            raise Contradiction(what, f"Share it once more: peerpacs projects share {project.name} PEER")
        if told.profile and told.profile != project.profile:
            what = f"Here the project goes by the profile {project.profile}, not {told.profile}."
            raise BadRequest(what, "Leave the profile out, or talk to that site.")

    def _export(self, project: Project, told: Order, id: str, who: str) -> Export:
        self._check(project, told)
        return Export(
            id=id,
            project=project.name,
            archive=told.archive,
            profile=project.profile,
            target=OUTBOX,
            standing=Standing.STANDING if told.is_standing else Standing.READY,
            who=who,
            when=self._outside.clock(),
            purpose=told.purpose[:200],
            query=msgspec.json.encode(told.query).decode() if told.query else "",
            is_standing=told.is_standing,
        )

    def _ordered(self, visitor: Visitor, order: str) -> Export:
        export = self._exports.find(part_id(visitor.identity.node_id, order))
        if export.requester != visitor.identity.node_id:
            raise NotFound("That node ordered no such export here.")
        return export

    def _released(self, visitor: Visitor, told: ReleaseName) -> Export:
        ordered = self._ordered(visitor, told.order)
        return self._release_of(ordered, told.export)

    def _release_of(self, ordered: Export, id: str) -> Export:
        found = next((each for each in self._releases(ordered) if each.id == id), None)
        if found is None:
            raise NotFound("That order has no such release.", "Ask how it stands.")
        return found

    def release_of(self, id: str, release: str) -> Given:
        """Return the files of one release of an order, by the ids they have here."""
        return self.given(self._release_of(self._exports.find(id), release))

    def _releases(self, ordered: Export) -> list[Export]:
        found = [ordered] if not ordered.is_standing else self._exports.increments(ordered.id)
        return [each for each in found if each.standing is Standing.DONE]

    def _told(self, export: Export) -> Told:
        why = export.why if export.standing is Standing.REFUSED else ""
        if export.standing is Standing.FAILED:
            why = _UNTOLD if export.requester else export.why
        return Told(
            standing=export.standing.value,
            why=why,
            releases=tuple(
                Release(export=each.id, manifest=each.manifest, instances=each.released, size=each.size)
                for each in self._releases(export)
            ),
        )

    def _pace(self, export: Export, visitor: Visitor | None) -> Callable[[int], None]:
        if visitor is None:
            return lambda size: None
        outside = self._outside
        found = _permissions(outside, visitor.caller, export.project, export.archive)
        rate = min((each.grant.rate for each in found if each.grant.rate), default=0)
        throttle = self._throttles.setdefault((visitor.identity.node_id, rate), Throttle(rate))

        def pace(size: int) -> None:
            if wait := throttle.wait(size, outside.monotonic()):
                outside.rest(wait)

        return pace
