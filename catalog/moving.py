"""Series that persons moved to another study: where their rows lie, and what their objects say on their way.

The rows of a moved series lie in the study it belongs to now; empty ones stay where it was sent, so that
taking the decision back finds everything as it was. What comes later goes where the series is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from .attributes import BY_TAG, Level
from .commit import Batch
from .model import Arrival, Attributes, Decision, Entry, PatientKey, Recorded, Verb
from .order import decoded, encoded
from .overlays import Decided, corrected_patient, load
from .recording import make_rows, place, record, take_away, version_key
from .rows import CLAIMS_CODEC, ENTRY_CODEC, INSTANCE_CODEC, STUDY_CODEC
from .truth import CLAIM, INSTANCE, STUDY, VERSIONS, Reads, joined, scan

_STUDY_UID = "0020000D"
_OF_THE_STUDY: Final[Attributes] = {
    tag: {"vr": BY_TAG[tag].vr}
    for tag in ("00080020", "00080030", "00080050", "00080090", "00081030", "00200010")
}
"""What all objects of a study say alike."""
_OF_THE_PATIENT: Final[Attributes] = {
    tag: {"vr": vr}
    for vr, tags in {
        "AS": "00101010",
        "CS": "00100022 00100035 00100040 001021A0 00102203",
        "DA": "00100030 00100033 00100034 001021D0",
        "LO": "00100020 00100021 00101000 00101080 00101081 00101040 00102000 00102110 00102150 00102152 "
        "001021F0 00102299 00380010 00380014 00380060",
        "LT": "001021B0 00104000",
        "PN": "00100010 00101001 00101005 00101060 00102297",
        "SH": "00102154 00102160 00102180",
        "SQ": "00081120 00100024 00100050 00100101 00100102 00101002 00380064 00400275",
        "TM": "00100032",
        "US": "001021C0",
    }.items()
    for tag in tags.split()
}
"""Who it is, PS3.3 C.7.1.1, C.7.2.2 and C.3.4: all but what was measured for this examination."""


def settle_moves(batch: Batch, study: str, decided: Decided) -> set[str]:
    """Have each series that was sent in this study lie where it belongs; return the studies that changed."""
    touched: set[str] = set()
    for target in {said.target for said in decided.all if said.verb is Verb.MOVE and said.target[0] == study}:
        move = decided.moves.get(target)
        wanted = move.detail if move else study
        others = {said.detail for said in decided.all if said.verb is Verb.MOVE and said.target == target}
        for current in {study, *others} - {wanted}:
            if _move(batch, current, target[1], wanted, move):
                touched |= {current, wanted}
    return touched


def _move(batch: Batch, current: str, series: str, wanted: str, move: Decision | None) -> bool:
    """Put the rows of a series into another study; say whether there were any."""
    key = joined(current, series)
    rows = [INSTANCE_CODEC.unpack(row) for _, row in list(scan(batch.reading(), INSTANCE + key + b"\0"))]
    others = [ENTRY_CODEC.unpack(row) for _, row in list(scan(batch.reading(), VERSIONS))]
    others = [
        entry for entry in others if (entry.StudyInstanceUID, entry.SeriesInstanceUID) == (current, series)
    ]
    if not rows and not others:
        return False
    _make_rows(batch, (rows[0].entry if rows else others[0]), wanted, move)
    for row in rows:
        take_away(batch, row.entry)
        _claim(batch, row.entry, wanted)
        place(batch, replace(row.entry, StudyInstanceUID=wanted))
    for entry in others:
        _claim(batch, entry, wanted)
        batch.put(version_key(entry), ENTRY_CODEC.pack(replace(entry, StudyInstanceUID=wanted)))
    return True


def _claim(batch: Batch, entry: Entry, wanted: str) -> None:
    key = CLAIM + entry.SOPInstanceUID.encode()
    claims = CLAIMS_CODEC.unpack(batch.get(key) or b"")
    claims.versions = [
        (digest, wanted if digest == entry.holding.sha256 else study, series)
        for digest, study, series in claims.versions
    ]
    batch.put(key, CLAIMS_CODEC.pack(claims))


def _make_rows(batch: Batch, entry: Entry, wanted: str, move: Decision | None) -> None:
    """Make the rows of the series in its new study, with what its old ones say."""
    old_study = batch.study(entry.StudyInstanceUID)
    old_series = batch.series(joined(entry.StudyInstanceUID, entry.SeriesInstanceUID))
    assert old_study is not None
    assert old_series is not None
    study: Attributes = decoded(old_study.attributes)
    study[_STUDY_UID] = {"vr": "UI", "Value": [wanted]}
    study.update(move.attributes if move else {})
    arrival = Arrival(
        entry=replace(entry, StudyInstanceUID=wanted),
        patient=_patient(old_study.patient, wanted, move),
        study=encoded(study),
        series=old_series.attributes,
    )
    make_rows(batch, arrival)


def recording(batch: Batch, arrivals: Sequence[Arrival]) -> list[Recorded]:
    """Write the rows of the arrivals into the batch, where persons decided that they belong."""
    if batch.totals.moves:
        arrivals = [redirected(batch, arrival) for arrival in arrivals]
    return record(batch, arrivals)


def redirected(batch: Batch, arrival: Arrival) -> Arrival:
    """Return an arrival of a series that was moved as if it had been sent in the study it belongs to."""
    entry = arrival.entry
    decided = load(batch, entry.StudyInstanceUID)
    move = decided.moves.get((entry.StudyInstanceUID, entry.SeriesInstanceUID))
    if move is None or move.detail == entry.StudyInstanceUID:
        return arrival
    there = batch.study(move.detail)
    moved = replace(entry, StudyInstanceUID=move.detail)
    if there is not None:
        return replace(arrival, entry=moved, study=there.attributes, patient=there.patient)
    study: Attributes = decoded(arrival.study)
    study[_STUDY_UID] = {"vr": "UI", "Value": [move.detail]}
    study.update(move.attributes)
    patient = _patient(arrival.patient, move.detail, move)
    return replace(arrival, entry=moved, study=encoded(study), patient=patient)


def _patient(key: PatientKey, study: str, move: Decision | None) -> PatientKey:
    changed = corrected_patient(key, dict(move.attributes), study) if move else None
    return changed or (key._replace(anonymous_study=study) if key.anonymous_study else key)


def moved_attributes(reads: Reads, decided: Decided, entry: Entry) -> tuple[Decision, Attributes] | None:
    """Return by which decision an object lies in another study than it says, and what it is to say.

    What the study's corrections say besides comes after it. An element without a value is to have none: what
    else an object tells of another patient, or of another study, goes.
    """
    move = decided.move_of(entry.StudyInstanceUID, entry.SeriesInstanceUID)
    stored = reads.get(STUDY + entry.StudyInstanceUID.encode()) if move else None
    if move is None or stored is None:
        return None
    there = STUDY_CODEC.unpack(stored)
    home = reads.get(STUDY + move.target[0].encode())
    is_same_patient = home is not None and STUDY_CODEC.unpack(home).patient == there.seen_patient
    gone = _OF_THE_STUDY if is_same_patient else {**_OF_THE_STUDY, **_OF_THE_PATIENT}
    attributes: Attributes = decoded(there.attributes)
    wanted = {tag: value for tag, value in attributes.items() if _is_above_series(tag)}
    told = {tag: value for tag, value in move.attributes.items() if tag not in BY_TAG}
    uid: Attributes = {_STUDY_UID: {"vr": "UI", "Value": [entry.StudyInstanceUID]}}
    return move, {**gone, **wanted, **told, **uid}


def changes(reads: Reads, decided: Decided, entry: Entry) -> Attributes:
    """Return every attribute that an object says otherwise than its bytes do."""
    found = moved_attributes(reads, decided, entry) if decided.moves else None
    own = decided.corrections(entry.StudyInstanceUID, entry.SeriesInstanceUID, entry.SOPInstanceUID)
    return {**found[1], **own} if found else own


def _is_above_series(tag: str) -> bool:
    row = BY_TAG.get(tag)
    return row is not None and row.level in (Level.PATIENT, Level.STUDY)
