"""The register of decisions: each is made, told in the audit, and found again by the beginning of its id.

The audit names a decision by its id and the UIDs and keywords it touches, never by reasons or values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any, Final

from msgspec import Struct

from catalog import BadRequest, Decision, NotFound, Verb
from node.contracts import Audit
from node.decisions import Decisions
from node.disposal import Orders
from node.keys import keyword_of
from node.second_person import SecondPerson, Wish
from node.state import Tables

_LASTING: Final = frozenset({Verb.RELEASE, Verb.DISCARD, Verb.UNDO, Verb.ERASE})
"""Decisions that cannot be taken back."""


class Made(Struct, frozen=True):
    """A decision as the register remembers it."""

    verb: Verb
    target: tuple[str, ...]
    who: str
    when: int
    """Milliseconds since 1970."""


class Register:
    """Makes decisions and remembers which there are."""

    def __init__(
        self, decisions: Decisions, state: Tables, audit: Audit, orders: Orders, limit: SecondPerson
    ) -> None:
        """`orders` knows what is gone for good, `limit` how much one person may have go in a day."""
        self._orders = orders
        self._limit = limit
        self._decisions = decisions
        self._made = state.table("decisions", Made)
        self._audit = audit

    def make(
        self,
        verb: Verb,
        target: tuple[str, ...],
        *,
        reason: str,
        who: str,
        attributes: Mapping[str, dict[str, Any]] | None = None,
        detail: str = "",
        why: str = "",
        second: str = "",
    ) -> dict[str, Any]:
        """Decide, and return the decision's id and what it is about; `second` is who confirmed it.

        Raises:
            BadRequest: the decision makes no sense as it is.
            NotFound: it is about nothing that is here.
            NotPermitted: a legal hold forbids it, or it needs a second person.
        """
        wish, is_limited = Wish(verb, target, reason, who, second), verb in (Verb.DELETE, Verb.ERASE)
        with self._limit.ordering(wish) if is_limited else nullcontext():
            made = self._decisions.make(
                verb, target, reason=reason, who=who, attributes=attributes, detail=detail, why=why
            )
        self.remember(made)
        told: dict[str, Any] = {"decision": made.id, "verb": verb.value, **_uids(target)}
        if attributes:
            told["attributes"] = [keyword_of(tag) for tag in attributes]
        if why:
            told["why"] = why
        if second:
            told["second"] = second
        if verb is Verb.UNDO:
            told["undone"] = detail
        self._audit.record("decision", None, "done", {"who": who, **told})
        return told

    def take(self, decision: Decision) -> bool:
        """Make a decision effective that a device sent; a second time it changes nothing.

        False: a person took it back since, and that holds.
        """
        if self._made.get(decision.id.encode()) is not None:
            return not self._decisions.is_taken_back(decision)
        self._decisions.take(decision)
        self.remember(decision)
        return True

    def remember(self, decision: Decision) -> None:
        """Have a decision found by its id, also one that only the segments still knew."""
        if decision.verb is Verb.NOTE:
            return
        made = Made(decision.verb, decision.target, decision.who, decision.when)
        self._made.put(decision.id.encode(), made)

    def everything(self, begin: bytes = b"") -> Iterator[tuple[bytes, Made]]:
        """Yield every decision that can be found by its id, from one of them on, in their order."""
        return self._made.scan(begin=begin)

    def released_since(self, when: float) -> set[str]:
        """Return the studies of which something that waited for a person was let in after a moment."""
        made = (each for _, each in self.everything())
        return {each.target[0] for each in made if each.verb is Verb.RELEASE and each.when / 1000 > when}

    def confirm(self, beginning: str, *, who: str) -> dict[str, Any]:
        """Carry out what another person wished and could not do alone.

        Raises:
            NotFound: no wish, or more than one, begins so.
            NotPermitted: it is the same person.
        """
        wish = self._limit.confirm(beginning, who)
        return self.make(wish.verb, wish.target, reason=wish.reason, who=wish.who, second=who)

    def undo(self, beginning: str, *, reason: str, who: str) -> dict[str, Any]:
        """Take back the one decision whose id begins so.

        Raises:
            NotFound: no id, or more than one, begins so.
            BadRequest: a decision of its kind lasts.
        """
        found = list(self._made.scan(beginning.encode())) if beginning else []
        if len(found) != 1:
            what = f"{len(found) or 'No'} decisions have an id that begins with {beginning!r}."
            raise NotFound(what, "A study's decisions are shown by: peerpacs trace STUDY")
        [(id, made)] = found
        if made.verb in _LASTING:
            remedy = "Hide what should not be seen with peerpacs reject, or decide anew."
            raise BadRequest(f"A decision to {made.verb} cannot be taken back.", remedy)
        if self._orders.is_done(id.decode()):
            raise BadRequest("Its bytes are gone: that cannot be taken back.", "Have it sent again.")
        return self.make(Verb.UNDO, made.target, reason=reason, who=who, detail=id.decode())


def _uids(target: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), target, strict=False))
