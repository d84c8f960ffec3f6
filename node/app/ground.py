"""Where an archive's segments lie: on disks of this process, or with the storage of the node, which is apart.

The one place that asks which of both it is; everybody else asks the ground.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, Protocol

from catalog import Holding
from node.catching_up import Presence
from node.roles.remote_store import RemoteStore
from node.storage import SegmentStore, VolumeStore, has_objects
from node.storage.removal import erase_decisions

Segments = SegmentStore | VolumeStore | RemoteStore
_ANSWER: Final = 3.0
"""Seconds within which a storage that is apart says how it is."""


class Ground(Protocol):
    """What an archive asks of the place of its segments."""

    is_apart: bool
    """Whether another process keeps them, which may begin anew while this one goes on."""

    def size(self) -> int:
        """Return the bytes of its disks, used or not."""

    def has_objects(self) -> bool:
        """Say whether there are any."""

    def is_replayed(self) -> bool:
        """Say whether all that it knows was taken in since it began."""

    def presence(self) -> Callable[[Holding], bool]:
        """Return what says whether an object can be read, as far as that costs little."""

    def erase_decisions(self, ids: Collection[str]) -> None:
        """Overwrite decisions where they lie."""

    def look(self) -> None:
        """Return if it answers; raises Unavailable, which says where it was asked."""


class OwnDisks:
    """Satisfies `Ground` by what this process has open."""

    is_apart = False

    def __init__(self, segments: SegmentStore | VolumeStore, folder: Path) -> None:
        """`folder` is the archive's."""
        self._segments = segments
        self._folder = folder

    def size(self) -> int:
        """See `Ground.size`."""
        if isinstance(self._segments, VolumeStore):
            return sum(state.room.size for state in self._segments.states())
        disk = os.statvfs(self._folder)
        return disk.f_blocks * disk.f_frsize

    def has_objects(self) -> bool:
        """See `Ground.has_objects`."""
        return has_objects(self._folder)

    def is_replayed(self) -> bool:
        """Say yes: it began with this process."""
        return True

    def presence(self) -> Callable[[Holding], bool]:
        """See `Ground.presence`."""
        return Presence(self._segments)

    def erase_decisions(self, ids: Collection[str]) -> None:
        """See `Ground.erase_decisions`."""
        segments = self._segments
        for store in [segments] if isinstance(segments, SegmentStore) else segments.present():
            erase_decisions(store.objects, ids)

    def look(self) -> None:
        """Return: its disks are looked at one by one elsewhere."""


class Apart:
    """Satisfies `Ground` by asking the storage of the node."""

    is_apart = True

    def __init__(self, store: RemoteStore) -> None:
        self._store = store

    def size(self) -> int:
        """See `Ground.size`."""
        return self._store.condition().size

    def has_objects(self) -> bool:
        """See `Ground.has_objects`."""
        return not self._store.condition().is_empty

    def is_replayed(self) -> bool:
        """See `Ground.is_replayed`."""
        return self._store.condition().is_replayed

    def presence(self) -> Callable[[Holding], bool]:
        """See `Ground.presence`."""
        return self._store.is_safe

    def erase_decisions(self, ids: Collection[str]) -> None:
        """See `Ground.erase_decisions`."""
        self._store.erase_decisions(ids)

    def look(self) -> None:
        """See `Ground.look`."""
        self._store.condition(_ANSWER)


def ground_of(segments: Segments, folder: Path) -> Ground:
    """Return the ground of an archive whose folder this is."""
    return Apart(segments) if isinstance(segments, RemoteStore) else OwnDisks(segments, folder)
