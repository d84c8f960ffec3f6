"""A folder of instances in, a folder of released ones out: all of them at once, or none.

Files are written and verified in a staging folder beside the target; one rename releases them after
the whole batch has passed. A process that dies before leaves no released file, and the same command
run again goes on where it stopped. One leak holds everything of its subject.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from anonymizer.assignment import NOTHING as UNASSIGNED
from anonymizer.assignment import Assignment
from anonymizer.journal import Journal
from anonymizer.judgement import judged
from anonymizer.keys import read_key
from anonymizer.leaks import Needles
from anonymizer.manifest import MANIFEST, write_confidential, write_manifest
from anonymizer.policy import Policy
from anonymizer.quarantine import Reason
from anonymizer.subject import Subject
from anonymizer.text import Identifiers
from anonymizer.worker import Known, Outcome, Surveyed, process_many, start, survey_many, suspects_among

CHUNK = 16

_LOST = (Reason.INTERNAL_ERROR, "The process that worked on it died, twice.")
NOTHING = Known(Identifiers(), Needles())
R = TypeVar("R")

Progress = Callable[[str, int, int], None]


class BatchRefused(Exception):
    """The batch cannot start; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What to de-identify, how, and where to."""

    source: Path
    target: Path
    policy: Policy
    key_file: Path
    jobs: int = 1
    verifies: bool = True
    is_dry_run: bool = False
    assignment: Assignment = UNASSIGNED

    @property
    def staging(self) -> Path:
        """Where files wait, readable by their owner only."""
        return self.target.parent / f".{self.target.name}.staging"

    @property
    def confidential(self) -> Path:
        """The site's own record, which links old and new."""
        return self.target.parent / f"{self.target.name}.confidential"


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the batch; it holds no value of any instance."""

    released: int
    copies: int
    subjects: int
    size: int
    quarantined: dict[str, int]
    sentences: dict[str, str]
    face_risks: int
    by_ocr: int
    unknown_words: int


def run(batch: Batch, progress: Progress = lambda step, done, total: None) -> Report:
    """De-identifies the batch and releases it unless it is a dry run; raises BatchRefused."""
    if batch.target.exists() and any(batch.target.iterdir()):
        raise BatchRefused(f"{batch.target} is not empty. Name a folder that does not exist yet.")
    if not batch.source.is_dir():
        raise BatchRefused(f"{batch.source} is not a folder.")
    outcomes, journal = stage(batch, progress)
    return _released(batch, judged(outcomes), journal)


def stage(batch: Batch, progress: Progress = lambda step, done, total: None) -> tuple[list[Outcome], Journal]:
    """Writes and verifies what can be released, in the batch's staging; releases and judges nothing."""
    files = [path for path in files_in(batch.source) if path != batch.source / MANIFEST]
    crew = _Crew(batch, len(files))
    try:
        return _staged(batch, files, crew, progress)
    except BaseException:
        crew.break_off()
        raise
    finally:
        crew.close()


def _staged(
    batch: Batch, files: list[Path], crew: _Crew, progress: Progress
) -> tuple[list[Outcome], Journal]:
    surveyed, known = _surveyed(files, crew, progress)
    known = _sampled(surveyed, known, crew)
    journal = Journal(batch.staging, _header(batch, surveyed))
    outcomes, left = _sorted_out(surveyed, journal)
    for outcome in _processed(left, known, len(files), crew, progress):
        journal.add(outcome)
        outcomes.append(outcome)
    return outcomes, journal


def files_in(root: Path) -> Iterator[Path]:
    """Every plain file below a folder, always in the same order."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_file() and not path.is_symlink():
                yield path


def _header(batch: Batch, surveyed: list[Surveyed]) -> dict[str, object]:
    """What must be the same for staged files to be of use: a new file may name what an old one says."""
    sources = hashlib.sha256(json.dumps([(s.source, s.digest) for s in surveyed]).encode()).hexdigest()
    key = read_key(batch.key_file)
    return {
        "policy": batch.policy.digest,
        "key": key.key_id,
        "assignment": batch.assignment.digest,
        "verifies": batch.verifies,
        "sources": sources,
    }


def _surveyed(files: list[Path], crew: _Crew, progress: Progress) -> tuple[list[Surveyed], dict[str, Known]]:
    """What each file is, in the order of `files`, and what all of them together know of each subject."""
    known: dict[str, Known] = {}
    found: list[Surveyed] = []
    tasks = [(survey_many, list(chunk)) for chunk in _chunks(files)]
    for file in crew.results(tasks, lambda path: Surveyed(str(path), reason=_LOST[0], sentence=_LOST[1])):
        identity = file.subject.identity
        before = known.get(identity, NOTHING)
        known[identity] = Known(before.identifiers | file.subject.identifiers, before.needles | file.needles)
        found.append(replace(file, subject=Subject(identity, Identifiers()), needles=Needles()))
        progress("survey", len(found), len(files))
    return sorted(found, key=lambda file: file.source), known


def _sampled(surveyed: list[Surveyed], known: dict[str, Known], crew: _Crew) -> dict[str, Known]:
    """What is known of each subject, with the series of it whose images must each be read by OCR.

    One image of a series is looked at, the same however many processes there are.
    """
    samples: dict[tuple[str, str], Path] = {}
    for file in surveyed:
        if file.series and not file.reason:
            samples.setdefault((file.subject.identity, file.series), Path(file.source))
    tasks = [(partial(suspects_among, known=known[who]), [path]) for (who, _), path in samples.items()]
    suspect = {path for path, is_suspect in crew.results(tasks, lambda path: (path, True)) if is_suspect}
    series: dict[str, set[str]] = defaultdict(set)
    for (who, uid), path in samples.items():
        series[who] |= {uid} if path in suspect else set()
    return {who: replace(about, suspects=frozenset(series[who])) for who, about in known.items()}


def _sorted_out(
    surveyed: list[Surveyed], journal: Journal
) -> tuple[list[Outcome], dict[str, list[Surveyed]]]:
    """What is already decided, and per subject what is left to do."""
    outcomes = []
    left: dict[str, list[Surveyed]] = defaultdict(list)
    for file, held in _conflicts(surveyed):
        decided = held or journal.staged(file)
        if decided is not None:
            outcomes.append(decided)
        else:
            left[file.subject.identity].append(file)
    return outcomes, left


def _conflicts(surveyed: list[Surveyed]) -> Iterator[tuple[Surveyed, Outcome | None]]:
    """Each file with why it cannot go on, if so: unreadable, two patients, two contents, a copy."""
    identities, contents = defaultdict(set), defaultdict(set)
    for file in surveyed:
        if not file.reason:
            identities[file.study].add(file.subject.identity)
            contents[file.instance].add(file.digest)
    seen: set[str] = set()
    for file in surveyed:
        reason, sentence = file.reason, file.sentence
        if not reason and len(identities[file.study]) > 1:
            reason, sentence = Reason.IDENTITY_CONFLICT, "Its study holds instances of two patients."
        elif not reason and len(contents[file.instance]) > 1:
            reason = Reason.DUPLICATE_INSTANCE
            sentence = "Another file claims its SOP Instance UID with other contents."
        elif not reason and file.digest in seen:
            reason, sentence = "COPY", "It is the same, byte for byte, as another file of the batch."
        seen.add(file.digest)
        yield file, Outcome(file.source, file.digest, reason=reason, sentence=sentence) if reason else None


def _processed(
    left: dict[str, list[Surveyed]], known: dict[str, Known], total: int, crew: _Crew, progress: Progress
) -> Iterator[Outcome]:
    """Every outcome, in any order."""
    tasks = []
    for identity, files in left.items():
        for chunk in _chunks(files):
            surveyed = {Path(file.source): file for file in chunk}
            tasks.append((partial(process_many, known=known[identity], surveyed=surveyed), list(surveyed)))
    done = total - sum(len(files) for files in left.values())
    for outcome in crew.results(
        tasks, lambda path: Outcome(str(path), "", reason=_LOST[0], sentence=_LOST[1])
    ):
        done += 1
        progress("de-identify", done, total)
        yield outcome


class _Crew:
    """The processes of a batch; those that die are followed by others."""

    def __init__(self, batch: Batch, files: int) -> None:
        self._jobs = max(1, min(batch.jobs, -(-files // CHUNK)))
        staging = batch.staging / "files"
        self._arguments = (batch.policy, batch.key_file, staging, batch.verifies, batch.assignment)
        self._pool = self._begun(self._jobs)

    def results(
        self, tasks: Sequence[tuple[Callable[[list[Path]], list[R]], list[Path]]], lost: Callable[[Path], R]
    ) -> Iterator[R]:
        """What the tasks give, in any order; files whose process dies are tried alone, then given up."""
        broken = []
        waiting = {self._pool.submit(work, files): (work, files) for work, files in tasks}
        for future in as_completed(waiting):
            task = waiting.pop(future)
            try:
                yield from future.result()
            except BrokenProcessPool:
                broken.append(task)
        for work, files in broken:
            for file in files:
                with self._begun(1) as pool:
                    try:
                        yield from pool.submit(work, [file]).result()
                    except BrokenProcessPool:
                        yield lost(file)
        if broken:
            self.close()
            self._pool = self._begun(self._jobs)

    def break_off(self) -> None:
        """Ends the processes in the middle of what they do; `progress` may raise to have this."""
        for process in tuple((self._pool._processes or {}).values()):
            process.kill()

    def close(self) -> None:
        """Ends the processes; what was not begun is not done."""
        self._pool.shutdown(cancel_futures=True)

    def _begun(self, jobs: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(jobs, get_context("spawn"), initializer=start, initargs=self._arguments)


def _released(batch: Batch, outcomes: list[Outcome], journal: Journal) -> Report:
    journal.close()
    released = sorted((o for o in outcomes if o.name), key=lambda o: o.name)
    held = [o for o in outcomes if not o.name and o.reason != "COPY"]
    wanted = {o.name for o in released}
    for path in list(files_in(journal.files)):
        if str(path.relative_to(journal.files)) not in wanted:
            path.unlink()
    report = Report(
        released=len(released),
        copies=sum(o.reason == "COPY" for o in outcomes),
        subjects=len({o.subject for o in released}),
        size=sum(o.size for o in released),
        quarantined=dict(sorted(Counter(str(o.reason) for o in held).items())),
        sentences={str(o.reason): o.sentence for o in held},
        face_risks=sum(o.has_face_risk for o in released),
        by_ocr=sum(o.is_by_ocr for o in released),
        unknown_words=len({word for o in outcomes for word in o.unknown_words}),
    )
    if not batch.is_dry_run:
        key = read_key(batch.key_file)
        write_confidential(batch.confidential, outcomes, key)
        write_manifest(journal.files, released, report.quarantined, batch.policy, key)
        _remove_empty(journal.files)
        os.replace(journal.files, batch.target)
    shutil.rmtree(batch.staging, ignore_errors=True)
    return report


def _remove_empty(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        if not os.listdir(folder):
            os.rmdir(folder)


def _chunks(files: Iterable[R]) -> Iterator[tuple[R, ...]]:
    waiting = iter(files)
    while chunk := tuple(islice(waiting, CHUNK)):
        yield chunk
