"""Taking a subject out of a project: here at once, at the other sites as soon as each can be told.

What is still to be told is a row, so that neither a crash nor a site that is away loses it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from catalog import BadRequest, Clock, NotFound, PacsError
from federation.export_messages import Copy, Withdrawal, Withdrawn
from node.contracts import Audit
from node.state import State

from .delivering import DOWNLOAD, OUTBOX
from .exports import ExportBook
from .model import Export, Project
from .partners import Partners
from .persons import Persons
from .projects import ProjectBook
from .quarantine import Quarantine


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """A withdrawal that one site has to hear of."""

    project: str
    subject: str
    reason: str
    who: str
    node_id: str
    when: float
    tried: float = 0.0
    """When it was tried last."""


class Reach(NamedTuple):
    """What a withdrawal does in this node's archives."""

    issuers: Callable[[str, str], set[str]]
    """Whose a Patient ID is in an archive; the archive's own issuer if it is nobody's there."""
    remove: Callable[[str, str, str, str], int]
    """Deletes a subject from an archive: archive, pseudonym, who, reason; returns how many studies."""
    forget: Callable[[str], None]
    """Removes a release from the outbox, by its export's id."""
    persons: Persons


class Withdrawals:
    """Withdraws subjects; `step` tells sites that could not be told before."""

    def __init__(
        self,
        state: State,
        projects: ProjectBook,
        exports: ExportBook,
        quarantine: Quarantine,
        partners: Partners,
        reach: Reach,
        audit: Audit,
        clock: Clock,
    ) -> None:
        self._waiting = state.table("research-withdrawals-to-tell", Telling)
        self._projects = projects
        self._exports = exports
        self._quarantine = quarantine
        self._partners = partners
        self._reach = reach
        self._audit = audit
        self._clock = clock

    def withdraw(
        self, subject: str, who: str, reason: str, project: str, issuer: str, archive: str
    ) -> list[dict[str, Any]]:
        """Take a subject out of one project or all, at every site; `subject` is a pseudonym or a Patient ID.

        Raises:
            NotFound: there is no project, or none whose key is here to know a Patient ID by.
            BadRequest: the Patient ID is that of several patients.
        """
        projects = [self._projects.find(project)] if project else list(self._projects)
        if not projects:
            raise NotFound("This node has no research projects.", "There is nothing to withdraw from.")
        named = [each for each in projects if subject.startswith(f"{each.name}-")]
        done = []
        for each in named or projects:
            pseudonym = self._pseudonym(each, subject, issuer, archive)
            if pseudonym:
                done.append(self._everywhere(each, pseudonym, who, reason))
        if not done:
            what = "This node has no key of the project, so it knows nobody by a Patient ID."
            raise NotFound(what, "Name the pseudonym, or withdraw at the patient's hospital.")
        return done

    def here(self, project: str, subject: str, who: str, reason: str) -> Withdrawn:
        """Take a subject out of a project at this node, and bar it; twice is harmless."""
        found = self._projects.find(project)
        if not subject.startswith(f"{found.name}-"):
            raise BadRequest("That is no pseudonym of the project.", f"One begins with {found.name}-.")
        self._projects.withdraw(found.name, subject, who, reason)
        removed = self._reach.remove(found.archive, subject, who, reason) if found.archive else 0
        for held in self._quarantine.all(found.name):
            if held.subject == subject:
                self._quarantine.remove(held, "withdrawn", who)
        copies = tuple(self._copies(found.name, subject))
        detail = {"project": found.name, "subject": subject, "who": who, "studies": removed}
        self._audit.record("change", None, "subject withdrawn", {**detail, "copies": len(copies)})
        return Withdrawn(removed=removed, copies=copies)

    def step(self) -> bool:
        """Tell the site that was tried longest ago of those to be told; say whether there was one."""
        waiting = sorted(self._waiting.scan(), key=lambda pair: pair[1].tried)
        for key, row in waiting[:1]:
            self._waiting.put(key, replace(row, tried=self._clock()))
            self._tell(key, row)
            return True
        return False

    def follow_links(self) -> None:
        """Have a withdrawal under one number hold for whom people linked with it afterwards."""
        persons = self._reach.persons
        for project in self._projects:
            if project.foreign_key or not self._projects.withdrawals(project.name):
                continue
            key = self._projects.key(project.name)
            for main in set(persons.same().values()):
                subject = key.subject(main)
                others = [key.subject(each) for each in persons.all_of(main)]
                if not self._projects.is_withdrawn(project.name, subject) and any(
                    self._projects.is_withdrawn(project.name, each) for each in others
                ):
                    self._everywhere(project, subject, "PEERPACS", "linked with somebody who was withdrawn")

    def _everywhere(self, project: Project, subject: str, who: str, reason: str) -> dict[str, Any]:
        here = self.here(project.name, subject, who, reason)
        sites = []
        for node_id in project.partners:
            row = Telling(
                project=project.name,
                subject=subject,
                reason=reason,
                who=who,
                node_id=node_id,
                when=self._clock(),
            )
            key = f"{project.name}\0{subject}\0{node_id}".encode()
            self._waiting.put(key, row)
            sites.append(self._tell(key, row))
        return {
            "project": project.name,
            "subject": subject,
            "removed": here.removed,
            "copies": [msgspec.to_builtins(copy) for copy in here.copies],
            "sites": sites,
        }

    def _tell(self, key: bytes, row: Telling) -> dict[str, Any]:
        told: dict[str, Any] = {"node_id": row.node_id, "site": row.node_id, "removed": 0, "copies": []}
        try:
            around = self._partners.around()
            told["site"] = around.name(row.node_id)
            asked = Withdrawal(project=row.project, subject=row.subject, reason=row.reason)
            done = around.calls.withdraw(row.node_id, self._partners.asker(row.who), asked)
        except PacsError as error:
            return {**told, "outcome": "not told yet", "why": error.what}
        self._waiting.delete(key)
        detail = {"project": row.project, "subject": row.subject, "node_id": row.node_id}
        self._audit.record("change", None, "withdrawal told", {**detail, "studies": done.removed})
        copies = [msgspec.to_builtins(copy) for copy in done.copies]
        return {**told, "outcome": "withdrawn", "why": "", "removed": done.removed, "copies": copies}

    def _copies(self, project: str, subject: str) -> list[Copy]:
        """Return where something of a subject was brought that nobody here can take back.

        What nobody has fetched yet is still here: it goes.
        """
        copies = []
        for export in self._exports.copies(project, subject):
            if export.target in (DOWNLOAD, OUTBOX):
                self._reach.forget(export.id)
            if export.target != "archive:" and not _is_own_part(export):
                copies.append(Copy(export=export.id, target=self._target(export), when=export.when))
        return copies

    def _target(self, export: Export) -> str:
        if export.target == DOWNLOAD:
            return "whoever took it over the web"
        if export.target != OUTBOX:
            return export.target
        return f"the site that ordered it ({self._partners.name(export.requester)})"

    def _pseudonym(self, project: Project, subject: str, issuer: str, archive: str) -> str:
        """Return a subject's pseudonym in a project; empty if only a key that is not here could tell."""
        if subject.startswith(f"{project.name}-"):
            return subject
        if project.foreign_key:
            return ""
        identity = self._reach.persons.identity(issuer or self._issuer_of(subject, archive), subject)
        return self._projects.key(project.name).subject(identity)

    def _issuer_of(self, patient: str, archive: str) -> str:
        issuers = self._reach.issuers(archive, patient)
        if len(issuers) > 1:
            what = f"That Patient ID is one of {len(issuers)} issuers: {', '.join(sorted(issuers))}."
            raise BadRequest(what, "Say with --issuer whose it is.")
        return issuers.pop()


def _is_own_part(export: Export) -> bool:
    """Say whether an export is only this site's part of one that has a row of its own here."""
    return export.target == OUTBOX and not export.requester
