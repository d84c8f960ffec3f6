"""Research in a node: its books, doors and exports put together; imported when a node has a project."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from catalog import BadRequest, NotFound, Selection, Verb
from catalog.structs import learn_structs
from node.archives import DEFAULT, Plan
from node.bucket.client import Bucket
from node.keys import attributes_of, question, tag_of, text_of
from node.patient_links import PatientLinks
from node.research.choosing import Choices
from node.research.curating import Curating
from node.research.delivering import Ways
from node.research.desk import ResearchDesk, Room
from node.research.door import Budget, Machine, Parts, ProjectIngest
from node.research.exports import ExportBook
from node.research.model import Project
from node.research.persons import Persons
from node.research.projects import ProjectBook
from node.research.quarantine import Quarantine
from node.research.sealing import Signer, Vault
from node.research.withdrawing import Reach
from node.research.work import Exporter, Origin
from node.storage import file_meta
from node.transfers import Kind, Lane, Order

from .background import Background
from .chores import Chore, Loop
from .doors import Doors, Shared
from .research_grid import ResearchGrid
from .settings import bucket_settings

if TYPE_CHECKING:
    from .node import Node

_QUICK = 0.2
_MOST_LANES = 8

# Imported while threads run, which are about to use what was imported with it.
learn_structs()


class ResearchDoors:
    """The doors of research projects, in any process that talks to devices."""

    def __init__(self, shared: Shared, archives: Mapping[str, Doors]) -> None:
        home, state, clock = shared.home, shared.state, shared.clock
        self._shared = shared
        self._archives = archives
        self.folder = home / "research"
        self.projects = ProjectBook(state, home / "secrets", clock)
        self.vault = Vault(home / "secrets" / "research.key")
        self.quarantine = Quarantine(
            state, self.folder / "quarantine", self.vault, self._read, shared.audit, clock
        )
        self.persons = Persons(PatientLinks(state).current)
        self._budget = Budget()
        self._machines: dict[str, Machine] = {}

    def door(self, project: str) -> ProjectIngest:
        """Return the door that de-identifies what goes in."""
        return ProjectIngest(project, self.parts(project))

    def parts(self, project: str) -> Parts:
        """Return what a project's door is made of."""
        found = self.projects.find(project)
        archive = self._archives.get(found.archive)
        if project not in self._machines:
            config = self._shared.config
            # Gateways share the machine's cores, and each has a door of its own.
            lanes = max(1, (os.cpu_count() or 1) // config.processes.count)
            machine = Machine(self.projects, config.node.issuer, self.persons, min(lanes, _MOST_LANES))
            self._machines.setdefault(project, machine)
        ingest = archive.ingest if archive else _NoArchive(project)
        return Parts(self.projects, self.quarantine, ingest, self._machines[project], self._budget)

    def close(self) -> None:
        """End the anonymizer's processes."""
        for machine in self._machines.values():
            machine.close()

    def _read(self, archive: str, SOPInstanceUID: str) -> tuple[bytes, str]:
        """Return an instance as a Part 10 file, through the one door out, and its patient's issuer."""
        found = self._archives.get(archive or DEFAULT)
        entries = found.catalog.select(Selection(instances=(SOPInstanceUID,))) if found else []
        if found is None or not entries:
            raise NotFound(f"{SOPInstanceUID} is not in its archive any more.", "Reject what is held of it.")
        outgoing = found.retriever.open(entries[0])
        try:
            data = bytearray(outgoing.size)
            outgoing.read_into(memoryview(data), 0)
            uids = (outgoing.SOPClassUID, outgoing.SOPInstanceUID, outgoing.TransferSyntaxUID)
            asked = question([f"StudyInstanceUID={entries[0].StudyInstanceUID}", "IssuerOfPatientID"])
            issuers = [text_of(each.get(tag_of("IssuerOfPatientID"), {})) for each in _find(found, asked)]
            return file_meta(*uids) + data, next(iter(issuers), "")
        finally:
            outgoing.close()


class Research(ResearchDoors):
    """Everything about research, in the process that writes the catalogs."""

    def __init__(self, node: Node, shared: Shared, background: Background) -> None:
        super().__init__(shared, node.archives)
        self._node = node
        self.shared = shared
        self.background = background
        self._is_running = False
        self.exports = ExportBook(shared.state, shared.audit, shared.clock)
        self.signer = Signer(shared.home / "secrets" / "research-signing.key")
        self.choices = Choices(self.folder / "exports", self.vault)
        self.grid = ResearchGrid(
            node, self, Reach(self._issuers, self._remove, lambda id: None, self.persons)
        )
        self.ordering = self.grid.ordering
        self.exporter = Exporter(
            self.folder / "exports",
            self.projects,
            self.exports,
            self.quarantine,
            self.vault,
            self.signer,
            self.origin,
            self.choices,
            self.ways(self.grid.outbox),
            max(1, (os.cpu_count() or 2) - 1),
            background.stopping.is_set,
            shared.clock,
        )
        self.desk = self._make_desk()

    def _make_desk(self) -> ResearchDesk:
        audit = self._shared.audit
        return ResearchDesk(
            Room(
                self.projects,
                self.exports,
                self.ordering,
                self.exporter,
                self.quarantine,
                Curating(self.parts, audit),
                audit,
                self.folder / "records",
                self.grid.partners,
                self.grid.everywhere,
                self.grid.gathering,
                self.grid.serving,
                self.grid.withdrawals,
                self._put_archive,
                self.begin,
            )
        )

    def begin(self) -> None:
        """Have a thread work on exports from now on; it goes on with those that a crash interrupted."""
        if not self._is_running:
            self._is_running = True
            self.exporter.tidy()
            self.background.repeat(Loop("exports", self.exporter.step, idle_pause=_QUICK))
            for loop in self.grid.loops():
                self.background.repeat(loop)

    def chores(self) -> Iterator[Chore]:
        """Yield what must be done in the background."""
        yield Chore("quarantine", 600.0, self.quarantine.tidy)
        yield from self.grid.chores()

    def ways(self, outbox: Path) -> Ways:
        """Return how releases reach what is not a path."""
        return Ways(self._bucket, lambda name: self.parts(name).archive, self._forward, outbox)

    def origin(self, archive: str) -> Origin:
        """Return an archive as exports read it.

        Raises:
            NotFound, BadRequest: there is none, or it keeps a de-identified set already.
        """
        found = self._node.archive(archive)
        if found.plan.research:
            what = f"The archive {found.name} keeps a de-identified set already."
            raise BadRequest(what, "Its objects are retrieved like any others: peerpacs forward")
        issuer = found.plan.issuer or self._node.config.node.issuer
        return Origin(found.name, found.catalog, found.retriever, issuer, self.persons)

    def _bucket(self, url: str) -> Bucket:
        settings = bucket_settings(url, self._node.config.s3, self._node.home)
        return Bucket(settings.endpoint, self._node.clock)

    def _forward(self, project: str, study: str, ae_title: str) -> None:
        device = self._node.devices.find(ae_title)
        if not device.port:
            remedy = f"peerpacs devices edit {ae_title} --address HOST --port PORT"
            raise BadRequest(f"{ae_title} is in the device book without a port.", remedy)
        archive = self.projects.find(project).archive
        order = Order(kind=Kind.DELIVER, destination=device.ae_title, archive=archive, StudyInstanceUID=study)
        self._node.transfers.enqueue(order, Lane.BULK, "PEERPACS", f"export of {project}", again=True)

    def _put_archive(self, project: Project, ae_title: str) -> str:
        name = project.archive or project.name.lower()
        known = self._node.archives.get(name)
        if known is not None and known.plan.research != project.name:
            what = f"There is an archive {name} that is not the project's."
            raise BadRequest(what, "Name the project otherwise: its archive is called as it is.")
        plan = known.plan if known else Plan(name=name, ae_titles=(), research=project.name)
        self._node.put_archive(replace(plan, ae_titles=(ae_title,)))
        return name

    def _issuers(self, archive: str, patient: str) -> set[str]:
        origin = self.origin(archive)
        asked = question([]) | attributes_of([f"PatientID={patient}", "IssuerOfPatientID"])
        rows = [
            each
            for each in _find(self._node.archive(archive), asked)
            if text_of(each.get(tag_of("PatientID"), {})) == patient
        ]
        found = {text_of(each.get(tag_of("IssuerOfPatientID"), {})) or origin.issuer for each in rows}
        return found or {origin.issuer}

    def _remove(self, archive: str, subject: str, who: str, reason: str) -> int:
        found = self._node.archive(archive)
        asked = question([]) | attributes_of([f"PatientID={subject}"])
        studies = [text_of(each[tag_of("StudyInstanceUID")]) for each in _find(found, asked)]
        for study in studies:
            found.register.make(Verb.DELETE, (study,), reason=reason or "withdrawn", who=who)
        return len(studies)


class _NoArchive:
    """Satisfies `Ingest` for a project that keeps no archive on this node."""

    def __init__(self, project: str) -> None:
        self._project = project

    def begin(self, *_: Any, **__: Any) -> Any:
        """Refuse."""
        what = f"The project {self._project} has no archive on this node."
        raise NotFound(what, f"Give it one: peerpacs projects edit {self._project} --ae TITLE")


def _find(archive: Doors, asked: Any) -> Any:
    from catalog import Matching, understand

    query = understand(asked, patient_root=True, matching=Matching.RELATIONAL, is_lenient=False)
    return archive.catalog.find(query)
