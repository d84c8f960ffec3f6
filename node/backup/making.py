"""A backup: hot copies of the databases and everything small, whole only when the manifest is written.

The databases are copied in an order that makes one story of several moments: the state, then the catalogs,
then the objects. What a catalog names is in the objects copied after it, and what came in between lies in
segments that a restore reads anyway.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from catalog import BadRequest, NotFound, OutOfSpace, check_environment, copy_environment, head_of_copy
from node.archives import ArchiveBook, Plan
from node.config import DISK, load_config
from node.sections import Config
from node.state import State
from node.storage.places import sync_folder

from .layout import (
    HOME,
    OBJECTS,
    UNFINISHED,
    Archived,
    Manifest,
    Stored,
    copy_file,
    name_of,
    read_manifest,
    stored_as,
    sync_tree,
    whole_backups,
    working_in,
    write_manifest,
)
from .segments import SegmentCopies, list_of_volumes

_FOLDERS: Final = ("identity", "tls", "secrets", "research/records", "research/quarantine")
_ALL_LEAVES: Final = 1 << 60


class BackedUp(NamedTuple):
    """A backup that was made."""

    path: Path
    manifest: Manifest
    copied: int
    """Bytes of objects that were new."""
    removed: tuple[str, ...]
    """Older backups that were removed."""


class Wish(NamedTuple):
    """What is to be in a backup."""

    archive: str = ""
    """Only this one; empty = all."""
    has_objects: bool = False
    has_rejected: bool = False
    keep: int = 0
    """Backups to keep, the new one counted; 0 = all."""


def make_backup(
    home: Path, folder: Path, now: float, wish: Wish, on_copied: Callable[[int], None] = lambda size: None
) -> BackedUp:
    """Make a backup of a node, whether or not it runs.

    Raises:
        BadRequest: the folder lies in the home, or there is no such archive.
        Busy: another backup is made in the folder.
        Damaged: a database cannot be copied whole.
        OutOfSpace: the disk of the folder is full; older backups are as they were.
    """
    config = load_config(home)
    if folder.resolve().is_relative_to(home.resolve()):
        what = f"{folder} lies in the node's own folder, and would be lost with it."
        raise BadRequest(what, "Name a folder on another disk or machine.")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with working_in(folder):
        for left in folder.glob(f"*{UNFINISHED}"):
            shutil.rmtree(left, ignore_errors=True)
        target = folder / name_of(now)
        if target.exists():
            raise BadRequest(f"There is a backup {target.name} already.", "Wait a second.")
        work = _Work(home, config, folder, target.with_name(target.name + UNFINISHED), wish, on_copied)
        try:
            manifest = work.run(int(now * 1000))
            write_manifest(work.target, manifest)
            sync_tree(work.target)
            work.target.rename(target)
            sync_folder(folder)
        except OSError as error:
            what = f"The backup was not made: {error.strerror or error} ({error.filename or folder})."
            remedy = "Free space in the backup folder, or keep fewer with --keep; then run it again."
            raise OutOfSpace(what, remedy) from error
        finally:
            # What is not whole must not be what keeps the disk full.
            shutil.rmtree(work.target, ignore_errors=True)
        removed = _forget_old(folder, wish.keep)
    return BackedUp(target, manifest, work.copied, removed)


class _Work:
    """One backup being made."""

    def __init__(
        self,
        home: Path,
        config: Config,
        folder: Path,
        target: Path,
        wish: Wish,
        on_copied: Callable[[int], None],
    ) -> None:
        self._home = home
        self._config = config
        self._folder = folder
        self.target = target
        self._wish = wish
        self._on_copied = on_copied
        self.copied = 0
        self._files: dict[str, Stored] = {}

    def run(self, taken: int) -> Manifest:
        """Copy everything; return the manifest, which is still to be written."""
        self.target.mkdir(mode=0o700)
        self._copy("peerpacs.toml")
        self._copy_database("state")
        plans = self._plans()
        archived = [self._copy_catalog(plan) for plan in plans]
        rejected = ("rejected", *(f"archives/{plan.name}/rejected" for plan in plans))
        for name in (*_FOLDERS, *(rejected if self._wish.has_rejected else ())):
            self._copy_folder(name)
        self._copy_audit()
        if self._wish.has_objects:
            archived = [self._with_objects(each) for each in archived]
        node = self._config.node
        return Manifest(
            taken=taken,
            node_id=node.node_id,
            name=node.name,
            files=self._files,
            archives=tuple(archived),
            has_objects=self._wish.has_objects,
        )

    def _plans(self) -> list[Plan]:
        with State(self.target / HOME / "state") as state:
            plans = list(ArchiveBook(state, self._config))
        # Opening it left a lock file.
        (self.target / HOME / "state" / "lock.mdb").unlink(missing_ok=True)
        self._files["state/data.mdb"] = stored_as(self.target / HOME / "state" / "data.mdb")
        if self._wish.archive and self._wish.archive not in [plan.name for plan in plans]:
            raise NotFound(
                f"This node has no archive {self._wish.archive!r}.", "List them with: peerpacs archives list"
            )
        return [plan for plan in plans if self._wish.archive in ("", plan.name)]

    def _copy(self, name: str) -> None:
        self._files[name] = copy_file(self._home / name, self.target / HOME / name)

    def _copy_folder(self, name: str) -> None:
        for path in sorted((self._home / name).rglob("*")):
            # What a person decided about meanwhile is gone.
            with suppress(FileNotFoundError):
                if path.is_file():
                    self._copy(str(path.relative_to(self._home)))

    def _copy_database(self, name: str) -> None:
        target = self.target / HOME / name
        copy_environment(self._home / name, target)
        check_environment(target, _ALL_LEAVES)
        self._files[f"{name}/data.mdb"] = stored_as(target / "data.mdb")

    def _copy_catalog(self, plan: Plan) -> Archived:
        base = f"archives/{plan.name}"
        self._copy_database(f"{base}/catalog")
        if (self._home / base / "plan.json").exists():
            self._copy(f"{base}/plan.json")
        if list_of_volumes(self._home / base / "objects"):
            self._copy(f"{base}/objects/volumes.json")
        head, instances = head_of_copy(self.target / HOME / base / "catalog")
        bucket = "" if plan.storage == DISK else plan.storage
        return Archived(name=plan.name, epoch=head.epoch, seq=head.seq, instances=instances, bucket=bucket)

    def _copy_audit(self) -> None:
        """Copy the audit between two lines: who writes holds its lock, so does this."""
        folder = self._home / "audit"
        if not folder.is_dir():
            return
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lengths = {path: path.stat().st_size for path in folder.iterdir() if path.name != "lock"}
        finally:
            os.close(lock)
        # Lines are only ever added: what was there under the lock stays as it is.
        for path, length in sorted(lengths.items()):
            name = f"audit/{path.name}"
            self._files[name] = copy_file(path, self.target / HOME / name, length)

    def _with_objects(self, archived: Archived) -> Archived:
        if archived.bucket:
            return archived
        copies = SegmentCopies(self._folder / OBJECTS, self._count)
        objects = self._home / "archives" / archived.name / "objects"
        if not objects.is_dir():
            return archived
        segments, unsettled = copies.take(archived.name, objects)
        return msgspec.structs.replace(archived, segments=segments, unsettled=unsettled)

    def _count(self, size: int) -> None:
        self.copied += size
        self._on_copied(size)


def _forget_old(folder: Path, keep: int) -> tuple[str, ...]:
    """Remove all but the newest backups, and the objects that none needs any more."""
    old = whole_backups(folder)[:-keep] if keep else []
    for backup in old:
        # First it is no whole one any more, then it goes.
        doomed = backup.with_name(backup.name + UNFINISHED)
        backup.rename(doomed)
        shutil.rmtree(doomed)
    if old and (folder / OBJECTS).is_dir():
        SegmentCopies(folder / OBJECTS).forget_all_but(set(_needed(folder)))
    return tuple(backup.name for backup in old)


def _needed(folder: Path) -> Iterator[str]:
    for backup in whole_backups(folder):
        for archived in read_manifest(backup).archives:
            yield from archived.segments
