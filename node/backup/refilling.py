"""The objects of a backup, put back into a home: those that are there stay, if they are as long."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from catalog import BadRequest
from node.storage.appending import OPEN
from node.storage.members import END
from node.storage.places import sync_folder, write_durably
from node.storage.replay import stamp_of
from node.storage.volumes import LABEL, LIST, Label, Volume, VolumeList

from .layout import OBJECTS, Manifest, copy_file
from .segments import SegmentCopies


def refill(
    backup: Path,
    manifest: Manifest,
    home: Path,
    move_aside: Callable[[Path], None],
    on_copied: Callable[[int], None],
) -> Refilled:
    """Copy the segments that the home lacks, also those that are not what was written.

    All that the backup folder has of an archive is taken: what is newer than this backup is no less true.

    Raises:
        BadRequest: a segment in the home is of another history than the backup's of the same number.
    """
    if not manifest.has_objects:
        return Refilled(0, ())
    folder = backup.parent / OBJECTS
    unsettled = {key for each in manifest.archives for key in each.unsettled}
    known, count, altered = SegmentCopies(folder).known, 0, list[str]()
    for archived in manifest.archives:
        objects = home / "archives" / archived.name / "objects"
        keys = {key for key in known if key.startswith(f"{archived.name}/")} | archived.segments.keys()
        places = _Places(objects, f"{manifest.node_id}/{archived.name}")
        for key in sorted(keys):
            target = places.of(key)
            if not (folder / key).exists():
                altered += () if target.exists() else (key,)
                continue
            if _has(target, folder / key):
                continue
            move_aside(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            staged = target.with_name(f"{target.name}.new")
            found = copy_file(folder / key, staged)
            on_copied(found.size)
            if key not in known or found.sha256 != known[key].stored.sha256:
                altered.append(key)
            if key in unsettled or not _is_ended(staged):
                _mark_open(target)
            staged.rename(target)
            sync_folder(target.parent)
            count += 1
    return Refilled(count, tuple(altered))


def _has(target: Path, source: Path) -> bool:
    """Say whether a segment need not be copied."""
    if not target.exists():
        return False
    if _stamp(target) != _stamp(source) and target.stat().st_size > len(END):
        what = f"{target} is another segment than the one of this number in the backup."
        raise BadRequest(what, "These objects are of another history: move them away, then restore.")
    return target.stat().st_size >= source.stat().st_size


def _stamp(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return stamp_of(fd)
    finally:
        os.close(fd)


def _is_ended(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(END)))
        return file.read() == END


def _mark_open(target: Path) -> None:
    """Have the next start read the segment whole, and cut an end that was torn when it was copied."""
    folder = target.parent.parent / OPEN
    folder.mkdir(exist_ok=True)
    (folder / target.stem).touch()
    sync_folder(folder)


class Refilled(NamedTuple):
    """What was put back."""

    segments: int
    """How many were copied."""
    altered: tuple[str, ...]
    """Which are gone from the backup, or not what was written: some of their objects may be whole."""


class _Places:
    """Where the segments of each volume go: to its disk if that is there, else into the archive's folder."""

    def __init__(self, objects: Path, owner: str) -> None:
        objects.mkdir(parents=True, exist_ok=True)
        self._objects = objects
        self._owner = owner
        self._folders: dict[int, Path] = {0: objects}

    def of(self, key: str) -> Path:
        """Return the path of a segment by its key, `archive/volume/00/000001.tar`."""
        _, volume, folder, name = key.split("/")
        return self._folder(int(volume)) / folder / name

    def _folder(self, number: int) -> Path:
        if number not in self._folders:
            known = VolumeList(self._objects, self._owner).read()
            volume = next((each for each in known.volumes if each.number == number), None)
            if volume is None or not volume.is_present():
                volume = self._made_here(number, volume)
            self._folders[number] = volume.folder(self._objects)
        return self._folders[number]

    def _made_here(self, number: int, lost: Volume | None) -> Volume:
        """Make a folder that is the volume from now on; a disk that comes back is not it any more."""
        path = self._objects.parent / "volumes" / str(number)
        for name in ("objects", "incoming"):
            (path / name).mkdir(parents=True, exist_ok=True)
        volumes = VolumeList(self._objects, self._owner).read()
        volume = msgspec.structs.replace(
            lost or Volume(number=number, id=os.urandom(16).hex()), path=str(path)
        )
        label = Label(id=volume.id, number=number, owner=self._owner)
        write_durably(path / LABEL, msgspec.json.encode(label))
        others = [each for each in volumes.volumes if each.number != number]
        ordered = tuple(sorted((*others, volume), key=lambda each: each.number))
        changed = msgspec.structs.replace(volumes, volumes=ordered, last=max(volumes.last, number))
        write_durably(self._objects / LIST, msgspec.json.encode(changed))
        return volume
