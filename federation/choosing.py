"""Which instances a grid retrieve names, and where each comes from: here first, else whoever holds most."""

from __future__ import annotations

from typing import Final, NamedTuple

from catalog import BadRequest, Entry, Holding, Level, Query, Selection, Unavailable
from catalog.levels import instance_rank

from .identities import PATIENT_ID, Asker
from .manifests import elsewhere
from .merging import HERE, Merged, MergedSeries
from .owners import holder_of, place_at
from .proposing import in_order
from .sight import Grid, Sight

_IMPLICIT: Final = "1.2.840.10008.1.2"


class Missing(NamedTuple):
    """Instances of a series that nobody who can be reached holds."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    instances: int
    sites: tuple[str, ...]
    """Who holds them."""
    SOPClassUID: str = ""
    owner: bytes = b""

    def entries(self) -> list[Entry]:
        """Return them as entries without a SOP Instance UID, which nobody can open: each counts as failed."""
        entry = Entry(
            StudyInstanceUID=self.StudyInstanceUID,
            SeriesInstanceUID=self.SeriesInstanceUID,
            SOPInstanceUID="",
            SOPClassUID=self.SOPClassUID,
            TransferSyntaxUID=_IMPLICIT,
            holding=Holding(b"", place_at(self.owner), 0),
            received=0,
            source=", ".join(self.sites),
        )
        return [entry] * self.instances


class Chosen(NamedTuple):
    """What a retrieve comes to: entries in series and instance order, and what cannot be had."""

    entries: list[Entry]
    missing: list[Missing]
    conflicts: dict[str, bytes]
    """SOP Instance UID → owner that has it with other bytes than the entry, the preferred holder's."""

    def all_or_unavailable(self) -> list[Entry]:
        """Return the entries, and those that cannot be had among them.

        Raises:
            Unavailable: something is named, and nothing of it can be had.
        """
        if self.missing and not self.entries:
            sites = sorted({site for each in self.missing for site in each.sites})
            raise Unavailable(
                f"Held by {', '.join(sites)}, which cannot be reached now.", "Try again when it can."
            )
        return self.all()

    def all(self) -> list[Entry]:
        """Return the entries, and those that cannot be had among them: no gap is silent, and each counts."""
        return [*self.entries, *(entry for each in self.missing for entry in each.entries())]


def choose(grid: Grid, asker: Asker, selection: Selection) -> Chosen:
    """Return what unique keys name.

    Raises:
        BadRequest: nothing is named.
    """
    query = _question(selection)
    sight = Sight(grid, asker, query)
    chooser = _Chooser(grid, sight, selection)
    for study in sorted(in_order(sight.proposal(), sight.judge), key=lambda study: study.StudyInstanceUID):
        for series in study.series:
            if not selection.series or series.SeriesInstanceUID in selection.series:
                chooser.add(study, series)
    return Chosen(chooser.entries, chooser.missing, chooser.conflicts)


def may_differ(study: Merged) -> bool:
    """Say whether holders count the same instances of a series, and do not have the same bytes."""
    for series in study.series:
        whole = {
            statement.digest
            for holder, statement in series.holders
            if statement.is_settled and statement.instances == series.instances
        }
        if len(whole) > 1:
            return True
    return False


def _question(selection: Selection) -> Query:
    """Return the question whose studies hold everything that is named."""
    keys = {
        tag: {"vr": vr, "Value": list(values)}
        for tag, vr, values in (
            (PATIENT_ID, "LO", selection.patient),
            ("0020000D", "UI", selection.studies),
            ("0020000E", "UI", selection.series),
            ("00080018", "UI", selection.instances),
        )
        if values
    }
    if not keys:
        raise BadRequest("A retrieve names a patient, study, series or instance.", "Give a unique key.")
    return Query(level=Level.STUDY, keys=keys, issuers=selection.issuers)


class _Chooser:
    def __init__(self, grid: Grid, sight: Sight, selection: Selection) -> None:
        self._grid = grid
        self._sight = sight
        self._selection = selection
        self._sites = {each.owner: each.site for each in sight.standing.values()}
        self.entries: list[Entry] = []
        self.missing: list[Missing] = []
        self.conflicts: dict[str, bytes] = {}

    def add(self, study: Merged, series: MergedSeries) -> None:
        """Take the named instances of a series."""
        found = {entry.SOPInstanceUID: entry for entry in self._here(study, series)}
        unlisted: set[bytes] = set()
        for entry in elsewhere(series, self._grid.manifest, unlisted, reachable=True):
            first = found.setdefault(entry.SOPInstanceUID, entry)
            if first.holding.sha256 != entry.holding.sha256:
                self.conflicts[entry.SOPInstanceUID] = holder_of(entry)
        for holder, statement in series.holders:
            is_away = not holder.gives(series.SeriesInstanceUID) and holder.owner != HERE
            if holder.owner in unlisted or is_away:
                for entry in self._grid.remembered(holder.owner, statement):
                    found.setdefault(entry.SOPInstanceUID, entry)
        named = set(self._selection.instances)
        chosen = [entry for uid, entry in found.items() if not named or uid in named]
        self.entries.extend(sorted(chosen, key=instance_rank))
        left = len(named) - len(chosen) if named else series.instances - len(found)
        away = [
            holder.owner
            for holder, _ in series.holders
            if not holder.gives(series.SeriesInstanceUID) or holder.owner in unlisted
        ]
        if left > 0 and away:
            sites = tuple(self._sites.get(owner, "this node") for owner in away)
            uids = study.StudyInstanceUID, series.SeriesInstanceUID
            classes = series.SOPClassUIDs or ("",)
            self.missing.append(Missing(*uids, left, sites, classes[0], away[0]))

    def _here(self, study: Merged, series: MergedSeries) -> list[Entry]:
        if not any(holder.owner == HERE for holder, _ in series.holders):
            return []
        uids = (study.StudyInstanceUID,), (series.SeriesInstanceUID,)
        return self._grid.own.select(Selection(studies=uids[0], series=uids[1]))
