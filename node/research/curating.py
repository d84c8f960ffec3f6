"""What a curator does with what is held: look at it, run it again with a rule or a word, or reject it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from anonymizer import Reason
from catalog import BadRequest
from node.contracts import Audit, Caller

from .delivering import take_in
from .door import Parts
from .model import Held, Project

_RULE_BY: Final = ("SOPClassUID", "Manufacturer", "ManufacturerModelName", "Rows", "Columns")
_LONGEST: Final = 200


class Curating:
    """The review queue; `parts` gives what a project's door is made of."""

    def __init__(self, parts: Callable[[str], Parts], audit: Audit) -> None:
        self._parts = parts
        self._audit = audit

    def show(self, held: Held, who: str) -> dict[str, Any]:
        """Return an instance's attributes as it came, identified: looking is told in the audit."""
        content, _ = self._parts(held.project).quarantine.content(held)
        detail = {"project": held.project, "id": held.id, "who": who}
        self._audit.record("quarantine", None, "looked at", detail)
        return {**msgspec.to_builtins(held), "attributes": _attributes(content)}

    def rerun(
        self, held: Held, who: str, boxes: list[list[int]], is_clean: bool, words: list[str], reason: str
    ) -> dict[str, Any]:
        """Run an instance again, after its equipment got a rule or its words were allowed.

        The rule stays with the project: `boxes` are blanked in every image of that kind, `is_clean` says that
        such images need no blanking. What passes goes into the project's archive.

        Raises:
            BadRequest: the rule is none.
        """
        parts = self._parts(held.project)
        content, issuer = parts.quarantine.content(held)
        if boxes or is_clean or words:
            if not reason:
                raise BadRequest("A rule needs a reason.", "Say with --reason why it is right.")
            project = parts.projects.change(
                held.project, lambda row: _extended(row, content, boxes, words, reason, is_clean=is_clean)
            )
            self._told("rule added", project, held, who)
        project = parts.projects.find(held.project)
        if held.reason == Reason.LEAK_FOUND:
            # Its process holds the subject for as long as it lives.
            parts.machine.close()
        outcome, file = parts.machine.take(project, content, issuer)
        if not file:
            return {"outcome": "held", "reason": str(outcome.reason), "sentence": outcome.sentence}
        if parts.projects.is_withdrawn(project.name, outcome.subject):
            return {"outcome": "held", "reason": "WITHDRAWN", "sentence": "Its subject was withdrawn."}
        if not project.archive:
            parts.quarantine.remove(held, "passes now", who, reason)
            return {"outcome": "passes", "next": "Order the export again: this project keeps no archive."}
        take_in(parts.archive, Caller(project.name[:16], "", ""), file)
        parts.quarantine.remove(held, "released", who, reason)
        return {"outcome": "released", "archive": project.archive, "SOPInstanceUID": outcome.uids[2]}

    def reject(self, held: Held, who: str, reason: str) -> dict[str, Any]:
        """Destroy what is held of an instance; what lies in an archive stays there."""
        parts = self._parts(held.project)
        if held.reason == Reason.LEAK_FOUND:
            parts.machine.close()
        parts.quarantine.remove(held, "rejected", who, reason)
        return {"outcome": "rejected", "id": held.id}

    def _told(self, outcome: str, project: Project, held: Held, who: str) -> None:
        detail = {
            "project": project.name,
            "id": held.id,
            "who": who,
            "rules": len(project.rules),
            "words": len(project.words),
        }
        self._audit.record("change", None, outcome, detail)


def _extended(
    project: Project, content: bytes, boxes: list[list[int]], words: list[str], reason: str, *, is_clean: bool
) -> Project:
    rules = project.rules
    if boxes or is_clean:
        rules = (*rules, {"match": _match(content), "boxes": boxes, "why": reason[:_LONGEST]})
    allowed = tuple(dict.fromkeys([*project.words, *(word.casefold() for word in words)]))
    return replace(project, rules=rules, words=allowed)


def _match(content: bytes) -> dict[str, Any]:
    from io import BytesIO

    from pydicom import dcmread

    header = dcmread(BytesIO(content), stop_before_pixels=True, force=True)
    match = {keyword: header.get(keyword) for keyword in _RULE_BY}
    found = {key: value if isinstance(value, int) else str(value) for key, value in match.items() if value}
    if len(found) < len(_RULE_BY) - 1:
        what = "It does not say enough of its equipment to make a rule for."
        raise BadRequest(what, "Reject it, or write a rule into the project's own policy.")
    return found


def _attributes(content: bytes) -> list[dict[str, str]]:
    from io import BytesIO

    from pydicom import dcmread

    try:
        dataset = dcmread(BytesIO(content), stop_before_pixels=True, force=True)
        return [
            {
                "tag": f"{element.tag.group:04X},{element.tag.element:04X}",
                "keyword": element.keyword or "",
                "vr": str(element.VR),
                "value": _shown(element),
            }
            for element in dataset
        ]
    except Exception as error:
        return [{"tag": "", "keyword": "", "vr": "", "value": f"cannot be read: {type(error).__name__}"}]


def _shown(element: Any) -> str:
    if element.VR == "SQ":
        return f"{len(element.value)} items"
    if isinstance(element.value, bytes):
        return f"{len(element.value)} bytes"
    return str(element.value)[:_LONGEST]
