"""What a day of the source holds, and how that compares with the archive: by UIDs, level by level."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from itertools import islice
from typing import NamedTuple

from catalog import Attributes, CatalogWriter, Entry, Selection, Standing
from node.listing import CLASS, INSTANCE, SERIES, SERIES_COUNT, STUDY, Listing, value

from .book import UNDATED, Day, Difference

_DATE = "00080020"
_PATIENT = "00100020"


class Own:
    """The archive as the source is compared with it: what is damaged in it lacks, so the source mends it."""

    def __init__(self, catalog: CatalogWriter, is_damaged: Callable[[bytes], bool]) -> None:
        """`is_damaged` says by its SHA-256 that an object is not here as it was stored."""
        self._catalog = catalog
        self._is_damaged = is_damaged
        self.decisions = catalog.decisions
        self.standing = catalog.standing

    def select(self, selection: Selection) -> list[Entry]:
        """See `Catalog.select`."""
        found = self._catalog.select(selection)
        return [entry for entry in found if not self._is_damaged(entry.holding.sha256)]


class Series(NamedTuple):
    """One series as the source tells of it."""

    day: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    classes: dict[str, str]
    """SOP Class by SOP Instance UID."""
    PatientID: str
    stated: int | None = None
    """Number of Series Related Instances, where the source states it."""
    is_part: bool = False
    """Whether these are some of its instances only."""

    def parts(self, most: int) -> Iterator[Series]:
        """Yield it in parts of so many instances at most; whole if it has no more."""
        if len(self.classes) <= most:
            yield self
            return
        for batch in batched(self.classes.items(), most):
            yield self._replace(classes=dict(batch), is_part=True)


def batched(items: Iterable[tuple[str, str]], most: int) -> Iterator[list[tuple[str, str]]]:
    """Yield lists of so many items at most."""
    remaining = iter(items)
    while batch := list(islice(remaining, most)):
        yield batch


def studies_of(listing: Listing, day: str) -> list[Attributes]:
    """Return the studies of a day, each once; those without a date for `UNDATED`. Raises as `Listing`."""
    wanted = day.replace("-", "")
    keys: Attributes = {_DATE: {"vr": "DA", "Value": [wanted]}} if wanted else {}
    found: dict[str, Attributes] = {}
    for study in listing.studies(keys):
        told = re.sub(r"\D", "", value(study, _DATE))
        # A source that does not match by date is not asked for all of it once for each day.
        if told == wanted or (wanted and not told):
            found.setdefault(value(study, STUDY), study)
    # An empty key means everything: what has no UID cannot be asked for.
    found.pop("", None)
    return list(found.values())


def series_of(listing: Listing, day: str, study: Attributes) -> Iterator[Series]:
    """Yield the series of a study with their instances, each once. Raises as `Listing`."""
    uid, patient = value(study, STUDY), value(study, _PATIENT)
    found = {value(each, SERIES): each for each in listing.series(uid) if _is_of(each, STUDY, uid)}
    found.pop("", None)
    for series, told in found.items():
        instances = listing.instances(uid, series)
        classes = {
            value(each, INSTANCE): value(each, CLASS)
            for each in instances
            if _is_of(each, STUDY, uid) and _is_of(each, SERIES, series)
        }
        classes.pop("", None)
        count = value(told, SERIES_COUNT)
        yield Series(day, uid, series, classes, patient, int(count) if count.isdecimal() else None)


def _is_of(answer: Attributes, tag: str, uid: str) -> bool:
    """Say whether an answer is about what was asked for, as far as it says."""
    return value(answer, tag) in ("", uid)


def earlier(day: str, since: str, *, is_undated: bool) -> str | None:
    """Return the day to look at after another one; None behind the last."""
    if day == UNDATED:
        return None
    before = date.fromisoformat(day) - timedelta(days=1)
    if before >= date.fromisoformat(since):
        return before.isoformat()
    return UNDATED if is_undated else None


def here(catalog: Own, series: Series) -> dict[str, Entry]:
    """Return what is here of a series, by SOP Instance UID."""
    uids = (series.StudyInstanceUID,), (series.SeriesInstanceUID,)
    return {
        entry.SOPInstanceUID: entry for entry in catalog.select(Selection(studies=uids[0], series=uids[1]))
    }


def missing(catalog: Own, series: Series) -> set[str]:
    """Return what of a series is not here, and not because somebody here decided so."""
    lacking = series.classes.keys() - here(catalog, series).keys()
    return {uid for uid in lacking if not decided(catalog, series, uid)}


def decided(catalog: Own, series: Series, uid: str) -> str:
    """Return why a person here made an instance not be where the source has it; empty for nearly all."""
    study = series.StudyInstanceUID
    if not catalog.decisions(study):
        return ""
    if catalog.standing(study, series.SeriesInstanceUID, uid) in (Standing.REJECTED, Standing.ERASED):
        return f"{catalog.standing(study, series.SeriesInstanceUID, uid)} here"
    return "moved here" if catalog.select(Selection(instances=(uid,))) else ""


class Comparison:
    """Compares one day."""

    def __init__(self, catalog: Own, day: str) -> None:
        self._catalog = catalog
        self._day = day
        self._there = self._here = 0
        self.differences: list[Difference] = []
        self._seen: dict[str, set[str]] = {}

    def add(self, series: Series) -> None:
        """Compare a series of the source."""
        known = here(self._catalog, series)
        study = self._seen.setdefault(series.StudyInstanceUID, set())
        study.add(series.SeriesInstanceUID)
        self._there += len(series.classes)
        self._here += len(known)
        if series.stated not in (None, len(series.classes)):
            detail = f"NumberOfSeriesRelatedInstances {series.stated}, listed {len(series.classes)}"
            self._note("different", series, "", detail)
        for uid, sop_class in series.classes.items():
            entry = known.get(uid)
            if entry is None:
                why = decided(self._catalog, series, uid)
                self._note("different" if why.startswith("moved") else "missing", series, uid, why)
            elif sop_class and entry.SOPClassUID != sop_class:
                self._note("different", series, uid, "SOPClassUID")
        for uid in known.keys() - series.classes.keys():
            self._note("extra", series, uid)

    def end(self) -> Day:
        """Take what the archive alone has of these studies, and return the counts."""
        for study, series in self._seen.items():
            for entry in self._catalog.select(Selection(studies=(study,))):
                if entry.SeriesInstanceUID not in series:
                    self._here += 1
                    alone = Series(self._day, study, entry.SeriesInstanceUID, {}, "")
                    self._note("extra", alone, entry.SOPInstanceUID, "series")
        counts = dict.fromkeys(("missing", "different", "extra"), 0)
        for each in self.differences:
            counts[each.kind] += 1
        return Day(self._there, self._here, counts["missing"], counts["different"], counts["extra"])

    @property
    def lacking(self) -> list[Difference]:
        """What is missing, and not because somebody here decided so."""
        return [each for each in self.differences if each.kind == "missing" and not each.detail]

    def patient(self, series: Series, known: str) -> None:
        """Note that the archive names another patient, if it does."""
        if known != series.PatientID:
            self._note("different", series, "", "PatientID")

    def _note(self, kind: str, series: Series, uid: str, detail: str = "") -> None:
        self.differences.append(
            Difference(kind, self._day, series.StudyInstanceUID, series.SeriesInstanceUID, uid, detail)
        )
