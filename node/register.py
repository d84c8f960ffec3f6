"""The register of decisions: each is made, told in the audit, and found again by the beginning of its id.

The audit names a decision by its id and the UIDs and keywords it touches, never by reasons or values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from catalog import BadRequest, Decision, NotFound, Verb
from node.contracts import Audit
from node.decisions import Decisions
from node.keys import keyword_of
from node.state import Tables

_LASTING: Final = frozenset({Verb.RELEASE, Verb.DISCARD, Verb.UNDO})
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

    def __init__(self, decisions: Decisions, state: Tables, audit: Audit) -> None:
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
    ) -> dict[str, Any]:
        """Decide, and return the decision's id and what it is about.

        Raises:
            BadRequest: the decision makes no sense as it is.
            NotFound: it is about nothing that is here.
        """
        made = self._decisions.make(
            verb, target, reason=reason, who=who, attributes=attributes, detail=detail, why=why
        )
        self.remember(made)
        told: dict[str, Any] = {"decision": made.id, "verb": verb.value, **_uids(target)}
        if attributes:
            told["attributes"] = [keyword_of(tag) for tag in attributes]
        if why:
            told["why"] = why
        if verb is Verb.UNDO:
            told["undone"] = detail
        self._audit.record("decision", None, "done", {"who": who, **told})
        return told

    def take(self, decision: Decision) -> None:
        """Make a decision effective that a device sent; a second time it changes nothing."""
        if self._made.get(decision.id.encode()) is None:
            self._decisions.take(decision)
            self.remember(decision)

    def remember(self, decision: Decision) -> None:
        """Have a decision found by its id, also one that only the segments still knew."""
        made = Made(decision.verb, decision.target, decision.who, decision.when)
        self._made.put(decision.id.encode(), made)

    def everything(self) -> Iterator[tuple[bytes, Made]]:
        """Yield every decision that can be found by its id."""
        return self._made.scan()

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
        return self.make(Verb.UNDO, made.target, reason=reason, who=who, detail=id.decode())


def _uids(target: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), target, strict=False))
