"""What is gone for good: rows of instances whose bytes are freed, and all that was known through them alone.

That they are gone was stated in the change log when the decision hid them, so nothing is stated here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from .commit import Batch
from .forgetting import forget
from .levels import all_series
from .model import Decision, Entry, PatientKey, Verb
from .order import BY_SERIES, patient_prefix
from .overlays import Decided, corrected_patient, load, place_of
from .recording import forget_indexes
from .rows import NAMES_CODEC, STUDY_CODEC, StudyRow
from .selecting import versions
from .truth import (
    CONFLICT,
    DECIDED,
    DECISION,
    INSTANCE,
    NUMBER,
    PACK,
    STUDY,
    UNION,
    VERSIONS,
    Reading,
    counted,
    joined,
    scan,
    scan_keys,
)


class Doomed(NamedTuple):
    """What a decision to delete or erase is about, as it stands now."""

    entries: tuple[Entry, ...]
    """The versions that are to go."""
    is_in_force: bool
    is_held: bool
    """Whether a legal hold keeps any of it."""
    is_stated: bool
    """Whether the change log has said that they are gone."""
    others: tuple[Decision, ...]
    """Earlier decisions about nothing but what is to go."""
    patients: tuple[PatientKey, ...] = ()
    """Whose the study is, as sent and as corrected, now or before."""


def doomed(reading: Reading, decision: Decision) -> Doomed:
    """Return what is to go by a decision to delete or erase, in whichever study that lies by now."""
    if len(decision.target) > 1:
        place = place_of(reading, *decision.target[:2])
        decision = replace(decision, target=(place, *decision.target[1:]))
    decided = load(reading, decision.target[0])
    found = versions(reading, decision.target)
    entries = tuple(entry for entry in found if decided.is_covered(decision, entry))
    stored = reading.get(STUDY + decision.target[0].encode())
    study = STUDY_CODEC.unpack(stored) if stored else None
    is_dirty = study is not None and study.is_dirty
    is_dirty |= any(row.is_dirty for _, row in all_series(reading, decision.target[0]))
    depth = len(decision.target)
    others = (
        each
        for each in decided.all
        if (each.target[:depth] == decision.target or _brings(reading, each, decision.target))
        and each.id != decision.id
        and each.verb is not Verb.ERASE
        and each.when <= decision.when
    )
    return Doomed(
        entries,
        decided.is_in_force(decision),
        any(_touch(hold.target, decision.target) for hold in decided.holds),
        not is_dirty,
        tuple(others),
        tuple(_patients(study, decided)) if study else (),
    )


def _brings(reading: Reading, decision: Decision, target: tuple[str, ...]) -> bool:
    """Say whether by this decision a series lies in a study that is the whole target."""
    is_into = decision.verb is Verb.MOVE and (decision.detail,) == target
    return is_into and place_of(reading, *decision.target) == decision.detail


def _patients(study: StudyRow, decided: Decided) -> set[PatientKey]:
    found = {study.patient, study.seen_patient}
    for each in decided.all:
        corrected = corrected_patient(study.patient, dict(each.attributes), study.StudyInstanceUID)
        found |= {corrected} if corrected else set()
    return found


def knows_patient(reading: Reading, IssuerOfPatientID: str, PatientID: str) -> bool:
    """Say whether a study of the patient is here, seen or hidden."""
    prefix = patient_prefix(PatientID, IssuerOfPatientID)
    for key in scan_keys(reading, prefix):
        stored = reading.get(STUDY + key[len(prefix) + 20 :])
        study = STUDY_CODEC.unpack(stored) if stored else None
        if study and study.seen_patient[:2] == (IssuerOfPatientID, PatientID):
            return True
    return False


def _touch(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return all(left == right for left, right in zip(one, other, strict=False))


def purge(batch: Batch, study: str, entries: Sequence[Entry], decisions: Sequence[str] = ()) -> None:
    """Forget the versions, what is empty without them, and the decisions named by their ids."""
    forget(batch, [*entries])
    touched = {joined(entry.StudyInstanceUID, entry.SeriesInstanceUID) for entry in entries}
    for key in touched:
        _forget_series(batch, key)
    for id in decisions:
        batch.delete(DECISION + id.encode())
    if decisions and (stored := batch.get(DECIDED + study.encode())) is not None:
        left = [id for id in NAMES_CODEC.unpack(stored) if id not in set(decisions)]
        batch.put(DECIDED + study.encode(), NAMES_CODEC.pack(left))
    for uid in {study, *(entry.StudyInstanceUID for entry in entries)}:
        _forget_study(batch, uid)


def _forget_series(batch: Batch, key: bytes) -> None:
    """Drop what the series' instances said; those that are left say it again."""
    row = batch.series(key)
    if row is None:
        return
    reading = batch.reading()
    for each in [*scan_keys(reading, PACK + key + b"\0"), UNION + key]:
        batch.delete(each)
    batch.index_later(key, row).is_revised = True
    reading = batch.reading()
    if next(iter(scan_keys(reading, INSTANCE + key + b"\0")), None) is not None or _has_versions(
        reading, row.StudyInstanceUID, row.SeriesInstanceUID
    ):
        return
    batch.delete(NUMBER + counted(row.number))
    batch.delete(BY_SERIES + joined(row.SeriesInstanceUID, row.StudyInstanceUID))
    batch.drop_series(key)


def _has_versions(reading: Reading, *target: str) -> bool:
    return bool(versions(reading, target)) if next(iter(scan(reading, VERSIONS)), None) else False


def _forget_study(batch: Batch, uid: str) -> None:
    row = batch.study(uid)
    if row is None or next(iter(all_series(batch.reading(), uid)), None) is not None:
        return
    forget_indexes(batch, row)
    for key in [*scan_keys(batch.reading(), CONFLICT + b"p" + joined(uid) + b"\0")]:
        batch.delete(key)
    batch.totals.open_conflicts -= row.conflicts
    batch.drop_study(uid)
