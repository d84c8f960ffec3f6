"""Imaging devices as a hospital has them: how many of which modality, where, and their habits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

TABLE_3: Final = {"CT": 37, "DX": 29, "CR": 27, "MR": 21, "MG": 2, "XA": 1}
"""Modality → device models of the cloud PACS paper's Table 3; 117 of them."""


class Habit(NamedTuple):
    """What is usual for a modality; ranges are at least and at most."""

    studies: tuple[int, int]
    """On a working day."""
    series: tuple[int, int]
    instances: tuple[int, int]
    """In a series."""
    size: int
    """Of an instance in bytes."""
    minutes: tuple[float, float]
    """From one series of a study to the next."""
    emergencies: float
    """The share of studies at any hour of the day or night."""


HABITS: Final = {
    "CT": Habit((12, 24), (2, 4), (120, 380), 530_000, (1, 6), 0.12),
    "MR": Habit((6, 14), (6, 10), (20, 60), 212_000, (3, 8), 0.03),
    "DX": Habit((20, 50), (1, 2), (1, 1), 10_430_000, (0.5, 2), 0.15),
    "CR": Habit((15, 45), (1, 2), (1, 1), 7_500_000, (0.5, 3), 0.15),
    "MG": Habit((15, 30), (4, 4), (1, 1), 17_050_000, (0.5, 1), 0.0),
    "XA": Habit((5, 10), (6, 14), (1, 1), 84_000_000, (2, 8), 0.25),
    "US": Habit((10, 25), (1, 1), (4, 12), 26_000_000, (1, 2), 0.05),
    "PT": Habit((4, 8), (1, 2), (250, 320), 93_000, (2, 5), 0.0),
}
"""Modality → how its devices work. All that Table 3 has send about 1.3 TB in the paper's week."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device; `name` is also what traffic files call it."""

    name: str
    modality: str
    site: str

    @property
    def ae_title(self) -> str:
        """Its AE title at its own site."""
        return self.name.replace("-", "").upper()[:16]


def devices(counts: Mapping[str, int], sites: Sequence[str], seed: int) -> list[Device]:
    """Return so many devices of each modality, dealt out to the sites in turn from a place the seed draws.

    The first eight of them are the ones that a gradual start begins with: those of all modalities.
    """
    first = Random(f"devices {seed}").randrange(len(sites))
    made = [
        (number, modality, Device(f"{modality}-{number:02d}", modality, ""))
        for modality, count in counts.items()
        for number in range(1, count + 1)
    ]
    made.sort(key=lambda each: (each[0], list(counts).index(each[1])))
    return [
        Device(device.name, device.modality, sites[(first + turn) % len(sites)])
        for turn, (_, _, device) in enumerate(made)
    ]
