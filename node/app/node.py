"""A node, open: its archives and what they share, with the threads that keep it going."""

from __future__ import annotations

import logging
import ssl
import sys
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Final

from catalog import BadRequest, Clock, NotFound
from federation.exports import ExportService
from federation.links.gate import Gate
from federation.links.server import Register
from node.archives import DEFAULT, Plan
from node.certificates import ensure_certificate
from node.config import DISK
from node.contracts import Scope
from node.control import ControlServer, HomeLock
from node.desk import Desk
from node.dimse import DimseServer
from node.drain import WHAT
from node.forwarding import Calling
from node.patient_links import PatientLinks
from node.research.senders import is_used
from node.roles.plan import has
from node.sections import GRID_SUFFIX, REJECTED_SUFFIX, Config, Role
from node.study_events import StudyComplete
from node.supply import Supply
from node.transfers import TransferQueue
from node.verification import Verification

from .archive import Archive
from .carrying import Carrying
from .chores import Chore, Loop
from .damage import look_at_state
from .foundation import DRAIN, SWITCH, Foundation
from .gateways import Front, Gateways
from .grid_door import GridDoor
from .imports import Imports
from .membership import make_grid, spawn
from .migrations import Migrations
from .neighbourhood import Neighbourhood
from .old_pacs import OldArchives
from .ports import check_ports, taken
from .rebuilding import CATALOG
from .role_serving import serve_roles
from .routing import Routed, requestor
from .settings import limits
from .telling import Telling
from .watch import Watch
from .website import make_web, open_web

if TYPE_CHECKING:
    from node.web import WebServer

    from .research import Research

logger = logging.getLogger(__name__)

SERVING: Final = "node"
"""The purpose of a node that serves; commands open a home for theirs."""
_IMPORT_THREADS: Final = 3


class Node(Foundation):
    """One hospital's PACS, open: its parts by name. Close it, or use it in a `with` block."""

    def __init__(
        self,
        home: Path,
        config: Config,
        clock: Clock,
        purpose: str,
        *,
        catalog: str = CATALOG,
        only: str = "",
    ) -> None:
        """Open everything under `home`, or `only` one archive, and bring back what a crash left unrecorded.

        `catalog` is the name of the catalogs' folders; a rebuild fills others.

        Raises:
            Busy: another process works on this home.
            Damaged: there are objects, but the catalog is gone.
        """
        super().__init__(home, config, clock)
        self.started = clock()
        self._opening_research = RLock()
        try:
            self._open(purpose, catalog, only)
        except BaseException:
            self._opened.close()
            raise
        self._purpose = purpose
        self.imports = Imports(home, self._background, self.audit)
        self.dimse = self._make_front()
        self.ports: dict[str, int] = {}
        self.desk = Desk(self)
        self._relayed: DimseServer | None = None
        self._control: ControlServer | None = None
        self._web: WebServer | None = None
        self.watch = Watch(self.archives, self.dimse, self.imports.jobs, home, config)
        self.watch.readiness.notices = self.desk.notices
        self.watch.readiness.add("drain", lambda: WHAT if self.drain.is_on else "")
        self.watch.readiness.add("hearing", lambda: self.closed.why)

    def _open(self, purpose: str, catalog: str, only: str) -> None:
        home, config = self.home, self.config
        self._opened.callback(HomeLock(home, purpose).close)
        look_at_state(home, self.clock(), may_begin_anew=purpose == "rebuild")
        self._open_foundation(lambda project: self.research.door(project))
        self._carrying = Carrying(home, config.transfers, self.clock, self.state)
        self.book.adopt(home / "archives")
        self.archives: dict[str, Archive] = {}
        self._meet_peers()
        self._shared = self._shared._replace(elsewhere=self.neighbourhood.copying.commit_level)
        for plan in [self.book.find(only)] if only else list(self.book):
            self._open_archive(plan, catalog)
        self._name_parts_of(self.main)
        self.migrations = Migrations(self, self._background)
        self.routed = Routed(self, self.standing)
        if purpose == SERVING:
            self.neighbourhood.open()
        self._opened.callback(self.neighbourhood.close)
        # Ended first: whoever calls uses everything else.
        self._opened.callback(self.grid.close)

    def _meet_peers(self) -> None:
        self.old = OldArchives(self.standing.old_pacs, partial(requestor, self), self.state, self.clock)
        kept = (self.home, self.state, PatientLinks(self.journal, self.journal.erase), self.archives)
        near = self.neighbourhood = Neighbourhood(
            *kept, lambda: self.grid, self.clock, self._alarm, spawn, self.old
        )
        stopping, audit, clock = self._background.stopping, self.audit, self.clock

        def services(gate: Gate) -> tuple[Register, ...]:
            return (*near.services(gate), ExportService(gate, lambda: self.research.grid.serving).register)

        self.grid = make_grid(
            self.home, self.config, self.journal, audit, clock, stopping, near.news, services
        )

    def _alarm(self, node_id: str, what: str, remedy: str) -> None:
        logger.warning("%s %s", what, remedy)
        self.audit.record("alarm", None, "catalog", {"node_id": node_id, "what": what})

    def _open_archive(self, plan: Plan, catalog: str = CATALOG) -> Archive:
        archive = Archive(plan, self._shared, catalog=catalog)
        if not plan.research:
            archive.subscribe("exports", partial(self._exported, plan.name))
        self._opened.callback(archive.close)
        archive.peers_skew = self._skew
        archive.forget_patients = self.neighbourhood.forget_patients
        archive.limit.others = lambda: [each.limit for each in self.archives.values() if each is not archive]
        if plan.name == DEFAULT:
            self.journal.keep = archive.keep_note
            self.journal.erase_notes = archive.erase_decisions
        self.archives[plan.name] = archive
        return archive

    @property
    def research(self) -> Research:
        """Projects, exports and what is held back; only a node that has them pays for the libraries."""
        # Peers may ask while a person does.
        with self._opening_research:
            return self._research

    @cached_property
    def _research(self) -> Research:
        from .research import Research

        research = Research(self, self._shared, self._background)
        self._opened.callback(research.close)
        return research

    def _exported(self, archive: str, event: StudyComplete) -> None:
        if is_used(self.state):
            self.research.ordering.study_complete(archive, event)

    def _skew(self) -> float | None:
        member = self.grid.membership
        return member.roll.skew() if member is not None and member.is_serving else None

    def _name_parts_of(self, main: Archive) -> None:
        """Have the default archive's parts under short names."""
        self.store, self.catalog = main.store, main.catalog
        self.held, self.rejected = main.held, main.rejected
        self.ingest, self.retriever = main.ingest, main.retriever
        self.decisions, self.register = main.decisions, main.register
        self.recovery, self.recovered = main.recovery, main.recovered

    def _make_front(self) -> Front:
        """Return what talks to devices: a server in this process, or gateways beside it.

        Raises:
            BadRequest: an archive lies where gateways cannot append.
        """
        others = self.config.processes.count - 1
        if others and self._purpose == SERVING:
            for plan in self.book:
                if plan.storage != DISK:
                    what = f"The archive {plan.name} lies in a bucket, and processes.count is above 1."
                    raise BadRequest(what, "Set processes.count to 1: gateways need archives on disk.")
            return Gateways(self.home, others, self.archives, limits(self.config), self._background.run)
        return self._make_server(self._scope)

    @property
    def main(self) -> Archive:
        """The archive that every node has; while only another one is open, that one."""
        return self.archives.get(DEFAULT) or next(iter(self.archives.values()))

    def archive(self, name: str) -> Archive:
        """Return an archive by its name; empty means the default one.

        Raises:
            NotFound: there is none of that name.
        """
        found = self.archives.get(name or DEFAULT)
        if found is None:
            raise NotFound(f"This node has no archive {name!r}.", "List them with: peerpacs archives list")
        return found

    def put_archive(self, plan: Plan) -> None:
        """Make an archive, or have one go by a changed plan.

        Raises:
            BadRequest: the plan contradicts itself, another archive or the configuration.
            NotFound, NotPermitted: the credentials of its bucket cannot be read.
        """
        written = self.book.check(plan)
        known = self.archives.get(plan.name)
        if known is not None:
            known.change(written)
        else:
            known = self._open_archive(written)
            if self.ports:
                self._background.tend(known)
                for loop in self.neighbourhood.copying.join(known):
                    self._background.repeat(loop)
        self.book.put(written, known.folder)

    def start(self) -> dict[str, int]:
        """Serve: listeners, commands and background work; return the ports by name.

        Raises:
            Busy: a port is taken.
        """
        check_ports(self.config)
        self.routed.check()
        self.old.check(self.config, self.book.titles())
        self.drain.end()
        sys.setswitchinterval(SWITCH)
        self.watch.measures.add(self.transfers.samples)
        self._background.run("chores", self._take_chores)
        for archive in self.archives.values():
            self._background.tend(archive)
        for loop in self.neighbourhood.loops():
            self._background.repeat(loop)
        self.grid.start()
        self._open_desks()
        self.neighbourhood.hear(self._background.stopping)
        self._open_ports()
        self.watch.measures.add(self.neighbourhood.samples)
        telling = Telling(self.home, self.config, self.state, self.clock)
        self._opened.callback(telling.close)
        for loop in (*telling.loops(), *self._carry()):
            self._background.repeat(loop)
        if is_used(self.state):
            self.research.begin()
        self.watch.watch_threads(self._background.threads)
        self.ports = dict(sorted(self.ports.items(), key=lambda port: port[0] in ("https", "web", "watch")))
        self.audit.record("start", None, "ok", {"ports": self.ports})
        return self.ports

    def _open_desks(self) -> None:
        """Let commands, watchers and browsers see the node, also while it waits for its peers."""
        stopping = self._background.stopping
        self._control = control = ControlServer(self.home, self.desk.verbs())
        self._background.run("control", lambda: control.serve(stopping), control.wake)
        watch, section = self.watch, self.config.watch
        if section.port and (port := watch.listen(section.host, section.port)):
            self.ports["watch"] = port
            self._background.run("watch", lambda: watch.server.serve(stopping), watch.server.wake)
        if self.config.web.port or self.config.web.plain_port:
            self._web = make_web(self, self.main.folder / "incoming")
            self.ports |= open_web(self, self._web)

    def _open_ports(self) -> None:
        dicom, tls = self.config.dicom, self.config.tls
        if tls.port:
            if ensure_certificate(self.home, self.config, self.clock()):
                logger.warning("This node had no certificate: a self-signed one was made for TLS.")
            self.credentials.listener()
        is_gateway = has(self.config, Role.GATEWAY)
        if dicom.port and is_gateway:
            self.ports["dicom"] = self._listen("dicom", dicom.host, dicom.port)
        if tls.port and is_gateway:
            host = tls.host or dicom.host
            self.ports["tls"] = self._listen("tls", host, tls.port, self.credentials.listener)
        if isinstance(self.dimse, Gateways):
            self._open_grid_door(self.dimse)
        serve_roles(self, self._background, self._opened)
        self.dimse.start()

    def _open_grid_door(self, gateways: Gateways) -> None:
        """Serve here what gateways do not open: only this process knows its peers."""
        path = self.home / "run" / "grid"
        self._relayed = self._make_server(self._scope)
        door = GridDoor(path, self._relayed)
        self._relayed.start()
        gateways.relay = str(path)
        self._background.run("grid door", lambda: door.serve(self._background.stopping))

    def _carry(self) -> Iterator[Loop]:
        towards = Calling(self.devices.get, limits(self.config), self.credentials.towards)
        copying = self.neighbourhood.copying
        copying.queue = lambda: self.transfers
        carriers = self.routed.carriers(towards) | copying.carriers()
        supply = Supply(self.routed.scope, self.devices.get, self.audit, self.clock)
        self.access.on_admitted = self.transfers.heard_from
        self.transfers.may_give = lambda: not (self.drain.is_on or self.closed.why)
        return self._carrying.begin(carriers, supply, self._background.stopping.is_set)

    @property
    def transfers(self) -> TransferQueue:
        """The durable queue of what this node sends by itself."""
        return self._carrying.queue

    def _listen(
        self, section: str, host: str, port: int, tls: Callable[[], ssl.SSLContext] | None = None
    ) -> int:
        try:
            return self.dimse.listen(host, port, tls=tls)
        except OSError as error:
            raise taken(section, host, port, error) from error

    def close(self) -> None:
        """Finish or abort what is in flight, write everything down, and let the home go."""
        if self._web is not None:
            self._web.stop(DRAIN / 3)
        self.dimse.stop(DRAIN if self._web is None else 2 * DRAIN / 3)
        if self._relayed is not None:
            self._relayed.stop(0)
        self._background.end()
        self.transcoder.close()
        self._carrying.close()
        self._background.afterwards(self._carrying.let_go)
        if self._control is not None:
            self._control.close()
            self.audit.record("stop", None, "ok", {})
        self.watch.server.close()
        self.access.refusals.step()
        self._opened.close()

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def verify(self, name: str, job: Verification) -> None:
        """Have a thread take a verification's steps, resting as it says, until it is over."""

        def loop() -> None:
            while not job.is_over and not self._background.stopping.wait(job.step()):
                pass

        self._background.run(name, loop)

    def _take_chores(self) -> None:
        self._background.take_chores(self._due, lambda: self.watch.hearts.beat("chores"))

    def _due(self) -> Iterator[Chore]:
        yield Chore("audit", 0.0, self.audit.step)
        yield Chore("refusals", 0.0, self.access.refusals.step)
        yield Chore("grid", 0.5, self.grid.step)
        yield from self.neighbourhood.chores()
        yield from self.routed.chores()
        yield from self.migrations.chores()
        yield Chore("transfers", 3600.0, self.transfers.tidy)
        for archive in tuple(self.archives.values()):
            yield from archive.chores()
        if is_used(self.state):
            yield from self.research.chores()

    def _scope(self, called_ae: str) -> Scope | None:
        for archive in tuple(self.archives.values()):
            if called_ae.removesuffix(REJECTED_SUFFIX) in archive.plan.ae_titles:
                return archive.scope(called_ae)
        if called_ae == self.config.node.ae_title + GRID_SUFFIX:
            return self.neighbourhood.scope(called_ae)
        return self.old.scope(called_ae)
