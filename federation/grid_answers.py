"""From a merged study to the answers of one question about it: tested at each level, with what was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from catalog import Attributes, Availability, Catalog, Level, Query
from catalog.find import Question
from catalog.levels import COMPUTED, instance_attributes, level_of, united

from .grid_levels import (
    AVAILABILITY,
    PATIENT_COUNTS,
    SOP_CLASS,
    available,
    patient_counts,
    series_attributes,
    study_attributes,
)
from .identities import ISSUER, PATIENT_ID, Shown, rewritten
from .manifests import Manifest, elsewhere
from .merging import HERE, Merged, MergedSeries, numeric

_STUDY_UID, _SERIES_UID, _INSTANCE_UID = "0020000D", "0020000E", "00080018"
_INSTANCE_NUMBER: Final = "00200013"
OfPerson = Callable[[Merged], Iterable[Merged]]


class Answers:
    """One question, with its keys sorted by the level at which they are tested."""

    def __init__(self, query: Query, own: Catalog, manifest: Manifest) -> None:
        self._query = query
        self._own = own
        self._manifest = manifest
        rest = {tag: key for tag, key in query.keys.items() if tag not in (PATIENT_ID, ISSUER)}
        self._question = Question(msgspec.structs.replace(query, keys=rest))
        self._wanted = frozenset(query.keys)
        extras = self._question.extras
        deep = {tag for tag in extras if level_of(tag) is None or level_of(tag) is Level.IMAGE}
        self._deep = deep - {SOP_CLASS} - COMPUTED.keys()
        self.unmirrored = frozenset(self._deep)
        """Keys that mirrors know nothing of: only who holds the instances can judge them."""
        if query.level is Level.IMAGE:
            self.unmirrored = frozenset(tag for tag in extras if level_of(tag) is None)
        self.live: Callable[[str], Iterable[Attributes]] = lambda study: ()
        """What owners that were asked answer about a study, at the level asked for."""
        self.unlisted: set[bytes] = set()
        """Owners that hold instances which an answer at the IMAGE level lacks, because they listed none."""

    def of(self, study: Merged, seen: Shown, of_person: OfPerson) -> Iterator[Attributes]:
        """Yield the answers of the level asked for."""
        question = self._question
        stated = study_attributes(study, study.attributes)
        if not self._wanted.isdisjoint(PATIENT_COUNTS):
            stated.update(patient_counts(of_person(study)))
        if question.of_study and not question.of_study(stated):
            return
        attributes = rewritten(stated, seen)
        if question.level is not Level.STUDY:
            for series in study.series:
                yield from self._of_series(study, series, attributes)
            return
        if question.extras:
            parts = [part for series in study.series for part in self._parts(series)]
            if self._deep and any(holder.owner == HERE for holder in study.holders):
                parts.extend(self._own_values(Level.STUDY, study.StudyInstanceUID))
            parts.extend(self.live(study.StudyInstanceUID))
            attributes.update(united(parts, question.extras))
        if not question.of_extras or question.of_extras(attributes):
            yield attributes

    def _of_series(self, study: Merged, series: MergedSeries, above: Attributes) -> Iterator[Attributes]:
        question = self._question
        attributes = series_attributes(above, series)
        if question.of_series and not question.of_series(attributes):
            return
        if question.level is Level.IMAGE:
            yield from self._of_instances(study, series, attributes)
            return
        if question.extras:
            parts = list(self._parts(series))
            if self._deep and _is_here(series):
                uids = study.StudyInstanceUID, series.SeriesInstanceUID
                parts.extend(self._own_values(Level.SERIES, *uids))
            parts.extend(self._live_of(study, _SERIES_UID, series))
            attributes.update(united(parts, question.extras))
        if not question.of_extras or question.of_extras(attributes):
            yield attributes

    def _parts(self, series: MergedSeries) -> Iterator[Attributes]:
        """Yield what the statements say of the keys below the level asked for."""
        yield series.attributes
        yield {SOP_CLASS: {"vr": "UI", "Value": list(series.SOPClassUIDs)}}

    def _own_values(self, level: Level, *uids: str) -> Iterator[Attributes]:
        """Yield what the own catalog knows of keys that are not synchronised."""
        keys: Attributes = {tag: {"vr": self._query.keys[tag]["vr"]} for tag in self._deep}
        for tag, uid in zip((_STUDY_UID, _SERIES_UID), uids, strict=False):
            keys[tag] = {"vr": "UI", "Value": [uid]}
        return self._own.find(Query(level=level, keys=keys, patient_root=False))

    def _of_instances(self, study: Merged, series: MergedSeries, above: Attributes) -> Iterator[Attributes]:
        question = self._question
        found: dict[str, Attributes] = {}
        if _is_here(series):
            found = self._own_instances(study, series, above)
        there = series.availability
        if there is Availability.ONLINE and _is_here(series):
            there = Availability.NEARLINE
        for answer in self._live_of(study, _SERIES_UID, series):
            own = {tag: value for tag, value in answer.items() if tag not in above}
            if uids := own.get(_INSTANCE_UID, {}).get("Value"):
                found.setdefault(str(uids[0]), {**above, **own, AVAILABILITY: available(there)})
        unlisted: set[bytes] = set()
        for entry in elsewhere(series, self._manifest, unlisted):
            attributes = {**instance_attributes(above, entry), AVAILABILITY: available(there)}
            found.setdefault(entry.SOPInstanceUID, attributes)
        if len(found) < series.instances:
            self.unlisted |= unlisted
        for attributes in sorted(found.values(), key=_instance_rank):
            if question.of_instance and not question.of_instance(attributes):
                continue
            if not question.of_extras or question.of_extras(attributes):
                yield attributes

    def _live_of(self, study: Merged, tag: str, series: MergedSeries) -> list[Attributes]:
        """Return what owners that were asked answer about a series."""
        uid = series.SeriesInstanceUID
        found = self.live(study.StudyInstanceUID)
        return [each for each in found if (each.get(tag, {}).get("Value") or [""])[0] == uid]

    def _own_instances(self, study: Merged, series: MergedSeries, above: Attributes) -> dict[str, Attributes]:
        keys: Attributes = {
            tag: {"vr": key["vr"]} for tag, key in self._query.keys.items() if tag != _INSTANCE_UID
        }
        keys[_STUDY_UID] = {"vr": "UI", "Value": [study.StudyInstanceUID]}
        keys[_SERIES_UID] = {"vr": "UI", "Value": [series.SeriesInstanceUID]}
        found = {}
        for answer in self._own.find(Query(level=Level.IMAGE, keys=keys, patient_root=False)):
            # What is known of the levels above is the merged study's; only the rest is the instance's.
            own = {tag: value for tag, value in answer.items() if tag not in above or tag == AVAILABILITY}
            found[answer[_INSTANCE_UID]["Value"][0]] = {**above, **own}
        return found


def _is_here(series: MergedSeries) -> bool:
    return any(holder.owner == HERE for holder, _ in series.holders)


def _instance_rank(attributes: Attributes) -> tuple[float, str]:
    number = attributes.get(_INSTANCE_NUMBER, {}).get("Value") or [None]
    return numeric(number[0]), attributes[_INSTANCE_UID]["Value"][0]
