"""What is answered at each level of a grid question, from merged studies: PS3.4 C.6.1.1, C.6.2.1, C.3.4."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from catalog import Attributes, Availability
from catalog.levels import listed, number

from .merging import Merged, MergedSeries

AVAILABILITY: Final = "00080056"
PATIENT_COUNTS: Final = ("00201200", "00201202", "00201204")
MODALITY: Final = "00080060"
SOP_CLASS: Final = "00080016"


def study_attributes(study: Merged, identified: Attributes) -> Attributes:
    """Return the attributes of a study, computed ones included; `identified` are those it states."""
    modalities = {
        value for series in study.series for value in series.attributes.get(MODALITY, {}).get("Value", ())
    }
    classes = {name for series in study.series for name in series.SOPClassUIDs}
    return {
        **identified,
        "00080061": listed("CS", modalities),
        "00080062": listed("UI", classes),
        "00201206": number(len(study.series)),
        "00201208": number(sum(series.instances for series in study.series)),
        AVAILABILITY: available(study.availability),
    }


def series_attributes(study: Attributes, series: MergedSeries) -> Attributes:
    """Return the attributes of a series with those of its study."""
    return {
        **study,
        **series.attributes,
        "00201209": number(series.instances),
        AVAILABILITY: available(series.availability),
    }


def patient_counts(studies: Iterable[Merged]) -> Attributes:
    """Return the counts of all studies of a patient."""
    found = list(studies)
    all_series = [series for study in found for series in study.series]
    counts = len(found), len(all_series), sum(series.instances for series in all_series)
    return {tag: number(count) for tag, count in zip(PATIENT_COUNTS, counts, strict=True)}


def available(availability: Availability) -> dict[str, object]:
    """Return Instance Availability as an element."""
    return {"vr": "CS", "Value": [availability.value]}
