"""What a day of the source holds, and how that compares with the archive: by UIDs, level by level."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple

from catalog import Attributes, CatalogWriter, Entry, Selection
from node.listing import CLASS, INSTANCE, SERIES, STUDY, Listing, value

from .book import UNDATED, Day, Difference

_DATE = "00080020"
_PATIENT = "00100020"


class Series(NamedTuple):
    """One series as the source tells of it."""

    day: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    classes: dict[str, str]
    """SOP Class by SOP Instance UID."""
    PatientID: str


def studies_of(listing: Listing, day: str) -> Iterator[Attributes]:
    """Yield the studies of a day; those without a date for `UNDATED`. Raises as `Listing`."""
    if day != UNDATED:
        yield from listing.studies({_DATE: {"vr": "DA", "Value": [day.replace("-", "")]}})
        return
    yield from (study for study in listing.studies({}) if not value(study, _DATE))


def series_of(listing: Listing, day: str, study: Attributes) -> Iterator[Series]:
    """Yield the series of a study with their instances. Raises as `Listing`."""
    uid, patient = value(study, STUDY), value(study, _PATIENT)
    for found in listing.series(uid):
        series = value(found, SERIES)
        instances = listing.instances(uid, series)
        classes = {value(each, INSTANCE): value(each, CLASS) for each in instances}
        classes.pop("", None)
        yield Series(day, uid, series, classes, patient)


def earlier(day: str, since: str, *, is_undated: bool) -> str | None:
    """Return the day to look at after another one; None behind the last."""
    if day == UNDATED:
        return None
    before = date.fromisoformat(day) - timedelta(days=1)
    if before >= date.fromisoformat(since):
        return before.isoformat()
    return UNDATED if is_undated else None


def here(catalog: CatalogWriter, series: Series) -> dict[str, Entry]:
    """Return what is here of a series, by SOP Instance UID."""
    uids = (series.StudyInstanceUID,), (series.SeriesInstanceUID,)
    return {
        entry.SOPInstanceUID: entry for entry in catalog.select(Selection(studies=uids[0], series=uids[1]))
    }


def missing(catalog: CatalogWriter, series: Series) -> set[str]:
    """Return what of a series is not here."""
    return series.classes.keys() - here(catalog, series).keys()


class Comparison:
    """Compares one day."""

    def __init__(self, catalog: CatalogWriter, day: str) -> None:
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
        for uid, sop_class in series.classes.items():
            entry = known.get(uid)
            if entry is None:
                self._note("missing", series, uid)
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

    def patient(self, series: Series, known: str) -> None:
        """Note that the archive names another patient, if it does."""
        if known != series.PatientID:
            self._note("different", series, "", "PatientID")

    def _note(self, kind: str, series: Series, uid: str, detail: str = "") -> None:
        self.differences.append(
            Difference(kind, self._day, series.StudyInstanceUID, series.SeriesInstanceUID, uid, detail)
        )
