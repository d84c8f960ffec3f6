"""Many holders' statements about one study become one: a union of series, never across patients.

Pure functions. Where owners of one Study Instance UID state patients that nobody linked, what is answered
is the asking site's own study, or else that of the home, the first who received it; the others' series stay
out of it, and both are flagged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from catalog import Attributes, Availability, PatientKey
from catalog.order import decoded, first_value
from catalog.statements import SeriesStatement, Stated

from .identities import Links

HERE: Final = b""
"""The owner of this node's own statements."""
_SERIES_NUMBER: Final = "00200011"
_NAME: Final = "00100010"
_MODALITY: Final = "00080060"


class Holder(NamedTuple):
    """One owner's statements about a study."""

    owner: bytes
    stated: Stated
    is_reachable: bool = True
    """Whether it can be fetched from now: the owner answers, and its history is not in doubt."""
    kept: Mapping[str, Availability] = {}
    """How its series can be had from who keeps copies for it while it does not answer."""

    def gives(self, SeriesInstanceUID: str) -> bool:
        """Say whether a series can be had now, from it or from who keeps copies for it."""
        return self.is_reachable or SeriesInstanceUID in self.kept

    @property
    def rank(self) -> tuple[bool, bool, int, bytes]:
        """Own first; else the home, whoever received it first: the same answer everywhere."""
        study = self.stated.study
        return self.owner != HERE, not self.states_identity, study.received, self.owner

    @property
    def states_identity(self) -> bool:
        """Whether it says whose study this is; who grants no more than UIDs does not."""
        study = self.stated.study
        return bool(study.patient.PatientID) or _NAME in decoded(study.attributes)


class MergedSeries(NamedTuple):
    """A series with everybody who holds it, whoever holds most of it first."""

    SeriesInstanceUID: str
    attributes: Attributes
    instances: int
    size: int
    SOPClassUIDs: tuple[str, ...]
    availability: Availability
    holders: list[tuple[Holder, SeriesStatement]]


class Merged(NamedTuple):
    """A study as it is answered."""

    StudyInstanceUID: str
    patient: PatientKey
    attributes: Attributes
    series: list[MergedSeries]
    holders: list[Holder]
    others: list[Holder]
    """Who states another patient under this UID; none of their series is in it."""
    has_conflict: bool
    """Whether there are such, or a holder knows of a conflict within the study."""

    @property
    def availability(self) -> Availability:
        """Return the worst availability of the series."""
        found = {series.availability for series in self.series}
        return next((each for each in _WORST_FIRST if each in found), Availability.UNAVAILABLE)


_WORST_FIRST: Final = (
    Availability.UNAVAILABLE,
    Availability.OFFLINE,
    Availability.NEARLINE,
    Availability.ONLINE,
)


def merge(holders: Sequence[Holder], links: Links) -> Merged | None:
    """Return the study that the holders state; None when nobody holds anything of it."""
    ordered = sorted(holders, key=lambda holder: holder.rank)
    if not ordered:
        return None
    first = ordered[0].stated.study
    patient = first.patient
    person = links.person(patient)
    same: list[Holder] = []
    others: list[Holder] = []
    for each in ordered:
        is_same = not each.states_identity or links.person(each.stated.study.patient) == person
        (same if is_same else others).append(each)
    return Merged(
        StudyInstanceUID=first.StudyInstanceUID,
        patient=patient,
        attributes=_with_issuer(decoded(first.attributes), patient),
        series=_series(same),
        holders=same,
        others=others,
        has_conflict=bool(others) or any(_knows_of_conflict(each.stated) for each in same),
    )


def _knows_of_conflict(stated: Stated) -> bool:
    return stated.study.has_conflict or any(series.has_conflict for series in stated.series)


def _with_issuer(attributes: Attributes, patient: PatientKey) -> Attributes:
    if patient.IssuerOfPatientID and not first_value(attributes, "00100021"):
        attributes["00100021"] = {"vr": "LO", "Value": [patient.IssuerOfPatientID]}
    return attributes


def _series(holders: Iterable[Holder]) -> list[MergedSeries]:
    by_uid: dict[str, list[tuple[Holder, SeriesStatement]]] = {}
    for holder in holders:
        for series in holder.stated.series:
            by_uid.setdefault(series.SeriesInstanceUID, []).append((holder, series))
    return sorted((_merged(uid, held) for uid, held in by_uid.items()), key=series_rank)


def _merged(uid: str, held: list[tuple[Holder, SeriesStatement]]) -> MergedSeries:
    most = max(series.instances for _, series in held)
    # The order of holders is that of preference; who has all of it comes before who has a part.
    ranked = sorted(held, key=lambda each: each[1].instances < most)
    attributes = [decoded(series.attributes) for _, series in held]
    whole = [holder for holder, series in ranked if series.instances == most]
    return MergedSeries(
        SeriesInstanceUID=uid,
        attributes=next((each for each in attributes if _MODALITY in each), attributes[0]),
        instances=most,
        size=max(series.size for _, series in held),
        SOPClassUIDs=tuple(dict.fromkeys(name for _, series in held for name in series.SOPClassUIDs)),
        availability=_availability(uid, whole),
        holders=ranked,
    )


def _availability(uid: str, whole: Iterable[Holder]) -> Availability:
    """Return Instance Availability, PS3.3 C.4.23.1.1, for somebody who asks this node."""
    found = Availability.UNAVAILABLE
    for holder in whole:
        if holder.owner == HERE and holder.is_reachable:
            return Availability.ONLINE
        if holder.kept.get(uid) is Availability.ONLINE:
            return Availability.ONLINE
        if holder.gives(uid):
            found = Availability.NEARLINE
    return found


def series_rank(series: MergedSeries) -> tuple[float, str]:
    """Return what series are sorted by: SeriesNumber, then UID."""
    return numeric(first_value(series.attributes, _SERIES_NUMBER)), series.SeriesInstanceUID


def numeric(value: Any) -> float:
    """Return a value as a number; what is none comes last."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("inf")
