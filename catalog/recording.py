"""What one arrival does to the rows: it is new, the same again, or another version of what is here.

The first received wins everywhere until a person decides otherwise: the version of an instance, and the
patient and attributes of a study. Whoever differs from it is kept, and said to be in conflict.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

from .commit import Batch
from .model import Arrival, Attributes, Entry, PatientKey, Recorded
from .order import BY_SERIES, decoded, encoded, first_value, index_keys, normal_name, study_order
from .overlays import PATIENT_IDENTITY, Decided, Preference, corrected_patient, load
from .rows import (
    CLAIMS_CODEC,
    CONFLICT_CODEC,
    ENTRY_CODEC,
    INSTANCE_CODEC,
    Claims,
    ConflictRow,
    InstanceRow,
    SeriesRow,
    StudyRow,
    count,
)
from .truth import (
    CLAIM,
    CONFLICT,
    DECIDED,
    INSTANCE,
    NUMBER,
    VERSIONS,
    counted,
    joined,
)

ACCESSION: Final = "00080050"
LATERALITY: Final = "00200060"
_KEYWORDS: Final = {
    "00100020": "PatientID",
    "00100021": "IssuerOfPatientID",
    "00100010": "PatientName",
    "00100030": "PatientBirthDate",
    "00100040": "PatientSex",
    ACCESSION: "AccessionNumber",
    LATERALITY: "Laterality",
    "00200062": "ImageLaterality",
}
IDENTITY: Final = (*PATIENT_IDENTITY, ACCESSION, LATERALITY, "00200062")
_MODALITY: Final = "00080060"


def record(batch: Batch, arrivals: Sequence[Arrival]) -> list[Recorded]:
    """Write the rows of the arrivals into the batch."""
    return [_record(batch, arrival) for arrival in arrivals]


def _record(batch: Batch, arrival: Arrival) -> Recorded:
    entry = arrival.entry
    claim_key = CLAIM + entry.SOPInstanceUID.encode()
    stored = batch.get(claim_key)
    if stored is not None:
        return _again(batch, arrival, CLAIMS_CODEC.unpack(stored))
    claim = (entry.holding.sha256, entry.StudyInstanceUID, entry.SeriesInstanceUID)
    batch.put(claim_key, CLAIMS_CODEC.pack(Claims([claim], entry.holding.sha256)))
    batch.totals.stored += entry.holding.size
    study = make_rows(batch, arrival)
    if arrival.study != study.attributes or arrival.patient != study.patient:
        _compare_patient(batch, study, arrival)
    place(batch, entry)
    return Recorded.NEW


def place(batch: Batch, entry: Entry) -> None:
    """Put the version where queries find it, and count it unless a decision hides it."""
    key, study, series = rows_of(batch, entry)
    is_hidden = study.is_decided and load(batch, entry.StudyInstanceUID).hides(entry)
    row = InstanceRow(entry, is_hidden)
    batch.put(INSTANCE + key + b"\0" + entry.SOPInstanceUID.encode(), INSTANCE_CODEC.pack(row))
    if is_hidden:
        series.hidden += 1
    else:
        count(batch.totals, study, series, entry, 1)
    _show(batch, study)
    batch.publish_series(key, series)
    batch.index_later(key, series).instances.append(entry.SOPInstanceUID)


def _show(batch: Batch, study: StudyRow) -> None:
    if study.instances <= 1:
        # It has just come into sight, or gone.
        batch.publish_study(study)
    else:
        batch.change_study(study)


def take_away(batch: Batch, entry: Entry) -> None:
    """Undo `place`."""
    key, study, series = rows_of(batch, entry)
    instance_key = INSTANCE + key + b"\0" + entry.SOPInstanceUID.encode()
    row = INSTANCE_CODEC.unpack(batch.get(instance_key) or b"")
    batch.delete(instance_key)
    if row.is_hidden:
        series.hidden -= 1
    else:
        count(batch.totals, study, series, row.entry, -1)
    _show(batch, study)
    batch.publish_series(key, series)
    batch.index_later(key, series).is_revised = True


def rows_of(batch: Batch, entry: Entry) -> tuple[bytes, StudyRow, SeriesRow]:
    """Return the series' key and the rows of an instance that was recorded."""
    key = joined(entry.StudyInstanceUID, entry.SeriesInstanceUID)
    study, series = batch.study(entry.StudyInstanceUID), batch.series(key)
    assert study is not None
    assert series is not None
    return key, study, series


def make_rows(batch: Batch, arrival: Arrival) -> StudyRow:
    """Make the study's and the series' row if they are new; return the study's."""
    entry = arrival.entry
    study = batch.study(entry.StudyInstanceUID)
    if study is None:
        study = _new_study(batch, arrival)
    key = joined(entry.StudyInstanceUID, entry.SeriesInstanceUID)
    if batch.series(key) is None:
        _new_series(batch, key, study, arrival)
    return study


def _new_study(batch: Batch, arrival: Arrival) -> StudyRow:
    entry = arrival.entry
    uid = entry.StudyInstanceUID
    row = StudyRow(
        StudyInstanceUID=uid,
        attributes=arrival.study,
        patient=arrival.patient,
        received=entry.received,
        first=(entry.SeriesInstanceUID, entry.SOPInstanceUID),
        order=b"",
        is_decided=batch.get(DECIDED + uid.encode()) is not None,
    )
    describe_study(batch, row, load(batch, uid) if row.is_decided else None)
    batch.publish_study(row)
    return row


def describe_study(batch: Batch, row: StudyRow, decided: Decided | None) -> None:
    """Fill in what is answered about the study, and index it by that."""
    uid = row.StudyInstanceUID
    attributes: Attributes = decoded(row.attributes)
    corrections = decided.of_the_study(uid) if decided else {}
    attributes.update(corrections)
    row.effective = encoded(attributes) if corrections else b""
    row.corrected_patient = corrected_patient(row.patient, corrections, uid)
    row.overlay = decided.overlay if decided else b""
    row.order = study_order(attributes)
    for key in index_keys(uid, attributes, row.seen_patient, row.order):
        batch.put(key)


def forget_indexes(batch: Batch, row: StudyRow) -> None:
    """Remove what `describe_study` put into the indexes."""
    attributes = decoded(row.seen_attributes)
    for key in index_keys(row.StudyInstanceUID, attributes, row.seen_patient, row.order):
        batch.delete(key)


def _new_series(batch: Batch, key: bytes, study: StudyRow, arrival: Arrival) -> None:
    entry = arrival.entry
    totals = batch.totals
    totals.numbers += 1
    row = SeriesRow(
        StudyInstanceUID=entry.StudyInstanceUID,
        SeriesInstanceUID=entry.SeriesInstanceUID,
        number=totals.numbers,
        attributes=arrival.series,
        received=entry.received,
    )
    describe_series(row, load(batch, entry.StudyInstanceUID) if study.is_decided else None)
    batch.put(NUMBER + counted(row.number), key)
    batch.put(BY_SERIES + joined(entry.SeriesInstanceUID, entry.StudyInstanceUID))
    batch.publish_series(key, row)


def describe_series(row: SeriesRow, decided: Decided | None) -> None:
    """Fill in what is answered about the series."""
    attributes: Attributes = decoded(row.attributes)
    corrections = decided.of_the_series(row.StudyInstanceUID, row.SeriesInstanceUID) if decided else {}
    attributes.update(corrections)
    row.effective = encoded(attributes) if corrections else b""
    row.modality = str(first_value(attributes, _MODALITY) or "")


def _again(batch: Batch, arrival: Arrival, claims: Claims) -> Recorded:
    entry = arrival.entry
    for digest, study, series in claims.versions:
        if digest == entry.holding.sha256:
            return _same_again(batch, arrival, study, series)
    batch.totals.stored += entry.holding.size
    claims.versions.append((entry.holding.sha256, entry.StudyInstanceUID, entry.SeriesInstanceUID))
    batch.put(version_key(entry), ENTRY_CODEC.pack(entry))
    make_rows(batch, arrival)
    _flag_versions(batch, arrival, claims)
    settle_versions(batch, entry.SOPInstanceUID, claims)
    return Recorded.OTHER_VERSION


def _same_again(batch: Batch, arrival: Arrival, study: str, series: str) -> Recorded:
    """Equal bytes are here already, but if a deletion took them away they may come back."""
    entry = arrival.entry
    stored = batch.get(INSTANCE + joined(study, series, entry.SOPInstanceUID))
    row = batch.study(study)
    if stored is None or row is None or not row.is_decided:
        return Recorded.SAME
    old = INSTANCE_CODEC.unpack(stored).entry
    decided = load(batch, study)
    if old.holding.sha256 != entry.holding.sha256 or not decided.deletes(old) or decided.deletes(entry):
        return Recorded.SAME
    take_away(batch, old)
    place(batch, entry)
    return Recorded.NEW


def version_key(entry: Entry) -> bytes:
    """Return the key of a version that is not the preferred one."""
    return VERSIONS + joined(entry.SOPInstanceUID) + b"\0" + entry.holding.sha256


def settle_versions(batch: Batch, SOPInstanceUID: str, claims: Claims) -> None:
    """Put the version in front that people prefer, or the first received; write the claims."""
    preference = _preference(batch, SOPInstanceUID, claims)
    wanted = preference.sha256 if preference else claims.first
    old = claims.versions[0]
    if old[0] != wanted:
        new = next(claim for claim in claims.versions if claim[0] == wanted)
        stored = batch.get(INSTANCE + joined(old[1], old[2], SOPInstanceUID)) or b""
        demoted = INSTANCE_CODEC.unpack(stored).entry
        key = VERSIONS + joined(SOPInstanceUID) + b"\0" + wanted
        promoted = ENTRY_CODEC.unpack(batch.get(key) or b"")
        take_away(batch, demoted)
        batch.put(version_key(demoted), ENTRY_CODEC.pack(demoted))
        batch.delete(key)
        place(batch, promoted)
        key, _, series = rows_of(batch, promoted)
        batch.index_later(key, series).is_revised = True
        claims.versions.remove(new)
        claims.versions.insert(0, new)
    batch.put(CLAIM + SOPInstanceUID.encode(), CLAIMS_CODEC.pack(claims))


def _preference(batch: Batch, SOPInstanceUID: str, claims: Claims) -> Preference | None:
    digests = {digest for digest, _, _ in claims.versions}
    wishes = [
        wish
        for uid in {study for _, study, _ in claims.versions}
        if (row := batch.study(uid)) is not None and row.is_decided
        for wish in load(batch, uid).preferences
        if wish.SOPInstanceUID == SOPInstanceUID and wish.sha256 in digests
    ]
    return max(wishes, default=None)


def differences(ours: Attributes, theirs: Attributes, tags: Sequence[str]) -> list[str]:
    """Return the keywords of the tags that differ as people and identities are compared."""
    return [_KEYWORDS[tag] for tag in tags if _identity(ours, tag) != _identity(theirs, tag)]


def _identity(attributes: Attributes, tag: str) -> Any:
    value = first_value(attributes, tag)
    if isinstance(value, dict):
        return [normal_name(group) for group in value.values() if normal_name(group)] or None
    return value or None


def _patient_differences(study: StudyRow, patient: PatientKey, attributes: Attributes) -> list[str]:
    found = differences(decoded(study.attributes), attributes, PATIENT_IDENTITY)
    if patient.PatientID != study.patient.PatientID and "PatientID" not in found:
        found.append("PatientID")
    if patient.IssuerOfPatientID != study.patient.IssuerOfPatientID and "IssuerOfPatientID" not in found:
        found.append("IssuerOfPatientID")
    return found


def _compare_patient(batch: Batch, study: StudyRow, arrival: Arrival) -> None:
    found = _patient_differences(study, arrival.patient, decoded(arrival.study))
    if not found:
        return
    entry = arrival.entry
    # One alarm for each other patient, not one for each of a thousand slices.
    who = sha256("\0".join((study.StudyInstanceUID, *arrival.patient, *found)).encode()).digest()[:12]
    key = CONFLICT + b"p" + study.StudyInstanceUID.encode() + b"\0" + who
    if batch.get(key) is not None:
        return
    decided = load(batch, study.StudyInstanceUID) if study.is_decided else None
    row = ConflictRow(
        entry.SOPInstanceUID,
        (study.StudyInstanceUID,),
        found,
        entry.received,
        is_resolved=decided is not None and decided.settles_patient_of(entry),
        is_settled=True,
        first=(study.StudyInstanceUID, *study.first),
        other=(entry.StudyInstanceUID, entry.SeriesInstanceUID, entry.SOPInstanceUID),
    )
    batch.put(key, CONFLICT_CODEC.pack(row))
    if not row.is_resolved:
        flag_conflict(batch, row, 1)


def flag_conflict(batch: Batch, row: ConflictRow, sign: int) -> None:
    """Count an open conflict where it is seen, or with -1 a resolved one no longer."""
    batch.totals.open_conflicts += sign
    if len(row.at) == 1:
        study = batch.study(row.at[0])
        assert study is not None
        study.conflicts += sign
        batch.publish_study(study)
        return
    key = joined(*row.at)
    series = batch.series(key)
    assert series is not None
    series.conflicts += sign
    batch.publish_series(key, series)


def _flag_versions(batch: Batch, arrival: Arrival, claims: Claims) -> None:
    """Say at once that two versions differ, as far as the rows tell; headers and pixels come later."""
    entry = arrival.entry
    at = claims.versions[0][1:]
    study, series = batch.study(at[0]), batch.series(joined(*at))
    assert study is not None
    assert series is not None
    found = _version_differences(study, series, arrival)
    preference = _preference(batch, entry.SOPInstanceUID, claims)
    # Who preferred a version did so knowing those that were there.
    is_resolved = preference is not None and entry.received <= preference.when
    key = CONFLICT + b"v" + entry.SOPInstanceUID.encode()
    stored = batch.get(key)
    row = ConflictRow(entry.SOPInstanceUID, at, [], entry.received, is_resolved=True)
    if stored is not None:
        row = CONFLICT_CODEC.unpack(stored)
    row.differences += [keyword for keyword in found if keyword not in row.differences]
    row.is_settled = False
    if row.is_resolved and not is_resolved:
        row.is_resolved = False
        flag_conflict(batch, row, 1)
    batch.put(key, CONFLICT_CODEC.pack(row))
    batch.index_later(joined(*at), series).disputed.append(entry.SOPInstanceUID)


def _version_differences(study: StudyRow, series: SeriesRow, arrival: Arrival) -> list[str]:
    theirs = decoded(arrival.study)
    found = _patient_differences(study, arrival.patient, theirs)
    found += differences(decoded(study.attributes), theirs, (ACCESSION,))
    found += differences(decoded(series.attributes), decoded(arrival.series), (LATERALITY,))
    if arrival.entry.StudyInstanceUID != study.StudyInstanceUID:
        found.append("StudyInstanceUID")
    if arrival.entry.SeriesInstanceUID != series.SeriesInstanceUID:
        found.append("SeriesInstanceUID")
    return found
