"""What was rejected, as a catalog of its own: for the few who look at it, so nothing of it is indexed.

Only studies that somebody decided about are read. What was deleted or erased besides is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from msgspec.structs import replace

from .attributes import Level
from .errors import BadRequest
from .find import Question
from .levels import (
    all_series,
    instance_attributes,
    instance_rank,
    listed,
    number,
    seen_attributes,
    series_attributes,
    series_rank,
    united,
)
from .model import Attributes, Change, Entry, Head, Query, Selection
from .moving import changes
from .order import decoded, first_value
from .overlays import Decided, load
from .packs import Headers
from .rows import INSTANCE_CODEC, STUDY_CODEC, SeriesRow, StudyRow, Totals, count
from .truth import DECIDED, INSTANCE, STUDY, Environment, Reading, scan, scan_keys

_SOP_CLASS: Final = "00080016"
_STUDY_UID: Final = "0020000D"


class _Series(NamedTuple):
    key: bytes
    row: SeriesRow
    entries: list[Entry]
    decided: Decided


class RejectedCatalog:
    """Satisfies `Catalog` for what is rejected at the moment; it has no change log."""

    def __init__(self, environment: Environment, headers: Headers) -> None:
        self._environment = environment
        self._headers = headers

    def find(self, query: Query) -> Iterator[Attributes]:
        """See `Catalog.find`."""
        question = Question(query)
        with self._environment.reading() as reading:
            uids = self._studies(reading, question)
            found = [match for uid in uids for match in self._matches(reading, uid, question)]
        # `order` sorts the newest study first.
        found.sort(key=lambda pair: pair[0])
        answers = [attributes for _, attributes in found]
        if query.level is Level.PATIENT:
            answers = list({_patient(each): each for each in reversed(answers)}.values())[::-1]
        yield from answers[: query.limit or None]

    def select(self, selection: Selection) -> list[Entry]:
        """See `Catalog.select`; raises BadRequest when nothing at all is named."""
        if not (selection.instances or selection.series or selection.studies or selection.patient):
            raise BadRequest("A retrieve names a patient, study, series or instance.", "Give a unique key.")
        found = []
        with self._environment.reading() as reading:
            for uid in selection.studies or self._decided(reading):
                row, series = _rejected(reading, uid)
                if row is None or not _is_named(row, selection):
                    continue
                found += [entry for each in series for entry in each.entries]
        return [
            entry
            for entry in found
            if (not selection.series or entry.SeriesInstanceUID in selection.series)
            and (not selection.instances or entry.SOPInstanceUID in selection.instances)
        ]

    def changes(self, after: int, limit: int, share: int = 0) -> list[Change]:
        """Return nothing: nobody follows it."""
        return []

    def head(self, share: int = 0) -> Head:
        """Return the end of an empty log."""
        return Head(0, 0, b"")

    def _studies(self, reading: Reading, question: Question) -> list[str]:
        named = question.query.keys.get(_STUDY_UID, {}).get("Value")
        return [str(uid) for uid in named] if named else self._decided(reading)

    def _decided(self, reading: Reading) -> list[str]:
        return [key[len(DECIDED) :].decode() for key in scan_keys(reading, DECIDED)]

    def _matches(self, reading: Reading, uid: str, question: Question) -> Iterator[tuple[bytes, Attributes]]:
        row, found = _rejected(reading, uid)
        issuers = question.query.issuers
        if row is None or (issuers is not None and row.seen_patient.IssuerOfPatientID not in issuers):
            return
        study = {**seen_attributes(row), **_counts(row, found)}
        if question.of_study and not question.of_study(study):
            return
        if question.level is Level.STUDY:
            parts = [part for each in found for part in self._below(reading, each, question)]
            study.update(united(parts, question.extras))
            if not question.of_extras or question.of_extras(study):
                yield row.order, study
            return
        for each in found:
            attributes = series_attributes(study, each.row)
            if question.of_series and not question.of_series(attributes):
                continue
            if question.level is Level.SERIES:
                attributes.update(united(self._below(reading, each, question), question.extras))
                if not question.of_extras or question.of_extras(attributes):
                    yield row.order, attributes
                continue
            for instance in self._instances(reading, each, question, attributes):
                yield row.order, instance

    def _below(self, reading: Reading, series: _Series, question: Question) -> Iterator[Attributes]:
        """Yield what is said of keys below the level asked for, if there are any."""
        if not question.extras:
            return
        yield series_attributes({}, series.row)
        yield {_SOP_CLASS: {"vr": "UI", "Value": list(series.row.classes)}}
        for entry, header in self._headers.of_instances(reading, series.key, series.entries):
            said = {**header, **instance_attributes({}, entry)}
            yield {**said, **changes(reading, series.decided, entry)}

    def _instances(
        self, reading: Reading, series: _Series, question: Question, above: Attributes
    ) -> Iterator[Attributes]:
        for entry, header in self._headers.of_instances(reading, series.key, series.entries):
            extras = {tag: header[tag] for tag in question.extras & header.keys()}
            attributes = instance_attributes({**above, **extras}, entry)
            attributes.update(changes(reading, series.decided, entry))
            if question.of_instance and not question.of_instance(attributes):
                continue
            if not question.of_extras or question.of_extras(attributes):
                yield attributes


def _rejected(reading: Reading, uid: str) -> tuple[StudyRow | None, list[_Series]]:
    """Return a study with nothing counted but what is rejected of it; None if nothing is."""
    stored = reading.get(STUDY + uid.encode())
    decided = load(reading, uid)
    if stored is None or not decided.all:
        return None, []
    study = replace(STUDY_CODEC.unpack(stored), series=0, instances=0, modalities={})
    found = []
    for key, row in all_series(reading, uid):
        rows = (INSTANCE_CODEC.unpack(each) for _, each in scan(reading, INSTANCE + key + b"\0"))
        entries = sorted((each.entry for each in rows if decided.rejects(each.entry)), key=instance_rank)
        if entries:
            series = replace(row, instances=0, size=0, classes={})
            for entry in entries:
                count(Totals(), study, series, entry, 1)
            found.append(_Series(key, series, entries, decided))
    found.sort(key=lambda each: series_rank(each.row))
    return (study, found) if found else (None, [])


def _patient(attributes: Attributes) -> tuple[str, str]:
    return tuple(str(first_value(attributes, tag) or "") for tag in ("00100020", "00100021"))  # type: ignore[return-value]


def _counts(study: StudyRow, found: list[_Series]) -> Attributes:
    return {
        "00080061": listed("CS", study.modalities),
        "00080062": listed("UI", {name for each in found for name in each.row.classes}),
        "00201206": number(study.series),
        "00201208": number(study.instances),
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
    }


def _is_named(study: StudyRow, selection: Selection) -> bool:
    patient = study.seen_patient
    if selection.issuers is not None and patient.IssuerOfPatientID not in selection.issuers:
        return False
    if not selection.patient:
        return True
    shown = first_value(decoded(study.seen_attributes), "00100020")
    return str(shown or "").strip() in {id.strip() for id in selection.patient}
