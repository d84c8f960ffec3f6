"""Who is in an export: by a query or a list, with everything said about it before anything runs."""

from __future__ import annotations

import re
from calendar import monthrange
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from anonymizer import ProjectKey
from catalog import Attributes, BadRequest, CatalogWriter, Entry, Level, Matching, Selection, understand
from node.keys import LEVEL, question, tag_of, text_of

from .lists import Wanted
from .model import Choice
from .persons import Persons

_STUDY, _SERIES = tag_of("StudyInstanceUID"), tag_of("SeriesInstanceUID")
_PATIENT, _ISSUER, _NAME = tag_of("PatientID"), tag_of("IssuerOfPatientID"), tag_of("PatientName")
_ACCESSION = tag_of("AccessionNumber")
_ID: Final = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,64}")
"""LO without a backslash, in ASCII, which every character set has."""
_DAY: Final = r"(?:\d{4}(?:(?:0[1-9]|1[0-2])(?:\d{2})?)?)?"
_DATES: Final = re.compile(rf"(?P<begin>{_DAY})(?P<dash>-)?(?P<end>{_DAY})")


class Finding(StrEnum):
    """What became of a line of a list."""

    FOUND = "found"
    NOT_FOUND = "not found"
    AMBIGUOUS = "ambiguous"
    REFUSED = "refused"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a list and what was found for it; `why` holds nothing of a patient."""

    line: int
    finding: Finding
    studies: int = 0
    why: str = ""


class Cohort(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into an export, and what became of each line of the list it came from."""

    choices: tuple[Choice, ...]
    lines: tuple[Line, ...] = ()
    barred: int = 0
    """Studies of subjects that were withdrawn."""


class _Study(NamedTuple):
    uid: str
    issuer: str
    patient: str
    names: str
    accession: str


Admits = Callable[[str], frozenset[str] | None]
"""Returns which series of a study may be in a cohort; None = all of it."""


class Cohorts:
    """Finds cohorts in one archive for one project."""

    def __init__(
        self,
        catalog: CatalogWriter,
        key: ProjectKey,
        issuer: str,
        is_withdrawn: Callable[[str], bool],
        persons: Persons,
        admits: Admits = lambda study: None,
    ) -> None:
        """`issuer` is whose Patient IDs are that do not say so; `is_withdrawn` takes a pseudonym."""
        self._persons = persons
        self._catalog = catalog
        self._key = key
        self._issuer = issuer
        self._is_withdrawn = is_withdrawn
        self._admits = lru_cache(maxsize=4096)(admits)

    def of_query(self, keys: list[str], study: str = "") -> Cohort:
        """Return the series that match `Keyword=Value` keys, of one study if it is named.

        Raises:
            BadRequest: the query asks for nothing, or for what no attribute is.
        """
        if not keys:
            raise BadRequest("The query is empty.", "Say for example: --query 'Modality=CT StudyDate=2024-'")
        asked = question(map(_with_whole_dates, keys), Level.SERIES)
        if LEVEL in asked and text_of(asked[LEVEL]) != Level.SERIES:
            raise BadRequest("An export chooses series.", "Leave out QueryRetrieveLevel.")
        wanted = question([f"{word}=" for word in ("PatientID", "IssuerOfPatientID", "StudyInstanceUID")])
        asked = {**wanted, **asked}
        if study:
            asked[_STUDY] = {"vr": "UI", "Value": [study]}
        choices = [
            Choice(
                StudyInstanceUID=text_of(each[_STUDY]),
                SeriesInstanceUID=text_of(each[_SERIES]),
                issuer=text_of(each.get(_ISSUER, {})),
                patient=text_of(each.get(_PATIENT, {})),
            )
            for each in self._find(asked)
        ]
        choices = [choice for choice in choices if self._is_admitted(choice)]
        allowed = tuple(choice for choice in choices if not self._is_barred(choice.issuer, choice.patient))
        return Cohort(choices=allowed, barred=len(choices) - len(allowed))

    def of_list(self, wanted: Iterable[Wanted]) -> Cohort:
        """Return the studies that the lines of a list name; those in doubt are not among them."""
        choices: dict[str, Choice] = {}
        lines: list[Line] = []
        given: dict[str, str] = {}
        taken: dict[str, str] = {}
        barred = 0
        for each in wanted:
            studies, line = self._looked_up(each)
            if line.finding is Finding.FOUND:
                line = _check_label(each, studies, line, given, taken)
            if line.finding is Finding.FOUND and self._is_barred(studies[0].issuer, studies[0].patient):
                barred += len(studies)
                line = _line(each, Finding.REFUSED, "This subject was withdrawn from the project.")
            lines.append(line)
            if line.finding is Finding.FOUND:
                for study in studies:
                    choices[study.uid] = _choice(study, each, choices.get(study.uid))
        admitted = (part for choice in choices.values() for part in self._parts(choice))
        return Cohort(choices=tuple(admitted), lines=tuple(lines), barred=barred)

    def entries(self, choices: Iterable[Choice]) -> Iterator[tuple[Choice, Entry]]:
        """Yield every instance of the choices that can be seen."""
        for choice in choices:
            series = (choice.SeriesInstanceUID,) if choice.SeriesInstanceUID else ()
            for entry in self._catalog.select(Selection(studies=(choice.StudyInstanceUID,), series=series)):
                yield choice, entry

    def identity(self, choice: Choice) -> str:
        """Return who a choice is about, as pseudonyms are made from it."""
        return self._persons.identity(choice.issuer or self._issuer, choice.patient)

    def _is_admitted(self, choice: Choice) -> bool:
        series = self._admits(choice.StudyInstanceUID)
        return series is None or choice.SeriesInstanceUID in series

    def _parts(self, choice: Choice) -> Iterator[Choice]:
        """Yield a whole study, or those of its series that may be in a cohort."""
        series = self._admits(choice.StudyInstanceUID)
        if series is None:
            yield choice
        for each in sorted(series or ()):
            yield replace(choice, SeriesInstanceUID=each)

    def _is_barred(self, issuer: str, patient: str) -> bool:
        identity = self._persons.identity(issuer or self._issuer, patient)
        # Who was withdrawn under one number stays so when numbers are linked afterwards.
        known = self._persons.all_of(identity) if identity else ()
        return any(self._is_withdrawn(self._key.subject(each)) for each in known)

    def _find(self, asked: Attributes) -> Iterator[Attributes]:
        matching = Matching.RELATIONAL | Matching.COMBINED_DATE_TIME
        query = understand(asked, patient_root=True, matching=matching, is_lenient=False)
        return self._catalog.find(query)

    def _looked_up(self, wanted: Wanted) -> tuple[list[_Study], Line]:
        studies = [
            study
            for study in self._candidates(wanted)
            if _is_meant(study, wanted) and self._admits(study.uid) != frozenset()
        ]
        patients = {(study.issuer, study.patient) for study in studies}
        if not studies:
            return [], _line(wanted, Finding.NOT_FOUND, "Nothing of that is here.")
        if len(patients) > 1:
            which = "issuers" if len({patient for _, patient in patients}) == 1 else "patients"
            return [], _line(wanted, Finding.AMBIGUOUS, f"It is that of {len(patients)} {which}; say which.")
        return studies, Line(line=wanted.line, finding=Finding.FOUND, studies=len(studies))

    def _candidates(self, wanted: Wanted) -> Iterator[_Study]:
        """Yield studies that may be meant; what looks like a wildcard is taken as it stands afterwards."""
        pairs = {_STUDY: wanted.study, _ACCESSION: wanted.accession, _PATIENT: wanted.patient}
        key = next(((tag, value) for tag, value in pairs.items() if value), None)
        if key is None:
            return
        asked = question(
            ["PatientID", "IssuerOfPatientID", "PatientName", "AccessionNumber", "StudyInstanceUID"]
        )
        tag, value = key
        if "\\" in value or len(value) > 64:
            return
        asked[tag] = {"vr": "UI" if tag == _STUDY else "LO" if tag == _PATIENT else "SH", "Value": [value]}
        try:
            found = list(self._find(asked))
        except BadRequest:
            return
        for each in found:
            texts = (text_of(each.get(t, {})) for t in (_STUDY, _ISSUER, _PATIENT, _NAME, _ACCESSION))
            yield _Study(*texts)


def _with_whole_dates(pair: str) -> str:
    """Return `StudyDate=2024-` as `StudyDate=20240101-`: people name years and months, DICOM knows days."""
    word, _, value = pair.partition("=")
    match = _DATES.fullmatch(value)
    if match is None or not word.strip().endswith("Date"):
        return pair
    begin, dash, end = match["begin"], match["dash"] or "", match["end"] or ""
    last = end if dash else begin
    first = f"{begin}0101"[:8] if len(begin) == 4 else f"{begin}01"[:8] if begin else ""
    if not dash and len(begin) == 8:
        return pair
    return f"{word}={first}-{_last_day(last)}"


def _last_day(date: str) -> str:
    """Return the last day of a year or month; nothing of nothing."""
    if not date or len(date) == 8:
        return date
    year, month = int(date[:4]), int(date[4:] or 12)
    return f"{year:04}{month:02}{monthrange(year, month)[1]:02}"


def distinct(choices: Iterable[Choice]) -> dict[str, list[Choice]]:
    """Return the choices by patient, so that all of a subject is worked on together."""
    by: dict[str, list[Choice]] = defaultdict(list)
    for choice in choices:
        by[f"{choice.issuer}\0{choice.patient}"].append(choice)
    return dict(by)


def _is_meant(study: _Study, wanted: Wanted) -> bool:
    return (
        (not wanted.study or study.uid == wanted.study)
        and (not wanted.accession or study.accession == wanted.accession)
        and (not wanted.patient or study.patient == wanted.patient)
        and (not wanted.issuer or study.issuer == wanted.issuer)
    )


def _line(wanted: Wanted, finding: Finding, why: str) -> Line:
    return Line(line=wanted.line, finding=finding, why=why)


def _choice(study: _Study, wanted: Wanted, known: Choice | None) -> Choice:
    return Choice(
        StudyInstanceUID=study.uid,
        issuer=study.issuer,
        patient=study.patient,
        subject_id=wanted.subject_id or (known.subject_id if known else ""),
        time_point=wanted.time_point or (known.time_point if known else ""),
    )


def _check_label(
    wanted: Wanted, studies: list[_Study], line: Line, given: dict[str, str], taken: dict[str, str]
) -> Line:
    """Refuse labels that tell who it is, or that two patients share, or that differ for one patient."""
    if not (wanted.subject_id or wanted.time_point):
        return line
    for text in filter(None, (wanted.subject_id, wanted.time_point)):
        if not _ID.fullmatch(text):
            return _line(
                wanted, Finding.REFUSED, "A subject id or time point has at most 64 ASCII characters."
            )
        if any(_tells(text, study) for study in studies):
            return _line(wanted, Finding.REFUSED, "Its subject id or time point would tell who it is.")
    if not wanted.subject_id:
        return line
    who = f"{studies[0].issuer}\0{studies[0].patient}"
    if given.setdefault(who, wanted.subject_id) != wanted.subject_id:
        return _line(wanted, Finding.REFUSED, "Another line gives this patient another subject id.")
    if taken.setdefault(wanted.subject_id, who) != who:
        return _line(wanted, Finding.REFUSED, "Another line gives this subject id to another patient.")
    return line


def _tells(text: str, study: _Study) -> bool:
    plain = _plain(text)
    words = [_plain(word) for word in re.split(r"[\^=\\ ]", study.names)]
    numbers = [_plain(number) for number in (study.patient, study.accession)]
    return any(len(word) > 2 and word in plain for word in words) or any(
        len(number) > 2 and number in plain for number in numbers
    )


def _plain(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())
