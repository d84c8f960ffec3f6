"""The clinical trial interface: what a listed sender stores is de-identified on arrival, and nothing else is
kept.

The data set stays in memory, within a budget, until it is finished; the anonymizer works in a process of
its own. What it releases goes through the door of the project's archive; what it cannot vouch for goes,
encrypted, to the quarantine. Only then is the sender told 0000.
"""

from __future__ import annotations

import logging
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from threading import Lock
from typing import Final, NamedTuple
from zlib import crc32

from anonymizer import Assignment, Reason
from anonymizer import arrivals as process
from anonymizer.worker import Outcome
from catalog import NotPermitted, OutOfSpace, PacsError
from node.contracts import Caller, Ingest, StoreResult
from node.storage import file_meta

from .delivering import take_in
from .model import Project
from .persons import Persons
from .projects import ProjectBook
from .quarantine import Quarantine

logger = logging.getLogger(__name__)

_MB: Final = 1 << 20
_PATIENT_ID: Final = b"\x10\x00\x20\x00"
_HEADER: Final = 1 << 16
"""Bytes within which a patient's attributes lie in nearly all instances."""
_REFUSED: Final = 0x0124
"""Not authorised, PS3.7 Annex C."""
_FAILURE: Final = 0x0110
_OUT_OF_RESOURCES: Final = 0xA700


class Budget:
    """Bytes of memory that arrivals may take in all and each; what does not fit is told A700."""

    def __init__(self, total: int = 768 * _MB, each: int = 512 * _MB) -> None:
        self._free = total
        self._each = each
        self._lock = Lock()

    def take(self, size: int, held: int) -> None:
        """Take `size` bytes more for an instance that has `held`.

        Raises:
            OutOfSpace: that would be too many.
        """
        with self._lock:
            if size > self._free or held + size > self._each:
                raise OutOfSpace("No memory for it now: identified data is not put on disk here.")
            self._free -= size

    def give(self, size: int) -> None:
        """Give bytes back."""
        with self._lock:
            self._free += size


class _Lane:
    """One process of the anonymizer, begun when first needed and anew for a new policy or new links."""

    def __init__(self, projects: ProjectBook, issuer: str, persons: Persons) -> None:
        self._projects = projects
        self._issuer = issuer
        self._persons = persons
        self._pool: ProcessPoolExecutor | None = None
        self._digest = ""
        self._assignment = Assignment(issuer=issuer)
        self._assigned = self._assignment.digest
        self._lock = Lock()

    def take(self, project: Project, content: bytes, issuer: str) -> tuple[Outcome, bytes]:
        """See `Machine.take`."""
        for _ in range(2):
            pool = self._ready(project)
            try:
                return pool.submit(process.take, content, issuer).result()
            except (BrokenProcessPool, RuntimeError):
                self._drop(pool)
        sentence = "The process that worked on it died, twice."
        return Outcome("arrival", "", reason=Reason.INTERNAL_ERROR, sentence=sentence), b""

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._drop(self._pool)

    def _ready(self, project: Project) -> ProcessPoolExecutor:
        policy, same = self._projects.policy(project), self._persons.same()
        with self._lock:
            if self._assignment.same is not same:
                self._assignment = Assignment(issuer=self._issuer, same=same)
                self._assigned = self._assignment.digest
            digest = policy.digest + self._assigned
            if self._pool is not None and self._digest != digest:
                self._pool.shutdown(wait=False)
                self._pool = None
            if self._pool is None:
                arguments = (policy, self._projects.key_file(project.name), self._assignment)
                context = get_context("spawn")
                self._pool = ProcessPoolExecutor(1, context, initializer=process.begin, initargs=arguments)
                self._digest = digest
            return self._pool

    def _drop(self, pool: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is pool:
                self._pool = None
        pool.shutdown(wait=False, cancel_futures=True)


class Machine:
    """The anonymizer's processes for one project; all of a patient is for one of them, which remembers it."""

    def __init__(self, projects: ProjectBook, issuer: str, persons: Persons, lanes: int) -> None:
        """`lanes` is the number of processes; one that nothing is for is never begun."""
        self._lanes = tuple(_Lane(projects, issuer, persons) for _ in range(lanes))

    def take(self, project: Project, content: bytes, issuer: str) -> tuple[Outcome, bytes]:
        """Return what became of an instance, and the finished file if it may be released.

        `issuer` is whose the Patient ID is if it does not say so; empty = the node's.
        """
        lane = self._lanes[crc32(patient_in(content)) % len(self._lanes)]
        return lane.take(project, content, issuer)

    def close(self) -> None:
        """End the processes."""
        for lane in self._lanes:
            lane.close()


def patient_in(content: bytes) -> bytes:
    """Return the bytes of Patient ID (0010,0020), to sort instances by; empty if they are not found quickly.

    Wrong sorting harms nobody: what a process knows of a patient is only a second look.
    """
    at = content.find(_PATIENT_ID, 132, _HEADER)
    if at < 0:
        return b""
    is_explicit = content[at + 4 : at + 6] == b"LO"
    length = content[at + 6 : at + 8] if is_explicit else content[at + 4 : at + 8]
    return content[at + 8 : at + 8 + min(int.from_bytes(length, "little"), 64)].strip(b"\0 ")


class Parts(NamedTuple):
    """What a project's door needs."""

    projects: ProjectBook
    quarantine: Quarantine
    archive: Ingest
    """The door of the project's archive, for what is de-identified."""
    machine: Machine
    budget: Budget


class ProjectIngest:
    """Satisfies `Ingest` for one project's archive: identified goes in, de-identified is kept."""

    def __init__(self, name: str, parts: Parts) -> None:
        self._name = name
        self._parts = parts

    def begin(
        self, caller: Caller, SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str, *, is_held: bool
    ) -> ProjectReception:
        """Start to take in one instance of a listed sender.

        Raises:
            NotPermitted: the project does not list the sender.
        """
        project = self._parts.projects.find(self._name)
        if caller.ae_title not in project.senders or caller.device is None or is_held:
            remedy = f"peerpacs projects edit {project.name} --sender +{caller.ae_title}"
            raise NotPermitted(f"{caller.ae_title} is no sender of the project {project.name}.", remedy)
        self._parts.projects.check_open(project)
        return ProjectReception(
            self._parts, project, caller, (SOPClassUID, SOPInstanceUID, TransferSyntaxUID)
        )


class ProjectReception:
    """One identified instance in memory; satisfies `Reception`."""

    def __init__(self, parts: Parts, project: Project, caller: Caller, uids: tuple[str, str, str]) -> None:
        self._parts = parts
        self._project = project
        self._caller = caller
        self._uids = uids
        self._data = bytearray()
        self._space = bytearray()

    def space(self, length: int) -> memoryview:
        """Return a writable view of `length` bytes.

        Raises:
            OutOfSpace: there is no memory for it now.
        """
        self._parts.budget.take(length, len(self._data))
        self._space = bytearray(length)
        return memoryview(self._space)

    def filled(self, length: int) -> None:
        """Say that `length` bytes of the last space now count."""
        self._data += self._space[:length]
        self._parts.budget.give(len(self._space) - length)
        self._space = bytearray()

    def finish(self) -> StoreResult:
        """De-identify, verify, and keep what may be kept; never raises for what a sender can do wrong."""
        content = file_meta(*self._uids) + self._data
        try:
            return self._keep(content)
        except OutOfSpace as error:
            return StoreResult(_OUT_OF_RESOURCES, error.what[:64])
        except (PacsError, OSError) as error:
            logger.error("An instance for the project %s was not kept: %s", self._project.name, error)
            return StoreResult(_FAILURE, "Nothing was kept; send again later")
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Forget it."""
        self._parts.budget.give(len(self._data) + len(self._space))
        self._data, self._space = bytearray(), bytearray()

    def _keep(self, content: bytes) -> StoreResult:
        parts, project = self._parts, self._project
        issuer = self._caller.device.issuer if self._caller.device else ""
        outcome, file = parts.machine.take(project, content, issuer)
        reason, sentence = str(outcome.reason), outcome.sentence
        if file and parts.projects.is_withdrawn(project.name, outcome.subject):
            return StoreResult(_REFUSED, "This subject was withdrawn from the project")
        if file and parts.quarantine.is_leaking(project.name, outcome.subject):
            reason, sentence = str(Reason.LEAK_FOUND), _LEAKED
        if file and not reason:
            # Its own caller: nothing in the archive says which device an instance came from.
            study = take_in(parts.archive, Caller(project.name[:16], "", self._caller.called_ae), file)
            return StoreResult(0x0000, StudyInstanceUID=study)
        parts.quarantine.put(
            project,
            content,
            reason=reason,
            sentence=sentence,
            source=self._caller.ae_title,
            subject=outcome.subject,
            SOPClassUID=self._uids[0],
            issuer=issuer,
        )
        return StoreResult(0x0000, "Held back for a person to look at")


_LEAKED: Final = "Another instance of its subject leaked, so the whole subject is held."
