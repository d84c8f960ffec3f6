"""Whether a node can do its work: its own disk, catalog and port, and that it need not hear peers first."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from catalog import PacsError

Probe = Callable[[], str]
"""Returns why something is not well, or nothing; what it raises counts as a reason too."""


class Check(NamedTuple):
    """One thing that must be well, in one word for `/readyz?verbose`."""

    name: str
    probe: Probe


class Finding(NamedTuple):
    """What a check found; `why` is empty when all is well."""

    name: str
    why: str


class Readiness:
    """Asks every check when somebody wants to know."""

    def __init__(self, checks: Iterable[Check]) -> None:
        self._checks = list(checks)
        self.notices: Callable[[], Iterable[str]] = lambda: ()
        """Returns what a person should know although the node can do its work: its grid, its peers."""

    def add(self, name: str, probe: Probe) -> None:
        """Ask about another thing from now on."""
        self._checks.append(Check(name, probe))

    def findings(self) -> list[Finding]:
        """Return what each check found; never raises."""
        return [Finding(check.name, _why(check.probe)) for check in self._checks]


def _why(probe: Probe) -> str:
    try:
        return probe()
    except PacsError as error:
        return error.what
    except OSError as error:
        return error.strerror or type(error).__name__
    except Exception as error:
        return type(error).__name__


def is_writable(folder: Path) -> str:
    """Write a byte to a nameless file in the folder, so that nothing is left of it however it ends."""
    try:
        file = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        return "" if os.access(folder, os.W_OK) else "no right to write"
    try:
        os.write(file, b"\0")
    finally:
        os.close(file)
    return ""


def has_room(folder: Path, least: int) -> str:
    """Say whether at least so many bytes are free under the folder."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    return "" if free >= least else f"{free >> 20} MB are free, {least >> 20} MB are the least"
