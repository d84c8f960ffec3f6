"""The composition root: opens one node from its home folder, runs it, and closes it again.

Only here are parts constructed and threads given to background work; every other room is handed what it
needs, so that a simulator can build the same node on a clock of its own.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from catalog import Busy, Clock, Damaged, LmdbCatalog, NotFound
from node.access import Gatekeeper
from node.audit import AuditLog
from node.config import Config, load_config
from node.contracts import Scope
from node.control import ControlServer, HomeLock
from node.decisions import Decisions
from node.desk import Desk
from node.devices import DeviceBook
from node.dimse import DimseServer, Limits, reencode
from node.held import HeldShelf
from node.importer import ImportJob
from node.ingest import Identity, NodeIngest
from node.pacing import Pace
from node.reading import header_reader, pixel_comparer
from node.recovery import Recovered, Recovery
from node.register import Register
from node.rejected import RejectedShelf
from node.retriever import NodeRetriever
from node.state import State
from node.storage import SegmentStore, StorageSettings
from node.transcoding import Transcoder

logger = logging.getLogger(__name__)

_MB: Final = 1 << 20
_CHORE_PAUSE: Final = 0.2
_DRAIN: Final = 6.0
"""Seconds that what is in flight has at the end; SIGTERM must be over within ten."""
_IMPORT_THREADS: Final = 3
_SWITCH: Final = 0.0005
_CATALOG: Final = "catalog"
_REBUILDING: Final = "catalog.rebuilding"
_WHOLE: Final = "WHOLE"
"""Marks a rebuilt catalog that lacks nothing."""


class Node:
    """One hospital's PACS, open: its parts by name. Close it, or use it in a `with` block."""

    def __init__(
        self, home: Path, config: Config, clock: Clock, purpose: str, *, catalog: str = _CATALOG
    ) -> None:
        """Open everything under `home`, and bring back what a crash left unrecorded.

        `catalog` is the name of the catalog's folder; a rebuild fills another one.

        Raises:
            Busy: another process works on this home.
            Damaged: there are objects, but the catalog is gone.
        """
        self.home = home
        self.config = config
        self.clock = clock
        self.started = clock()
        self._opened = ExitStack()
        try:
            self._open(purpose, catalog)
        except BaseException:
            self._opened.close()
            raise
        self.dimse = self._make_server()
        self.ports: dict[str, int] = {}
        self.desk = Desk(self)
        self._jobs: dict[str, ImportJob] = {}
        self._threads: list[threading.Thread] = []
        self._failing: set[str] = set()
        self._stopping = threading.Event()

    def _open(self, purpose: str, catalog: str) -> None:
        home, config = self.home, self.config
        self._opened.callback(HomeLock(home, purpose).close)
        self._warn_of_lost_state(home)
        self.state = State(home / "state")
        self._opened.callback(self.state.close)
        self.devices = DeviceBook(self.state)
        self.access = Gatekeeper(self.state, config, self.clock)
        self.audit = AuditLog(home / "audit", self.clock)
        self._opened.callback(self.audit.close)
        self._open_archive(home / "archives" / "main", catalog)
        self.register = Register(self.decisions, self.state, self.audit)
        self.recovery = Recovery(self.ingest, self.decisions, self.register, self._issuer_of)
        self.recovered = self.recovery.take(self.store.recover())

    def _open_archive(self, archive: Path, catalog: str) -> None:
        config, clock = self.config, self.clock
        self.archive = archive
        finish_swap(archive)
        if catalog == _CATALOG and not (archive / _CATALOG).exists() and any(archive.glob("objects/??")):
            what = f"The catalog of {archive} is gone, but its objects are there."
            raise Damaged(what, "Run peerpacs rebuild: it makes the catalog again from the objects.")
        self.store = SegmentStore(archive / "objects", archive / "incoming", clock, _storage_settings(config))
        self._opened.callback(self.store.close)
        self.catalog = LmdbCatalog(
            archive / catalog,
            archive / _search_of(catalog),
            clock=clock,
            read_header=header_reader(self.store),
            has_same_pixels=pixel_comparer(self.store),
        )
        # Closed before the store, which then notes that nothing is left to replay.
        self._opened.callback(self.catalog.close)
        self.held = HeldShelf(self.state, self._held_allowance)
        self.rejected = RejectedShelf(
            self.home / "rejected",
            max_bytes=config.rejected.max_mb * _MB,
            max_age=config.rejected.max_days * 86400.0,
            clock=clock,
        )
        identity = Identity(config.node.issuer, frozenset(p.upper() for p in config.node.placeholders))
        self._pace = Pace(clock)
        doors = (self.store, self.catalog, self.held, self.rejected)
        self.ingest = NodeIngest(*doors, identity, clock, on_new=lambda *_: self._pace.arrived())
        self.transcoder = Transcoder(reencode, archive / "incoming")
        self.retriever = NodeRetriever(self.store, self.catalog, config.node.ae_title)
        self.decisions = Decisions(self.store, self.catalog, self.held, clock)

    def _warn_of_lost_state(self, home: Path) -> None:
        if not (home / "state").exists() and any(home.glob("archives/*/objects/??")):
            logger.error(
                "The folder state/ of %s is gone, and with it the device book and the list of what is held. "
                "It is begun anew. Restore it from a backup, or enter the devices again and run "
                "peerpacs rebuild, which finds again what is held and what was decided.",
                home,
            )

    def _make_server(self) -> DimseServer:
        return DimseServer(
            self._scope,
            self.access,
            self.audit,
            _limits(self.config),
            self.clock,
            accept_unknown=self.config.dicom.accept_unknown,
            convert=self.transcoder,
        )

    def start(self) -> dict[str, int]:
        """Serve: listeners, commands and background work; return the ports by name.

        Raises:
            Busy: a port is taken.
        """
        # LMDB's Python binding gives the interpreter lock away at each call: beside a busy thread the usual
        # 5 ms a switch would make every commit wait for tens of them.
        sys.setswitchinterval(_SWITCH)
        for name, loop in {
            "syncer": lambda: self.store.sync_forever(self._stopping),
            "chores": self._chores,
            "indexer": self._index,
        }.items():
            self._run(name, loop)
        if self.config.dicom.port:
            self.ports["dicom"] = self._listen(self.config.dicom.host, self.config.dicom.port)
            self.dimse.start()
        self._control = ControlServer(self.home, self.desk.verbs())
        self._run("control", lambda: self._control.serve(self._stopping))
        self.audit.record("start", None, "ok", {"ports": self.ports})
        return self.ports

    def _listen(self, host: str, port: int) -> int:
        try:
            return self.dimse.listen(host, port)
        except OSError as error:
            what = f"Port {port} on {host} cannot be opened: {error.strerror}."
            remedy = "Stop what listens there (peerpacs check names it), or set dicom.port."
            raise Busy(what, remedy) from error

    def close(self) -> None:
        """Finish or abort what is in flight, write everything down, and let the home go."""
        self.dimse.stop(_DRAIN)
        self.transcoder.close()
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=2.0)
        if self.ports:
            self._control.close()
            self.audit.record("stop", None, "ok", {})
        self.access.refusals.step()
        self._opened.close()

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start_import(self, source: str) -> str:
        """Import a folder, zip file or DICOMDIR in the background; return the job's name.

        Raises:
            NotFound: there is nothing at the path.
        """
        job = ImportJob(Path(source), self.ingest, self.home / "run" / "imports")
        name = f"import-{len(self._jobs) + 1}"
        self._jobs[name] = job
        self.audit.record("import", None, "started", {"job": name})
        for number in range(_IMPORT_THREADS):
            self._run(f"{name}-{number}", lambda: self._work_off(job))
        return name

    def import_progress(self, name: str) -> dict[str, Any]:
        """Return how far an import has come.

        Raises:
            NotFound: there is no such job since the node started.
        """
        return self._job(name).progress()

    def stop_import(self, name: str) -> None:
        """Have an import take in no more files. Raises as `import_progress`."""
        self._job(name).stop("A person stopped it. Started again, it goes on where it was.")

    def _job(self, name: str) -> ImportJob:
        job = self._jobs.get(name)
        if job is None:
            raise NotFound(f"There is no import called {name!r}.", "Start it again: it goes on where it was.")
        return job

    def _work_off(self, job: ImportJob) -> None:
        while not self._stopping.is_set() and job.step():
            pass

    def _run(self, name: str, loop: Callable[[], None]) -> None:
        thread = threading.Thread(target=loop, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _chores(self) -> None:
        chores: tuple[tuple[str, float, Callable[[], object]], ...] = (
            ("audit", 0.0, self.audit.step),
            ("refusals", 0.0, self.access.refusals.step),
            ("publish", 1.0, lambda: self.catalog.publish(self.clock())),
            ("tidy", 60.0, self.catalog.tidy),
        )
        last = dict.fromkeys((name for name, _, _ in chores), self.clock())
        while not self._stopping.wait(_CHORE_PAUSE):
            for name, every, step in chores:
                # A clock that was set back makes nothing wait.
                if not 0 <= self.clock() - last[name] < every:
                    last[name] = self.clock()
                    self._try(name, step)

    def _index(self) -> None:
        """Let the search index follow, on a thread of its own, as ingest leaves it time."""
        pause = _CHORE_PAUSE
        while not self._stopping.wait(pause):
            pause = self._pace.rest_first()
            if not pause:
                started = self.clock()
                is_behind = bool(self._try("index", lambda: self.catalog.index(self.clock())))
                pause = self._pace.rest_after(self.clock() - started, is_behind)

    def _try(self, name: str, step: Callable[[], object]) -> object:
        """Take a step; what fails is logged once, and tried again the next time."""
        try:
            result = step()
            self._failing.discard(name)
            return result
        except Exception:
            if name not in self._failing:
                logger.exception("The chore %s fails; it is tried again", name)
            self._failing.add(name)
            return None

    def _scope(self, called_ae: str) -> Scope | None:
        ae_title = self.config.node.ae_title
        if called_ae != ae_title:
            return None
        return Scope("main", ae_title, self.catalog, self.ingest, self.retriever)

    def _issuer_of(self, ae_title: str) -> str:
        device = self.devices.get(ae_title)
        return device.issuer if device else ""

    def _held_allowance(self) -> int:
        disk = os.statvfs(self.archive)
        return int(disk.f_blocks * disk.f_frsize * self.config.storage.held_percent / 100)


def open_node(home: Path, clock: Clock = time.time, purpose: str = "node") -> Node:
    """Open the node of a home folder; `purpose` names who works on it, for others that would.

    Raises:
        NotFound: there is no node in that folder.
        BadRequest: its configuration is wrong.
        Busy: another process works on it.
    """
    return Node(home, load_config(home), clock, purpose)


def rebuild(
    home: Path, clock: Clock = time.time, on_progress: Callable[[Recovered], None] = lambda so_far: None
) -> Recovered:
    """Make the catalog again from the segments, decisions included, and put it in the place of the old one.

    The old catalog stays in use until the new one is whole; a rebuild that was stopped is begun anew.

    Raises:
        Busy: the node runs; stop it first.
    """
    archive = home / "archives" / "main"
    finish_swap(archive)
    for folder in (archive / _REBUILDING, archive / _search_of(_REBUILDING)):
        shutil.rmtree(folder, ignore_errors=True)
    with Node(home, load_config(home), clock, "rebuild", catalog=_REBUILDING) as node:
        recovered = node.recovery.take(node.store.scan(), on_progress)
        node.audit.record("rebuild", None, "ok", {"instances": recovered.instances})
    (archive / _REBUILDING / _WHOLE).touch()
    finish_swap(archive)
    return recovered


def finish_swap(archive: Path) -> None:
    """Put a catalog that was rebuilt to its end in the place of the old one; may be cut short anywhere."""
    if not (archive / _REBUILDING / _WHOLE).exists():
        return
    for name in (_search_of(_CATALOG), _search_of(_REBUILDING), _CATALOG):
        # The search index grows back by itself.
        shutil.rmtree(archive / name, ignore_errors=True)
    (archive / _REBUILDING).rename(archive / _CATALOG)
    (archive / _CATALOG / _WHOLE).unlink()


def _search_of(catalog: str) -> str:
    return "search" if catalog == _CATALOG else f"{catalog}-search"


def _storage_settings(config: Config) -> StorageSettings:
    storage = config.storage
    return StorageSettings(
        seal_at=storage.segment_mb * _MB,
        buffered_at_most=storage.spill_above_mb * _MB,
        budget=storage.buffer_mb * _MB,
        full_below=storage.stop_below_mb * _MB,
        resume_above=storage.resume_above_mb * _MB,
    )


def _limits(config: Config) -> Limits:
    dicom = config.dicom
    return Limits(
        associations=dicom.max_associations,
        associations_per_ae=dicom.max_associations_per_ae,
        associations_per_address=dicom.max_associations_per_address,
        associations_per_second=dicom.max_new_associations_per_second,
        burst=2 * dicom.max_new_associations_per_second,
        max_pdu=dicom.max_pdu,
        artim=dicom.artim_timeout,
        idle=dicom.idle_timeout,
        message=dicom.network_timeout,
        connect=dicom.connect_timeout,
    )
