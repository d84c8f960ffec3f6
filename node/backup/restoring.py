"""A home made again from a backup, around objects that survived or with those of the backup.

Nothing that is there is overwritten: it is moved aside. A restore that is cut short leaves a journal, by
which no node starts on the half of it, and the same command finishes it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from catalog import BadRequest, Damaged, OutOfSpace
from node.catching_up import MARKER
from node.control import HomeLock
from node.storage.places import sync_folder, write_durably

from .layout import HOME, Manifest, Stored, chosen, copy_file, name_of
from .proving import prove
from .refilling import refill

JOURNAL: Final = "RESTORING.json"
_STAGE: Final = "restoring"
_PRIVATE: Final = ("secrets/", "identity/", "tls/", "research/")
_MAIN_FILES: Final = ("peerpacs.toml", "state/data.mdb")
_LIST: Final = "objects/volumes.json"
_SHOWN: Final = 3
_PIECE: Final = 1 << 20


class Restored(NamedTuple):
    """What a restore did."""

    backup: Path
    manifest: Manifest
    aside: Path | None
    """Where that lies which was there before."""
    files: int
    segments: int
    """Segments of objects that were copied."""
    altered: tuple[str, ...]
    """Segments that are gone from the backup, or not what was written."""


class _Journal(msgspec.Struct, frozen=True):
    backup: str
    aside: str


def is_half_restored(home: Path) -> bool:
    """Say whether a restore into this home was begun and not finished."""
    return (home / JOURNAL).exists()


def refuse_half_restored(home: Path) -> None:
    """Keep a node from starting on the half of a restore.

    Raises:
        Damaged: a restore was cut short.
    """
    if is_half_restored(home):
        what = f"A restore into {home} was not finished."
        raise Damaged(what, f"Run it again, it goes on: peerpacs restore BACKUP --home {home}")


def restore(
    path: Path,
    home: Path,
    now: float,
    *,
    may_replace: bool = False,
    on_copied: Callable[[int], None] = lambda size: None,
) -> Restored:
    """Make a home from a backup, or from the newest whole one in a folder.

    Objects that are in the home stay. What came after the backup is taken in when the node is opened next.

    Raises:
        BadRequest: there is a node in the home, and it may not be replaced.
        Busy: a node runs there.
        Damaged: the backup is not what was written; nothing was touched.
        NotFound: there is no whole backup.
        OutOfSpace: the home's disk is full; run it again with more room.
    """
    backup = chosen(path)
    proof = prove(backup, objects=False)
    if proof.faults:
        what = (
            f"The backup {backup.name} is damaged: {'; '.join(proof.faults[:_SHOWN])}. Nothing was touched."
        )
        raise Damaged(what, "Take an older one: name its folder.")
    is_new = not home.exists()
    home.mkdir(parents=True, exist_ok=True, mode=0o750)
    with HomeLock(home, "peerpacs restore"):
        if not (is_new or may_replace or is_half_restored(home)):
            _refuse_to_overwrite(home, proof.manifest)
        try:
            return _Restoring(backup, proof.manifest, home, name_of(now)).run(on_copied)
        except OSError as error:
            what = f"The restore stopped: {error.strerror or error} ({error.filename or home})."
            raise OutOfSpace(what, "Make room, then run the same command again: it goes on.") from error


def _refuse_to_overwrite(home: Path, manifest: Manifest) -> None:
    catalogs = [f"archives/{each.name}/catalog/data.mdb" for each in manifest.archives]
    there = [name for name in (*_MAIN_FILES, *catalogs) if (home / name).exists()]
    if there:
        what = f"There is a node in {home} already ({', '.join(there[:_SHOWN])})."
        remedy = "Name an empty folder, or add --replace: what is there is moved aside, objects stay."
        raise BadRequest(what, remedy)


class _Restoring:
    def __init__(self, backup: Path, manifest: Manifest, home: Path, name: str) -> None:
        self._backup = backup
        self._manifest = manifest
        self._home = home
        self._stage = home / _STAGE
        self._aside = home / f"replaced-{name}"

    def run(self, on_copied: Callable[[int], None]) -> Restored:
        """Do what is left to be done."""
        journal = self._home / JOURNAL
        if journal.exists():
            self._aside = self._home / msgspec.json.decode(journal.read_bytes(), type=_Journal).aside
        else:
            write_durably(journal, msgspec.json.encode(_Journal(str(self._backup), self._aside.name)))
        for name, stored in self._manifest.files.items():
            self._put(name, stored)
            on_copied(stored.size)
        for archived in self._manifest.archives:
            folder = self._home / "archives" / archived.name
            folder.mkdir(parents=True, exist_ok=True)
            # It belongs to another catalog, and grows back.
            shutil.rmtree(folder / "search", ignore_errors=True)
            shutil.rmtree(folder / "catalog.rebuilding", ignore_errors=True)
            write_durably(folder / MARKER, msgspec.json.encode({"backup": str(self._backup)}))
        refilled = refill(self._backup, self._manifest, self._home, self._move_aside, on_copied)
        shutil.rmtree(self._stage, ignore_errors=True)
        journal.unlink()
        sync_folder(self._home)
        aside = self._aside if self._aside.exists() else None
        return Restored(self._backup, self._manifest, aside, len(self._manifest.files), *refilled)

    def _put(self, name: str, stored: Stored) -> None:
        target = self._home / name
        if target.exists() and (_begins_with(target, stored, name) or name.endswith(_LIST)):
            return
        staged = self._stage / name
        found = copy_file(self._backup / HOME / name, staged)
        if found.sha256 != stored.sha256:
            raise Damaged(f"{name} in the backup changed while it was read.", "Look at its disk; try again.")
        self._move_aside(target)
        _make_folders(target.parent, self._home, private=name.startswith(_PRIVATE))
        if target.name == "data.mdb":
            # It belongs to readers of the database that lay here.
            target.with_name("lock.mdb").unlink(missing_ok=True)
        staged.rename(target)
        sync_folder(target.parent)

    def _move_aside(self, target: Path) -> None:
        """Keep what is there; what a restore that was cut short had put there itself is not kept."""
        if not target.exists():
            return
        if not target.is_relative_to(self._home):
            # On another disk: a rename cannot lead here.
            target.rename(target.with_name(f"{target.name}.{self._aside.name}"))
            return
        kept = self._aside / target.relative_to(self._home)
        if kept.exists():
            target.unlink()
            return
        _make_folders(kept.parent, self._home, private=True)
        target.rename(kept)
        sync_folder(kept.parent)


def _begins_with(target: Path, stored: Stored, name: str) -> bool:
    """Say whether a file is the backup's; an audit may have gone on since."""
    size = target.stat().st_size
    if size != stored.size and not (size > stored.size and name.startswith("audit/")):
        return False
    digest, left = hashlib.sha256(), stored.size
    with target.open("rb") as file:
        while left and (piece := file.read(min(left, _PIECE))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest() == stored.sha256


def _make_folders(folder: Path, home: Path, *, private: bool) -> None:
    for each in (*reversed(folder.parents), folder):
        if each.is_relative_to(home) and not each.exists():
            each.mkdir(mode=0o700 if private else 0o750)
            os.chmod(each, 0o700 if private else 0o750)
            sync_folder(each.parent)
