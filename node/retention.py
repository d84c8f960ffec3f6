"""How long studies are kept: rules that match some of them, and what is due by all that match.

A study without a rule is kept. Of several rules the longest wins, also while it is not activated: then it
lets nothing go, but what it matches is kept as long as it says. A legal hold beats them all, and what is due
goes as if a person had deleted it: hidden at once, its bytes after life.undo_days, never more in a day than
one person may have go.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Struct

from catalog import (
    Attributes,
    Clock,
    Level,
    Matching,
    NotFound,
    PacsError,
    Query,
    compile_matcher,
)
from node.state import Table, Tables

logger = logging.getLogger(__name__)

_STUDY_DATE, _BIRTH_DATE, _STUDY_UID = "00080020", "00100030", "0020000D"
_EXAMPLES: Final = 10
_UNKNOWN: Final = date(1900, 1, 1)
"""What programs write that know no date; a day up to this one says nothing."""


_BEGUN: Final = b"begun"


class Basis(StrEnum):
    """From when the years of a rule count."""

    STUDY = "study"
    """StudyDate."""
    ACCESS = "access"
    """The last time that somebody fetched it from here, or else its arrival."""


class Rule(Struct, frozen=True, kw_only=True):
    """How long studies that match are kept at least."""

    name: str
    match: Attributes
    """Keys as in a query; empty: all studies."""
    years: float
    basis: Basis = Basis.STUDY
    until_age: float = 0.0
    """Years of age the patient must have reached besides; 0: any."""
    is_active: bool = False
    who: str = ""
    when: int = 0
    """Milliseconds since 1970."""


class Judged(NamedTuple):
    """A study that an active rule matches, and until when all rules that match it want it kept."""

    StudyInstanceUID: str
    rule: str
    until: date | None
    """The first day on which it may go; None: a date that a rule counts from is not known."""


class _Catalog(Protocol):
    def find(self, query: Query) -> Iterator[Attributes]: ...

    def is_held(self, StudyInstanceUID: str) -> bool: ...

    def versions(self, target: tuple[str, ...]) -> Sequence[Any]: ...


class Accesses:
    """The day on which each study was last fetched from here; written once a day."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._table = tables.table("accesses", Day)
        self._begun = tables.table("accesses begun", Day)
        self._clock = clock
        self._noted: tuple[int, set[str]] = 0, set()

    def begin(self) -> None:
        """Remember since when fetches are noted: of what was before, this state knows nothing."""
        today = int(self._clock() // 86_400)
        self._begun.change({_BEGUN: lambda known: known or Day(today)})

    def note(self, StudyInstanceUID: str) -> None:
        """Note that somebody fetches the study; nearly always costs nothing."""
        today = int(self._clock() // 86_400)
        if self._noted[0] != today:
            self._noted = today, set()
        if StudyInstanceUID not in self._noted[1]:
            # A clock that was wrong for a while takes nothing back.
            later = {StudyInstanceUID.encode(): lambda row: row if row and row.number > today else Day(today)}
            self._table.change(later)
            self._noted[1].add(StudyInstanceUID)

    def last(self, StudyInstanceUID: str) -> date | None:
        """Return the day of the last fetch, or that before which nobody noted any."""
        rows = (self._table.get(StudyInstanceUID.encode()), self._begun.get(_BEGUN))
        known = max((row.number for row in rows if row), default=None)
        return None if known is None else datetime.fromtimestamp(known * 86_400, UTC).date()


class Day(Struct, frozen=True, array_like=True):
    """Days since 1970."""

    number: int


class Retention:
    """The rules of one archive, and what is due by them."""

    def __init__(
        self,
        rules: Table[Rule],
        catalog: _Catalog,
        accesses: Accesses,
        doubt: Callable[[], str],
        left: Callable[[], int],
        delete: Callable[[str, str], object],
        clock: Clock,
    ) -> None:
        """`doubt` says why the clock is not believed, `left` how many studies may go today.

        `delete(study, rule)` has one go.
        """
        self.rules = rules
        self._catalog = catalog
        self._accesses = accesses
        self._doubt = doubt
        self._left = left
        self._delete = delete
        self._clock = clock

    def all(self) -> list[Rule]:
        """Return every rule."""
        return [rule for _, rule in self.rules.scan()]

    def find(self, name: str) -> Rule:
        """Return a rule; raises NotFound."""
        rule = self.rules.get(name.encode())
        if rule is None:
            raise NotFound(f"There is no retention rule {name!r}.", "List them: peerpacs retention")
        return rule

    def step(self) -> int:
        """Have go what is due, as much as may go today; return how many studies.

        It ends where a rule is changed meanwhile, or the clock doubted: the next step begins anew.
        """
        rules, count = self.all(), 0
        active = [rule for rule in rules if rule.is_active]
        if not active or self._doubt():
            return 0
        for study in self._judge(rules, active):
            if not self._is_over(study) or self._catalog.is_held(study.StudyInstanceUID):
                continue
            if self._doubt() or self.all() != rules:
                break
            if self._left() <= 0:
                logger.info("More is due by retention rules than may go in a day; it goes on tomorrow.")
                break
            try:
                self._delete(study.StudyInstanceUID, study.rule)
                count += 1
            except PacsError as error:
                logger.error("A study that is due by rule %s stays: %s", study.rule, error)
        return count

    def plan(self, name: str = "", without: str = "") -> dict[str, Any]:
        """Return what would go by the active rules, and by one that is not active: counts and examples.

        With `without` as if there were no rule of that name.
        """
        rules = [rule for rule in self.all() if rule.name != without]
        wanted = [rule for rule in rules if rule.is_active or rule.name == name]
        told: dict[str, Any] = {
            rule.name: {"due": 0, "held": 0, "undated": 0, "examples": []} for rule in wanted
        }
        for study in self._judge(rules, wanted):
            row, uid = told[study.rule], study.StudyInstanceUID
            if study.until is None:
                row["undated"] += 1
            elif self._is_over(study):
                is_held = self._catalog.is_held(uid)
                row["held" if is_held else "due"] += 1
                if not is_held and len(row["examples"]) < _EXAMPLES:
                    row["examples"].append({"StudyInstanceUID": uid, "until": study.until.isoformat()})
        return {"rules": told, "clock": self._doubt(), "left_today": self._left()}

    def _is_over(self, study: Judged) -> bool:
        today = datetime.fromtimestamp(self._clock(), UTC).date()
        return study.until is not None and study.until <= today

    def _judge(self, rules: Sequence[Rule], active: Sequence[Rule]) -> Iterator[Judged]:
        """Yield each study that an active rule matches, once, judged by all rules that match it."""
        tests = [
            (rule, compile_matcher(rule.match, Matching.PLAIN) if rule.match else None) for rule in rules
        ]
        seen = set[str]()
        for rule in active:
            for study in self._candidates(rule, rules):
                uid = str(_first(study, _STUDY_UID))
                if uid in seen:
                    continue
                seen.add(uid)
                matching = [each for each, test in tests if test is None or test(study)]
                ends = [_end(each, study, self._accessed) for each in matching]
                known = [end for end in ends if end is not None]
                yield Judged(uid, rule.name, max(known) if known and len(known) == len(ends) else None)

    def _candidates(self, rule: Rule, rules: Sequence[Rule]) -> Iterator[Attributes]:
        tags = {tag: {"vr": key["vr"]} for each in rules for tag, key in each.match.items()}
        keys = {_STUDY_DATE: {"vr": "DA"}, _BIRTH_DATE: {"vr": "DA"}, _STUDY_UID: {"vr": "UI"}}
        return self._catalog.find(Query(level=Level.STUDY, keys={**tags, **keys, **rule.match}))

    def _accessed(self, uid: str) -> date | None:
        came = max((entry.received for entry in self._catalog.versions((uid,))), default=None)
        if came is None:
            return None
        arrived = datetime.fromtimestamp(came / 1000, UTC).date()
        return max(arrived, self._accesses.last(uid) or arrived)


def _end(rule: Rule, study: Attributes, accessed: Callable[[str], date | None]) -> date | None:
    """Return the first day on which a rule lets a study go; None where a date is not known, or cannot be."""
    made, birth = _date(_first(study, _STUDY_DATE)), _date(_first(study, _BIRTH_DATE))
    if made and birth and made < birth:
        # One of the two is wrong, and nobody can say which.
        return None
    start = made if rule.basis is Basis.STUDY else accessed(str(_first(study, _STUDY_UID)))
    if start is None:
        return None
    end = _years_after(start, rule.years)
    if not rule.until_age:
        return end
    return max(end, _years_after(birth, rule.until_age)) if birth else None


def _first(study: Attributes, tag: str) -> Any:
    return (study.get(tag, {}).get("Value") or [""])[0]


def _date(text: Any) -> date | None:
    try:
        found = datetime.strptime(str(text).strip(), "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
    return found if found > _UNKNOWN else None


def _years_after(start: date, years: float) -> date:
    whole = int(years)
    try:
        moved = start.replace(year=start.year + whole)
    except ValueError:
        # From the 29th of February, or beyond the year 9999.
        moved = date.max if start.year + whole > 9999 else date(start.year + whole, 3, 1)
    days = round((years - whole) * 365.25)
    return date.fromordinal(min(moved.toordinal() + days, date.max.toordinal()))
