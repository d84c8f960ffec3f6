"""What a person can ask about retention, as verbs that take and return what JSON can say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from catalog import BadRequest, Clock, is_universal
from node.clock_guard import ClockGuard
from node.contracts import Audit
from node.keys import attributes_of, keyword_of
from node.retention import Basis, Retention, Rule


class RetentionDesk:
    """The verbs of one archive."""

    def __init__(self, retention: Retention, guard: ClockGuard, audit: Audit, clock: Clock) -> None:
        self._retention, self._guard, self._audit, self._clock = retention, guard, audit, clock

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs by name."""
        own = (
            self.retention,
            self.retention_plan,
            self.put_retention,
            self.activate_retention,
            self.remove_retention,
            self.believe_clock,
        )
        return {verb.__name__: verb for verb in own}

    def retention(self) -> dict[str, Any]:
        """Return the rules, and why the clock is not believed, if it is not."""
        rules = [msgspec.to_builtins(rule) for rule in self._retention.all()]
        return {"rules": rules, "clock": self._guard.why_not()}

    def retention_plan(self, name: str = "", without: str = "") -> dict[str, Any]:
        """Return what would go by the active rules, and by the one named, or without another: as a plan.

        Raises:
            NotFound: there is no such rule.
        """
        for each in (name, without):
            if each:
                self._retention.find(each)
        return self._retention.plan(name, without)

    def put_retention(
        self, name: str, keys: list[str], who: str, years: float, basis: str = "study", until_age: float = 0.0
    ) -> dict[str, Any]:
        """Make a rule, or one anew; it lets nothing go before it is activated.

        Raises:
            BadRequest: a key, or how long, makes no sense.
        """
        if not name or len(name) > 64 or not 0 < years <= 1000 or not 0 <= until_age <= 150:
            raise BadRequest("A rule needs a name, and years above 0.", "See: peerpacs retention add --help")
        match = attributes_of(keys)
        if empty := [keyword_of(tag) for tag, key in match.items() if is_universal(key)]:
            what = f"{', '.join(empty)} without a value matches every study."
            raise BadRequest(what, "Name a value, as in ModalitiesInStudy=CT; a rule for all has no key.")
        rule = Rule(
            name=name, match=match, years=years, basis=Basis(basis), until_age=until_age, who=who,
            when=int(self._clock() * 1000),
        )  # fmt: skip
        self._retention.rules.put(name.encode(), rule)
        self._tell("retention rule made", name, who)
        return msgspec.to_builtins(rule)  # type: ignore[no-any-return]

    def activate_retention(self, name: str, who: str) -> dict[str, Any]:
        """Let a rule work.

        Raises:
            NotFound: there is no such rule.
        """
        rule = msgspec.structs.replace(self._retention.find(name), is_active=True)
        self._retention.rules.put(name.encode(), rule)
        self._tell("retention rule activated", name, who)
        return msgspec.to_builtins(rule)  # type: ignore[no-any-return]

    def remove_retention(self, name: str, who: str) -> None:
        """Remove a rule.

        Raises:
            NotFound: there is no such rule.
        """
        self._retention.find(name)
        self._retention.rules.delete(name.encode())
        self._tell("retention rule removed", name, who)

    def believe_clock(self, who: str) -> None:
        """Take a person's word that this machine's clock is right."""
        self._guard.believe()
        self._tell("clock believed", "", who)

    def _tell(self, what: str, rule: str, who: str) -> None:
        self._audit.record("change", None, what, {"who": who, "rule": rule})
