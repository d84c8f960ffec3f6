"""What people decide: corrections, rejections, deletions, preferences, and taking them back.

Decisions never touch the stored bytes. Each is kept under the study it is about, and everything queries
read of that study is worked out again from what was received and what is in force. A decision may come
before its study (a catalog made again from its segments): it takes effect when the study arrives.
"""

from __future__ import annotations

import msgspec

from .commit import Batch
from .levels import all_series
from .model import Decision, Verb
from .moving import settle_moves
from .overlays import Decided, check, load, not_here, place_of
from .recording import (
    describe_series,
    describe_study,
    flag_conflict,
    forget_indexes,
    settle_versions,
)
from .rows import (
    CLAIMS_CODEC,
    CONFLICT_CODEC,
    DECISION_CODEC,
    INSTANCE_CODEC,
    NAMES_CODEC,
    ConflictRow,
    DecisionRow,
    InstanceRow,
    StudyRow,
    count,
    tally,
)
from .truth import CLAIM, CONFLICT, DECIDED, DECISION, INSTANCE, STUDY, joined, scan, series_at


def decide(batch: Batch, decision: Decision, *, must_exist: bool) -> None:
    """Keep the decision and make it take effect; the same id twice changes nothing.

    Raises:
        NotFound: it must exist, and there is no such study, series, instance or earlier decision.
        BadRequest: it cannot be decided like that.
    """
    check(decision)
    key = DECISION + decision.id.encode()
    if batch.get(key) is not None:
        return
    if decision.verb is Verb.UNDO:
        decision = _with_target(batch, decision, must_exist)
    elif must_exist and not _exists(batch, decision):
        raise not_here(decision.target)
    uid = decision.target[0]
    batch.totals.decisions += 1
    batch.put(key, DECISION_CODEC.pack(DecisionRow(decision, batch.totals.decisions)))
    batch.totals.moves += decision.verb is Verb.MOVE
    for study in {uid, decision.detail} if decision.verb is Verb.MOVE else {uid}:
        stored = batch.get(DECIDED + study.encode())
        ids = NAMES_CODEC.unpack(stored) if stored else []
        batch.put(DECIDED + study.encode(), NAMES_CODEC.pack([*ids, decision.id]))
    touched = settle_moves(batch, uid, load(batch, uid)) if batch.totals.moves else set()
    if batch.totals.moves and len(decision.target) > 1:
        touched.add(place_of(batch, uid, decision.target[1]))
    for study in {uid, *touched}:
        reconsider(batch, study)


def _with_target(batch: Batch, undo: Decision, must_exist: bool) -> Decision:
    stored = batch.get(DECISION + undo.detail.encode())
    if stored is not None:
        return msgspec.structs.replace(undo, target=DECISION_CODEC.unpack(stored).decision.target)
    if must_exist or not undo.target:
        raise not_here(())
    return undo


def _exists(batch: Batch, decision: Decision) -> bool:
    target = decision.target
    place = STUDY + joined(*target)
    if batch.get(series_at(joined(*target)) if len(target) == 2 else place) is not None:
        return True
    # A version that is not the preferred one has no row in its place.
    stored = batch.get(CLAIM + target[-1].encode()) if len(target) == 3 else None
    return stored is not None and any(
        claim[1:] == target[:2] for claim in CLAIMS_CODEC.unpack(stored).versions
    )


def reconsider(batch: Batch, StudyInstanceUID: str) -> None:
    """Work out again all that queries read of the study."""
    study = batch.study(StudyInstanceUID)
    if study is None:
        return
    decided = load(batch, StudyInstanceUID)
    study.is_decided = True
    forget_indexes(batch, study)
    describe_study(batch, study, decided)
    batch.publish_study(study)
    _reconsider_versions(batch, decided)
    for key, _ in list(all_series(batch.reading(), StudyInstanceUID)):
        _reconsider_series(batch, study, key, decided)
    _reconsider_conflicts(batch, study, decided)


def _reconsider_versions(batch: Batch, decided: Decided) -> None:
    wishes = {preference.SOPInstanceUID for preference in decided.preferences}
    for SOPInstanceUID in {said.target[-1] for said in decided.all if said.verb is Verb.PREFER}:
        stored = batch.get(CLAIM + SOPInstanceUID.encode())
        if stored is not None:
            settle_versions(batch, SOPInstanceUID, CLAIMS_CODEC.unpack(stored))
        key = CONFLICT + b"v" + SOPInstanceUID.encode()
        if (found := batch.get(key)) is not None:
            _resolve(batch, key, CONFLICT_CODEC.unpack(found), SOPInstanceUID in wishes)


def _reconsider_series(batch: Batch, study: StudyRow, key: bytes, decided: Decided) -> None:
    series = batch.series(key)
    assert series is not None
    was = series.modality
    describe_series(series, decided)
    if series.instances and was != series.modality:
        tally(study.modalities, was, -1)
        tally(study.modalities, series.modality, 1)
    for instance_key, stored in list(scan(batch.reading(), INSTANCE + key + b"\0")):
        row = INSTANCE_CODEC.unpack(stored)
        is_hidden = decided.hides(row.entry)
        if is_hidden == row.is_hidden:
            continue
        batch.put(instance_key, INSTANCE_CODEC.pack(InstanceRow(row.entry, is_hidden)))
        batch.index_later(key, series).is_revised = True
        series.hidden += 1 if is_hidden else -1
        count(batch.totals, study, series, row.entry, -1 if is_hidden else 1)
    batch.change_study(study)
    batch.publish_series(key, series)
    batch.index_later(key, series)


def _reconsider_conflicts(batch: Batch, study: StudyRow, decided: Decided) -> None:
    """A study of two patients is settled by correcting its patient, or by hiding the other's instance."""
    prefix = CONFLICT + b"p" + joined(study.StudyInstanceUID) + b"\0"
    for key, stored in list(scan(batch.reading(), prefix)):
        row = CONFLICT_CODEC.unpack(stored)
        other = batch.get(INSTANCE + joined(*row.other)) if row.other else None
        is_settled = other is None or decided.settles_patient_of(INSTANCE_CODEC.unpack(other).entry)
        _resolve(batch, key, row, is_settled)


def _resolve(batch: Batch, key: bytes, row: ConflictRow, is_resolved: bool) -> None:
    if row.is_resolved == is_resolved:
        return
    row.is_resolved = is_resolved
    batch.put(key, CONFLICT_CODEC.pack(row))
    flag_conflict(batch, row, -1 if is_resolved else 1)


def settle_conflict(batch: Batch, SOPInstanceUID: str, differences: list[str]) -> None:
    """Complete what the versions of an instance differ in; without a difference there is no conflict."""
    key = CONFLICT + b"v" + SOPInstanceUID.encode()
    stored = batch.get(key)
    if stored is None:
        return
    row = CONFLICT_CODEC.unpack(stored)
    row.is_settled = True
    row.differences += [keyword for keyword in differences if keyword not in row.differences]
    if row.differences:
        batch.put(key, CONFLICT_CODEC.pack(row))
        return
    _resolve(batch, key, row, is_resolved=True)
    batch.delete(key)
