"""The grid as a person looks at it: who holds what of each study, and how each site took part."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from catalog import Attributes, Level, Matching, NotFound, Query, answer, understand
from federation.merging import HERE, Holder, Merged
from federation.outcomes import Manners, Outcome, Part, is_missing
from federation.sight import Sight
from node.contracts import Caller
from node.grid_catalog import DeviceGrid, GridParts
from node.keys import question

_STUDY: Final = "0020000D"


class GridView:
    """What one person sees of the grid; `site` is what this node's own place is called."""

    def __init__(self, parts: GridParts, caller: Caller, site: str, ae_title: str) -> None:
        self._parts, self._site, self._ae_title = parts, site, ae_title
        self._grid = DeviceGrid(parts, caller)

    def studies(self, keys: list[str], limit: int) -> Answered:
        """Return the studies that match, each with who holds what of it, and how the sites took part.

        Raises:
            BadRequest: a key is unknown or has a value that its VR does not allow.
        """
        query = _understood(keys)
        answered = self._grid.ask(query)
        sight = self._sight()
        found = [
            (answer(query, each, ae_title=self._ae_title), self._holdings(sight, _uid(each)))
            for each in islice(answered.matches, limit)
        ]
        return found, [_part(each) for each in answered.outcomes]

    def study(self, StudyInstanceUID: str) -> dict[str, Any]:
        """Return who holds what of a study, series by series.

        Raises:
            NotFound: nobody who can be seen from here states it.
        """
        sight = self._sight()
        study = sight.study(StudyInstanceUID)
        if study is None:
            raise NotFound("No site states this study.", "Search for it by its patient or accession number.")
        return {
            "StudyInstanceUID": StudyInstanceUID,
            "availability": study.availability.value,
            "has_conflict": study.has_conflict,
            "others": [self._name(sight, each.owner) for each in study.others],
            **self._told(sight, study),
        }

    def _sight(self) -> Sight:
        return Sight(self._parts.grid, self._grid.asker, Query(level=Level.STUDY, keys={}))

    def _holdings(self, sight: Sight, StudyInstanceUID: str) -> dict[str, Any]:
        study = sight.study(StudyInstanceUID)
        return self._told(sight, study) if study else {"here": 0, "sites": []}

    def _told(self, sight: Sight, study: Merged) -> dict[str, Any]:
        whole = {each.SeriesInstanceUID: each.instances for each in study.series}
        sites = [self._holder(sight, holder, whole) for holder in study.holders]
        return {"here": sum(each["instances"] for each in sites if each["is_here"]), "sites": sites}

    def _holder(self, sight: Sight, holder: Holder, whole: dict[str, int]) -> dict[str, Any]:
        series = {each.SeriesInstanceUID: each.instances for each in holder.stated.series}
        return {
            "site": self._name(sight, holder.owner),
            "is_here": holder.owner == HERE,
            "is_reachable": holder.is_reachable,
            "is_whole": series == whole,
            "series": len(series),
            "instances": sum(series.values()),
            "bytes": sum(each.size for each in holder.stated.series),
            "received": holder.stated.study.received / 1000,
        }

    def _name(self, sight: Sight, owner: bytes) -> str:
        if owner == HERE:
            return self._site
        return next((each.site for each in sight.standing.values() if each.owner == owner), "?")


Answered = tuple[list[tuple[Attributes, dict[str, Any]]], list[dict[str, Any]]]
"""Studies with their holdings, and the sites' parts."""


def _understood(keys: list[str]) -> Query:
    return understand(
        question(keys),
        patient_root=True,
        matching=Matching.RELATIONAL | Matching.COMBINED_DATE_TIME,
        is_lenient=False,
    )


def _uid(match: Attributes) -> str:
    return str(match[_STUDY]["Value"][0])


def _part(outcome: Outcome) -> dict[str, Any]:
    is_old = is_missing(outcome, Manners())
    return {
        "site": outcome.site,
        "part": outcome.part.value,
        "age": outcome.age,
        "why": outcome.error,
        "is_silent": is_old
        or outcome.part in (Part.FALLBACK, Part.NONE)
        or (outcome.age or 0) > Manners().fresh,
    }
