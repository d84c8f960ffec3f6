"""select(): the instances that unique keys name, and the versions behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .errors import BadRequest
from .levels import instance_rank, series_rank, visible_instances, visible_series
from .model import Entry, Selection
from .order import BY_SERIES, decoded, first_value, patient_prefix
from .overlays import Decided, load
from .rows import CLAIMS_CODEC, ENTRY_CODEC, INSTANCE_CODEC, SERIES_CODEC, STUDY_CODEC, StudyRow
from .truth import CLAIM, INSTANCE, STUDY, VERSIONS, Reading, joined, scan, scan_keys, series_at


def select(reading: Reading, selection: Selection) -> list[Entry]:
    """Return the preferred, visible versions, study by study, in series and instance order.

    Raises:
        BadRequest: nothing is named; nobody means to retrieve a whole archive.
    """
    if not (selection.instances or selection.series or selection.studies or selection.patient):
        raise BadRequest("A retrieve names a patient, study, series or instance.", "Give a unique key.")
    if selection.instances:
        return _ordered(reading, _instances(reading, selection))
    entries: list[Entry] = []
    for study in _studies(reading, selection):
        for _, key in sorted(_series(reading, study, selection)):
            entries.extend(sorted(visible_instances(reading, key), key=instance_rank))
    return entries


def _instances(reading: Reading, selection: Selection) -> Iterator[Entry]:
    for uid in dict.fromkeys(selection.instances):
        stored = reading.get(CLAIM + uid.encode())
        if stored is None:
            continue
        _, study, series = CLAIMS_CODEC.unpack(stored).versions[0]
        row = _visible_study(reading, study)
        if row is None or not _is_named(row, selection):
            continue
        if selection.series and series not in selection.series:
            continue
        found = INSTANCE_CODEC.unpack(reading.get(INSTANCE + joined(study, series, uid)) or b"")
        if not found.is_hidden:
            yield found.entry


def _ordered(reading: Reading, entries: Iterable[Entry]) -> list[Entry]:
    ranks: dict[bytes, tuple[float, str]] = {}

    def rank(entry: Entry) -> tuple[str, tuple[float, str], tuple[float, str]]:
        key = joined(entry.StudyInstanceUID, entry.SeriesInstanceUID)
        if key not in ranks:
            ranks[key] = series_rank(SERIES_CODEC.unpack(reading.get(series_at(key)) or b""))
        return entry.StudyInstanceUID, ranks[key], instance_rank(entry)

    found = list(entries)
    return sorted(found, key=rank) if len(found) > 1 else found


def _studies(reading: Reading, selection: Selection) -> Iterator[StudyRow]:
    uids: Iterable[str] = selection.studies
    if not uids and selection.series:
        uids = (
            key[len(BY_SERIES) :].decode().split("\0")[1]
            for series in selection.series
            for key in list(scan_keys(reading, BY_SERIES + joined(series) + b"\0"))
        )
    elif not uids:
        uids = (
            key.rsplit(b"\0", 1)[1][20:].decode()
            for id in selection.patient
            for key in list(scan_keys(reading, patient_prefix(id)))
        )
    for uid in dict.fromkeys(uids):
        row = _visible_study(reading, uid)
        if row and _is_named(row, selection):
            yield row


def _visible_study(reading: Reading, uid: str) -> StudyRow | None:
    stored = reading.get(STUDY + uid.encode())
    row = STUDY_CODEC.unpack(stored) if stored else None
    return row if row and row.instances else None


def _is_named(study: StudyRow, selection: Selection) -> bool:
    patient = study.seen_patient
    if selection.issuers is not None and patient.IssuerOfPatientID not in selection.issuers:
        return False
    if selection.studies and study.StudyInstanceUID not in selection.studies:
        return False
    if not selection.patient:
        return True
    # A placeholder is not who the patient is, but it is what an answer showed.
    shown = first_value(decoded(study.seen_attributes), "00100020")
    return str(shown or "").strip() in {id.strip() for id in selection.patient}


def _series(
    reading: Reading, study: StudyRow, selection: Selection
) -> Iterator[tuple[tuple[float, str], bytes]]:
    for key, row in visible_series(reading, study.StudyInstanceUID):
        if not selection.series or row.SeriesInstanceUID in selection.series:
            yield series_rank(row), key


def versions(reading: Reading, target: tuple[str, ...]) -> list[Entry]:
    """Return every stored version of a study, series or instance: hidden ones and those not preferred too."""
    if len(target) == 3:
        return [entry for entry in claimed(reading, target[2]) if _uids(entry) == target]
    prefix = INSTANCE + joined(*target) + b"\0"
    behind_the_series = prefix + b"\0\xff" if len(target) == 1 else b""
    found = [INSTANCE_CODEC.unpack(row).entry for _, row in scan(reading, prefix, behind_the_series)]
    others = (ENTRY_CODEC.unpack(stored) for _, stored in scan(reading, VERSIONS))
    return found + [entry for entry in others if _uids(entry)[: len(target)] == target]


def _uids(entry: Entry) -> tuple[str, str, str]:
    return entry.StudyInstanceUID, entry.SeriesInstanceUID, entry.SOPInstanceUID


def entry_at(reading: Reading, study: str, series: str, instance: str) -> Entry | None:
    """Return the version that is kept in this place, preferred or not."""
    entries = claimed(reading, instance)
    return next((entry for entry in entries if _uids(entry) == (study, series, instance)), None)


class Claim(NamedTuple):
    """A version that claims a SOP Instance UID, and what persons decided about it."""

    entry: Entry
    is_hidden: bool
    """Rejected or deleted."""
    is_deleted: bool
    """Deleted, so that its bytes may be gone."""


def claims(reading: Reading, uids: Iterable[str]) -> dict[str, list[Claim]]:
    """Return every version behind each SOP Instance UID, the preferred one first; none for unknown UIDs."""
    decided: dict[str, Decided] = {}
    found: dict[str, list[Claim]] = {}
    for uid in uids:
        found[uid] = versions = []
        for entry in claimed(reading, uid):
            study = entry.StudyInstanceUID
            if study not in decided:
                decided[study] = load(reading, study)
            versions.append(Claim(entry, decided[study].hides(entry), decided[study].deletes(entry)))
    return found


def claimed(reading: Reading, SOPInstanceUID: str) -> list[Entry]:
    """Return every version that claims the UID, the preferred one first."""
    stored = reading.get(CLAIM + SOPInstanceUID.encode())
    claims = CLAIMS_CODEC.unpack(stored).versions if stored else []
    found: list[Entry] = []
    for place, (digest, study, series) in enumerate(claims):
        if place == 0:
            row = reading.get(INSTANCE + joined(study, series, SOPInstanceUID)) or b""
            found.append(INSTANCE_CODEC.unpack(row).entry)
        else:
            version = reading.get(VERSIONS + SOPInstanceUID.encode() + b"\0" + digest) or b""
            found.append(ENTRY_CODEC.unpack(version))
    return found
