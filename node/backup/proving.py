"""Whether a backup is what was written: every file hashed, databases walked, the audit's chain followed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from catalog import Damaged, check_environment
from node.audit import verify

from .layout import HOME, OBJECTS, Manifest, read_manifest, stored_as
from .segments import SegmentCopies

_ALL_LEAVES: Final = 1 << 60


class Proof(NamedTuple):
    """What was found in a backup; without faults it can be restored."""

    manifest: Manifest
    files: int
    bytes: int
    faults: tuple[str, ...]


def prove(backup: Path, on_read: Callable[[int], None] = lambda size: None, *, objects: bool = True) -> Proof:
    """Read a backup whole, its `objects` too, and say what is wrong with it.

    Raises:
        Damaged: its manifest cannot be read.
    """
    manifest = read_manifest(backup)
    faults = [*_of_files(backup, manifest, on_read), *_of_databases(backup, manifest)]
    faults += [f"{each.file} line {each.line}: {each.why}" for each in verify(backup / HOME / "audit").breaks]
    files, size = len(manifest.files), sum(stored.size for stored in manifest.files.values())
    if objects:
        faults += _of_objects(backup, manifest, on_read)
        lengths = [length for each in manifest.archives for length in each.segments.values()]
        files, size = files + len(lengths), size + sum(lengths)
    return Proof(manifest, files, size, tuple(faults))


def _of_files(backup: Path, manifest: Manifest, on_read: Callable[[int], None]) -> Iterator[str]:
    for name, stored in manifest.files.items():
        try:
            found = stored_as(backup / HOME / name)
        except OSError as error:
            yield f"{name} cannot be read: {error.strerror}"
            continue
        on_read(found.size)
        if (found.size, found.sha256) != (stored.size, stored.sha256):
            yield f"{name} is not what was written"


def _of_databases(backup: Path, manifest: Manifest) -> Iterator[str]:
    for name in manifest.files:
        if name.endswith("/data.mdb"):
            try:
                check_environment((backup / HOME / name).parent, _ALL_LEAVES)
            except Damaged as error:
                yield error.what


def _of_objects(backup: Path, manifest: Manifest, on_read: Callable[[int], None]) -> Iterator[str]:
    folder = backup.parent / OBJECTS
    needed = {key: length for each in manifest.archives for key, length in each.segments.items()}
    known = SegmentCopies(folder).known if needed else {}
    for key, length in needed.items():
        copied = known.get(key)
        try:
            found = stored_as(folder / key)
        except OSError as error:
            yield f"objects/{key} cannot be read: {error.strerror}"
            continue
        on_read(found.size)
        if copied is None or found.sha256 != copied.stored.sha256:
            yield f"objects/{key} is not what was written"
        elif found.size < length:
            yield f"objects/{key} has {found.size} bytes instead of {length}"
