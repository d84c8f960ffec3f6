"""Which segments a catalog knows to their last member: what need not be read again where it is a copy.

A segment that is settled is recorded and never grows again. Large objects get segments of their own while
another one still grows, so the settled ones are all up to a number but a few.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from .appending import OPEN
from .members import END
from .places import highest_number, make_folder, segment_path, write_durably


class Settled(msgspec.Struct, frozen=True):
    """Of one volume: the segments up to a number, without those that were still open."""

    upto: int
    without: tuple[int, ...] = ()

    def covers(self, number: int) -> bool:
        """Say whether the segment is among them."""
        return number <= self.upto and number not in self.without


class Coverage(msgspec.Struct, frozen=True):
    """Of all volumes of a store, by their number."""

    volumes: dict[int, Settled] = {}
    at: int = 0
    """When this was so, in milliseconds since 1970; 0 = never."""

    def covers(self, volume: int, number: int) -> bool:
        """Say whether a segment need not be read again."""
        return volume in self.volumes and self.volumes[volume].covers(number)

    def shared(self, other: Coverage) -> Coverage:
        """Return what both cover."""
        both = {
            volume: Settled(
                min(mine.upto, other.volumes[volume].upto),
                tuple({*mine.without, *other.volumes[volume].without}),
            )
            for volume, mine in self.volumes.items()
            if volume in other.volumes
        }
        return Coverage(both, min(self.at, other.at))


NOTHING: Final = Coverage()


def observed(folders: dict[int, Path], at: int) -> Coverage:
    """Return what is settled in the objects folder of each volume; lists one folder of each, no store."""
    # A segment is marked before it has a name: read in this order, none is open and taken for settled.
    found = {}
    for volume, objects in folders.items():
        highest = highest_number(objects)
        found[volume] = Settled(highest, tuple(sorted(unsettled_in(objects))))
    return Coverage(found, at)


def unsettled_in(objects: Path) -> frozenset[int]:
    """Return the segments that a start would replay, by number."""
    return frozenset(int(name) for name in os.listdir(objects / OPEN) if name.isdigit())


def skip_to(objects: Path, number: int) -> None:
    """See to it that no new segment gets this number or a lower one: rows name them, though they are gone."""
    if highest_number(objects) < number:
        path = segment_path(objects, number)
        make_folder(path.parent)
        # A tar without a member.
        write_durably(path, END)
