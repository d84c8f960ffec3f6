"""find(): from a question to its answers, newest study first, lazily.

Something proposes studies (unique keys, a small index, the search index, or all of them by date), the rows
say what they are, and the matcher decides. Each portion is read in a short transaction of its own, so that
a slow client never holds the catalog's pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from .attributes import Level
from .levels import (
    NOT_MATCHED,
    RANK,
    TIMEZONE,
    instance_attributes,
    instance_rank,
    level_of,
    series_attributes,
    series_rank,
    study_attributes,
    united,
    visible_instances,
    visible_series,
)
from .matching import compile_matcher, is_universal
from .model import Attributes, Availability, Entry, Holding, Query
from .moving import changes
from .overlays import Decided, load
from .packs import Headers
from .rows import STUDY_CODEC, SeriesRow, StudyRow
from .truth import STUDY, Environment, Reading, joined

_SOP_CLASS: Final = "00080016"
_UIDS: Final = ("0020000D", "0020000E", "00080018")
_ORDER: Final = 20
"""Bytes of the study order in front of the UID in what is proposed."""

_AVAILABILITY: Final = "00080056"

Test = Callable[[Attributes], bool]
IsAway = Callable[[Holding], bool | Availability]
"""Says whether an object cannot be read at the moment, or how available it is if that is not ONLINE."""
Away = Callable[[], IsAway | None]
"""Returns None while every object can be read, which is nearly always."""
Propose = Callable[["Question"], Iterator[list[bytes]]]
"""Yields studies as order and UID, in the order of answers, every one that could match among them."""


class Question:
    """A query with its keys sorted by the level at which they can be tested."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.level = Level.STUDY if query.level is Level.PATIENT else query.level
        rank = RANK[self.level]
        parts: dict[Level | None, Attributes] = {level: {} for level in (*Level, None)}
        for tag, content in query.keys.items():
            level = level_of(tag)
            is_above = level is not None and RANK[level] <= rank
            if tag not in NOT_MATCHED:
                parts[level if is_above else None][tag] = content
        self.extras = frozenset(parts[None])
        self.wanted = frozenset(query.keys)
        self.of_study = self._test(parts[Level.PATIENT] | parts[Level.STUDY])
        self.of_series = self._test(parts[Level.SERIES])
        self.of_instance = self._test(parts[Level.IMAGE])
        self.of_extras = self._test(parts[None])

    def _test(self, keys: Attributes) -> Test | None:
        if all(tag == TIMEZONE or is_universal(content) for tag, content in keys.items()):
            return None
        if TIMEZONE in self.query.keys:
            keys = {**keys, TIMEZONE: self.query.keys[TIMEZONE]}
        return compile_matcher(keys, self.query.matching)


class Finder:
    """Answers questions from the rows, whoever proposes the studies."""

    def __init__(self, environment: Environment, headers: Headers, propose: Propose, away: Away) -> None:
        self._environment = environment
        self._headers = headers
        self._propose = propose
        self._away = away

    def find(self, query: Query) -> Iterator[Attributes]:
        """Yield the effective attributes of each match.

        Raises:
            BadRequest: a key has a value that its VR does not allow.
        """
        question = Question(query)
        evaluate = _Evaluation(question, self._headers)
        left = query.limit or -1
        is_away = self._away() if _AVAILABILITY in question.wanted else None
        for studies in self._propose(question):
            for portion in _portions(studies, 1 if question.level is Level.IMAGE else 256):
                with self._environment.reading() as reading:
                    answers = list(evaluate.studies(reading, portion))
                    if is_away:
                        _say_what_is_away(reading, answers, is_away)
                for answer in answers:
                    yield answer
                    left -= 1
                    if not left:
                        return


def _portions(studies: list[bytes], size: int) -> Iterator[list[bytes]]:
    for start in range(0, len(studies), size):
        yield studies[start : start + size]


def _say_what_is_away(reading: Reading, answers: list[Attributes], is_away: IsAway) -> None:
    """Correct Instance Availability: a study or series is as available as the worst of its objects."""
    for answer in answers:
        study, series, instance = (answer.get(tag, {}).get("Value", [""])[0] for tag in _UIDS)
        keys = [joined(study, series)] if series else [key for key, _ in visible_series(reading, study)]
        entries = (entry for key in keys for entry in visible_instances(reading, key))
        found = {is_away(each.holding) for each in entries if instance in ("", each.SOPInstanceUID)}
        if found & {True, Availability.UNAVAILABLE}:
            answer[_AVAILABILITY] = {"vr": "CS", "Value": [Availability.UNAVAILABLE.value]}
        elif Availability.NEARLINE in found:
            answer[_AVAILABILITY] = {"vr": "CS", "Value": [Availability.NEARLINE.value]}


class _Evaluation:
    """One question put to proposed studies."""

    def __init__(self, question: Question, headers: Headers) -> None:
        self._question = question
        self._headers = headers
        self._patients: set[tuple[str, str, str]] = set()

    def studies(self, reading: Reading, proposed: Iterable[bytes]) -> Iterator[Attributes]:
        issuers = self._question.query.issuers
        for tail in proposed:
            stored = reading.get(STUDY + tail[_ORDER:])
            row = STUDY_CODEC.unpack(stored) if stored else None
            if row is None or not row.instances:
                continue
            if issuers is not None and row.seen_patient.IssuerOfPatientID not in issuers:
                continue
            yield from self._study(reading, row)

    def _study(self, reading: Reading, row: StudyRow) -> Iterator[Attributes]:
        question = self._question
        is_patient = question.query.level is Level.PATIENT
        if is_patient and row.seen_patient in self._patients:
            return
        attributes = study_attributes(reading, row, question.wanted)
        if question.of_study and not question.of_study(attributes):
            return
        decided = load(reading, row.StudyInstanceUID) if row.is_decided else None
        if question.level is not Level.STUDY:
            yield from self._all_series(reading, row, attributes, decided)
            return
        if question.extras:
            parts: list[Attributes] = []
            for key, series in visible_series(reading, row.StudyInstanceUID):
                parts.extend(self._below(reading, key, series, decided))
            attributes.update(united(parts, question.extras))
        if question.of_extras and not question.of_extras(attributes):
            return
        if is_patient:
            self._patients.add(row.seen_patient)
        yield attributes

    def _all_series(
        self, reading: Reading, row: StudyRow, study: Attributes, decided: Decided | None
    ) -> Iterator[Attributes]:
        question = self._question
        found = sorted(visible_series(reading, row.StudyInstanceUID), key=lambda item: series_rank(item[1]))
        for key, series in found:
            attributes = series_attributes(study, series)
            if question.of_series and not question.of_series(attributes):
                continue
            if question.level is Level.IMAGE:
                yield from self._instances(reading, key, attributes, decided)
                continue
            if question.extras:
                parts = self._below(reading, key, series, decided)
                attributes.update(united(parts, question.extras))
            if not question.of_extras or question.of_extras(attributes):
                yield attributes

    def _instances(
        self, reading: Reading, key: bytes, series: Attributes, decided: Decided | None
    ) -> Iterator[Attributes]:
        question = self._question
        entries = sorted(visible_instances(reading, key), key=instance_rank)
        pairs: Iterable[tuple[Entry, Attributes]] = ((entry, {}) for entry in entries)
        if question.extras:
            pairs = self._headers.of_instances(reading, key, entries)
        for entry, header in pairs:
            extras = {tag: header[tag] for tag in question.extras & header.keys()}
            attributes = instance_attributes({**series, **extras}, entry)
            if decided:
                attributes.update(changes(reading, decided, entry))
            if question.of_instance and not question.of_instance(attributes):
                continue
            if not question.of_extras or question.of_extras(attributes):
                yield attributes

    def _below(
        self, reading: Reading, key: bytes, series: SeriesRow, decided: Decided | None
    ) -> Iterator[Attributes]:
        """Yield attribute sets that hold every value of the extra tags in the series."""
        extras = self._question.extras
        if decided and decided.corrects:
            yield series_attributes({}, series)
            yield from self._corrected(reading, key, decided)
            return
        yield series_attributes({}, series)
        yield {_SOP_CLASS: {"vr": "UI", "Value": list(series.classes)}}
        in_rows = frozenset(tag for tag in extras if level_of(tag) is Level.IMAGE) - {_SOP_CLASS}
        if in_rows:
            entries = visible_instances(reading, key)
            yield united((instance_attributes({}, entry) for entry in entries), in_rows)
        in_headers = frozenset(tag for tag in extras if level_of(tag) is None)
        if in_headers:
            yield from self._headers.of_series(reading, key, series, in_headers)

    def _corrected(self, reading: Reading, key: bytes, decided: Decided) -> Iterator[Attributes]:
        """Yield what each instance says: they may be corrected one by one."""
        for entry, header in self._headers.of_instances(reading, key, list(visible_instances(reading, key))):
            yield instance_attributes({**header, **changes(reading, decided, entry)}, entry)
