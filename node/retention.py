"""How long studies are kept: rules that match some of them, and what is due by all that match.

A study without a rule is kept. Of several rules the longest wins, a legal hold beats them all, and what is
due goes as if a person had deleted it: hidden at once, its bytes after life.undo_days, never more in a day
than one person may have go.
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
    Decision,
    Level,
    Matching,
    NotFound,
    PacsError,
    Query,
    Verb,
    compile_matcher,
)
from catalog.purging import Doomed
from node.state import Table, Tables

logger = logging.getLogger(__name__)

_STUDY_DATE, _BIRTH_DATE, _STUDY_UID = "00080020", "00100030", "0020000D"
_EXAMPLES: Final = 10


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


class Due(NamedTuple):
    """A study that no rule wants kept any longer."""

    StudyInstanceUID: str
    rule: str
    is_held: bool
    """Whether a legal hold keeps it all the same."""


class _Catalog(Protocol):
    def find(self, query: Query) -> Iterator[Attributes]: ...

    def doomed(self, decision: Decision) -> Doomed: ...

    def versions(self, target: tuple[str, ...]) -> Sequence[Any]: ...


class Accesses:
    """The day on which each study was last fetched from here; written once a day."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._table = tables.table("accesses", Day)
        self._clock = clock
        self._noted: tuple[int, set[str]] = 0, set()

    def note(self, StudyInstanceUID: str) -> None:
        """Note that somebody fetches the study; nearly always costs nothing."""
        today = int(self._clock() // 86_400)
        if self._noted[0] != today:
            self._noted = today, set()
        if StudyInstanceUID not in self._noted[1]:
            self._table.put(StudyInstanceUID.encode(), Day(today))
            self._noted[1].add(StudyInstanceUID)

    def last(self, StudyInstanceUID: str) -> date | None:
        """Return the day of the last fetch, None if there was none."""
        row = self._table.get(StudyInstanceUID.encode())
        return datetime.fromtimestamp(row.number * 86_400, UTC).date() if row else None


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
        """Have go what is due, as much as may go today; return how many studies."""
        active = [rule for rule in self.all() if rule.is_active]
        if not active or self._doubt():
            return 0
        count = 0
        for due in self.due(active):
            if self._left() <= 0:
                logger.info("More is due by retention rules than may go in a day; it goes on tomorrow.")
                break
            if due.is_held:
                continue
            try:
                self._delete(due.StudyInstanceUID, due.rule)
                count += 1
            except PacsError as error:
                logger.error("A study that is due by rule %s stays: %s", due.rule, error)
        return count

    def plan(self, name: str = "") -> dict[str, Any]:
        """Return what would go by the active rules, and by one that is not active: counts and examples."""
        wanted = [rule for rule in self.all() if rule.is_active or rule.name == name]
        told = {rule.name: {"due": 0, "held": 0, "examples": list[str]()} for rule in wanted}
        for due in self.due(wanted):
            row: Any = told[due.rule]
            row["held" if due.is_held else "due"] += 1
            if not due.is_held and len(row["examples"]) < _EXAMPLES:
                row["examples"].append(due.StudyInstanceUID)
        return {"rules": told, "clock": self._doubt(), "left_today": self._left()}

    def due(self, rules: Sequence[Rule]) -> Iterator[Due]:
        """Yield each study that at least one rule matches, and that none of those wants kept any longer."""
        tests = [
            (rule, compile_matcher(rule.match, Matching.PLAIN) if rule.match else None) for rule in rules
        ]
        today = datetime.fromtimestamp(self._clock(), UTC).date()
        seen = set[str]()
        for rule in rules:
            for study in self._candidates(rule, rules):
                uid = str(_first(study, _STUDY_UID))
                if uid in seen:
                    continue
                seen.add(uid)
                matching = [each for each, test in tests if test is None or test(study)]
                if matching and all(self._is_over(each, study, uid, today) for each in matching):
                    yield Due(uid, rule.name, self._is_held(uid))

    def _candidates(self, rule: Rule, rules: Sequence[Rule]) -> Iterator[Attributes]:
        tags = {tag: {"vr": key["vr"]} for each in rules for tag, key in each.match.items()}
        keys = {_STUDY_DATE: {"vr": "DA"}, _BIRTH_DATE: {"vr": "DA"}, _STUDY_UID: {"vr": "UI"}}
        return self._catalog.find(Query(level=Level.STUDY, keys={**tags, **keys, **rule.match}))

    def _is_over(self, rule: Rule, study: Attributes, uid: str, today: date) -> bool:
        """Say whether a rule's time is over; where a date is not known it never is."""
        start = _date(_first(study, _STUDY_DATE)) if rule.basis is Basis.STUDY else self._accessed(uid)
        if start is None or _years_after(start, rule.years) > today:
            return False
        if not rule.until_age:
            return True
        birth = _date(_first(study, _BIRTH_DATE))
        return birth is not None and _years_after(birth, rule.until_age) <= today

    def _accessed(self, uid: str) -> date | None:
        came = max((entry.received for entry in self._catalog.versions((uid,))), default=None)
        if came is None:
            return None
        arrived = datetime.fromtimestamp(came / 1000, UTC).date()
        return max(arrived, self._accesses.last(uid) or arrived)

    def _is_held(self, uid: str) -> bool:
        wish = Decision(id="", verb=Verb.DELETE, target=(uid,), reason="", who="", when=0)
        return self._catalog.doomed(wish).is_held


def _test_of(rule: Rule) -> Callable[[Attributes], bool] | None:
    return compile_matcher(rule.match, Matching.PLAIN) if rule.match else None


def _first(study: Attributes, tag: str) -> Any:
    return (study.get(tag, {}).get("Value") or [""])[0]


def _date(text: Any) -> date | None:
    try:
        return datetime.strptime(str(text), "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None


def _years_after(start: date, years: float) -> date:
    whole = int(years)
    try:
        moved = start.replace(year=start.year + whole)
    except ValueError:
        # From the 29th of February, or beyond the year 9999.
        moved = date.max if start.year + whole > 9999 else date(start.year + whole, 3, 1)
    days = round((years - whole) * 365.25)
    return date.fromordinal(min(moved.toordinal() + days, date.max.toordinal()))
