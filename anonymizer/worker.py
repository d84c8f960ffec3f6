"""What happens to one file of a batch in one process: survey it, or de-identify, write and verify it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anonymizer.assignment import NOTHING, Assignment
from anonymizer.elements import read_part10, text_value
from anonymizer.engine import Deidentified, Engine
from anonymizer.keys import ProjectKey, read_key
from anonymizer.leaks import Needles
from anonymizer.pixels import needs_sample
from anonymizer.policy import Policy
from anonymizer.promises import Expected
from anonymizer.quarantine import Quarantined, Reason
from anonymizer.subject import Subject
from anonymizer.text import Identifiers
from anonymizer.verifier import Finding, needles_of, verify, verify_again

MTIME = 315532800  # 1980-01-01: a file's own time would tell when it was exported


_PR_SET_PDEATHSIG = 1
NOBODY = Subject("", Identifiers())


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What one source file is about; `reason` is set if that cannot be told.

    `stamp` is what the file system says of the file; while that is the same, so is `digest`.
    """

    source: str
    digest: str = ""
    subject: Subject = NOBODY
    needles: Needles = field(default_factory=Needles)
    study: str = ""
    instance: str = ""
    series: str = ""
    """Its Series Instance UID if one image of the series is to be read by OCR."""
    stamp: tuple[int, ...] = ()
    reason: str = ""
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What a batch has learned about one subject from all of its files."""

    identifiers: Identifiers
    needles: Needles
    suspects: frozenset[str] | None = None
    """The series of which each image must be read by OCR; None = each image tells for itself."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one source file: staged under `name`, or held back for `reason`."""

    source: str
    source_digest: str
    name: str = ""
    digest: str = ""
    size: int = 0
    subject: str = ""
    uids: tuple[str, str, str] = ("", "", "")
    old_uids: tuple[str, str, str] = ("", "", "")
    references: tuple[str, ...] = ()
    old_references: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    boxes: tuple[tuple[int, ...], ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    log: tuple[str, ...] = ()
    unknown_words: tuple[str, ...] = ()
    has_face_risk: bool = False
    is_by_ocr: bool = False
    reason: str = ""
    sentence: str = ""


class Worker:
    """De-identifies files into a staging folder under one policy with one key."""

    def __init__(
        self,
        policy: Policy,
        key: ProjectKey,
        staging: Path,
        *,
        verifies: bool = True,
        assignment: Assignment = NOTHING,
    ) -> None:
        self.engine = Engine(policy, key, assignment)
        self.staging = staging
        self.verifies = verifies

    def survey(self, source: Path) -> Surveyed:
        """Who the file is about, for what its siblings must not say."""
        try:
            data, stamp = _read(source)
        except OSError as error:
            sentence = f"It cannot be read from the disk ({error.strerror})."
            return Surveyed(str(source), reason=Reason.UNREADABLE, sentence=sentence)
        return replace(self.survey_bytes(str(source), data), stamp=stamp)

    def survey_bytes(self, source: str, data: bytes) -> Surveyed:
        """The same of an instance in memory; `source` is what it is called."""
        try:
            digest = hashlib.sha256(data).hexdigest()
            file = read_part10(data)
            expected = self._expected(())
            needles = needles_of(file, expected)[0] if self.verifies else Needles()
            subject = self.engine.subject(file.root)
        except Quarantined as held:
            return Surveyed(source, reason=held.reason, sentence=held.sentence)
        except Exception as error:
            sentence = f"The survey did not foresee this file ({type(error).__name__})."
            return Surveyed(source, reason=Reason.INTERNAL_ERROR, sentence=sentence)
        is_sampled = needs_sample(file.root, self.engine.policy)
        uids = (text_value(file.root, tag) for tag in (0x0020000D, 0x00080018, 0x0020000E))
        study, instance, series = uids
        return Surveyed(source, digest, subject, needles, study, instance, series if is_sampled else "")

    def is_suspect(self, source: Path, known: Known) -> bool:
        """`Engine.is_suspect` of a file; so is one that cannot be read from the disk any more."""
        try:
            return self.engine.is_suspect(_read(source)[0], known.identifiers)
        except OSError:
            return True

    def process(self, source: Path, known: Known | None, surveyed: Surveyed | None = None) -> Outcome:
        """De-identifies, writes and verifies one file; whatever goes wrong holds it back."""
        digest = ""
        try:
            data, stamp = _read(source)
            is_same = surveyed is not None and surveyed.stamp == stamp
            digest = surveyed.digest if surveyed and is_same else hashlib.sha256(data).hexdigest()
            about = (known.identifiers, known.suspects) if known else (None, None)
            result = self.engine.deidentify(data, *about)
            return self._finished(source, digest, data, result, known)
        except Quarantined as held:
            return Outcome(str(source), digest, reason=held.reason, sentence=held.sentence)
        except Exception as error:
            sentence = f"Writing or verifying it failed ({type(error).__name__})."
            return Outcome(str(source), digest, reason=Reason.INTERNAL_ERROR, sentence=sentence)

    def process_bytes(self, source: str, data: bytes, known: Known, digest: str) -> tuple[Outcome, bytes]:
        """The same in memory: the outcome and the Part 10 file, which is empty unless it may be released.

        `digest` is the SHA-256 of `data`, which the survey told.
        """
        try:
            result = self.engine.deidentify(data, known.identifiers, known.suspects)
            written = b"".join(result.chunks())
            outcome = self._judged(source, digest, data, written, result, known)
        except Quarantined as held:
            return Outcome(source, digest, reason=held.reason, sentence=held.sentence), b""
        except Exception as error:
            sentence = f"Writing or verifying it failed ({type(error).__name__})."
            return Outcome(source, digest, reason=Reason.INTERNAL_ERROR, sentence=sentence), b""
        return outcome, written if outcome.name else b""

    def _finished(
        self, source: Path, digest: str, data: bytes, result: Deidentified, known: Known | None
    ) -> Outcome:
        path = self.staging / _name(result)
        write(path, result.chunks())
        outcome = self._judged(str(source), digest, data, path.read_bytes(), result, known)
        if not outcome.name:
            path.unlink()
        return outcome

    def _judged(
        self,
        source: str,
        digest: str,
        data: bytes,
        written: bytes,
        result: Deidentified,
        known: Known | None,
    ) -> Outcome:
        name = _name(result)
        findings = self._findings(data, written, result, known, name) if self.verifies else []
        if findings:
            return Outcome(
                source,
                digest,
                subject=result.subject,
                reason=findings[0].reason,
                sentence=findings[0].sentence,
            )
        return Outcome(
            source=source,
            source_digest=digest,
            name=name,
            digest=hashlib.sha256(written).hexdigest(),
            size=len(written),
            subject=result.subject,
            uids=(result.study, result.series, result.instance),
            old_uids=result.old_uids,
            references=result.references,
            old_references=result.old_references,
            codes=result.codes,
            boxes=tuple(tuple(box) for box in result.boxes),
            counts=dict(sorted(result.counts.items())),
            log=tuple(_logged(*entry) for entry in result.log),
            unknown_words=tuple(sorted(result.unknown_words)),
            has_face_risk=result.has_face_risk,
            is_by_ocr=result.is_by_ocr,
        )

    def _findings(
        self, data: bytes, written: bytes, result: Deidentified, known: Known | None, name: str
    ) -> list[Finding]:
        needles = known.needles if known else Needles()
        if result.was_ours:
            return verify_again(data, written)
        return verify(data, written, self._expected(result.boxes, result), needles, name)

    def _expected(self, boxes: Iterable[Any], result: Deidentified | None = None) -> Expected:
        policy = self.engine.policy
        given = {str(value) for value in policy.document["clinical_trial"].values()} | {"UNSPECIFIED"}
        given |= self.engine.assignment.texts
        if result is not None:
            given |= {result.subject, result.accession}
        return Expected(
            options=frozenset(policy.document["options"]),
            overrides={int(o["tag"], 16): o["action"] for o in policy.document["overrides"]},
            boxes=tuple(tuple(box) for box in boxes),
            words=policy.words | _words_of_creators(policy),
            given=frozenset(given),
        )


def write(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Writes a file under its final time, for its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(chunks)
    os.utime(path, (MTIME, MTIME))


_worker: Worker | None = None


def start(policy: Policy, key_file: Path, staging: Path, verifies: bool, assignment: Assignment) -> None:
    """Makes this process's worker, which dies with the process that started it."""
    global _worker
    die_with_parent()
    _worker = Worker(policy, read_key(key_file), staging, verifies=verifies, assignment=assignment)


def die_with_parent() -> None:
    """Has the kernel end this process with the one that started it: no orphan goes on writing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def survey_many(sources: list[Path]) -> list[Surveyed]:
    """`Worker.survey` in a worker process."""
    assert _worker is not None
    return [_worker.survey(source) for source in sources]


def suspects_among(sources: list[Path], known: Known) -> list[tuple[Path, bool]]:
    """`Worker.is_suspect` in a worker process."""
    assert _worker is not None
    return [(source, _worker.is_suspect(source, known)) for source in sources]


def process_many(sources: list[Path], known: Known, surveyed: dict[Path, Surveyed]) -> list[Outcome]:
    """`Worker.process` in a worker process."""
    assert _worker is not None
    return [_worker.process(source, known, surveyed[source]) for source in sources]


def _read(source: Path) -> tuple[bytes, tuple[int, ...]]:
    with source.open("rb") as file:
        status = os.fstat(file.fileno())
        return file.read(), (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _name(result: Deidentified) -> str:
    return f"{result.subject}/{result.study}/{result.series}/{result.instance}.dcm"


def _words_of_creators(policy: Policy) -> frozenset[str]:
    """What the private creators of the policy's own list are made of, which may stay."""
    creators = " ".join(str(row["creator"]) for row in policy.document["private"]["list"])
    return frozenset(re.findall(r"[^\W_]+", creators.casefold()))


def _logged(path: tuple[int, ...], tag: int, code: str) -> str:
    return "/".join(f"{part:08X}" for part in (*path, tag)) + f" {code}"
