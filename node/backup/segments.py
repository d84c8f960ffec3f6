"""The objects of a node, copied into a backup folder: only what is new, and what changed since."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from node.storage.coverage import unsettled_in
from node.storage.places import segment_numbers, segment_path, sync_folder, write_durably
from node.storage.volumes import LIST, VolumeList

from .layout import Stored, copy_file

logger = logging.getLogger(__name__)

INDEX: Final = "INDEX.json"
_AGAIN: Final = 5
_NOTE_EVERY: Final = 64
"""Segments after which the index is written: what a stopped run copied need not be copied again."""


class Copied(msgspec.Struct, frozen=True):
    """A segment in the backup folder: what it is, and how the source looked when it was copied."""

    stored: Stored
    source_size: int
    source_mtime: int


class SegmentCopies:
    """The folder `objects/` of a backup folder, shared by all backups in it."""

    def __init__(self, folder: Path, on_copied: Callable[[int], None] = lambda size: None) -> None:
        self.folder = folder
        self._on_copied = on_copied
        self._fresh = 0
        folder.mkdir(exist_ok=True)
        try:
            self.known = msgspec.json.decode((folder / INDEX).read_bytes(), type=dict[str, Copied])
        except (OSError, msgspec.MsgspecError):
            # Without it everything is copied again.
            self.known = {}

    def take(self, archive: str, objects: Path) -> tuple[dict[str, int], tuple[str, ...]]:
        """Copy what is new in all volumes of an archive; return segments with lengths, and the unsettled.

        Raises:
            OSError: a disk refused, or is full.
        """
        owner = VolumeList(objects, "")
        for _ in range(_AGAIN):
            taken, unsettled, vanished = dict[str, int](), list[str](), False
            for volume in owner.read().volumes:
                source = volume.folder(objects)
                if not volume.is_present() or not source.is_dir():
                    logger.warning(
                        "Volume %d of %s is missing; it is not in the backup", volume.number, archive
                    )
                    continue
                vanished |= self._take_volume(source, f"{archive}/{volume.number}", taken, unsettled)
            if not vanished:
                break
            # A drain moved objects into segments that were not listed: look again.
        self.close()
        return taken, tuple(unsettled)

    def _take_volume(self, source: Path, name: str, taken: dict[str, int], unsettled: list[str]) -> bool:
        """Copy one volume; say whether a segment went away meanwhile."""
        vanished = False
        for number in segment_numbers(source):
            # Looked up before its length: a segment that is settled now does not grow.
            is_open = number in unsettled_in(source)
            path = segment_path(source, number)
            key = f"{name}/{path.parent.name}/{path.name}"
            try:
                taken[key] = self._take_segment(path, key)
            except FileNotFoundError:
                vanished = True
                continue
            if is_open:
                unsettled.append(key)
        return vanished

    def _take_segment(self, source: Path, key: str) -> int:
        found = source.stat()
        known, target = self.known.get(key), self.folder / key
        is_same = known and (known.source_size, known.source_mtime) == (found.st_size, found.st_mtime_ns)
        if known and is_same and target.exists():
            return known.stored.size
        fresh = target.with_name(f"{target.name}.new")
        try:
            stored = copy_file(source, fresh, found.st_size)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        fresh.rename(target)
        sync_folder(target.parent)
        self.known[key] = Copied(stored, found.st_size, found.st_mtime_ns)
        self._on_copied(stored.size)
        self._fresh += 1
        if self._fresh % _NOTE_EVERY == 0:
            self.close()
        return stored.size

    def close(self) -> None:
        """Write down what is here."""
        write_durably(self.folder / INDEX, msgspec.json.encode(self.known))

    def forget_all_but(self, needed: set[str]) -> None:
        """Remove the segments that no backup needs: they were drained, and lie elsewhere now."""
        gone = [key for key in self.known if key not in needed]
        for key in gone:
            (self.folder / key).unlink(missing_ok=True)
            del self.known[key]
        if gone:
            self.close()


def list_of_volumes(objects: Path) -> Path | None:
    """Return the list of an archive's volumes, if it has others than its own folder."""
    path = objects / LIST
    return path if os.path.exists(path) else None
