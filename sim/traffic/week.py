"""A week's traffic from a seed: shift hours, bursts, emergencies at night, a gradual start."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Final

from .devices import HABITS, Device
from .records import DAY, Burst

_HOURS: Final = (
    0, 0, 0, 0, 0, 0, 1, 5, 9, 10, 10, 8, 5, 8, 9, 8, 6, 4, 2, 1, 1, 0, 0, 0,
)  # fmt: skip
"""How many of a working day's studies begin in each hour: two shifts, with a dip at noon."""
_WEEKEND: Final = 0.35
"""The share of a working day's studies on Saturday and Sunday; the traffic begins on a Monday."""


def week(devices: Iterable[Device], seed: int, days: int = 7, initial: int = 8) -> list[Burst]:
    """Return the bursts of so many days in order; only the `initial` devices send on the first day."""
    bursts: list[Burst] = []
    for place, device in enumerate(devices):
        for day in range(days):
            if day or place < initial:
                bursts += _day(device, seed, day)
    bursts.sort()
    return bursts


def _day(device: Device, seed: int, day: int) -> Iterable[Burst]:
    habit = HABITS[device.modality]
    chance = Random(f"day {seed} {device.name} {day}")
    busy = _WEEKEND if day % 7 >= 5 else 1.0
    for number in range(max(1, round(busy * chance.randint(*habit.studies)))):
        hour = chance.choices(range(24), _HOURS)[0]
        if chance.random() < habit.emergencies:
            hour = chance.randrange(24)
        time = day * DAY + (hour + chance.random()) * 3600
        study = f"{device.name}-{day + 1}-{number + 1}"
        for series in range(1, chance.randint(*habit.series) + 1):
            instances = chance.randint(*habit.instances)
            # A series has its own matrix or compression, so sizes spread around what is usual.
            size = round(instances * habit.size * chance.uniform(0.6, 1.1)) // 2 * 2
            yield Burst(time, device.name, study, series, size, device.modality, instances, device.site)
            time += 60 * chance.uniform(*habit.minutes)


def scaled(bursts: Iterable[Burst], share: float) -> list[Burst]:
    """Return the same bursts with a share of their bytes: fewer instances, then smaller ones.

    A series keeps one instance at least, of the smallest size there is.
    """
    if share == 1:
        return list(bursts)
    return [
        burst._replace(
            size=max(2, round(burst.size * share)), instances=max(1, round(burst.instances * share**0.5))
        )
        for burst in bursts
    ]
