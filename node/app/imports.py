"""Imports that run in the background, by name."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any, Final

from catalog import BadRequest, NotFound
from node.adoption import Adoption
from node.archives import DEFAULT
from node.contracts import Audit
from node.importer import SOURCE, ImportJob

from .archive import Archive
from .background import Background

_THREADS: Final = 3


class Imports:
    """The imports since the node started."""

    def __init__(self, home: Path, background: Background, audit: Audit) -> None:
        self._journals = home / "run" / "imports"
        self._background = background
        self._audit = audit
        self.jobs: dict[str, ImportJob] = {}
        self._told: dict[str, dict[str, str]] = {}
        self._numbers = count(1)
        self._mutex = Lock()

    def start(self, source: str, archive: Archive, issuer: str = "", patient: str = "", who: str = "") -> str:
        """Import a folder, zip file or DICOMDIR in the background; return the job's name.

        What is being imported already, in the same way, is that job. `issuer` is whose Patient IDs are that
        come without one; `patient` is whose all of it is.

        Raises:
            NotFound: there is nothing at the path.
            BadRequest: the archive is that of a research project, several patients have that ID, or the path
                is not whole.
        """
        if not Path(source).is_absolute():
            what = f"{source} does not say where it begins."
            raise BadRequest(what, "Write the whole path on the node's host, as /media/cdrom.")
        if archive.plan.research:
            what = f"The archive {archive.name} keeps the de-identified set of {archive.plan.research}."
            raise BadRequest(what, "Import into another archive, and export from there: peerpacs export")
        journals = self._journals if archive.name == DEFAULT else self._journals / archive.name
        adoption = Adoption(archive.catalog, archive.register, issuer, patient, SOURCE, who)
        told = {"archive": archive.name, "source": str(Path(source)), "issuer": issuer, "patient": patient}
        whose = f"{issuer}\0{patient}" if issuer or patient else ""
        with self._mutex:
            for known, row in self._told.items():
                if not self.jobs[known].is_over and {**row, "id": ""} == {**told, "id": ""}:
                    return known
            job = ImportJob(Path(source), archive.ingest, journals, adopt=adoption.adopt, whose=whose)
            name = f"import-{next(self._numbers)}"
            self._told[name] = {"id": name, **told}
            self.jobs[name] = job
        self._audit.record("import", None, "started", {"job": name, "archive": archive.name})
        for number in range(_THREADS):
            self._background.run(f"{name}-{number}", lambda: self._work_off(job))
        return name

    def imports(self) -> list[dict[str, Any]]:
        """Return every import since the node started, the newest first, with how far it has come."""
        jobs = reversed(list(self.jobs.items()))
        return [{**self._told[name], **job.progress()} for name, job in jobs]

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
        job = self.jobs.get(name)
        if job is None:
            raise NotFound(f"There is no import called {name!r}.", "Start it again: it goes on where it was.")
        return job

    def _work_off(self, job: ImportJob) -> None:
        while not self._background.stopping.is_set() and job.step():
            pass
