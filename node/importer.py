"""Import: folders, zip files and DICOMDIR media become instances through the one door in.

Every file is accounted for: stored, here already, or refused with a sentence. A ledger in the home folder
remembers what was done, so that an import that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import IO, Any, Final, NamedTuple

from catalog import Header, MoreNeeded, NotFound, OutOfSpace, PacsError, Unreadable, scan
from node.contracts import Caller, Ingest, Reception
from node.foreign_storage import foreign_storage
from node.import_files import SourceFile, source_files
from node.storage import Meta, read_meta

logger = logging.getLogger(__name__)

SOURCE: Final = "IMPORT"
"""What stands for the calling AE title of what was imported."""
_HEAD: Final = 1 << 18
_PIECE: Final = 1 << 20
_UNKNOWN_LENGTH: Final = 1 << 62
_ZIP: Final = b"PK\x03\x04"
"""How a zip file begins."""
MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"
"""SOP Class of a DICOMDIR, PS3.4 I.4; it lists instances and is none."""


class Fate(StrEnum):
    """What became of one file of an import."""

    STORED = "stored"
    REFUSED = "refused"
    NOT_DICOM = "not DICOM"
    MISSING = "missing"
    """A DICOMDIR names it, the medium does not have it."""


class Outcome(NamedTuple):
    """One file's fate, and the sentence that says why or, if it was stored, what is odd about it."""

    name: str
    fate: Fate
    why: str = ""
    size: int = 0
    """Bytes of the data set, if it was stored."""
    StudyInstanceUID: str = ""


class Ledger:
    """Which files of one source were done, by name and stamp; survives a stopped import."""

    def __init__(self, folder: Path, source: Path, whose: str = "") -> None:
        """`whose` is what a person said of the patients: said otherwise, nothing of it was done yet."""
        folder.mkdir(parents=True, exist_ok=True)
        told = os.fsencode(source.resolve()) + (f"\0{whose}".encode() if whose else b"")
        name = hashlib.sha256(told).hexdigest()[:16]
        self._path = folder / f"{name}.done"
        self._done = set(self._path.read_text().splitlines()) if self._path.exists() else set()
        # By line: what was stored before a kill -9 is not read again.
        self._file = self._path.open("a", buffering=1)

    def has(self, file: SourceFile) -> bool:
        """Say whether the file was stored by an earlier run and has not changed since."""
        return _line(file) in self._done

    def add(self, file: SourceFile) -> None:
        """Remember that the file was stored."""
        self._file.write(_line(file) + "\n")

    def close(self, is_finished: bool) -> None:
        """Close the ledger; a finished import needs none."""
        self._file.close()
        if is_finished:
            self._path.unlink(missing_ok=True)


def _line(file: SourceFile) -> str:
    return hashlib.sha256(f"{file.name}\0{file.stamp}".encode()).hexdigest()


def import_file(file: SourceFile, ingest: Ingest, caller: Caller) -> Outcome:
    """Take in one file; a refusal is an outcome, never an exception.

    Raises:
        OutOfSpace: the node cannot take more now; the import should stop and be started again later.
    """
    if file.open is None:
        why = "The DICOMDIR names it, and the medium does not have it. Ask for another copy of the medium."
        return Outcome(file.name, Fate.MISSING, why)
    try:
        with file.open() as stream:
            return _take(file.name, stream, ingest, caller)
    except OutOfSpace:
        raise
    except PacsError as error:
        return Outcome(file.name, Fate.REFUSED, str(error))
    except OSError as error:
        return Outcome(file.name, Fate.REFUSED, f"It cannot be read: {error.strerror or error}.")
    except Exception as error:
        # A damaged zip file is told by the exceptions of half a dozen libraries.
        logger.info("A file of an import cannot be read", exc_info=True)
        why = f"It cannot be read, its copy is damaged ({type(error).__name__}). Copy the medium again."
        return Outcome(file.name, Fate.REFUSED, why)


def _take(name: str, stream: IO[bytes], ingest: Ingest, caller: Caller) -> Outcome:
    head = stream.read(_HEAD)
    has_prefix = head[128:132] == b"DICM"
    if head.startswith(_ZIP) and not has_prefix:
        return Outcome(name, Fate.REFUSED, "A zip file in here is not opened. Import it on its own.")
    try:
        meta, _ = identify(head, is_whole=len(head) < _HEAD)
    except Unreadable as error:
        return Outcome(name, Fate.REFUSED if has_prefix else Fate.NOT_DICOM, str(error))
    if meta.SOPClassUID == MEDIA_STORAGE_DIRECTORY:
        return Outcome(name, Fate.NOT_DICOM, "A DICOMDIR lists the images of its medium and is none itself.")
    reception = ingest.begin(
        caller, meta.SOPClassUID, meta.SOPInstanceUID, meta.TransferSyntaxUID, is_held=False
    )
    try:
        piece, size = head[meta.offset :], 0
        while piece:
            size += len(piece)
            reception.space(len(piece))[:] = piece
            reception.filled(len(piece))
            piece = stream.read(_PIECE)
    except BaseException:
        reception.abandon()
        raise
    outcome = _outcome(name, reception)
    return outcome._replace(size=size) if outcome.fate is Fate.STORED else outcome


def identify(head: bytes, *, is_whole: bool) -> tuple[Meta, Header | None]:
    """Return what a file is and its header, None if that cannot be read from its beginning.

    Where File Meta Information and data set differ, the data set is right.

    Raises:
        Unreadable: it is no DICOM file.
    """
    meta = read_meta(head)
    data = memoryview(head)[meta.offset :]
    try:
        header = scan(data, meta.TransferSyntaxUID, len(data) if is_whole else _UNKNOWN_LENGTH)
    except (MoreNeeded, Unreadable):
        return meta, None
    meta = meta._replace(
        SOPClassUID=header.SOPClassUID or meta.SOPClassUID,
        SOPInstanceUID=header.SOPInstanceUID or meta.SOPInstanceUID,
    )
    return meta, header


def _outcome(name: str, reception: Reception) -> Outcome:
    result = reception.finish()
    if result.status >> 8 == 0xA7:
        raise OutOfSpace(result.comment, "Make room, then start the same import again: it goes on from here.")
    if result.status and result.status >> 12 != 0xB:
        return Outcome(name, Fate.REFUSED, f"{result.status:04X}: {result.comment}")
    why = result.comment if result.status else ""
    return Outcome(name, Fate.STORED, why, StudyInstanceUID=result.StudyInstanceUID)


class ImportJob:
    """One import, made of steps that any number of threads may take."""

    def __init__(
        self,
        source: Path,
        ingest: Ingest,
        ledgers: Path,
        name: str = SOURCE,
        adopt: Callable[[str], str] = lambda study: "",
        whose: str = "",
    ) -> None:
        """Begin, or go on with what an earlier run of the same source left.

        `adopt` says of a study that was stored whose it is, and returns what is odd about that; `whose` is
        what it goes by.

        Raises:
            NotFound: there is nothing at the path.
        """
        if not os.path.exists(source):
            raise NotFound(
                f"There is nothing at {source} that the node may read.",
                "Check the path, on the node's host, and its permissions.",
            )
        self.source = source
        self.counts = dict.fromkeys(Fate, 0)
        self.stored_bytes = 0
        self.skipped = 0
        """Files that an earlier run of this import stored already."""
        self.not_stored: list[Outcome] = []
        self.odd: list[Outcome] = []
        """What was stored with a warning."""
        self.failure = ""
        """Why the import stopped before its end; empty while it has not."""
        self.warning = foreign_storage(source)
        """What a person should know before all of it is taken in."""
        self._adopt = adopt
        self._ingest = ingest
        self._caller = Caller(name, "", "")
        self._files = source_files(source)
        self._ledger = Ledger(ledgers, source, whose)
        self._mutex = Lock()
        self._is_exhausted = False
        self._working = 0

    @property
    def is_over(self) -> bool:
        """Whether every file is accounted for, or the import stopped."""
        return self._is_exhausted and not self._working

    def step(self) -> bool:
        """Take in one file; say whether there may be more."""
        file = self._next()
        if file is None:
            return False
        try:
            outcome = self._adopted(import_file(file, self._ingest, self._caller))
        except PacsError as error:
            self.stop(str(error))
            outcome = None
        with self._mutex:
            self._working -= 1
            if outcome is not None:
                self._count(file, outcome)
            if self.is_over:
                self._ledger.close(is_finished=not self.failure)
        return outcome is not None

    def _adopted(self, outcome: Outcome) -> Outcome:
        if outcome.fate is not Fate.STORED or not outcome.StudyInstanceUID:
            return outcome
        odd = self._adopt(outcome.StudyInstanceUID)
        return outcome._replace(why=f"{outcome.why} {odd}".strip())

    def progress(self) -> dict[str, Any]:
        """Return the counts so far, for a person or a program; what was not stored is told at the end."""
        with self._mutex:
            return {
                **{fate.value: count for fate, count in self.counts.items()},
                "done earlier": self.skipped,
                "is_over": self.is_over,
                "failure": self.failure,
                "warning": self.warning,
                "odd": [_told(outcome) for outcome in self.odd if self.is_over],
                "not_stored": [_told(outcome) for outcome in self.not_stored if self.is_over],
            }

    def _next(self) -> SourceFile | None:
        with self._mutex:
            while not self._is_exhausted:
                try:
                    file = next(self._files, None)
                except (PacsError, OSError) as error:
                    self.failure = str(error)
                    file = None
                except Exception as error:
                    logger.exception("What an import has cannot be listed")
                    self.failure = f"Its files cannot be listed ({type(error).__name__}). Copy it again."
                    file = None
                if file is None:
                    self._is_exhausted = True
                    if not self._working:
                        self._ledger.close(is_finished=not self.failure)
                elif self._ledger.has(file):
                    self.skipped += 1
                else:
                    self._working += 1
                    return file
            return None

    def stop(self, why: str) -> None:
        """Take in no more files; the next import of the same source goes on from here."""
        with self._mutex:
            if self.is_over:
                return
            self.failure = self.failure or why
            self._is_exhausted = True
            if not self._working:
                self._ledger.close(is_finished=False)

    def _count(self, file: SourceFile, outcome: Outcome) -> None:
        self.counts[outcome.fate] += 1
        if outcome.fate is Fate.STORED:
            self._ledger.add(file)
            self.stored_bytes += outcome.size
            self.odd += [outcome] if outcome.why else []
        else:
            self.not_stored.append(outcome)


def _told(outcome: Outcome) -> dict[str, str]:
    return {"name": outcome.name, "fate": outcome.fate, "why": outcome.why}
