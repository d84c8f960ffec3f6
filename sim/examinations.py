"""Examinations as departments make them: which series, how many instances, how compressed.

An examination is several `Study` descriptions of one StudyInstanceUID, one for each run of equal series.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from random import Random
from typing import Final, NamedTuple

from .documents import PLAN_SERIES, STRUCTURES_SERIES
from .headers import KINDS
from .patients import Patient
from .phantoms import REALISTIC, SMALLEST, Instance, Study, instances, study
from .pictures import EXPLICIT, JPEG_2000, JPEG_LS, RLE, can_compress


class Part(NamedTuple):
    """Equal series of an examination; a range says what is usual, at least and at most."""

    kind: str
    series: tuple[int, int] = (1, 1)
    instances: tuple[int, int] = (1, 1)
    frames: tuple[int, int] = (1, 1)
    syntax: str = EXPLICIT


EXAMINATIONS: Final[dict[str, tuple[Part, ...]]] = {
    "CT": (Part("CT", (2, 4), (120, 380)),),
    "MR": (Part("MR", (6, 10), (20, 60)),),
    "DX": (Part("DX", (1, 2)),),
    "CR": (Part("CR", (1, 2)),),
    "MG": (Part("MG", (4, 4), syntax=JPEG_LS),),
    "XA": (Part("XA", (6, 14), frames=(40, 120), syntax=JPEG_LS),),
    "US": (Part("US", (1, 1), (4, 12), (30, 90), RLE),),
    "PET-CT": (Part("CT", (1, 1), (250, 320)), Part("PT", (1, 2), (250, 320))),
    "RT": (
        Part("CT", (1, 1), (90, 160)),
        Part("RTSTRUCT"),
        Part("RTPLAN"),
        Part("RTDOSE", frames=(60, 110)),
    ),
    "ENHANCED-CT": (Part("ENHANCED-CT", (1, 2), frames=(120, 380), syntax=JPEG_2000),),
    "ENHANCED-MR": (Part("ENHANCED-MR", (4, 8), frames=(20, 60)),),
    "SEG": (Part("CT", (1, 1), (120, 240)), Part("SEG", frames=(40, 80)), Part("SR")),
}
"""Word for an examination → its series in order."""
assert EXAMINATIONS["RT"][STRUCTURES_SERIES - 1].kind == "RTSTRUCT"
assert EXAMINATIONS["RT"][PLAN_SERIES - 1].kind == "RTPLAN"


def examination(
    seed: int, number: int, what: str, who: Patient | None = None, *, is_small: bool = False
) -> tuple[Study, ...]:
    """Return the seed's examination of that number, of its usual size or as small as possible.

    Raises:
        KeyError: there is no such examination.
    """
    chance = Random(f"examination {seed} {number} {what}")
    parts = EXAMINATIONS[what]
    about = {"patient": who} if who else {}
    base = study(seed, number, size=SMALLEST if is_small else REALISTIC, **about)
    found: list[Study] = []
    first = 1
    for part in parts:
        made = replace(
            base,
            modality=part.kind,
            series=chance.randint(*part.series),
            instances=_some(chance, part.instances, is_small),
            frames=_some(chance, part.frames, is_small),
            first_series=first,
            TransferSyntaxUID=part.syntax if KINDS[part.kind].bits and can_compress() else EXPLICIT,
            images=found[0].instances if found else 1,
            image_modality=parts[0].kind,
        )
        found.append(made)
        first += made.series
    return tuple(found)


def _some(chance: Random, usual: tuple[int, int], is_small: bool) -> int:
    number = chance.randint(*usual)
    return min(number, 3) if is_small else number


def instances_of(parts: tuple[Study, ...]) -> Iterator[Instance]:
    """Yield all instances of an examination, series by series."""
    return chain.from_iterable(instances(part) for part in parts)
