"""Doing an export, step by step: each part out of the one door, through the anonymizer's processes, then
release.

A part is a few whole subjects, so that what one file of a subject tells is looked for in all of them. A
part that is done is a sealed account and verified files; a crash repeats at most the part that was under
way. Nothing is visible at the target before all parts are judged together.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from anonymizer import Assignment, Batch, Reason, stage
from anonymizer.judgement import judged
from anonymizer.worker import Outcome
from catalog import CatalogWriter, Clock, Damaged, NotFound
from node.contracts import Retriever
from node.storage import file_meta

from .choosing import Choices
from .cohort import Cohorts, distinct
from .delivering import Ways, deliver
from .exports import ExportBook, attempt
from .model import Choice, Export, Project, Standing
from .persons import Persons
from .projects import ProjectBook
from .quarantine import Quarantine
from .release import Made, Source, make_release, read_release
from .sealing import Signer, Vault, seal_escrow
from .volumes import link

_PART: Final = 24
"""Choices that a part has at least, if there are so many."""
_PIECE: Final = 1 << 20
_COPY: Final = "COPY"
_HOUR: Final = 3600.0


class Origin(NamedTuple):
    """The archive that an export reads."""

    name: str
    catalog: CatalogWriter
    retriever: Retriever
    issuer: str
    persons: Persons


class _BrokenOff(Exception):
    """The node stops, or a person stopped the export: the part under way is done anew another time."""


class Exporter:
    """Works on exports; one thread calls `step`."""

    def __init__(
        self,
        folder: Path,
        projects: ProjectBook,
        book: ExportBook,
        quarantine: Quarantine,
        vault: Vault,
        signer: Signer,
        origin: Callable[[str], Origin],
        choices: Choices,
        ways: Ways,
        jobs: int,
        is_stopping: Callable[[], bool],
        clock: Clock,
    ) -> None:
        """`folder` is where exports lie while they are made, readable by their owner only."""
        self._choices = choices
        self._is_stopping = is_stopping
        self._folder = folder
        self._projects = projects
        self._book = book
        self._quarantine = quarantine
        self._vault = vault
        self._signer = signer
        self._origin = origin
        self._ways = ways
        self._jobs = jobs
        self._clock = clock
        self.progress: dict[str, tuple[str, int, int]] = {}
        """By export: what is done now, how far, of how many."""

    def step(self) -> bool:
        """Do the next part of the oldest export; say whether there was one."""
        export = self._book.next()
        if export is None:
            return False
        return attempt(export, self._did, self._fail)

    def _did(self, export: Export) -> bool:
        try:
            self._advance(export)
        except _BrokenOff:
            return False
        return True

    def folder_of(self, export: Export) -> Path:
        """Return where an export's files lie while it is made; its release is in `release`."""
        return self._folder / export.id

    def tidy(self) -> None:
        """Remove what belongs to exports that are over, and what a crash left behind."""
        known = {export.id: export.standing for export in self._book.all()}
        over = (Standing.DONE, Standing.REFUSED, Standing.STANDING)
        keeps = [standing for standing in Standing if standing not in over]
        for path in self._folder.iterdir() if self._folder.exists() else ():
            # What is being ordered just now has no row yet.
            is_old = path.stat().st_mtime < self._clock() - _HOUR
            if is_old and path.is_dir() and known.get(path.name) not in keeps:
                shutil.rmtree(path, ignore_errors=True)

    def _advance(self, export: Export) -> None:
        parts = list(_parts(self._choices.get(export.id)))
        project = self._projects.find(export.project)
        if export.standing is Standing.READY:
            change = {"standing": Standing.RUNNING, "parts": len(parts)}
            self._book.change(export.id, lambda row: _if_going(row, **change))
        done = len([1 for number in range(len(parts)) if self._account(export, number).exists()])
        if done < len(parts):
            number = next(n for n in range(len(parts)) if not self._account(export, n).exists())
            self._do_part(export, project, number, parts[number])
            self._book.change(export.id, lambda row: _if_going(row, parts=len(parts), done=done + 1))
            return
        self._finish(export, project, len(parts))

    def _do_part(self, export: Export, project: Project, number: int, choices: list[Choice]) -> None:
        origin = self._origin(export.archive)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = self._part(export, number)
        source = part / "source"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir(parents=True, mode=0o700)
        key = self._projects.key(project.name)
        cohorts = Cohorts(origin.catalog, key, origin.issuer, lambda _: False, origin.persons)
        try:
            lost = self._spool(export, origin, cohorts, choices, source)
            batch = Batch(
                source=source,
                target=part / "out",
                policy=self._projects.policy(project, export.profile),
                key_file=self._projects.key_file(project.name),
                jobs=self._jobs,
                assignment=_assignment(origin, cohorts, choices),
            )
            outcomes, journal = stage(batch, partial(self._show, export))
            journal.close()
        finally:
            shutil.rmtree(source, ignore_errors=True)
            self.progress.pop(export.id, None)
        account = msgspec.json.encode([*outcomes, *lost])
        self._vault.write(self._account(export, number), account, f"{export.id}/{number}")
        (part / ".out.staging" / "journal.jsonl").unlink(missing_ok=True)

    def _spool(
        self, export: Export, origin: Origin, cohorts: Cohorts, choices: list[Choice], into: Path
    ) -> list[Outcome]:
        """Write what the door out gives into files; return what it could not give."""
        lost = []
        entries = [entry for _, entry in cohorts.entries(choices)]
        origin.retriever.expect(entries)
        for at, entry in enumerate(entries):
            self._show(export, "read", at, len(entries))
            try:
                outgoing = origin.retriever.open(entry)
            except (NotFound, Damaged):
                sentence = "The archive could not give it: it is gone or damaged."
                lost.append(Outcome(entry.SOPInstanceUID, "", reason="UNREADABLE", sentence=sentence))
                continue
            uids = (outgoing.SOPClassUID, outgoing.SOPInstanceUID, outgoing.TransferSyntaxUID)
            try:
                with (into / f"{at:06}-{entry.SOPInstanceUID}.dcm").open("wb") as file:
                    file.write(file_meta(*uids))
                    buffer = memoryview(bytearray(_PIECE))
                    offset = 0
                    while length := outgoing.read_into(buffer, offset):
                        file.write(buffer[:length])
                        offset += length
            finally:
                outgoing.close()
        return lost

    def _show(self, export: Export, step: str, done: int, total: int) -> None:
        """Keep how far it is; break off when the node stops, or a person stopped the export."""
        self.progress[export.id] = (step, done, total)
        if self._is_stopping() or self._book.find(export.id).standing is Standing.STOPPED:
            raise _BrokenOff

    def _finish(self, export: Export, project: Project, parts: int) -> None:
        policy = self._projects.policy(project, export.profile)
        release = self.folder_of(export) / "release"
        accounts = [self._outcomes(export, number) for number in range(parts)]
        together = judged([outcome for account in accounts for outcome in account])
        outcomes = list(self._allowed(project, together))
        held = Counter(str(o.reason) for o in outcomes if not o.name and o.reason != _COPY)
        if not (release.exists() and export.released_by):
            where = {o.digest: self._part(export, n) for n, account in enumerate(accounts) for o in account}
            sources = [
                Source(o, where[o.digest] / ".out.staging" / "files" / o.name) for o in outcomes if o.name
            ]
            key = self._projects.key(project.name)
            made = make_release(release, export.id, sources, dict(held), policy, key, self._signer)
            self._write_record(export, project, parts)
            self._note_held(export, project, outcomes)
        else:
            made = read_release(release)
        about = {"found": len(outcomes), "released": len(made.files), "size": made.size, "held": dict(held)}
        about |= {"subjects": made.subjects, "manifest": made.manifest}
        if project.reviewers and not export.released_by and made.files:
            change = {"standing": Standing.STAGED, **about}
            self._book.over(export.id, lambda row: _if_going(row, **change), "waits for a look")
            return
        self._release(export, made, about)

    def _release(self, export: Export, made: Made, about: dict[str, object]) -> None:
        withdrawn = [s for s in made.subjects if self._projects.is_withdrawn(export.project, s)]
        if withdrawn:
            raise NotFound("A subject of it was withdrawn meanwhile.", "Order the export anew.")
        if self._book.find(export.id).standing is not Standing.RUNNING:
            return
        deliver(export.target, export.project, made, self._ways)
        done = {"standing": Standing.DONE, "why": "", **about}
        self._book.over(export.id, lambda row: replace(row, **done), "released")
        shutil.rmtree(self.folder_of(export), ignore_errors=True)

    def _allowed(self, project: Project, outcomes: list[Outcome]) -> Iterator[Outcome]:
        """Yield the outcomes without those of subjects that leaked before or were withdrawn."""
        leaking = self._quarantine.leaking(project.name)
        for outcome in outcomes:
            if outcome.name and outcome.subject in leaking:
                yield dataclasses.replace(outcome, name="", reason=Reason.LEAK_FOUND, sentence=_LEAKED)
            elif not (outcome.name and self._projects.is_withdrawn(project.name, outcome.subject)):
                yield outcome

    def _note_held(self, export: Export, project: Project, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.name or outcome.reason == _COPY:
                continue
            self._quarantine.refer(
                project,
                0,
                reason=str(outcome.reason),
                sentence=outcome.sentence,
                export=export.id,
                archive=export.archive,
                SOPInstanceUID=_uid_of(outcome),
                subject=outcome.subject,
            )

    def _write_record(self, export: Export, project: Project, parts: int) -> None:
        """Keep what links old and new, at this site only: sealed for node and escrow."""
        records = self._folder.parent / "records" / project.name
        for number in range(parts):
            link(self._account(export, number), records / f"{export.id}-{number:05}.sealed")
        if len(project.holders) >= 2:
            table = msgspec.json.encode(self._links(export, project))
            escrow = seal_escrow(project.name, table, project.holders)
            (records / f"{export.id}.escrow").write_bytes(msgspec.msgpack.encode(escrow))

    def _links(self, export: Export, project: Project) -> list[dict[str, str]]:
        """Return who the pseudonyms are."""
        key, origin = self._projects.key(project.name), self._origin(export.archive)
        issuer, identity = origin.issuer, origin.persons.identity
        return [
            {
                "pseudonym": key.subject(identity(subject[0].issuer or issuer, subject[0].patient)),
                "issuer": subject[0].issuer or issuer,
                "patient": subject[0].patient,
                "subject_id": subject[0].subject_id,
            }
            for subject in distinct(self._choices.get(export.id)).values()
        ]

    def _outcomes(self, export: Export, number: int) -> list[Outcome]:
        account = self._vault.read(self._account(export, number), f"{export.id}/{number}")
        outcomes = msgspec.json.decode(account, type=list[Outcome])
        # What was done to each attribute is for the record; of a large export it is most of the account.
        return [dataclasses.replace(outcome, log=()) for outcome in outcomes]

    def _part(self, export: Export, number: int) -> Path:
        return self.folder_of(export) / f"part-{number:05}"

    def _account(self, export: Export, number: int) -> Path:
        return self._part(export, number) / "account.sealed"

    def _fail(self, export: Export, why: str) -> None:
        change = {"standing": Standing.FAILED, "why": why}
        self._book.over(export.id, lambda row: _if_going(row, **change), "failed")


_LEAKED: Final = "Another instance of its subject leaked, so the whole subject is held."


def _if_going(export: Export, **changes: object) -> Export:
    """Return the export changed, unless a person stopped it meanwhile."""
    going = (Standing.READY, Standing.RUNNING)
    return replace(export, **changes) if export.standing in going else export


def _parts(choices: Iterable[Choice]) -> Iterator[list[Choice]]:
    part: list[Choice] = []
    for subject in distinct(choices).values():
        part += subject
        if len(part) >= _PART:
            yield part
            part = []
    if part:
        yield part


def _assignment(origin: Origin, cohorts: Cohorts, choices: Iterable[Choice]) -> Assignment:
    chosen = list(choices)
    return Assignment(
        issuer=origin.issuer,
        issuers={c.StudyInstanceUID: c.issuer for c in chosen if c.issuer},
        subject_ids={cohorts.identity(c): c.subject_id for c in chosen if c.subject_id},
        time_points={c.StudyInstanceUID: c.time_point for c in chosen if c.time_point},
        same=origin.persons.same(),
    )


def _uid_of(outcome: Outcome) -> str:
    """Return the SOP Instance UID that a spooled file is called by."""
    return Path(outcome.source).stem.partition("-")[2] or outcome.source
