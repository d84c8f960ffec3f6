"""What lies in a backup folder, and the manifest that makes a backup a whole one.

20261125T221500Z/MANIFEST.json     written last: a folder without it is no backup
20261125T221500Z/home/...          files as they lie in the home folder
objects/main/0/00/000001.tar       segments of volume 0 of archive main, for all backups
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from catalog import Busy, Damaged, NotFound
from node.storage.places import sync_folder, write_durably

HOME: Final = "home"
OBJECTS: Final = "objects"
UNFINISHED: Final = ".unfinished"
_MANIFEST: Final = "MANIFEST.json"
_NAME: Final = re.compile(r"\d{8}T\d{6}Z")
_PIECE: Final = 1 << 20


class Stored(msgspec.Struct, frozen=True):
    """A file of a backup."""

    size: int
    sha256: str
    mode: int = 0o640


class Archived(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says of one archive."""

    name: str
    epoch: int
    seq: int
    """Where the change log of the copied catalog ends."""
    instances: int
    bucket: str = ""
    """Where the objects are, if not on disks of the node."""
    segments: dict[str, int] = {}
    """Objects that were copied: path below `objects/`, and the length that this backup needs."""
    unsettled: tuple[str, ...] = ()
    """Of these, which may end in the middle of an object."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A whole backup: every file in it, and what it is of."""

    version: int = 1
    taken: int
    """When it was begun, in milliseconds since 1970: what came later may not be in it."""
    node_id: str
    name: str
    files: dict[str, Stored]
    """By path below `home/`."""
    archives: tuple[Archived, ...]
    has_objects: bool = False


def name_of(now: float) -> str:
    """Return the name of a backup that is begun now; names sort by time."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def whole_backups(folder: Path) -> list[Path]:
    """Return the whole backups in a folder, oldest first; one that was cut short is none."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name) and is_whole(path))


def is_whole(backup: Path) -> bool:
    """Say whether a backup has its manifest."""
    return (backup / _MANIFEST).exists()


def chosen(path: Path) -> Path:
    """Return the backup that a path means: itself, or the newest whole one in it.

    Raises:
        NotFound: there is none.
    """
    if is_whole(path):
        return path
    found = whole_backups(path)
    if not found:
        what = f"There is no whole backup in {path}."
        raise NotFound(what, "Name the folder that peerpacs backup was given, or one of the folders in it.")
    return found[-1]


def read_manifest(backup: Path) -> Manifest:
    """Return what a backup says of itself.

    Raises:
        Damaged: it cannot be read, or a newer PeerPACS wrote it.
    """
    try:
        manifest = msgspec.json.decode((backup / _MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        what = f"The manifest of {backup} cannot be read: {error}."
        raise Damaged(what, "Take an older backup.") from error
    if manifest.version != 1:
        raise Damaged(f"A newer PeerPACS made {backup}.", "Use that, or a newer one, to restore it.")
    return manifest


def write_manifest(backup: Path, manifest: Manifest) -> None:
    """Make a backup whole: everything named in the manifest is on disk already."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    write_durably(backup / _MANIFEST, text)


def stored_as(path: Path) -> Stored:
    """Read a file whole and return what it is."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(_PIECE), b""):
            digest.update(piece)
        found = os.fstat(file.fileno())
    return Stored(found.st_size, digest.hexdigest(), found.st_mode & 0o777)


def copy_file(source: Path, target: Path, length: int | None = None) -> Stored:
    """Copy a file, or its first `length` bytes, durably and with its mode; return what was written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reader:
        mode = os.fstat(reader.fileno()).st_mode & 0o777
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with open(fd, "wb") as writer:
            while piece := reader.read(_PIECE if length is None else min(_PIECE, length - size)):
                digest.update(piece)
                size += len(piece)
                writer.write(piece)
            os.fchmod(writer.fileno(), mode)
            writer.flush()
            os.fsync(writer.fileno())
    return Stored(size, digest.hexdigest(), mode)


def sync_tree(folder: Path) -> None:
    """Make the names of everything in a folder durable."""
    for path, _, _ in os.walk(folder):
        sync_folder(Path(path))


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Keep other backups out of a backup folder meanwhile.

    Raises:
        Busy: another one is made in it.
    """
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Busy(f"Another backup is made in {folder} just now.", "Wait until it has finished.") from None
    finally:
        os.close(fd)
