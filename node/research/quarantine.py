"""What nothing vouches for: kept encrypted at the site, with a reason, until a person decides or its time is
over.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from anonymizer import Reason
from catalog import Clock, NotFound, OutOfSpace
from node.contracts import Audit
from node.state import State

from .model import Held, Project
from .sealing import Vault

_DAY: Final = 86400.0
_SPARE: Final = 64 << 20
"""Bytes of the disk that are left free."""
Read = Callable[[str, str], tuple[bytes, str]]
"""Returns a Part 10 file by archive and SOP Instance UID, through the door out, and its patient's issuer."""


class Quarantine:
    """Rows that name nobody, and beside them sealed files; any thread may use it."""

    def __init__(
        self, state: State, folder: Path, vault: Vault, read: Read, audit: Audit, clock: Clock
    ) -> None:
        self._rows = state.table("research-quarantine", Held)
        self._folder = folder
        self._vault = vault
        self._read = read
        self._audit = audit
        self._clock = clock

    def put(self, project: Project, content: bytes, **about: str) -> Held:
        """Keep an instance that came from a sender; durable when it returns.

        Raises:
            OSError, OutOfSpace: it could not be kept.
        """
        held = self._held(project, size=len(content), **about)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if shutil.disk_usage(self._folder).free < _SPARE + len(content):
            raise OutOfSpace("The disk of the quarantine is full.", "Free space, or decide what waits.")
        self._vault.write(self._path(held.id), content, held.id)
        self._rows.put(held.id.encode(), held)
        self._tell("held", held)
        return held

    def refer(self, project: Project, size: int, **about: str) -> Held:
        """Note an instance that an export met; it stays where it is, in its archive."""
        known = f"{about['export']}\0{about['SOPInstanceUID']}"
        held = self._held(project, size=size, id=uuid.uuid5(uuid.NAMESPACE_OID, known).hex, **about)
        if self._rows.get(held.id.encode()) is None:
            self._rows.put(held.id.encode(), held)
            self._tell("held", held)
        return held

    def all(self, project: str = "") -> list[Held]:
        """Return what is held, the oldest first."""
        rows = [row for _, row in self._rows.scan() if not project or row.project == project]
        return sorted(rows, key=lambda row: row.when)

    def find(self, id: str) -> Held:
        """Return a row by its id or a beginning of it that fits no other.

        Raises:
            NotFound: there is none, or several.
        """
        found = [row for _, row in self._rows.scan(id.encode())] if id else []
        if len(found) != 1:
            what = f"{id!r} is {'no instance' if not found else 'the beginning of several instances'} held."
            raise NotFound(what, "List them: peerpacs quarantine list")
        return found[0]

    def content(self, held: Held) -> tuple[bytes, str]:
        """Return the instance as it came, and whose its Patient ID is if it does not say so.

        Raises:
            NotFound: it is gone from its archive.
            Damaged: its sealed file is.
        """
        if held.SOPInstanceUID:
            return self._read(held.archive, held.SOPInstanceUID)
        try:
            return self._vault.read(self._path(held.id), held.id), held.issuer
        except FileNotFoundError:
            raise NotFound("Its sealed file is gone.", f"peerpacs quarantine reject {held.id[:8]}") from None

    def remove(self, held: Held, what: str, who: str, reason: str = "") -> None:
        """Forget an instance and destroy its sealed file."""
        self._path(held.id).unlink(missing_ok=True)
        self._rows.delete(held.id.encode())
        self._tell(what, held, who=who, why=reason)

    def is_leaking(self, project: str, subject: str) -> bool:
        """Say whether an instance of the subject is held for a leak, which holds all of the subject."""
        return subject in self.leaking(project)

    def leaking(self, project: str) -> set[str]:
        """Return the subjects of a project of whom an instance is held for a leak."""
        rows = (row for _, row in self._rows.scan() if row.project == project)
        return {row.subject for row in rows if row.reason == Reason.LEAK_FOUND and row.subject}

    def tidy(self) -> int:
        """Destroy what is past its end date, and files that no row names; return how many instances."""
        over = [row for _, row in self._rows.scan() if row.until <= self._clock()]
        for row in over:
            self.remove(row, "over its end date", "PEERPACS")
        for path in self._strays():
            path.unlink(missing_ok=True)
        return len(over)

    def _strays(self) -> Iterator[Path]:
        """Yield files of which a crash lost the row: their senders were told that nothing was kept."""
        hour_ago = self._clock() - 3600.0
        for path in self._folder.glob("*/*"):
            if self._rows.get(path.stem.encode()) is None and path.stat().st_mtime < hour_ago:
                yield path

    def _held(self, project: Project, *, size: int, id: str = "", **about: str) -> Held:
        now = self._clock()
        until = now + project.quarantine_days * _DAY
        fields = {"project": project.name, "when": now, "until": until, "size": size, **about}
        return msgspec.convert({"id": id or uuid.uuid4().hex, **fields}, Held)

    def _path(self, id: str) -> Path:
        return self._folder / id[:2] / f"{id}.sealed"

    def _tell(self, outcome: str, held: Held, **more: str) -> None:
        detail = {"project": held.project, "id": held.id, "reason": held.reason, **more}
        self._audit.record("quarantine", None, outcome, detail)
