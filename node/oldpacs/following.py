"""What an old PACS has, learnt by C-FIND: all of it once, newest first, then what is new; then all again.

It keeps no log, so it is asked for spans of Study Date that shrink where there is much, or where it cuts its
list short. What differs from what was learnt before goes to the mirror in one piece with how far that brings
it. What is missing from a list that even of one day was cut short is not taken to be gone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import date, timedelta
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from catalog import Attributes, Change, Clock, Head, NotPermitted, PacsError, PatientKey
from catalog.attributes import FIXED_TABLE, Level
from catalog.statements import WIRE_VERSION, SeriesStatement, StudyStatement, wire_form
from federation.messages import Delta
from federation.mirror import Mirror
from node.listing import SERIES, SERIES_COUNT, STUDY, Listing, value
from node.state import Tables

from .reaching import Reach

logger = logging.getLogger(__name__)

REFRESH: Final = 120.0
"""Seconds between two looks at the newest days."""
_NEWEST: Final = 3
"""Days, today among them, that are looked at each time."""
_AGAIN: Final = 7 * 86400.0
"""Seconds after which all of it is looked through again, for what was changed or deleted there."""
_WIDEST: Final = 64
_MANY: Final = 200
"""Studies in a span above which the next spans are narrower."""
_OLDEST: Final = date(1970, 1, 1)
_NEVER: Final = date(2200, 1, 1)
_FAILED_PAUSE: Final = 5.0
_COUNTS: Final = ("00201206", "00201208")
"""Number of Study Related Series and Instances."""
_ISSUER: Final = "00100021"
_STUDY_TAGS: Final = frozenset(row.tag for row in FIXED_TABLE if row.level in (Level.PATIENT, Level.STUDY))
_SERIES_TAGS: Final = frozenset(row.tag for row in FIXED_TABLE if row.level is Level.SERIES)


class Progress(msgspec.Struct, frozen=True):
    """How far one old PACS is known."""

    before: str = ""
    """The pass under way has seen everything from this day on; empty: none is under way."""
    days: int = 1
    """How wide its next span is; 0: it is the first, from yesterday on."""
    whole: float = 0.0
    """When a pass last came to its end; 0 = never."""
    level: float = 0.0
    """When the newest days were last looked at, all else being known."""
    cut: dict[str, str] = {}
    """The days of which not everything is known, and how a list of theirs was cut short."""


class _Known(msgspec.Struct, frozen=True, array_like=True):
    """What was learnt of a study."""

    digest: bytes
    """Of what the PACS answered about the study."""
    rows: bytes
    """Digest of what the mirror was told."""
    series: tuple[str, ...]


class Crawl:
    """Follows one old PACS; one thread calls `step`."""

    def __init__(
        self, reach: Reach, mirror: Mirror, source: int, tables: Tables, issuer: str, clock: Clock
    ) -> None:
        """`issuer` is whose the Patient IDs are that it answers without one."""
        self._reach = reach
        self._mirror = mirror
        self._source = source
        self._issuer = issuer
        self._clock = clock
        name = reach.pacs.name
        self._places = tables.table("old-pacs", Progress)
        self._known = tables.table(f"old-pacs-studies/{name}", _Known)
        self._key = name.encode()
        self.progress = self._places.get(self._key) or Progress()
        self._quiet_until = 0.0
        self.held = ""
        """Why something that was learnt waits for a person; empty when nothing does."""

    @property
    def studies(self) -> int:
        """How many studies are known."""
        return self._mirror.state(self._source).studies

    @property
    def age(self) -> float | None:
        """Return the seconds since everything of it was known; None: it is not."""
        whole, level = self.progress.whole, self.progress.level
        return max(0.0, self._clock() - level) if whole and not self.progress.cut else None

    def step(self) -> bool:
        """Ask once; say whether there is more to do now."""
        now = self._clock()
        if 0 < self._quiet_until - now <= _FAILED_PAUSE or not self._reach.hours.holds(now):
            return False
        try:
            if self.progress.whole and not 0 <= now - self.progress.level < REFRESH:
                today = date.fromtimestamp(now)
                self._look(today - timedelta(days=_NEWEST - 1), _NEVER)
                self._note(level=now)
            if not self.progress.before and not 0 <= now - self.progress.whole < _AGAIN:
                self._note(before=_NEVER.isoformat(), days=0)
            return bool(self.progress.before) and self._advance(now)
        except PacsError as error:
            self._quiet_until = now + _FAILED_PAUSE
            logger.info("%s could not be looked through: %s", self._reach.pacs.name, error.what)
            return False

    def _advance(self, now: float) -> bool:
        """Look at the next span, towards the past; say whether there are more."""
        end = date.fromisoformat(self.progress.before)
        begin = max(_OLDEST, end - timedelta(days=self.progress.days))
        if not self.progress.days:
            # Wrong clocks make studies of the future: they are looked at with those of today.
            begin = date.fromtimestamp(now) - timedelta(days=1)
        found = self._look(begin, end - timedelta(days=1))
        days = max(1, self.progress.days)
        if found > _MANY:
            days = max(1, days // 2)
        elif found < _MANY // 4:
            days = min(_WIDEST, days * 2)
        if begin > _OLDEST:
            self._note(before=begin.isoformat(), days=days)
            return True
        self._note(before="", whole=now, level=now)
        return False

    def _note(self, **changed: Any) -> None:
        self.progress = replace(self.progress, **changed)
        self._places.put(self._key, self.progress)

    def _look(self, begin: date, end: date) -> int:
        """Learn what there is of two days and all between; return how many studies."""
        span = f"{begin:%Y%m%d}-{end:%Y%m%d}"
        keys: Attributes = {"00080020": {"vr": "DA", "Value": [span]}}
        keys |= {tag: {"vr": "IS"} for tag in _COUNTS}
        with self._reach.asking() as listing:
            studies = {uid: each for each in listing.studies(keys) if (uid := value(each, STUDY))}
        if listing.cut and begin < end:
            middle = self._middle(begin, end)
            return self._look(begin, middle) + self._look(middle + timedelta(days=1), end)
        cut = {begin.isoformat(): listing.cut}
        known = dict(self._known_between(begin, end))
        changes: list[Change] = []
        learnt: dict[bytes, _Known | None] = {}
        for uid, study in studies.items():
            key = f"{value(study, '00080020')}\0{uid}".encode()
            before = known.pop(key, None)
            if what := self._learn(key, uid, study, before, changes, learnt):
                cut[_day_of(study, begin, end)] = what
        # Of a list that was cut short, what is not in it may be there all the same.
        for key, row in known.items() if not listing.cut else ():
            uid = key.partition(b"\0")[2].decode()
            changes += [Change(0, _row_key(uid, series), b"") for series in ("", *row.series)]
            learnt[key] = None
        self._tell(changes)
        self._known.change({key: lambda _, row=row: row for key, row in learnt.items()})  # type: ignore[misc]
        self._note_cut(begin, end, cut)
        return len(studies)

    def _middle(self, begin: date, end: date) -> date:
        """Return the last day of the first half of a span; what is still to come is none of it."""
        today = date.fromtimestamp(self._clock())
        return today if begin <= today < end else begin + (end - begin) // 2

    def _note_cut(self, begin: date, end: date, cut: dict[str, str]) -> None:
        first, last = begin.isoformat(), end.isoformat()
        days = {day: what for day, what in self.progress.cut.items() if not first <= day <= last}
        days |= {day: what for day, what in cut.items() if what}
        if days != self.progress.cut:
            self._note(cut=days)

    def _known_between(self, begin: date, end: date) -> Iterator[tuple[bytes, _Known]]:
        last = f"{end:%Y%m%d}\1".encode()
        for key, row in self._known.scan(b"", f"{begin:%Y%m%d}".encode()):
            if key >= last:
                return
            yield key, row

    def _learn(
        self,
        key: bytes,
        uid: str,
        study: Attributes,
        before: _Known | None,
        changes: list[Change],
        learnt: dict[bytes, _Known | None],
    ) -> str:
        """Learn what there is of a study; return how a list of it was cut short, if it was."""
        digest = sha256(msgspec.json.encode(study, order="sorted")).digest()
        tells_counts = all(value(study, tag) for tag in _COUNTS)
        if before and before.digest == digest and tells_counts:
            return ""
        with self._reach.asking() as listing:
            series = [self._series(listing, uid, each) for each in _series_of(listing, uid)]
        rows = {"": wire_form(self._study(uid, study))}
        rows |= {each.SeriesInstanceUID: wire_form(each) for each in series}
        told = sha256(b"".join(rows.values()) + listing.cut.encode()).digest()
        if before is None or before.rows != told:
            gone = set(before.series) - rows.keys() if before and not listing.cut else set()
            changes += [Change(0, _row_key(uid, name), row) for name, row in rows.items()]
            changes += [Change(0, _row_key(uid, name), b"") for name in gone]
        names = {name: None for name in rows if name}
        if listing.cut:
            # It is asked for again with the next look, whatever the PACS says of the study.
            digest, names = b"", names | dict.fromkeys(before.series if before else ())
        learnt[key] = _Known(digest, told, tuple(names))
        return listing.cut

    def _study(self, uid: str, study: Attributes) -> StudyStatement:
        attributes = {tag: study[tag] for tag in sorted(_STUDY_TAGS & study.keys())}
        id = value(study, "00100020")
        issuer = value(study, _ISSUER) or self._issuer
        if id and issuer:
            attributes[_ISSUER] = {"vr": "LO", "Value": [issuer]}
        patient = PatientKey(issuer, id) if id else PatientKey("", "", uid)
        return StudyStatement(WIRE_VERSION, uid, patient, msgspec.json.encode(attributes), 1, False)

    def _series(self, listing: Listing, study: str, series: Attributes) -> SeriesStatement:
        uid = value(series, SERIES)
        told = value(series, SERIES_COUNT)
        count = int(told) if told.isdigit() else len(listing.instances(study, uid))
        attributes = {tag: series[tag] for tag in sorted(_SERIES_TAGS & series.keys())}
        return SeriesStatement(
            WIRE_VERSION,
            study,
            uid,
            msgspec.json.encode(attributes),
            count,
            0,
            sha256(f"{self._reach.pacs.name}\0{uid}\0{count}".encode()).digest(),
            (),
            1,
            True,
            False,
        )

    def _tell(self, changes: list[Change]) -> None:
        """Have the mirror state what was learnt.

        Raises:
            NotPermitted: so much would vanish that a person has to say yes first.
        """
        if not changes:
            return
        state = self._mirror.state(self._source)
        seq = state.applied
        rows = [Change(seq + at, each.key, each.row) for at, each in enumerate(changes, 1)]
        at = Head(state.epoch, seq + len(rows), state.chain)
        try:
            self._mirror.apply(self._source, Delta(seq, at, at, rows))
            self.held = ""
        except NotPermitted as error:
            self.held = error.what
            raise

    def allow(self) -> None:
        """Let vanish what the old PACS has no more: a person knows that it is gone."""
        self._mirror.allow(self._source)
        self._quiet_until = 0.0


def _day_of(study: Attributes, begin: date, end: date) -> str:
    """Return the day of a study that was found in a span, as a PACS that matches by days has it there."""
    day = value(study, "00080020")
    named = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    return named if begin.isoformat() <= named <= end.isoformat() else begin.isoformat()


def _series_of(listing: Listing, study: str) -> list[Attributes]:
    return [each for each in listing.series(study) if value(each, SERIES)]


def _row_key(study: str, series: str) -> bytes:
    return f"{study}\0{series}".encode() if series else study.encode()
