"""Imports that run in the background, by name."""

from __future__ import annotations

from pathlib import Path
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

    def start(self, source: str, archive: Archive, issuer: str = "", patient: str = "", who: str = "") -> str:
        """Import a folder, zip file or DICOMDIR in the background; return the job's name.

        `issuer` is whose Patient IDs are that come without one; `patient` is whose all of it is.

        Raises:
            NotFound: there is nothing at the path.
            BadRequest: the archive is that of a research project, or several patients have that ID.
        """
        if archive.plan.research:
            what = f"The archive {archive.name} keeps the de-identified set of {archive.plan.research}."
            raise BadRequest(what, "Import into another archive, and export from there: peerpacs export")
        journals = self._journals if archive.name == DEFAULT else self._journals / archive.name
        adoption = Adoption(archive.catalog, archive.register, issuer, patient, SOURCE, who)
        job = ImportJob(Path(source), archive.ingest, journals, adopt=adoption.adopt)
        name = f"import-{len(self.jobs) + 1}"
        self._told[name] = {"id": name, "archive": archive.name, "source": source}
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
