"""Which segment is a copy of which while volumes are drained, noted on the volume that is drained."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from .copying import Segment
from .places import segment_path, write_durably
from .spread import VolumeStore

_NOTES: Final = "draining.json"


class Note(msgspec.Struct, frozen=True):
    """One of `objects/draining.json` of the volume that is drained: where the copy of a segment is."""

    source: int
    volume: int
    number: int
    is_whole: bool
    """Whether nothing of the segment is damaged, or nothing that is missed."""
    is_forced: bool = False
    """Whether it goes although some of its bytes cannot be read, since no row names them."""


class Twins:
    """The notes of all volumes; one thread writes them, any may read."""

    def __init__(self, store: VolumeStore) -> None:
        self._store = store

    def path(self, segment: Segment) -> Path:
        """Return the file of a segment, whether it is there or not.

        Raises:
            Unavailable: its volume is missing.
        """
        return segment_path(self._store.store(segment.volume).objects, segment.number)

    def notes(self, volume: int) -> list[Note]:
        """Return the notes about segments of a volume whose copies have their names."""
        notes = self._noted(volume)
        return [note for note in notes if self.path(Segment(note.volume, note.number)).exists()]

    def add(self, volume: int, note: Note) -> None:
        """Note where the copy of a segment of a volume will be; durable when it returns."""
        self._write(volume, [*self.notes(volume), note])

    def forget(self, source: Segment) -> None:
        """Forget where the copy of a segment is; a second time is harmless."""
        notes = self.notes(source.volume)
        if any(note.source == source.number for note in notes):
            self._write(source.volume, [note for note in notes if note.source != source.number])

    def of(self, segment: Segment) -> list[Segment]:
        """Return the segments that are copies of this one, or it of them, in however many steps."""
        pairs = [
            (Segment(store.volume, note.source), Segment(note.volume, note.number))
            for store in self._store.present()
            for note in self._noted(store.volume)
        ]
        found = [segment]
        for known in found:
            for pair in pairs:
                if known in pair:
                    found += [each for each in pair if each not in found]
        return found[1:]

    def _noted(self, volume: int) -> list[Note]:
        try:
            return msgspec.json.decode(self._path_of_notes(volume).read_bytes(), type=list[Note])
        except (FileNotFoundError, msgspec.MsgspecError):
            return []

    def _write(self, volume: int, notes: list[Note]) -> None:
        path = self._path_of_notes(volume)
        if notes:
            write_durably(path, msgspec.json.encode(notes))
        else:
            path.unlink(missing_ok=True)

    def _path_of_notes(self, volume: int) -> Path:
        return self._store.store(volume).objects / _NOTES
