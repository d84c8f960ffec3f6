"""The volumes of an archive: the list of them, and the file by which each is told from an empty folder.

The list lies among the objects of the first volume (`objects/volumes.json`), so that a rebuild finds it when
all else is lost. Each other volume says in a file of its own which one it is: a folder without it is a disk
that is not mounted, and nobody takes that for an archive that lost its objects.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from catalog import BadRequest, Busy, Damaged, NotFound

from .places import make_folder, write_durably

LIST: Final = "volumes.json"
LABEL: Final = "peerpacs-volume.json"
_HIGHEST: Final = 255
"""A place has one byte for the number of its volume."""


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """One folder of objects; the archive's own folder is number 0 and has neither path nor id."""

    number: int
    path: str = ""
    id: str = ""
    is_read_only: bool = False
    is_draining: bool = False

    def folder(self, objects: Path) -> Path:
        """Return where its objects lie; `objects` are those of volume 0."""
        return Path(self.path) / "objects" if self.number else objects

    def is_present(self) -> bool:
        """Say whether its disk is there: its label names it."""
        label = _label_of(Path(self.path)) if self.number else None
        return not self.number or (label is not None and (label.id, label.number) == (self.id, self.number))


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """What `peerpacs-volume.json` in a volume says."""

    id: str
    number: int
    owner: str
    """Node and archive, so that a list that was lost can be made again, and no other takes it."""


class Volumes(msgspec.Struct, frozen=True, kw_only=True):
    """What `objects/volumes.json` says. Numbers are never given twice: rows and backups remember them."""

    volumes: tuple[Volume, ...] = (Volume(number=0),)
    last: int = 0


class VolumeList:
    """The list of an archive's volumes, changed by one process at a time and read by all."""

    def __init__(self, objects: Path, owner: str) -> None:
        self._objects = objects
        self._owner = owner
        self._path = objects / LIST

    def stamp(self) -> int:
        """Return what changes whenever the list does."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return 0
        return found.st_mtime_ns ^ found.st_ino

    def read(self) -> Volumes:
        """Return the list as it is now; without one there is only the archive's own folder.

        Raises:
            Damaged: it cannot be read.
        """
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Volumes)
        except FileNotFoundError:
            return Volumes()
        except msgspec.MsgspecError as error:
            what = f"The list of volumes {self._path} cannot be read: {error}."
            raise Damaged(what, "Restore it, or delete it and add each volume again.") from error

    def add(self, folder: Path) -> Volume:
        """Take a folder in as a new volume, or a known volume where it is mounted now.

        Raises:
            BadRequest: it is another archive's, lies in another volume, or is not empty.
            NotFound: there is no such folder.
        """
        if not folder.is_dir():
            raise NotFound(f"There is no folder {folder}.", "Mount the disk, make a folder on it, name that.")
        folder = folder.resolve()
        with self._changing() as change:
            known = self.read()
            label = _label_of(folder)
            volume = self._adopted(known, folder, label) if label else self._made(known, folder)
            others = tuple(each for each in known.volumes if each.number != volume.number)
            change(Volumes(volumes=(*others, volume), last=max(known.last, volume.number)))
        return volume

    def mark(
        self, number: int, *, is_read_only: bool | None = None, is_draining: bool | None = None
    ) -> Volume:
        """Change what may be written to a volume.

        Raises:
            NotFound: there is no such volume.
        """
        with self._changing() as change:
            known = self.read()
            volume = _numbered(known, number)
            if is_read_only is not None:
                volume = msgspec.structs.replace(volume, is_read_only=is_read_only)
            if is_draining is not None:
                volume = msgspec.structs.replace(volume, is_draining=is_draining)
            rest = [each for each in known.volumes if each.number != number]
            ordered = tuple(sorted((*rest, volume), key=lambda each: each.number))
            change(Volumes(volumes=ordered, last=known.last))
        return volume

    def forget(self, number: int) -> None:
        """Take a volume from the list and its label from the disk, if that is there.

        Raises:
            NotFound: there is no such volume.
            BadRequest: it is the archive's own folder.
        """
        if not number:
            raise BadRequest("The archive's own folder cannot be removed.", "Drain it; its list stays there.")
        with self._changing() as change:
            known = self.read()
            volume = _numbered(known, number)
            rest = tuple(each for each in known.volumes if each.number != number)
            change(Volumes(volumes=rest, last=known.last))
            if volume.is_present():
                (Path(volume.path) / LABEL).unlink()

    def _made(self, known: Volumes, folder: Path) -> Volume:
        within = [self._objects.parent.resolve(), *(Path(each.path) for each in known.volumes if each.path)]
        if any(folder.is_relative_to(other) or other.is_relative_to(folder) for other in within):
            raise BadRequest(f"{folder} and another volume lie in one another.", "Name a folder beside it.")
        if set(os.listdir(folder)) - {"lost+found"}:
            raise BadRequest(f"{folder} is not empty.", "Make an empty folder on that disk and name that.")
        if known.last >= _HIGHEST:
            raise BadRequest("This archive has had 255 volumes.", "Begin a new archive and import into it.")
        volume = Volume(number=known.last + 1, path=str(folder), id=uuid.uuid4().hex)
        make_folder(folder / "objects")
        make_folder(folder / "incoming")
        label = Label(id=volume.id, number=volume.number, owner=self._owner)
        write_durably(folder / LABEL, msgspec.json.encode(label))
        return volume

    def _adopted(self, known: Volumes, folder: Path, label: Label) -> Volume:
        """Return a volume that has a label: one of ours that moved, or that the list lost."""
        same = [each for each in known.volumes if each.number == label.number]
        if label.owner != self._owner or (same and same[0].id != label.id):
            what = f"{folder} is a volume of another archive."
            raise BadRequest(what, f"Look into it; if nothing there is needed, delete {LABEL} and the rest.")
        old = same[0] if same else Volume(number=label.number, id=label.id)
        return msgspec.structs.replace(old, path=str(folder))

    @contextmanager
    def _changing(self) -> Iterator[Callable[[Volumes], None]]:
        """Keep others from changing the list meanwhile; yields what writes the new one."""
        fd = os.open(self._objects / f"{LIST}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield lambda volumes: write_durably(
                self._path, msgspec.json.format(msgspec.json.encode(volumes), indent=2)
            )
        except BlockingIOError:
            raise Busy("Somebody changes the list of volumes just now.", "Try again in a moment.") from None
        finally:
            os.close(fd)


def has_objects(archive: Path) -> bool:
    """Say whether an archive's folder has objects, or a list of volumes that have them."""
    objects = archive / "objects"
    return (objects / LIST).exists() or any(objects.glob("??"))


def _numbered(known: Volumes, number: int) -> Volume:
    for volume in known.volumes:
        if volume.number == number:
            return volume
    raise NotFound(f"This archive has no volume {number}.", "See: peerpacs storage list")


def _label_of(folder: Path) -> Label | None:
    try:
        return msgspec.json.decode((folder / LABEL).read_bytes(), type=Label)
    except (OSError, msgspec.MsgspecError):
        return None
