"""Prefetch: when a study arrives, or a patient is announced, earlier studies are fetched from the grid.

Whose studies those are follows the rule for devices: a patient is (issuer, id), and another hospital's same
number is somebody else unless people linked the two. What is fetched lies in the cache of copies.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

import msgspec

from catalog import Availability, Clock, Entry, Level, PacsError, PatientKey, Query, Selection, Unavailable
from catalog.order import decoded, first_value
from catalog.statements import Stated
from federation.merging import Merged
from federation.owners import holder_of
from federation.proposing import in_order
from federation.sight import Grid, Sight
from node.contracts import Caller, Device
from node.grid_catalog import DeviceGrid, GridParts
from node.grid_retriever import Fetching
from node.nearline_way import Wish
from node.rule_match import holds
from node.standing import PrefetchRule
from node.state import Tables
from node.study_events import StudyComplete
from node.transfers import Item, Kind, Lane, Order, Outcome, TransferQueue, Verdict
from node.transfers.messages import Job
from node.transfers.worker import Hands

from .routes import BY_RULE

_DATE: Final = "00080020"
_MODALITY: Final = "00080060"
_BODY_PART: Final = "00180015"
SAME: Final = "same"
_NEW: Final = 86400.0
"""Seconds after its first instance came in which a study counts as new."""
_KEPT: Final = 30 * 86400.0
_READ_AT_ONCE: Final = 500
_NEAR: Final = "grid"
"""Where all that is fetched comes from, as transfers name it."""
_PRIORITY: Final = {Lane.NOW: 1, Lane.NORMAL: 2, Lane.BULK: 3}
"""On the way from peers: behind what somebody waits for, before what is only copied."""
_AHEAD: Final = 48


class Own(Protocol):
    """The node's own catalog, as much of it as is followed here."""

    def stated(self, StudyInstanceUID: str) -> Stated | None:
        """Return what is stated about a study."""

    def head(self, share: int = 0) -> Any:
        """Return the end of the change log."""

    def changes(self, after: int, limit: int, share: int = 0) -> list[Any]:
        """Return rows of the change log."""


class _Seen(msgspec.Struct, frozen=True, array_like=True):
    """How far the log was followed, or when the earlier studies of a new one were ordered."""

    epoch: int = 0
    seq: int = 0
    when: float = 0.0


class Wanted(msgspec.Struct, frozen=True):
    """On whose behalf an order fetches."""

    prefetch: str
    issuer: str


class Prefetch:
    """Follows what arrives in the default archive; one thread calls `step`."""

    def __init__(
        self,
        rules: Iterable[PrefetchRule],
        own: Any,
        grid: Callable[[], GridParts],
        tables: Tables,
        queue: Callable[[], TransferQueue],
        is_moved_in: Callable[[str], bool],
        clock: Clock,
    ) -> None:
        self.rules = tuple(rules)
        self._own = own
        self._grid = grid
        self._rows = tables.table("prefetch", _Seen)
        self._queue = queue
        self._is_moved_in = is_moved_in
        self._clock = clock

    def step(self) -> int:
        """Follow the log; return how many new studies were looked at."""
        head = self._own.head()
        place = self._rows.get(b"place")
        if place is None:
            place = _Seen(head.epoch, head.seq)
            self._rows.put(b"place", place)
        if place.epoch != head.epoch:
            place = _Seen(head.epoch)
        looked = 0
        while place.seq < head.seq and (changes := self._own.changes(place.seq, _READ_AT_ONCE)):
            studies = dict.fromkeys(change.key.split(b"\0")[0].decode() for change in changes if change.row)
            looked += sum(self._arrived(study) for study in studies)
            place = _Seen(head.epoch, changes[-1].seq)
            self._rows.put(b"place", place)
        return looked

    def complete(self, event: StudyComplete) -> None:
        """Look once more when all of a study is here: it says more of itself now."""
        if not all(self._is_moved_in(source) for source in event.sources):
            self._order(event.StudyInstanceUID)

    def _arrived(self, study: str) -> bool:
        key = b"s" + study.encode()
        if not self.rules or self._rows.get(key) is not None:
            return False
        self._rows.put(key, _Seen(when=self._clock()))
        stated = self._own.stated(study)
        if stated is None or stated.study.received / 1000 < self._clock() - _NEW:
            return False
        sources = {entry.source for entry in self._own.select(Selection(studies=(study,)))}
        if all(self._is_moved_in(source) for source in sources):
            return False
        self._order(study)
        return True

    def _order(self, study: str) -> None:
        stated = self._own.stated(study)
        if stated is None or not stated.study.patient.PatientID:
            return
        for rule in self.rules:
            sources = {entry.source for entry in self._own.select(Selection(studies=(study,)))}
            if rule.senders and not sources & set(rule.senders):
                continue
            if holds(self._own, rule.match, study):
                self._fetch(rule, stated.study.patient, stated, BY_RULE)

    def announce(self, patient: PatientKey, who: str) -> list[dict[str, Any]]:
        """Order earlier studies of a patient who is expected; return what is fetched."""
        rules = [rule for rule in self.rules if not rule.match and not rule.senders]
        chosen = rules or [PrefetchRule(name="announced")]
        return [each for rule in chosen for each in self._fetch(rule, patient, None, who)]

    def _fetch(
        self, rule: PrefetchRule, patient: PatientKey, new: Stated | None, who: str
    ) -> list[dict[str, Any]]:
        parts = self._grid()
        issuer = patient.IssuerOfPatientID or parts.issuer
        detail = msgspec.json.encode(Wanted(rule.name, issuer)).decode()
        ordered = []
        for study in self.earlier(rule, patient, new):
            if study.availability is Availability.ONLINE:
                continue
            uid = study.StudyInstanceUID
            order = Order(kind=Kind.RECALL, destination=_NEAR, StudyInstanceUID=uid, detail=detail)
            transfer = self._queue().enqueue(order, Lane(rule.lane), who, f"prefetch {rule.name}")
            ordered.append({"StudyInstanceUID": uid, "transfer": transfer.id})
        return ordered

    def earlier(self, rule: PrefetchRule, patient: PatientKey, new: Stated | None) -> list[Merged]:
        """Return the earlier studies that a rule means, the newest first."""
        parts = self._grid()
        device = Device(ae_title="", issuer=patient.IssuerOfPatientID or parts.issuer)
        asker = DeviceGrid(parts, Caller("", "", "", device)).asker
        key = {"vr": "LO", "Value": [patient.PatientID]}
        query = Query(level=Level.STUDY, keys={"00100020": key})
        found: list[Merged] = []
        for study in _studies(parts.grid, asker, query):
            if len(found) == rule.most:
                break
            if new is None or (
                study.StudyInstanceUID != new.study.StudyInstanceUID and _is_meant(rule, study, new)
            ):
                found.append(study)
        return found

    def tidy(self) -> None:
        """Forget which studies were looked at long ago."""
        before = self._clock() - _KEPT
        for key in [key for key, row in self._rows.scan(b"s") if row.when < before]:
            self._rows.delete(key)


def _studies(grid: Grid, asker: Any, query: Query) -> Iterator[Merged]:
    sight = Sight(grid, asker, query)
    yield from in_order(sight.proposal(), sight.judge)


def _is_meant(rule: PrefetchRule, study: Merged, new: Stated) -> bool:
    dates = (
        first_value(study.attributes, _DATE) or "",
        first_value(decoded(new.study.attributes), _DATE) or "",
    )
    if all(dates) and (dates[0] > dates[1] or (rule.years and _years(*dates) > rule.years)):
        return False
    here = [decoded(series.attributes) for series in new.series]
    there = [series.attributes for series in study.series]
    wanted = set(rule.modalities) - {SAME}
    if SAME in rule.modalities:
        wanted |= _values(here, _MODALITY)
    if rule.modalities and not wanted & _values(there, _MODALITY):
        return False
    parts = _values(here, _BODY_PART) if rule.same_body_part else set()
    return not parts or bool(parts & _values(there, _BODY_PART))


def _values(series: Iterable[dict[str, Any]], tag: str) -> set[str]:
    return {str(found).upper() for each in series if (found := first_value(each, tag))}


def _years(earlier: str, later: str) -> float:
    try:
        return (int(later[:4]) - int(earlier[:4])) + (int(later[4:8]) - int(earlier[4:8])) / 1200
    except ValueError:
        return 0.0


class RecallCarrier:
    """Carries the orders of prefetch: a study's objects come into the cache of copies."""

    def __init__(self, grid: Callable[[], GridParts], fetches: Callable[[], Fetching], ae_title: str) -> None:
        self._grid = grid
        self._fetches = fetches
        self._ae_title = ae_title

    def carry(self, job: Job, hands: Hands) -> Outcome:
        """Fetch what is not here."""
        wanted = msgspec.json.decode(job.order.detail, type=Wanted)
        device = Device(ae_title=self._ae_title, issuer=wanted.issuer)
        caller = Caller(self._ae_title, "", self._ae_title, device)
        grid = DeviceGrid(self._grid(), caller)
        found = grid.select(Selection(studies=(job.order.StudyInstanceUID,)))
        away = [entry for entry in found if holder_of(entry)]
        entries = [entry for entry in away if entry.SOPInstanceUID]
        done = set(job.settled)
        hands.plan(Counter(entry.SeriesInstanceUID for entry in away))
        left = [entry for entry in entries if entry.SOPInstanceUID not in done]
        behalf = grid.behalf._replace(request_id=secrets.token_hex(8))
        fetches, priority, wish = self._fetches(), _PRIORITY[job.lane], Wish(behalf)
        for at, entry in enumerate(left):
            if hands.is_unwanted():
                return Outcome(Verdict.YIELDED)
            if at % _AHEAD == 0:
                fetches.expect(left[at : at + _AHEAD], wish, priority)
            try:
                fetches.get(entry, wish, priority).close()
            except Unavailable:
                raise
            except PacsError as error:
                hands.note(Item(entry.SeriesInstanceUID, entry.SOPInstanceUID, 0, error.what))
                continue
            hands.note(Item(entry.SeriesInstanceUID, entry.SOPInstanceUID, entry.holding.size))
        missing = _missing(away)
        return missing or Outcome(Verdict.OVER)


def _missing(away: list[Entry]) -> Outcome | None:
    silent = sorted({entry.source for entry in away if not entry.SOPInstanceUID})
    if not silent:
        return None
    return Outcome(
        Verdict.LATER, f"Held by {', '.join(silent)}, which cannot be reached now.", "See: peerpacs peers"
    )
